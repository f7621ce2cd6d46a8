"""The pure parts of REST: rates and shapes."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import ClientError
from edge.rest.rates import MAX_REMEMBERED, UserRates
from edge.rest.shapes import Timer, TimerChange
from edge.rest.times import guessed_offset, shape, update
from proto.event.v1 import event_pb2

NOW = 1_795_508_130_000_000


def view(**timer: str) -> event_pb2.TimerView:
    return event_pb2.TimerView(
        timer=event_pb2.Timer(timer_id="tea", name="Tea", **timer),  # type: ignore[arg-type]
        audience=event_pb2.Audience(owner_id="alice", member_ids=["bob"]),
    )


def shown(**timer: str) -> dict[str, object]:
    given: dict[str, object] = msgspec.json.decode(msgspec.json.encode(shape(view(**timer), None, 0)))
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
        endTime=st.none() | st.just("2026-11-24T08:20Z"),
        timerEnd=st.none() | st.just("2026-11-24T08:30+02:00"),
        remainingDuration=st.none() | st.just("r"),
    )
)
def test_with_an_end_it_runs_whatever_else_comes(change: TimerChange) -> None:
    command = update(change, 60, 0)
    end = change.timerEnd or change.endTime
    assert command.HasField("end_time") is (end is not None)
    assert command.HasField("remaining_duration") is (end is None and change.remainingDuration is not None)
    assert end is None or command.end_time == end
    assert not command.HasField("local_end")


@pytest.mark.parametrize("field", ["endTime", "timerEnd"])
@pytest.mark.parametrize(
    ("offset", "default", "instant"),
    [
        (120, 0, "2026-11-24T08:20:30.123456789+02:00"),
        (None, -210, "2026-11-24T08:20:30.123456789-03:30"),
        (None, 0, "2026-11-24T08:20:30.123456789Z"),
    ],
)
def test_an_end_without_a_zone_is_kept_as_it_came_beside_the_instant(
    field: str, offset: int | None, default: int, instant: str
) -> None:
    command = update(TimerChange(**{field: "2026-11-24T08:20:30.123456789"}), offset, default)
    assert command.end_time == instant
    assert command.local_end.text == "2026-11-24T08:20:30.123456789"
    assert command.local_end.HasField("utc_offset_minutes") is (offset is not None)
    assert command.local_end.utc_offset_minutes == (offset or 0)


@pytest.mark.parametrize("field", ["endTime", "timerEnd"])
def test_what_is_no_end_is_refused_by_its_name(field: str) -> None:
    for end in ("tomorrow", "2026-02-30T00:00", "2026-11-24T08:20:30+25:00", "2026-11-24", ""):
        with pytest.raises(ClientError) as refusal:
            update(TimerChange(**{field: end}), None, 0)
        assert (refusal.value.code, refusal.value.field) == (400, field)
        assert refusal.value.message == f"{field} is not an ISO-8601 date and time"


def test_an_end_is_shown_as_it_was_written_but_to_a_clock_that_is_known_to_differ() -> None:
    timer = view(end_time="2026-11-24T08:20+02:00")
    timer.timer.local_end.text = "2026-11-24T08:20"
    timer.timer.local_end.utc_offset_minutes = 120
    for offset, expected in ((None, "2026-11-24T08:20"), (120, "2026-11-24T08:20"), (345, "2026-11-24T12:05")):
        assert shape(timer, offset, -60).endTime == expected


def test_weeks_are_given_in_days_as_the_app_knows_none() -> None:
    assert shown(total_duration="P1W1DT3H", remaining_duration="p-1w") == shown() | {
        "totalDuration": "P8DT3H",
        "remainingDuration": "p-7D",
    }


def test_whoever_makes_a_short_timer_that_runs_already_shows_its_offset() -> None:
    # By UTC it is 08:15:30.
    new = TimerChange(totalDuration="PT10M", timerEnd="2026-11-24T10:20")
    assert guessed_offset(new, NOW) == 120
    for nothing_to_go_by in (
        TimerChange(timerEnd="2026-11-24T10:20"),
        TimerChange(totalDuration="PT10M"),
        TimerChange(totalDuration="PT10M", timerEnd="2026-11-24T10:20+02:00"),
        TimerChange(totalDuration="PT10H", timerEnd="2026-11-24T10:20"),
        TimerChange(totalDuration="ten minutes", timerEnd="2026-11-24T10:20"),
    ):
        assert guessed_offset(nothing_to_go_by, NOW) is None


def test_a_timer_that_was_given_can_be_sent_back() -> None:
    given = msgspec.json.encode(shape(view(total_duration="PT5M", remaining_duration="PT1M"), None, 0))
    command = update(msgspec.json.decode(given, type=TimerChange), None, 0)
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
