"""How people write durations, and how time left is shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli import human
from runtime.iso8601 import format_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("25m", 1_500),
        ("1h30m", 5_400),
        ("1h 30m", 5_400),
        ("90s", 90),
        ("1.5h", 5_400),
        ("1,5 h", 5_400),
        ("2 days", 172_800),
        ("1 hour 5 minutes", 3_900),
        ("10 Min", 600),
        ("1w", 604_800),
        ("PT25M", 1_500),
        ("pt1h30m", 5_400),
        ("P1DT1S", 86_401),
        ("0.5s", 0.5),
    ],
)
def test_durations_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert human.parse_duration(text) == round(seconds * human.SECOND)


@pytest.mark.parametrize(
    "text", ["", " ", "5", "m", "5x", "30m1h", "5m5m", "1:30", "-5m", "PT", "P1Y", "5 m extra", "PT-5M", "0m", "4000d"]
)
def test_what_is_no_duration_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"\.|\?") as caught:
        human.parse_duration(text)
    assert str(caught.value)[-1] in ".?"


def test_a_number_without_a_unit_is_asked_back() -> None:
    with pytest.raises(ValueError, match="5m, or 5s"):
        human.parse_duration("5")


@given(st.integers(min_value=1, max_value=human.LONGEST))
def test_what_the_protocol_writes_is_read_back(duration: int) -> None:
    assert human.parse_duration(format_duration(duration)) == duration


@given(st.text(max_size=30))
def test_no_text_does_anything_but_give_a_duration_within_bounds_or_a_value_error(text: str) -> None:
    try:
        duration = human.parse_duration(text)
    except ValueError:
        return
    assert 0 < duration <= human.LONGEST


@pytest.mark.parametrize(
    ("left", "shown"),
    [
        (0, "0:00"),
        (1, "0:01"),
        (9 * human.SECOND, "0:09"),
        (12 * human.MINUTE, "12:00"),
        (12 * human.MINUTE + 1, "12:01"),
        (human.HOUR + 2 * human.MINUTE + 3 * human.SECOND, "1:02:03"),
        (2 * human.DAY + human.HOUR, "2d 01:00:00"),
        (-5, "0:00"),
    ],
)
def test_time_left_is_rounded_up_so_that_zero_means_over(left: int, shown: str) -> None:
    assert human.clock(left) == shown


def test_the_last_seconds_have_tenths_where_asked_for() -> None:
    assert human.clock(9_300_000, tenths=True) == "9.3"
    assert human.clock(1, tenths=True) == "0.1"
    assert human.clock(10_000_000, tenths=True) == "0:10"


@pytest.mark.parametrize(
    ("duration", "words"),
    [(90_000_000, "1 min 30 s"), (5_400_000_000, "1 h 30 min"), (400_000, "0 s"), (59_800_000, "1 min")],
)
def test_spans_are_told_by_their_two_largest_units(duration: int, words: str) -> None:
    assert human.span(duration) == words


def test_a_text_of_somebody_else_can_not_command_the_terminal() -> None:
    assert human.printable("Tea\x1b]0;gotcha\x07 \u202egnp") == "Tea\ufffd]0;gotcha\ufffd \ufffdgnp"
    assert human.printable("Tee für 👩\u200d🍳") == "Tee für 👩\u200d🍳"


def test_a_user_has_the_same_colour_as_on_the_page() -> None:
    by_the_page = {"alice": 239, "bob": 284, "Zoë": 127, "": 61}  # hueOf of edge/static/dom.js, run by Node.js
    assert {user: human.hue(user) for user in by_the_page} == by_the_page
