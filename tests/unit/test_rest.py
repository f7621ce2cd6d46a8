"""The pure parts of REST: rates and shapes."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from edge.rest.rates import MAX_REMEMBERED, UserRates
from edge.rest.shapes import Timer, TimerChange
from edge.rest.times import shape, update
from proto.event.v1 import event_pb2

NOW = 1_795_508_130_000_000


def view(**timer: str) -> event_pb2.TimerView:
    return event_pb2.TimerView(
        timer=event_pb2.Timer(timer_id="tea", name="Tea", **timer),  # type: ignore[arg-type]
        audience=event_pb2.Audience(owner_id="alice", member_ids=["bob"]),
    )


def shown(**timer: str) -> dict[str, object]:
    given: dict[str, object] = msgspec.json.decode(msgspec.json.encode(shape(view(**timer), 0, NOW)))
    return given


def test_nothing_is_ever_null_and_members_are_listed_with_the_owner() -> None:
    assert shown() == {"id": "tea", "userId": "alice", "name": "Tea", "sharedWith": ["alice", "bob"]}


def test_a_running_timer_has_an_end_alone() -> None:
    timer = shown(total_duration="PT5M", end_time="2026-11-24T08:20", remaining_duration="PT1M")
    assert (timer["endTime"], "remainingDuration" in timer) == ("2026-11-24T08:20", False)


@given(
    st.sampled_from(["2026-11-24T08:20", "2026-11-24T08:20:30.123456789"]),
    st.sampled_from(["", "Z", "+02:00", "-03:30"]),
)
def test_an_end_never_has_a_zone(end: str, zone: str) -> None:
    given = shown(end_time=end + zone)["endTime"]
    assert isinstance(given, str)
    assert len(given) == len(end)
    assert (given == end) is (zone in ("", "Z"))


@given(
    st.builds(
        TimerChange,
        endTime=st.none() | st.just("e"),
        timerEnd=st.none() | st.just("t"),
        remainingDuration=st.none() | st.just("r"),
    )
)
def test_with_an_end_it_runs_whatever_else_comes(change: TimerChange) -> None:
    command = update(change)
    end = change.timerEnd or change.endTime
    assert command.HasField("end_time") is (end is not None)
    assert command.HasField("remaining_duration") is (end is None and change.remainingDuration is not None)
    assert end is None or command.end_time == end


def test_a_timer_that_was_given_can_be_sent_back() -> None:
    given = msgspec.json.encode(shape(view(total_duration="PT5M", remaining_duration="PT1M"), 0, NOW))
    command = update(msgspec.json.decode(given, type=TimerChange))
    assert (command.name, command.total_duration, command.remaining_duration) == ("Tea", "PT5M", "PT1M")
    assert msgspec.json.decode(given, type=Timer).id == "tea"


def test_each_user_has_a_rate_and_owes_what_a_request_turns_out_to_be_worth() -> None:
    rates = UserRates(1.0, 2.0)
    assert [rates.wait("alice", 0.0) for _ in range(3)] == [0.0, 0.0, 1.0]
    assert rates.wait("bob", 0.0) == 0.0
    rates.charge("bob", 10)
    assert rates.wait("bob", 0.0) == 10.0
    assert rates.wait("bob", 10.0) == 0.0
    rates.charge("nobody", 1)


def test_without_a_rate_there_is_no_limit_and_nothing_is_remembered() -> None:
    rates = UserRates(0.0, 1.0)
    rates.charge("alice", 1_000)
    assert [rates.wait("alice", 0.0) for _ in range(5)] == [0.0] * 5
    assert len(rates._buckets) == 0


def test_no_more_users_are_remembered_than_there_is_room_for() -> None:
    rates = UserRates(1.0, 1.0)
    for number in range(MAX_REMEMBERED + 10):
        rates.wait(f"user-{number}", 0.0)
    rates.wait("user-10", 0.0)
    assert len(rates._buckets) == MAX_REMEMBERED
    assert "user-9" not in rates._buckets
