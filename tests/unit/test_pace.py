"""`runtime/pace.py`, alone and in a batcher that gets twice what it can take."""

import asyncio
from collections.abc import Sequence

import pytest

from runtime.batcher import Batcher
from runtime.errors import Overloaded
from runtime.pace import BURST_WAIT, CALM, LONGEST_CALL, STANDING_WAIT, Pace
from tests.unit import virtual_time

DEADLINE = 5.0
MAX_WAIT = 5.0


def paced(*, largest: int = 128, seconds: float, now: float = 100.0) -> Pace:
    """A lane whose calls have taken so long for a while, and whose queue was empty just now."""
    pace = Pace(largest)
    for _ in range(20):
        pace.begins(now)
        pace.ends(1, now + seconds)
    pace.empty(now)
    return pace


def refusals_begin_at(pace: Pace, now: float, most: int = 100_000) -> int:
    """How many may wait before one more is refused."""
    for waiting in range(most):
        if pace.refuses(waiting, now):
            return waiting
    return most


def test_what_fits_into_the_next_call_is_never_refused() -> None:
    pace = paced(seconds=0.01)
    pace.begins(100.0)
    now = 100.0 + 10 * BURST_WAIT  # a call that hangs
    assert not pace.refuses(pace.size - 1, now)
    assert pace.refuses(pace.size, now)


def test_a_burst_may_wait_longer_than_a_queue_that_stands() -> None:
    pace = paced(seconds=0.05)
    burst = refusals_begin_at(pace, 100.0)
    assert burst == (BURST_WAIT / 0.05 + 1) * pace.size
    standing = refusals_begin_at(paced(seconds=0.05), 100.0 + BURST_WAIT + 0.1)
    assert standing == (STANDING_WAIT / 0.05 + 1) * pace.size


def test_a_queue_that_runs_empty_while_others_are_refused_is_no_burst_yet() -> None:
    pace = paced(seconds=0.05)
    assert pace.refuses(10_000, 200.0)
    pace.empty(200.0 + CALM - 1)
    strict = refusals_begin_at(pace, 200.0 + CALM - 1)
    calm = paced(seconds=0.05)
    assert calm.refuses(10_000, 200.0)
    calm.empty(200.0 + CALM + 1)
    assert refusals_begin_at(calm, 200.0 + CALM + 1) > strict


def test_a_call_that_takes_too_long_makes_the_next_one_smaller_and_quick_ones_make_it_larger() -> None:
    pace = Pace(128)
    pace.begins(0)
    pace.ends(128, 4 * LONGEST_CALL)
    assert pace.size == 128  # one is a hiccup
    pace.begins(10)
    pace.ends(128, 10 + 4 * LONGEST_CALL)
    assert pace.size == 32
    sizes = []
    for _ in range(4):
        pace.begins(10)
        pace.ends(pace.size, 10 + LONGEST_CALL / 10)
        sizes.append(pace.size)
    assert sizes == [64, 128, 128, 128]


def test_small_calls_say_nothing_about_large_ones() -> None:
    pace = Pace(128)
    for _ in range(2):
        pace.begins(0)
        pace.ends(128, 2 * LONGEST_CALL)
    for _ in range(100):
        pace.begins(10)
        pace.ends(1, 10.001)
    assert pace.size == 64


