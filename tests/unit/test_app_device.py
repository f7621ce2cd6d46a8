"""What the edge knows of one of the app's devices: its clock, its sets of members, its echoes; and of all of them."""

from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.dialects import devices
from edge.dialects.app_session import AppSession
from edge.dialects.choice import Dialect, dialect_of
from edge.dialects.clock import MAX_PAUSED, DeviceClock
from edge.dialects.devices import Devices
from edge.dialects.echoes import UNREAD_WINDOW, WINDOW, Echoes
from edge.dialects.members import MAX_UNREAD, Members, changes
from edge.errors import ClientError
from edge.local_time import zone_from
from proto.event.v1 import event_pb2
from runtime.iso8601 import format_instant

NOW = 1_795_508_130_123_000
MINUTE = 60_000_000


def local(offset_us: int) -> str:
    return format_instant(NOW + offset_us).removesuffix("Z")


def paused(timer_id: str = "tea", remaining: str = "PT5M") -> event_pb2.Timer:
    return event_pb2.Timer(timer_id=timer_id, remaining_duration=remaining)


# --- the clock ------------------------------------------------------------------------------------------------------------


def test_nothing_is_known_at_first_and_the_offset_after_a_timer_was_resumed() -> None:
    clock = DeviceClock(None, None)
    assert clock.offset(NOW) is None
    clock.resumes("tea", local(125 * MINUTE), NOW)  # of which nothing was known
    assert clock.offset(NOW) is None
    clock.shows(paused())
    clock.resumes("tea", local(125 * MINUTE), NOW)
    assert clock.offset(NOW) == clock.learned == 120
    clock.resumes("tea", local(65 * MINUTE), NOW)  # it runs already, so that says nothing
    assert clock.offset(NOW) == 120


def test_a_timer_that_was_not_started_is_resumed_from_its_full_length() -> None:
    clock = DeviceClock(None, None)
    clock.shows(event_pb2.Timer(timer_id="tea", total_duration="PT10M"))
    clock.resumes("tea", local(-50 * MINUTE), NOW)
    assert clock.learned == -60


def test_the_last_lesson_counts() -> None:
    clock = DeviceClock(None, 60)
    assert clock.offset(NOW) == 60
    clock.shows(paused())
    clock.resumes("tea", local(125 * MINUTE), NOW)  # summer time has begun
    assert clock.offset(NOW) == 120


def test_running_stopped_and_impossible_timers_teach_nothing() -> None:
    clock = DeviceClock(None, None)
    clock.shows(paused())
    clock.shows(event_pb2.Timer(timer_id="tea", remaining_duration="PT5M", end_time="2031-01-01T00:00Z"))
    clock.resumes("tea", local(65 * MINUTE), NOW)
    clock.shows(paused())
    clock.forget("tea")
    clock.resumes("tea", local(65 * MINUTE), NOW)
    clock.shows(paused())
    clock.resumes("tea", local(40 * 24 * 60 * MINUTE), NOW)
    assert clock.offset(NOW) is None


def test_a_guess_gives_way_to_what_is_learned_and_is_not_to_be_remembered() -> None:
    clock = DeviceClock(None, None)
    clock.creates(local(63 * MINUTE), 5 * MINUTE, NOW)
    assert (clock.offset(NOW), clock.learned) == (60, None)
    clock.creates(local(123 * MINUTE), 5 * MINUTE, NOW)
    assert clock.offset(NOW) == 60
    clock.shows(paused())
    clock.resumes("tea", local(125 * MINUTE), NOW)
    assert (clock.offset(NOW), clock.learned) == (120, 120)
    clock.creates(local(63 * MINUTE), 5 * MINUTE, NOW)
    assert clock.learned == 120


def test_what_the_client_says_counts_more_than_what_it_does() -> None:
    clock = DeviceClock(zone_from("Europe/Berlin"), 300)
    clock.shows(paused())
    clock.resumes("tea", local(245 * MINUTE), NOW)
    assert clock.offset(NOW) == 60
    assert clock.offset(NOW - 180 * 24 * 60 * MINUTE) == 120


def test_only_so_many_paused_timers_are_remembered() -> None:
    clock = DeviceClock(None, None)
    for number in range(MAX_PAUSED + 1):
        clock.shows(paused(f"t{number}"))
    clock.resumes("t0", local(65 * MINUTE), NOW)
    assert clock.offset(NOW) is None
    clock.resumes("t1", local(65 * MINUTE), NOW)
    assert clock.offset(NOW) == 60


# --- members --------------------------------------------------------------------------------------------------------------

users = st.lists(st.sampled_from("abcdef"), unique=True)


@given(users, users)
def test_who_knows_the_set_or_is_not_known_to_know_gets_exactly_what_they_want(
    current: list[str], wanted: list[str]
) -> None:
    for base in (None, current):
        change = changes(base, current, wanted)
        assert (set(current) | set(change.add)) - set(change.remove) == set(wanted)
        assert not set(change.add) & set(change.remove)


