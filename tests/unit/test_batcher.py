"""`runtime/batcher.py`."""

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc
import pytest

from runtime.batcher import BATCH, CALL, QUEUE, QUEUE_LIMIT, REFUSED, WAIT, Batcher
from runtime.errors import Overloaded
from tests.servicers.harness import rpc_error
from tests.unit import virtual_time


class Sink:
    """Remembers the batches it was sent, and answers each item with its double once the gate is open."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def send(self, items: Sequence[int]) -> Sequence[int]:
        self.batches.append(list(items))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await self.gate.wait()
        self.in_flight -= 1
        return [2 * item for item in items]


async def turns(count: int = 5) -> None:
    """Lets everything that is ready go on."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_each_item_gets_its_own_result() -> None:
    batcher: Batcher[int, int] = Batcher(Sink().send, name="test")
    futures = [batcher.submit(item, str(item)) for item in range(100)]
    assert await asyncio.gather(*futures) == [2 * item for item in range(100)]


async def test_a_lone_item_is_sent_at_once() -> None:
    sink = Sink()
    batcher: Batcher[int, int] = Batcher(sink.send, name="test")
    sink.gate.clear()
    future = batcher.submit(1, "a")
    await turns(2)
    assert sink.batches == [[1]]
    sink.gate.set()
    assert await future == 2


async def test_what_is_submitted_in_one_turn_of_the_loop_shares_a_call() -> None:
    sink = Sink()
    batcher: Batcher[int, int] = Batcher(sink.send, name="test", lanes=1)
    await asyncio.gather(*(batcher.submit(item, "a") for item in range(10)))
    assert sink.batches == [list(range(10))]


async def test_the_size_of_a_batch_follows_the_load() -> None:
    sink = Sink()
    sink.gate.clear()
    batcher: Batcher[int, int] = Batcher(sink.send, name="test", lanes=1, max_batch=1_000)
    futures = [batcher.submit(0, "a")]
    await turns()
    for item in range(1, 501):  # these arrive while the first call is under way
        futures.append(batcher.submit(item, "a"))
        if item % 50 == 0:
            await turns(1)
    sink.gate.set()
    await asyncio.gather(*futures)
    assert [len(batch) for batch in sink.batches] == [1, 500]


async def test_no_batch_is_larger_than_the_limit() -> None:
    sink = Sink()
    batcher: Batcher[int, int] = Batcher(sink.send, name="test", lanes=1, max_batch=8)
    await asyncio.gather(*(batcher.submit(item, "a") for item in range(30)))
    assert [len(batch) for batch in sink.batches] == [8, 8, 8, 6]


async def test_items_of_one_key_are_sent_in_order_and_never_at_the_same_time() -> None:
    under_way: set[int] = set()
    order: dict[int, list[int]] = {key: [] for key in range(7)}

    async def send(items: Sequence[tuple[int, int]]) -> Sequence[None]:
        keys = {key for key, _ in items}
        assert not keys & under_way
        under_way.update(keys)
        await turns(len(items) % 5)
        for key, number in items:
            order[key].append(number)
        under_way.difference_update(keys)
        return [None] * len(items)

    batcher: Batcher[tuple[int, int], None] = Batcher(send, name="test", lanes=3, max_batch=4)
    futures = []
    for number in range(300):
        futures.append(batcher.submit((number % 7, number), str(number % 7)))
        if number % 11 == 0:
            await turns(1)
    await asyncio.gather(*futures)
    assert order == {key: list(range(key, 300, 7)) for key in range(7)}


async def test_one_call_serves_all_lanes_unless_more_waits_than_fits_into_it() -> None:
    sink = Sink()
    batcher: Batcher[int, int] = Batcher(sink.send, name="test", lanes=2, max_batch=8)
    keys = {lane: next(str(n) for n in range(100) if batcher.admit(str(n))[0] == lane) for lane in (0, 1)}
    await asyncio.gather(*(batcher.submit(lane, keys[lane]) for lane in (0, 1, 0, 1)))
    assert [len(batch) for batch in sink.batches] == [4]
    await asyncio.gather(*(batcher.submit(lane, keys[lane]) for lane in (0, 1) * 6))
    assert sorted(map(sorted, sink.batches[1:])) == [[0] * 6, [1] * 6]


async def test_a_call_that_is_cancelled_leaves_nobody_waiting_and_the_next_one_goes() -> None:
    sink = Sink()
    sink.gate.clear()
    batcher: Batcher[int, int] = Batcher(sink.send, name="test", lanes=1)
    futures = [batcher.submit(item, "a") for item in (1, 2)]
    await turns(1)
    (call,) = (task for task in asyncio.all_tasks() if task.get_name() == "batcher test")
    call.cancel()  # before its first step
    await turns()
    assert all(future.cancelled() for future in futures)
    sink.gate.set()
    assert await batcher.submit(3, "a") == 6


