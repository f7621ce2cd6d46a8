"""`edge/local_time.py`: offsets worked out from what devices say, and local times there and back."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edge.local_time import (
    EARLIEST,
    LATEST,
    STEP,
    offset_from_resuming,
    offset_from_running,
    offset_of,
    parse_local,
    to_local,
    with_offset,
    zone_from,
)
from runtime.iso8601 import parse_instant

MINUTE_US = 60_000_000

offsets = st.integers(EARLIEST // STEP, LATEST // STEP).map(lambda steps: steps * STEP)
moments = st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1))  # noqa: DTZ001  # of a wall clock
instants = st.integers(0, 4_000_000_000_000_000)
fractions = st.text("0123456789", max_size=9)


def local(moment: datetime, fraction: str = "") -> str:
    """As java.time writes it, with any digits of a fraction."""
    if fraction:
        return f"{moment.isoformat(timespec='seconds')}.{fraction}"
    return moment.isoformat(timespec="seconds" if moment.second else "minutes")


def wall_clock(now_us: int, offset: int) -> datetime:
    """What a device with this offset shows."""
    return (datetime.fromtimestamp(now_us / 1_000_000, UTC) + timedelta(minutes=offset)).replace(tzinfo=None)


local_times = st.builds(local, moments, fractions)


# --- there and back -------------------------------------------------------------------------------------------------------


@given(local_times, offsets)
def test_a_local_time_comes_back_exactly_as_it_was(text: str, offset: int) -> None:
    assert to_local(with_offset(text, offset), offset) == text


@given(local_times, offsets, offsets)
def test_on_another_clock_it_is_the_same_moment(text: str, here: int, there: int) -> None:
    instant = with_offset(text, here)
    moved = to_local(instant, there)
    assert parse_instant(with_offset(moved, there)) == parse_instant(instant)
    assert to_local(with_offset(moved, there), here) == text
    assert moved.partition(":")[2][2:] == text.partition(":")[2][2:]  # seconds and fraction


@given(local_times, offsets)
def test_what_comes_out_is_a_local_time_without_a_zone(text: str, offset: int) -> None:
    assert abs(parse_local(to_local(with_offset(text, offset), 0)) - parse_instant(with_offset(text, offset))) < 1


@pytest.mark.parametrize(
    ("instant", "offset", "expected"),
    [
        ("2026-11-25T23:30:15.5Z", 60, "2026-11-26T00:30:15.5"),  # over midnight
        ("2027-01-01T00:10Z", -15, "2026-12-31T23:55"),  # and over the year's
        ("2028-02-28T23:59:59+00:00", 15, "2028-02-29T00:14:59"),
        ("2026-11-25T10:00:00.000000001+05:45", 345, "2026-11-25T10:00:00.000000001"),
        ("2026-11-25T10:00:00-03:30", 0, "2026-11-25T13:30:00"),
        ("2026-11-25T10:00", 60, "2026-11-25T11:00"),  # without a zone it is UTC
        ("9999-12-31T23:59:59Z", 60, "9999-12-31T23:59:59"),
        ("0001-01-01T00:00Z", -60, "0001-01-01T00:00"),
    ],
)
def test_midnights_years_and_the_ends_of_time(instant: str, offset: int, expected: str) -> None:
    assert to_local(instant, offset) == expected


@pytest.mark.parametrize(
    "text", ["", "tomorrow", "2026-11-25", "2026-11-25T10:00Z", "2026-13-01T00:00", "2026-11-25T10:00:00."]
)
def test_what_is_no_local_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="date and time"):
        parse_local(text)


# --- a device's offset, from a timer that it resumes ----------------------------------------------------------------------


@given(instants, offsets, st.integers(0, 100 * 3_600 * 1_000_000), st.integers(-7 * MINUTE_US, 7 * MINUTE_US))
def test_the_offset_is_found_whatever_is_left_and_with_a_clock_that_is_some_minutes_wrong(
    now_us: int, offset: int, remaining_us: int, wrong_us: int
) -> None:
    end = wall_clock(now_us + wrong_us, offset) + timedelta(microseconds=remaining_us)
    assert offset_from_resuming(end.isoformat(), remaining_us, now_us) == offset


@given(instants, offsets, st.integers(0, 100 * 3_600 * 1_000_000), st.integers(-12 * 60, 12 * 60))
def test_a_clock_that_is_hours_wrong_is_a_zone_of_its_own_and_what_is_left_comes_out_right(
    now_us: int, offset: int, remaining_us: int, wrong_minutes: int
) -> None:
    end = (wall_clock(now_us, offset + wrong_minutes) + timedelta(microseconds=remaining_us)).isoformat()
    found = offset_from_resuming(end, remaining_us, now_us)
    if found is None:
        assert not EARLIEST <= offset + wrong_minutes <= LATEST or abs(offset + wrong_minutes) % STEP
    else:
        left_us = parse_instant(with_offset(end, found)) - now_us
        assert abs(left_us - remaining_us) <= 7.5 * MINUTE_US


@pytest.mark.parametrize("wrong", [timedelta(days=1), timedelta(days=-30), timedelta(hours=15)])
def test_a_clock_that_is_days_wrong_says_nothing(wrong: timedelta) -> None:
    now_us = 1_795_508_130_123_000
    end = wall_clock(now_us, 0) + wrong + timedelta(minutes=5)
    assert offset_from_resuming(end.isoformat(), 5 * MINUTE_US, now_us) is None


@pytest.mark.parametrize(
    ("now", "offset"),
    [
        ("2026-03-29T00:59:59+00:00", 60),  # one second before summer time in Berlin
        ("2026-03-29T01:00:00+00:00", 120),
        ("2026-10-25T00:59:59+00:00", 120),
        ("2026-10-25T01:00:00+00:00", 60),
    ],
)
def test_at_the_change_to_summer_time_and_back_the_offset_of_now_is_found(now: str, offset: int) -> None:
    moment = datetime.fromisoformat(now)
    now_us = round(moment.timestamp() * 1_000_000)
    berlin = ZoneInfo("Europe/Berlin")
    assert offset_of(berlin, now_us) == offset
    # The app adds what is left to its wall clock, as if there were no change.
    end = moment.astimezone(berlin).replace(tzinfo=None) + timedelta(hours=3)
    assert offset_from_resuming(end.isoformat(), 180 * MINUTE_US, now_us) == offset
    left_us = parse_instant(with_offset(end.isoformat(), offset)) - now_us
    assert left_us == 180 * MINUTE_US


# --- and from one that runs already ---------------------------------------------------------------------------------------


@given(instants, st.integers(-12, 14), st.integers(1, 55), st.data())
def test_a_short_timer_that_runs_already_tells_whole_hours(
    now_us: int, hours: int, total: int, data: st.DataObject
) -> None:
    elapsed_us = data.draw(st.integers(0, total * MINUTE_US))
    end = wall_clock(now_us, hours * 60) + timedelta(microseconds=total * MINUTE_US - elapsed_us)
    assert offset_from_running(end.isoformat(), total * MINUTE_US, now_us) == hours * 60


@given(instants, offsets, st.integers(1, 10), st.data())
def test_a_very_short_one_tells_every_offset(now_us: int, offset: int, total: int, data: st.DataObject) -> None:
    elapsed_us = data.draw(st.integers(0, total * MINUTE_US))
    end = wall_clock(now_us, offset) + timedelta(microseconds=total * MINUTE_US - elapsed_us)
    assert offset_from_running(end.isoformat(), total * MINUTE_US, now_us) == offset


@given(instants, offsets, st.integers(130, 3_000))
def test_a_long_one_tells_nothing_rather_than_something_wrong(now_us: int, offset: int, total: int) -> None:
    end = wall_clock(now_us, offset) + timedelta(minutes=total)
    assert offset_from_running(end.isoformat(), total * MINUTE_US, now_us) is None


# --- zones that clients name ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Z", 0), ("utc", 0), ("GMT", 0), ("+02:00", 120), ("-0330", -210), (" 05:45", 345), ("UTC+2", 120), ("+14", 840),
    ],
)  # fmt: skip
def test_offsets_may_be_written_in_many_ways(text: str, expected: int) -> None:
    assert zone_from(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Mars/Olympus",
        "../../etc/passwd",
        "/etc/passwd",
        "Europe",
        "+15:00",
        "-13:00",
        "x" * 100,
        "é",
        "+2:0:0",
        "\x00",
    ],
)
def test_what_is_no_zone_is_none(text: str) -> None:
    assert zone_from(text) is None


@given(st.text(max_size=70))
def test_no_text_breaks_it(text: str) -> None:
    assume(not text.isascii() or "/" not in text)
    zone_from(text)


def test_a_named_zone_has_the_offset_of_the_moment() -> None:
    zone = zone_from("Asia/Kathmandu")
    assert isinstance(zone, ZoneInfo)
    assert offset_of(zone, 1_795_508_130_123_000) == 345
    assert offset_of(-210, 0) == -210
