"""`bench/histogram.py`: percentiles that are never told too low."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.histogram import Histogram

durations = st.lists(st.floats(0, 100), min_size=1, max_size=200)
percents = st.floats(0.1, 100)


def exact(values: list[float], percent: float) -> float:
    """By the definition: the least value that at least so many percent do not exceed."""
    ordered = sorted(values)
    return ordered[math.ceil(percent / 100 * len(ordered)) - 1]


@given(durations, percents)
def test_a_percentile_is_the_exact_one_or_less_than_a_percent_above(values: list[float], percent: float) -> None:
    found = Histogram(values).percentile(percent)
    truth = exact(values, percent)
    assert found is not None
    assert truth - 1e-6 <= found <= truth * 1.01 + 2e-6


@given(durations)
def test_the_hundredth_percentile_is_the_longest_exactly(values: list[float]) -> None:
    assert Histogram(values).percentile(100) == max(values)


@given(durations, durations, percents)
def test_two_that_are_added_are_as_one(some: list[float], others: list[float], percent: float) -> None:
    added = Histogram(some)
    added.add(Histogram(others))
    assert len(added) == len(some) + len(others)
    assert added.percentile(percent) == Histogram(some + others).percentile(percent)


def test_one_slow_one_in_a_thousand_shows_at_the_right_percentile() -> None:
    histogram = Histogram([0.001] * 999 + [1.0])
    assert histogram.percentile(50) == pytest.approx(0.001, rel=0.01)
    assert histogram.percentile(99.9) == pytest.approx(0.001, rel=0.01)
    assert histogram.percentile(99.95) == 1.0


def test_without_durations_there_is_no_percentile() -> None:
    assert Histogram().percentile(50) is None
    assert Histogram().percentile(100) is None


def test_a_duration_below_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="duration"):
        Histogram([-0.001])
