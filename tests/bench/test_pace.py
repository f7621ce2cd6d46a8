"""`bench/pace.py`: what is due, whatever happened before."""

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.pace import Schedule, Ticker


@given(st.floats(1, 5_000), st.lists(st.floats(0, 0.5), max_size=20))
def test_nothing_is_left_out_or_given_out_twice_however_the_clock_moves(rate: float, steps: list[float]) -> None:
    schedule, now = Schedule(rate, start=100.0), 100.0
    given_out: list[float] = []
    for step in steps:
        now += step
        given_out += schedule.due(now)
    assert given_out == [100.0 + number / rate for number in range(len(given_out))]
    assert all(at <= now for at in given_out)
    assert now < 100.0 + len(given_out) / rate or not steps


def test_after_a_stall_all_that_became_due_is_due_at_once_each_at_its_intended_time() -> None:
    schedule = Schedule(10, start=0.0)
    assert list(schedule.due(0.1)) == [0.0, 0.1]
    assert list(schedule.due(0.15)) == []
    assert list(schedule.due(1.0)) == pytest.approx([0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])


def test_nothing_is_due_before_the_start() -> None:
    assert list(Schedule(1_000, start=5.0).due(4.999)) == []


async def test_a_ticker_calls_back_until_it_is_closed() -> None:
    called = asyncio.Event()
    calls = 0

    def call() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            called.set()

    ticker = Ticker(200, time.perf_counter(), call)
    await asyncio.wait_for(called.wait(), 30)
    ticker.close()
    seen = calls
    await asyncio.sleep(0.05)
    assert calls == seen
