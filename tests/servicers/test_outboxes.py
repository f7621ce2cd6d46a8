"""`timer_service/relay.py`, `sharing_service/relay.py` and `timer_service/purge.py`: what is told of a change, and forgetting."""

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from proto.common.v1 import common_pb2
from proto.event.v1 import event_pb2
from runtime.clock import now_us
from sharing_service.domain import Origin as ShareOrigin
from sharing_service.domain import Share
from sharing_service.relay import ShareOutbox
from sharing_service.store import sqlite as share_store
from sharing_service.store.contract import Save as ShareSave
from tests.servicers.harness import FakeSharing, rpc_error
from timer_service.domain import TOMBSTONE_US, Origin, State, Timer
from timer_service.purge import Purge
from timer_service.relay import Saved, TimerOutbox
from timer_service.store import sqlite as timer_store
from timer_service.store.contract import Save

NOW = 1_764_000_000_000_000
TEA = Timer(
    timer_id="tea",
    owner="alice",
    name="Tea",
    end_time="2026-11-24T08:20:30.123456789Z",
    state=State.RUNNING,
    version=NOW,
    origin=Origin("bob", "pixel", "c1"),
    traceparent="00-t",
    pending_since_us=NOW - 5,
)


@pytest.fixture
async def timers(tmp_path: Path) -> AsyncIterator[timer_store.SqliteTimerStore]:
    async with timer_store.open_store(tmp_path) as store:
        yield store


async def test_a_changed_timer_is_told_to_the_audience_of_now_with_its_whole_state(
    timers: timer_store.SqliteTimerStore,
) -> None:
    sharing = FakeSharing()
    sharing.share("tea", "bob", "carol", version=7)
    outbox = TimerOutbox(timers, sharing.as_stub)
    assert outbox.marker(Saved(TEA)) == ("tea", NOW, NOW - 5, "00-t", False)
    (item,) = await outbox.events([Saved(TEA)])
    assert list(item.user_ids) == ["alice", "bob", "carol"]
    event = item.event
    assert event.audience == sharing.audiences["tea"]
    assert event.origin == common_pb2.Origin(user_id="bob", device_id="pixel", connection_id="c1")
    assert (event.traceparent, event.committed_at_us) == ("00-t", NOW - 5)
    assert event.timer_changed.timer == event_pb2.Timer(
        timer_id="tea",
        name="Tea",
        end_time="2026-11-24T08:20:30.123456789Z",
        run_state=event_pb2.RUN_STATE_RUNNING,
        version=NOW,
        changed_by="bob",
    )


async def test_an_audience_that_is_known_well_enough_is_not_asked_for(timers: timer_store.SqliteTimerStore) -> None:
    sharing = FakeSharing()
    sharing.share("tea", "carol")
    known = event_pb2.Audience(owner_id="alice", member_ids=["bob"], version=3)
    outbox = TimerOutbox(timers, sharing.as_stub)
    first, second = await outbox.events([Saved(TEA, known), Saved(TEA)])
    assert (list(first.user_ids), first.event.audience) == (["alice", "bob"], known)
    assert list(second.user_ids) == ["alice", "carol"]
    (asked,) = sharing.asked
    assert list(asked.timer_ids) == ["tea"]
    await outbox.events([Saved(TEA, known)])
    assert len(sharing.asked) == 1


async def test_events_come_in_the_order_of_the_changes_and_have_names_of_their_own(
    timers: timer_store.SqliteTimerStore,
) -> None:
    sharing = FakeSharing()
    changes = [Timer(timer_id=name, owner="alice", version=NOW + number) for number, name in enumerate("cab")]
    for change in changes:
        sharing.share(change.timer_id)
    items = await TimerOutbox(timers, sharing.as_stub).events([Saved(change) for change in changes])
    assert [item.event.timer_changed.timer.timer_id for item in items] == ["c", "a", "b"]
    names = [item.event.event_id for item in items]
    assert len(set(names)) == 3
    assert all(0 < len(name) <= 64 for name in names)


async def test_a_timer_that_nobody_owns_any_longer_is_told_nobody(timers: timer_store.SqliteTimerStore) -> None:
    (item,) = await TimerOutbox(timers, FakeSharing().as_stub).events([Saved(TEA)])
    assert list(item.user_ids) == []