@given(users, users, users)
def test_only_what_a_device_changed_itself_is_changed(base: list[str], current: list[str], wanted: list[str]) -> None:
    change = changes(base, current, wanted)
    after = (set(current) | set(change.add)) - set(change.remove)
    for user in "abcdef":
        if (user in base) == (user in wanted):
            assert (user in after) == (user in current)
        else:
            assert (user in after) == (user in wanted)


def test_a_set_is_known_when_it_was_read_and_when_it_was_said() -> None:
    members = Members()
    members.sent("s1", "tea", ["bob"])
    assert members.said("tea", ["bob", "carol"], ["bob"]).remove == ["carol"]  # nothing was read yet: the whole set
    members.acknowledged("s1")
    members.sent("e1", "tea", ["bob", "dave"])
    assert members.said("tea", ["bob", "dave"], ["bob"]) == ([], [])  # it does not know of dave
    members.acknowledged("e1")
    assert members.said("tea", ["bob", "dave"], ["bob"]) == ([], ["dave"])
    assert members.said("tea", ["bob"], ["bob", "erin"]) == (["erin"], [])
    members.forget("tea")
    assert members.said("tea", ["x"], []) == ([], ["x"])


def test_only_so_many_messages_without_an_acknowledgement_are_remembered() -> None:
    members = Members()
    for number in range(MAX_UNREAD + 1):
        members.sent(f"e{number}", f"t{number}", ["bob"])
    assert members.said("t0", ["bob", "carol"], ["bob"]) == ([], [])  # taken to be read
    assert members.said("t1", ["bob", "carol"], ["bob"]) == ([], ["carol"])


# --- echoes ---------------------------------------------------------------------------------------------------------------


def test_a_stop_right_after_one_that_was_read_is_its_echo_and_a_later_one_is_meant() -> None:
    echoes = Echoes()
    assert not echoes.is_echo("tea", 0.0)
    echoes.stopped("tea", "e1", 0.0)
    echoes.acknowledged("e1", 5.0)
    assert echoes.is_echo("tea", 5.0)
    assert echoes.is_echo("tea", 5.0 + WINDOW)
    assert not echoes.is_echo("eggs", 5.0)
    assert not echoes.is_echo("tea", 5.1 + WINDOW)
    assert len(echoes) == 0


def test_a_stop_that_is_not_read_yet_is_waited_for_longer_by_those_who_acknowledge() -> None:
    echoes = Echoes()
    echoes.stopped("tea", "e1", 0.0)
    assert not echoes.is_unread("tea", 0.0)  # perhaps it never acknowledges
    assert not echoes.is_echo("tea", WINDOW + 0.1)
    echoes.acknowledged("something", 3.0)
    echoes.stopped("tea", "e2", 3.0)
    assert echoes.is_unread("tea", 3.0 + UNREAD_WINDOW)
    assert echoes.is_echo("tea", 3.0 + UNREAD_WINDOW)
    assert not echoes.is_unread("tea", 3.1 + UNREAD_WINDOW)


# --- all devices, and which they are --------------------------------------------------------------------------------------


def test_of_a_devices_sessions_the_newest_counts_and_its_end_is_remembered() -> None:
    known = Devices()
    first, second = cast(AppSession, object()), cast(AppSession, object())
    device = ("alice", "pixel")
    assert known.enter(device, first) is None
    assert known.enter(device, second) is first
    assert not known.leave(device, first)
    assert len(known) == 1
    assert known.leave(device, second)
    assert len(known) == 0
    assert known.left_at_us(device) is None
    known.left(device, 7)
    assert known.left_at_us(device) == 7
    assert known.enter(device, first) is None


def test_only_so_many_offsets_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "MAX_REMEMBERED", 2)
    known = Devices()
    for number in range(3):
        known.remember(("alice", f"d{number}"), number * 15)
    known.remember(("alice", "d1"), 60)
    known.remember(("alice", "d4"), 75)
    assert [known.offset(("alice", f"d{number}")) for number in range(5)] == [None, 60, None, None, 75]


@pytest.mark.parametrize(
    ("query", "headers", "expected"),
    [
        ({}, {}, Dialect.FIRST),
        ({}, {"DeviceId": "pixel"}, Dialect.APP),
        ({"deviceId": "pixel"}, {}, Dialect.FIRST),
        ({"dialect": "app"}, {}, Dialect.APP),
        ({"dialect": "first"}, {"DeviceId": "pixel"}, Dialect.FIRST),
    ],
)
def test_the_query_chooses_the_dialect_else_the_header(
    query: dict[str, str], headers: dict[str, str], expected: Dialect
) -> None:
    assert dialect_of(query, headers) is expected


def test_an_unknown_dialect_is_refused() -> None:
    with pytest.raises(ClientError) as refusal:
        dialect_of({"dialect": ""}, {})
    assert (refusal.value.code, refusal.value.field) == (400, "dialect")