async def test_there_are_never_more_calls_in_flight_than_lanes() -> None:
    sink = Sink()
    sink.gate.clear()
    batcher: Batcher[int, int] = Batcher(sink.send, name="test", lanes=2, max_batch=1)
    futures = [batcher.submit(item, str(item)) for item in range(50)]
    await turns()
    sink.gate.set()
    await asyncio.gather(*futures)
    assert sink.most_in_flight == 2


async def test_a_full_queue_refuses_more_and_has_room_again_later() -> None:
    sink = Sink()
    sink.gate.clear()
    batcher: Batcher[int, int] = Batcher(sink.send, name="the timers", lanes=1, max_batch=1, max_queue=3)
    futures = [batcher.submit(0, "a")]
    await turns()  # the first is in flight and waits no more
    futures += [batcher.submit(item, "a") for item in (1, 2, 3)]
    assert batcher.waiting == 3
    with pytest.raises(Overloaded, match="the timers") as refusal:
        batcher.submit(4, "a")
    assert refusal.value.retry_after_ms > 0
    sink.gate.set()
    assert await asyncio.gather(*futures) == [0, 2, 4, 6]
    assert await batcher.submit(5, "a") == 10
    assert [5] in sink.batches
    assert [4] not in sink.batches


async def test_an_exception_reaches_exactly_the_items_of_its_batch() -> None:
    async def send(items: Sequence[int]) -> Sequence[int]:
        await asyncio.sleep(0)
        if 13 in items:
            raise LookupError("thirteen")
        return items

    batcher: Batcher[int, int] = Batcher(send, name="test", lanes=1, max_batch=5)
    results = await asyncio.gather(*(batcher.submit(item, "a") for item in range(20)), return_exceptions=True)
    assert [number for number, result in enumerate(results) if isinstance(result, LookupError)] == [10, 11, 12, 13, 14]
    assert [result for result in results if isinstance(result, int)] == [*range(10), *range(15, 20)]


async def test_it_goes_on_after_an_exception() -> None:
    attempts = 0

    async def send(items: Sequence[int]) -> Sequence[int]:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise OSError("away")
        return items

    batcher: Batcher[int, int] = Batcher(send, name="test", lanes=1)
    with pytest.raises(OSError, match="away"):
        await batcher.submit(1, "a")
    assert await batcher.submit(2, "a") == 2


async def test_an_answer_of_the_wrong_length_is_an_error_of_every_item() -> None:
    async def send(items: Sequence[int]) -> Sequence[int]:
        return items[:-1]

    batcher: Batcher[int, int] = Batcher(send, name="test", lanes=1)
    results = await asyncio.gather(*(batcher.submit(item, "a") for item in range(3)), return_exceptions=True)
    assert all(isinstance(result, RuntimeError) for result in results)


async def test_a_cancelled_future_is_sent_all_the_same_and_disturbs_nobody() -> None:
    sink = Sink()
    batcher: Batcher[int, int] = Batcher(sink.send, name="test", lanes=1)
    kept, cancelled, other = (batcher.submit(item, "a") for item in (1, 2, 3))
    cancelled.cancel()
    assert (await kept, await other) == (2, 6)
    assert sink.batches == [[1, 2, 3]]


async def test_cancelling_a_future_whose_batch_fails_disturbs_nobody() -> None:
    gate = asyncio.Event()

    async def send(items: Sequence[int]) -> Sequence[int]:
        await gate.wait()
        raise OSError(f"away for {len(items)}")

    batcher: Batcher[int, int] = Batcher(send, name="test", lanes=1)
    cancelled, other = batcher.submit(1, "a"), batcher.submit(2, "a")
    await turns()
    cancelled.cancel()
    gate.set()
    with pytest.raises(OSError, match="away for 2"):
        await other


async def test_closing_waits_until_everything_queued_has_been_answered() -> None:
    sink = Sink()
    sink.gate.clear()
    batcher: Batcher[int, int] = Batcher(sink.send, name="test", lanes=2, max_batch=2)
    futures = [batcher.submit(item, str(item)) for item in range(20)]
    closing = asyncio.create_task(batcher.close())
    await turns()
    assert not closing.done()
    sink.gate.set()
    await closing
    assert [future.result() for future in futures] == [2 * item for item in range(20)]
    assert batcher.waiting == 0


async def test_a_closed_batcher_takes_no_more_and_may_be_closed_again() -> None:
    batcher: Batcher[int, int] = Batcher(Sink().send, name="test")
    await batcher.close()
    await batcher.close()
    with pytest.raises(Overloaded, match="shutting down"):
        batcher.submit(1, "a")


async def test_nobodys_item_fails_for_anothers() -> None:
    async def send(items: Sequence[int]) -> Sequence[int]:
        if 13 in items:
            raise rpc_error(grpc.StatusCode.INTERNAL)
        return items

    batcher: Batcher[int, int] = Batcher(send, name="test", lanes=1)
    futures = [batcher.submit(item, "a") for item in range(20)]
    results = await asyncio.gather(*futures, return_exceptions=True)
    assert [item for item, result in enumerate(results) if isinstance(result, Exception)] == [13]