async def test_markers_of_timers_are_listed_and_removed_through_the_store(
    timers: timer_store.SqliteTimerStore,
) -> None:
    outbox = TimerOutbox(timers, FakeSharing().as_stub)
    await timers.save([Save(TEA, None)])
    assert await outbox.list_pending(10, (0, "")) == [Saved(TEA)]
    await outbox.clear([Saved(TEA)])
    assert await outbox.list_pending(10, (0, "")) == []


async def test_a_changed_audience_is_told_to_all_members_and_to_those_who_are_none_any_longer(tmp_path: Path) -> None:
    share = Share(
        timer_id="tea",
        owner="alice",
        members=("bob", "carol"),
        version=NOW,
        added=("carol",),
        removed=("dave",),
        origin=ShareOrigin("alice", "pixel", "c1"),
        traceparent="00-t",
        pending_since_us=NOW - 5,
    )
    async with share_store.open_store(tmp_path) as store:
        outbox = ShareOutbox(store)
        (item,) = await outbox.events([share])
        assert sorted(item.user_ids) == ["alice", "bob", "carol", "dave"]
        event = item.event
        assert event.audience == event_pb2.Audience(owner_id="alice", member_ids=["bob", "carol"], version=NOW)
        assert event.audience_changed == event_pb2.AudienceChanged(
            timer_id="tea", added_user_ids=["carol"], removed_user_ids=["dave"]
        )
        assert event.origin == common_pb2.Origin(user_id="alice", device_id="pixel", connection_id="c1")
        assert (event.traceparent, event.committed_at_us) == ("00-t", NOW - 5)
        await store.save([ShareSave(share, None)])
        assert outbox.marker(share).twice
        (again,) = await outbox.events([share], settled=True)
        assert (event.audience_changed.settled, again.event.audience_changed.settled) == (False, True)
        assert await outbox.list_pending(10, (0, "")) == [share]
        await outbox.clear([share])
        assert await outbox.list_pending(10, (0, "")) == []


def tombstone(timer_id: str, age_us: int) -> Timer:
    return Timer(timer_id=timer_id, owner="alice", version=NOW, state=State.STOPPED, stopped_at_us=now_us() - age_us)


async def test_expired_tombstones_are_forgotten_here_and_by_the_sharing_service(
    timers: timer_store.SqliteTimerStore,
) -> None:
    sharing = FakeSharing()
    expired = [tombstone(f"old-{number}", TOMBSTONE_US + 1_000_000) for number in range(600)]
    kept = [tombstone("young", TOMBSTONE_US - 60_000_000), Timer(timer_id="living", owner="alice", version=NOW)]
    for timer in (*expired, *kept):
        sharing.share(timer.timer_id)
    await timers.save([Save(timer, None) for timer in (*expired, *kept)])
    await Purge(timers, sharing.as_stub).step()
    assert set(await timers.load([timer.timer_id for timer in (*expired, *kept)])) == {"young", "living"}
    assert set(sharing.audiences) == {"young", "living"}


async def test_a_timer_that_is_brought_back_while_tombstones_are_forgotten_stays_its_owners(
    timers: timer_store.SqliteTimerStore,
) -> None:
    class BroughtBackMeanwhile(timer_store.SqliteTimerStore):
        async def list_tombstones(self, stopped_before_us: int, limit: int) -> list[Timer]:
            listed = await super().list_tombstones(stopped_before_us, limit)
            back = Timer(timer_id="back", owner="alice", version=NOW + 1)
            await self.save([Save(back, NOW)])
            return listed

    sharing = FakeSharing()
    for timer_id in ("back", "old"):
        sharing.share(timer_id)
        await timers.save([Save(tombstone(timer_id, 2 * TOMBSTONE_US), None)])
    await Purge(BroughtBackMeanwhile(timers._database), sharing.as_stub).step()
    assert set(await timers.load(["back", "old"])) == {"back"}
    assert set(sharing.audiences) == {"back"}


async def test_a_tombstone_that_the_sharing_service_could_not_release_is_tried_again(
    timers: timer_store.SqliteTimerStore,
) -> None:
    sharing = FakeSharing()
    sharing.share("old")
    await timers.save([Save(tombstone("old", 2 * TOMBSTONE_US), None)])
    purge = Purge(timers, sharing.as_stub)
    sharing.failure = rpc_error(grpc.StatusCode.UNAVAILABLE)
    with pytest.raises(grpc.aio.AioRpcError):
        await purge.step()
    assert set(await timers.load(["old"])) == {"old"}
    sharing.failure = None
    await purge.step()
    assert await timers.load(["old"]) == {}
