"""`edge/limits.py`: rates."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.limits import ABUSE_FACTOR, RateLimit, TokenBucket

rates = st.floats(0.1, 100)
bursts = st.floats(0, 100)
delays = st.lists(st.floats(0, 5), max_size=100)


def test_a_burst_is_let_through_and_then_the_rate() -> None:
    bucket = TokenBucket(rate=2, burst=5, now=100.0)
    assert [bucket.take(100.0) for _ in range(6)] == [True] * 5 + [False]
    assert bucket.wait() == pytest.approx(0.5)
    assert not bucket.take(100.4)
    assert bucket.take(100.5)
    assert not bucket.take(100.5)


def test_silence_gives_one_burst_and_not_more() -> None:
    bucket = TokenBucket(rate=10, burst=3, now=0.0)
    assert [bucket.take(1_000.0) for _ in range(4)] == [True, True, True, False]


def test_a_rate_of_zero_is_no_limit() -> None:
    bucket = TokenBucket(rate=0, burst=0, now=0.0)
    assert all(bucket.take(0.0) for _ in range(1_000))
    assert bucket.wait() == 0


def test_a_burst_of_zero_still_lets_single_messages_through() -> None:
    bucket = TokenBucket(rate=1, burst=0, now=0.0)
    assert [bucket.take(0.0), bucket.take(0.5), bucket.take(1.5)] == [True, False, True]


@given(rates, bursts, delays)
def test_in_no_stretch_of_time_more_pass_than_the_burst_and_the_rate_allow(
    rate: float, burst: float, delays: list[float]
) -> None:
    bucket = TokenBucket(rate, burst, now=0.0)
    now, passed = 0.0, 0
    for delay in delays:
        now += delay
        passed += bucket.take(now)
    assert passed <= max(burst, 1) + rate * now + 1e-6


@given(rates, bursts, delays)
def test_whoever_waits_as_long_as_told_is_let_through(rate: float, burst: float, delays: list[float]) -> None:
    bucket = TokenBucket(rate, burst, now=0.0)
    now = 0.0
    for delay in delays:
        now += delay
        if not bucket.take(now):
            now += bucket.wait() + 1e-6
            assert bucket.take(now)


def test_a_connection_is_told_how_long_to_wait() -> None:
    limit = RateLimit(rate=4, burst=2, now=0.0)
    assert [limit.check(0.0), limit.check(0.0)] == [0.0, 0.0]
    assert limit.check(0.0) == pytest.approx(0.25)
    assert limit.check(0.25) == 0.0


def test_a_connection_that_does_not_care_is_closed() -> None:
    limit = RateLimit(rate=1, burst=10, now=0.0)
    for _ in range(10 + 10 * ABUSE_FACTOR):
        limit.check(0.0)
    with pytest.raises(PermissionError):
        limit.check(0.0)


def test_a_connection_that_is_a_little_too_fast_is_never_closed() -> None:
    limit = RateLimit(rate=10, burst=10, now=0.0)
    waits = [limit.check(number / 15) for number in range(15 * 600)]  # ten minutes at one and a half times the rate
    refused = sum(1 for wait in waits if wait)
    assert refused == pytest.approx(15 * 600 - 10 * 600, rel=0.05)


def test_what_turns_out_to_be_worth_several_messages_is_taken_at_once_and_waited_for_by_the_next() -> None:
    limit = RateLimit(rate=4, burst=10, now=0.0)
    assert limit.check(0.0) == 0.0
    assert limit.charge(20, 0.0) == 0.0
    assert limit.charge(1, 0.0) == pytest.approx(3.0)
    assert limit.check(0.0) == pytest.approx(3.0)
    assert limit.check(3.0) == 0.0
    assert limit.charge(1, 3.0) == 0.0  # nothing is owed


def test_without_a_rate_nothing_is_charged() -> None:
    limit = RateLimit(rate=0, burst=0, now=0.0)
    assert [limit.charge(1_000, 0.0), limit.charge(1_000, 0.0), limit.check(0.0)] == [0.0, 0.0, 0.0]
