"""`timer_service/audiences.py`: what every user within the default limits is sent fits into a message."""

import pytest

from proto.event.v1 import event_pb2
from proto.timer.v1 import timer_pb2
from runtime.errors import TooLarge, may_be_one_items_fault
from runtime.grpc_client import MESSAGE_LIMIT
from runtime.text import MAX_ID, MAX_NAME, MAX_TIME_TEXT
from sharing_service.config import SharingSettings
from tests.servicers.harness import FakeSharing, rpc_error
from timer_service import audiences
from timer_service.audiences import MAX_BYTES, read_audiences
from timer_service.config import TimerSettings
from timer_service.domain import MAX_TAGS, MAX_TAGS_BYTES
from timer_service.servicer import MAX_KNOWN, MAX_STOPPED

MOST_TIMERS = TimerSettings.model_fields["max_timers_per_user"].default
MOST_SHARES = SharingSettings.model_fields["max_shares_per_user"].default
MOST_MEMBERS = SharingSettings.model_fields["max_members_per_timer"].default


def long_ids(count: int) -> list[str]:
    return [f"{number:0{MAX_ID}d}" for number in range(count)]


def crowded(timers: int, *members: str) -> FakeSharing:
    sharing = FakeSharing()
    for number in range(timers):
        sharing.share(f"t{number}", *members, owner="mallory")
    return sharing


def test_a_page_of_the_longest_audiences_fits_into_a_message() -> None:
    longest = event_pb2.Audience(owner_id="x" * MAX_ID, member_ids=long_ids(MOST_MEMBERS), version=2**53)
    assert audiences.PAGE * (longest.ByteSize() + 4) < MESSAGE_LIMIT


def test_the_largest_snapshot_fits_into_a_message() -> None:
    widest, ids = "🍵", long_ids(3)
    timer = event_pb2.Timer(
        timer_id=ids[0],
        name=widest * MAX_NAME,
        total_duration="x" * MAX_TIME_TEXT,
        end_time="x" * MAX_TIME_TEXT,
        remaining_duration="x" * MAX_TIME_TEXT,
        run_state=event_pb2.RUN_STATE_RUNNING,
        version=2**53,
        changed_by=ids[1],
        local_end=event_pb2.LocalEnd(text=widest * MAX_TIME_TEXT, utc_offset_minutes=-1_080),
        tags=["x" * (MAX_TAGS_BYTES // MAX_TAGS)] * MAX_TAGS,
    )
    view = event_pb2.TimerView(
        timer=timer, audience=event_pb2.Audience(owner_id=ids[1], member_ids=[ids[2]], version=2**53)
    )
    one = timer_pb2.UserSnapshot(views=[view])
    one.versions[ids[0]].version = one.versions[ids[0]].audience_version = 2**53
    told = timer_pb2.UserSnapshot(
        gone_timer_ids=long_ids(MAX_KNOWN), stopped_timer_ids=long_ids(MOST_SHARES + MAX_STOPPED)
    )
    assert (MOST_TIMERS + MOST_SHARES) * one.ByteSize() + told.ByteSize() + MAX_BYTES < MESSAGE_LIMIT


async def test_audiences_of_an_ordinary_size_are_whole_however_many() -> None:
    sharing = crowded(600, "bob", "carol")
    assert await read_audiences(sharing.as_stub, sharing.audiences.keys(), {"bob", "carol"}) == sharing.audiences
    assert len(sharing.asked) == 5


async def test_the_longest_audiences_of_one_user_are_cut_short_and_each_has_the_user() -> None:
    sharing = crowded(300, *long_ids(MOST_MEMBERS - 1), "bob")
    sharing.share("dinner", "bob", "carol", "dave", owner="alice")
    found = await read_audiences(sharing.as_stub, sharing.audiences.keys(), {"bob"})
    assert found.keys() == sharing.audiences.keys()
    assert found["dinner"] == sharing.audiences["dinner"]
    assert all("bob" in audience.member_ids for audience in found.values())
    assert (sharing.asked[-1].most_bytes, sharing.asked[-1].user_id) == (MAX_BYTES // 301, "bob")


async def test_what_an_older_sharing_service_does_not_cut_short_is_not_read_to_its_end() -> None:
    sharing = crowded(600, *long_ids(MOST_MEMBERS - 1), "bob")
    sharing.cuts_short = False
    with pytest.raises(TooLarge):
        await read_audiences(sharing.as_stub, sharing.audiences.keys(), {"bob"})
    assert len(sharing.asked) == 3


async def test_what_is_too_much_for_many_users_is_to_be_asked_for_again_with_fewer() -> None:
    sharing = crowded(100, *long_ids(MOST_MEMBERS - 1), "bob")
    with pytest.raises(TooLarge) as failure:
        await read_audiences(sharing.as_stub, sharing.audiences.keys(), {"bob", "carol"})
    assert may_be_one_items_fault(rpc_error(TooLarge.status, failure.value.message))