@pytest.mark.parametrize("largest", [1, 8, 128, 1_000])
def test_calls_never_become_so_small_that_there_are_too_many(largest: int) -> None:
    pace = Pace(largest)
    for _ in range(50):
        pace.begins(0)
        pace.ends(pace.size, 1_000)
    assert pace.size == max(largest // 8, 1)


class Store:
    """Takes so many items per second over all calls, and a little for each call; gives up after the deadline, as a channel
    does, having done the work for nothing.
    """

    def __init__(self, per_second: float) -> None:
        self._seconds_per_item = 1 / per_second
        self._free_at = 0.0

    async def send(self, items: Sequence[int]) -> Sequence[int]:
        now = virtual_time.now()
        self._free_at = max(self._free_at, now) + 0.002 + len(items) * self._seconds_per_item
        took = self._free_at - now
        await asyncio.sleep(min(took, DEADLINE))
        if took > DEADLINE:
            raise TimeoutError
        return items


class Outcome:
    """What became of the items of a run."""

    def __init__(self) -> None:
        self.waits: list[tuple[float, float]] = []
        """When each accepted item was submitted, and how long it took."""
        self.refused = 0
        self.failed = 0
        self.most_waiting = 0


async def overload(batcher: Batcher[int, int], per_second: float, seconds: float) -> Outcome:
    """Submits evenly, whatever becomes of it; returns when everything was answered."""
    outcome = Outcome()

    def answered(future: "asyncio.Future[int]", submitted_at: float) -> None:
        if future.exception() is None:
            outcome.waits.append((submitted_at, virtual_time.now() - submitted_at))
        elif isinstance(future.exception(), Overloaded):
            outcome.refused += 1
        else:
            outcome.failed += 1

    for number in range(int(per_second * seconds)):
        await asyncio.sleep(max(number / per_second - virtual_time.now(), 0))
        now = virtual_time.now()
        try:
            future = batcher.submit(number, str(number))
        except Overloaded:
            outcome.refused += 1
        else:
            future.add_done_callback(lambda future, now=now: answered(future, now))  # type: ignore[misc]
        outcome.most_waiting = max(outcome.most_waiting, batcher.waiting)
    await batcher.close()
    return outcome


@pytest.mark.parametrize("capacity", [20, 60, 300, 1_000])
def test_at_twice_what_a_store_takes_most_of_it_is_still_done_and_in_time(capacity: float) -> None:
    """A batcher without a bound in time does nothing useful here: its calls end with their deadline (20, 60), or everything
    waits as long as it may.
    """
    seconds = 40.0

    async def story() -> tuple[Outcome, float]:
        batcher: Batcher[int, int] = Batcher(Store(capacity).send, name="test", sheds=True, clock=virtual_time.now)
        outcome = await overload(batcher, 2 * capacity, seconds)
        return outcome, virtual_time.now()

    outcome, ended = virtual_time.run(story())
    assert len(outcome.waits) + outcome.refused + outcome.failed == int(2 * capacity * seconds)
    assert outcome.failed <= 512  # the first two calls of each lane, before anything was known of the store
    assert len(outcome.waits) >= 0.7 * capacity * seconds
    late = [wait for at, wait in outcome.waits if at > 20]
    assert max(late) <= STANDING_WAIT + 3 * LONGEST_CALL
    assert max(wait for _, wait in outcome.waits) <= MAX_WAIT + DEADLINE
    assert outcome.most_waiting <= max(capacity * 2 * BURST_WAIT, 2 * 128)
    assert ended - seconds <= 5.0  # nothing is left to do


def test_where_calls_take_long_however_small_they_are_they_stay_large() -> None:
    async def send(items: Sequence[int]) -> Sequence[int]:
        await asyncio.sleep(1.2)
        return items

    async def story() -> Outcome:
        batcher: Batcher[int, int] = Batcher(send, name="test", sheds=True, clock=virtual_time.now)
        return await overload(batcher, 400, 60)

    outcome = virtual_time.run(story())
    assert len(outcome.waits) >= 0.9 * 60 * 2 * 128 / 1.2
    assert outcome.failed == 0


def test_below_its_capacity_nothing_is_refused() -> None:
    async def story() -> Outcome:
        batcher: Batcher[int, int] = Batcher(Store(1_000).send, name="test", sheds=True, clock=virtual_time.now)
        return await overload(batcher, 700, 30)

    outcome = virtual_time.run(story())
    assert (outcome.refused, outcome.failed) == (0, 0)


def test_a_restart_of_two_seconds_under_a_moderate_load_refuses_nothing() -> None:
    class Restarting(Store):
        async def send(self, items: Sequence[int]) -> Sequence[int]:
            if 10 <= virtual_time.now() < 12:
                await asyncio.sleep(12 - virtual_time.now())  # the channel waits for the new process
            return await super().send(items)

    async def story() -> Outcome:
        batcher: Batcher[int, int] = Batcher(Restarting(2_000).send, name="test", sheds=True, clock=virtual_time.now)
        return await overload(batcher, 500, 20)

    outcome = virtual_time.run(story())
    assert (outcome.refused, outcome.failed) == (0, 0)
    assert max(wait for _, wait in outcome.waits) > 1.5


def test_without_shedding_items_wait_as_long_as_they_may() -> None:
    async def story() -> Outcome:
        batcher: Batcher[int, int] = Batcher(Store(1_000).send, name="test", clock=virtual_time.now)
        return await overload(batcher, 2_000, 4)

    assert virtual_time.run(story()).refused == 0