async def test_what_has_waited_too_long_is_refused_without_being_sent() -> None:
    sink = Sink()
    batcher: Batcher[int, int] = Batcher(sink.send, name="test", lanes=1, max_wait=0.05)
    sink.gate.clear()
    first = batcher.submit(1, "a")
    await turns()
    late = batcher.submit(2, "a")
    await asyncio.sleep(0.06)  # longer than it may wait
    sink.gate.set()
    assert await first == 2
    with pytest.raises(Overloaded):
        await late
    assert sink.batches == [[1]]


# --- calls at an interval -----------------------------------------------------------------------------------------------


def begun(arrivals: Sequence[tuple[float, int]], enough: int | None = 4, **options: Any) -> list[tuple[float, int]]:
    """When calls begin and how many items they have, in virtual time: 100 ms apart, or 4 items together, when so many items come then."""
    calls: list[tuple[float, int]] = []

    async def send(items: Sequence[int]) -> Sequence[int]:
        calls.append((round(virtual_time.now(), 3), len(items)))
        await asyncio.sleep(0.001)
        return items

    async def story() -> None:
        batcher: Batcher[int, int] = Batcher(
            send, name="test", interval=0.1, enough=enough, clock=virtual_time.now, **options
        )
        for at, count in arrivals:
            await asyncio.sleep(at - virtual_time.now())
            for item in range(count):
                batcher.submit(item, str(item))
        await batcher.close()

    virtual_time.run(story())
    return calls


def test_with_an_interval_a_lone_item_is_still_sent_at_once() -> None:
    assert begun([(1.0, 1), (2.0, 1), (3.0, 1)]) == [(1.0, 1), (2.0, 1), (3.0, 1)]


def test_what_comes_within_the_interval_shares_the_next_call() -> None:
    assert begun([(1.0, 1), (1.03, 1), (1.06, 2), (1.15, 1), (2.0, 1)]) == [(1.0, 1), (1.1, 3), (1.2, 1), (2.0, 1)]


def test_who_has_company_enough_waits_for_no_interval() -> None:
    assert begun([(1.0, 1), (1.03, 3), (1.04, 8), (1.1, 3), (2.0, 0)], lanes=1, max_batch=8) == [
        (1.0, 1), (1.04, 8), (1.1, 6),
    ]  # fmt: skip


def test_a_full_call_waits_for_no_interval() -> None:
    assert begun([(1.0, 1), (1.03, 3), (1.04, 8), (2.0, 0)], lanes=1, max_batch=4, enough=None) == [
        (1.0, 1), (1.04, 4), (1.041, 4), (1.141, 3),
    ]  # fmt: skip


def test_closing_waits_for_no_interval() -> None:
    assert begun([(1.0, 1), (1.03, 2)]) == [(1.0, 1), (1.03, 2)]


# --- what is measured ---------------------------------------------------------------------------------------------------


async def test_calls_their_sizes_and_what_waits_are_measured_under_the_batchers_name() -> None:
    sink = Sink()
    batcher: Batcher[int, int] = Batcher(sink.send, name="test", metric="test.measured", lanes=1, max_queue=4)
    sizes, waits = BATCH.labels("test.measured"), WAIT.labels("test.measured")
    calls, refused = CALL.labels("test.measured", "ok"), REFUSED.labels("test.measured")
    sink.gate.clear()
    futures = [batcher.submit(1, "a")]
    await turns()
    futures += [batcher.submit(item, "a") for item in (2, 3, 4, 5)]
    with pytest.raises(Overloaded):
        batcher.submit(6, "a")
    assert (queue_of("test.measured"), QUEUE_LIMIT.labels("test.measured")._value.get()) == (4, 4)
    assert refused._value.get() == 1
    sink.gate.set()
    await asyncio.gather(*futures)
    assert (sizes.count, sizes.sum) == (2, 5)
    assert (waits.count, calls.count) == (2, 2)
    assert waits.sum >= 0
    assert queue_of("test.measured") == 0


async def test_calls_that_fail_are_told_apart() -> None:
    async def fail(items: Sequence[int]) -> Sequence[int]:
        raise Overloaded("no")

    batcher: Batcher[int, int] = Batcher(fail, name="test", metric="test.failing")
    with pytest.raises(Overloaded):
        await batcher.submit(1, "a")
    assert (CALL.labels("test.failing", "ok").count, CALL.labels("test.failing", "failed").count) == (0, 1)


async def test_an_item_that_waited_too_long_is_counted_as_refused() -> None:
    sink = Sink()
    batcher: Batcher[int, int] = Batcher(sink.send, name="test", metric="test.late", lanes=1, max_wait=0.0)
    sink.gate.clear()
    first = batcher.submit(1, "a")
    first.cancel()
    await turns()
    await asyncio.sleep(0.002)
    late = batcher.submit(2, "a")
    await asyncio.sleep(0.002)
    sink.gate.set()
    with pytest.raises(Overloaded):
        await late
    assert REFUSED.labels("test.late")._value.get() >= 1


def queue_of(name: str) -> float:
    (value,) = [
        sample.value for family in QUEUE.collect() for sample in family.samples if sample.labels == {"queue": name}
    ]
    return value
