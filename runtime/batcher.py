"""Natural batching: what arrives while a call is in flight rides in the next one.

Nothing waits when the system is idle, and the size of batches follows the load. The idea is the "smart batching" of
M. Thompson (mechanical-sympathy, 2011). Two things are ours. Items with the same key are never under way at the same time, so
that they take effect in the order they were submitted. And where a call costs much however little is in it, calls may be
kept an interval apart: then a moderate load forms batches, too. That is a network card's interrupt moderation; a message
queue's linger (5 ms in Kafka since 4.0, KIP-1030) would delay the lone item as well.
"""

import asyncio
import contextvars
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

from prometheus_client import Counter, Gauge

from runtime.errors import Overloaded, may_be_one_items_fault
from runtime.metrics import LATENCIES, SIZES, Histogram
from runtime.pace import Pace

Item = TypeVar("Item")
Result = TypeVar("Result")

QUEUE = Gauge("bubble_queue_items", "Items that wait, those under way not counted", ["queue"])
QUEUE_LIMIT = Gauge("bubble_queue_limit_items", "How many items may wait", ["queue"])
REFUSED = Counter("bubble_queue_refused", "Items refused because too many waited, or for too long", ["queue"])
BATCH = Histogram("bubble_batch_items", "Items that shared a call", ["batcher"], buckets=SIZES)
WAIT = Histogram(
    "bubble_batch_wait_seconds",
    "How long the first item of a batch waited for its call",
    ["batcher"],
    buckets=LATENCIES,
)
CALL = Histogram(
    "bubble_batch_call_seconds",
    "How long calls of batches took as their caller sees it, by outcome (ok or failed)",
    ["batcher", "outcome"],
    buckets=LATENCIES,
)

Send = Callable[[Sequence[Item]], Awaitable[Sequence[Result]]]


class _Waiting(NamedTuple, Generic[Item, Result]):
    item: Item
    key: str
    future: "asyncio.Future[Result]"
    since: float


class Batcher(Generic[Item, Result]):
    """Collects single items into calls of `send`.

    `send` gets 1 to `max_batch` items, fewer while it is slow (`runtime/pace.py`), and returns one result per item, in
    order; what it raises, every item of the batch raises. At most `max_calls` are in flight, at most `max_queue` items
    wait, and none for more than `max_wait` seconds (then it raises Overloaded, and was not sent). A batch that fails as a
    whole, because it is too large or because of one item in it, is sent again in halves: nobody's item fails for
    another's.

    `interval`: seconds between the beginnings of two calls, unless the second is a full one. `sheds`: what would come too late,
    as far as that can be known, is refused at once instead of queued. `name` is for those whose item is refused, `metric`
    for the labels of the metrics. `clock` gives seconds and never goes back.
    """

    def __init__(
        self,
        send: Send[Item, Result],
        *,
        name: str,
        metric: str = "",
        max_calls: int = 2,
        max_batch: int = 128,
        max_queue: int = 10_000,
        max_wait: float = 5.0,
        interval: float = 0.0,
        sheds: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._send = send
        self._name = name
        self._max_calls = max_calls
        self._max_queue = max_queue
        self._max_wait = max_wait
        self._interval = interval
        self._sheds = sheds
        self._clock = clock
        self._closed = False
        self._queue: deque[_Waiting[Item, Result]] = deque()
        self._pace = Pace(max_batch, max_calls)
        self._calls: set[asyncio.Task[None]] = set()
        self._keys_under_way: set[str] = set()
        self._next: asyncio.Handle | None = None
        """What begins the next call, when there is one to begin."""
        self._next_is_delayed = False
        self._begun_at = float("-inf")
        label = metric or name
        QUEUE.labels(label).set_function(lambda: len(self._queue))
        QUEUE_LIMIT.labels(label).set(max_queue)
        self._refused = REFUSED.labels(label)
        self._sizes, self._waits = BATCH.labels(label), WAIT.labels(label)
        self._ok, self._failed = CALL.labels(label, "ok"), CALL.labels(label, "failed")

    def submit(self, item: Item, key: str, admitted_at: float | None = None) -> "asyncio.Future[Result]":
        """Queues one item; the future gets its result.

        Items with equal keys are sent in the order of submission. Cancelling the future does not take the item back. `admitted_at`: what
        `admit` gave in this turn of the loop. Without it, raises Overloaded as that does: then nothing was queued.
        """
        now = self.admit() if admitted_at is None else admitted_at
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        if not self._queue:
            self._pace.empty(now)
        self._queue.append(_Waiting(item, key, future, now))
        self._prepare(now)
        return future

    def admit(self) -> float:
        """When an item would be queued now: for those who want to know whether it would before they make it.

        Raises Overloaded when the queue is full, when the item would come too late, or when the batcher is closed.
        """
        if self._closed:
            raise Overloaded(f"{self._name} is shutting down")
        waiting, now = len(self._queue), self._clock()
        if waiting >= self._max_queue or (self._sheds and self._pace.refuses(waiting, now)):
            raise self._overloaded()
        return now

    @property
    def waiting(self) -> int:
        """How many items wait for a call (those in flight are not counted)."""
        return len(self._queue)

    async def close(self) -> None:
        """Takes no more, and returns when everything queued has been sent and answered. Idempotent."""
        self._closed = True
        while self._queue or self._calls:
            self._prepare(self._clock())
            if self._calls:
                await asyncio.wait(self._calls)
            else:
                await asyncio.sleep(0)  # one is about to begin

    def _prepare(self, now: float) -> None:
        """Sees to it that the next call begins when it may."""
        wait = self._begun_at + self._interval - now
        if len(self._queue) >= self._pace.size or self._closed:
            wait = 0.0
        if self._next is not None:
            if wait > 0 or not self._next_is_delayed:
                return
            self._next.cancel()
        elif not self._queue or len(self._calls) >= self._max_calls:
            return
        loop, nobodys = asyncio.get_running_loop(), contextvars.Context()  # it works for many
        self._next_is_delayed = wait > 0
        # Not before the loop's next turn, so that everything submitted in this turn shares the call.
        if self._next_is_delayed:
            self._next = loop.call_later(wait, self._begin, context=nobodys)
        else:
            self._next = loop.call_soon(self._begin, context=nobodys)

    def _begin(self) -> None:
        self._next = None
        now = self._clock()
        batch = self._take(now)
        if not batch:
            return  # what waits has its keys under way: it is looked at again when a call ends
        self._begun_at = now
        self._keys_under_way.update(waiting.key for waiting in batch)
        task = asyncio.create_task(self._run(batch, now), name=f"batcher {self._name}")
        self._calls.add(task)
        self._prepare(now)

    def _take(self, now: float) -> list[_Waiting[Item, Result]]:
        """The next batch, out of the queue."""
        queue, size, oldest = self._queue, self._pace.size, now - self._max_wait
        batch: list[_Waiting[Item, Result]] = []
        held_back: list[_Waiting[Item, Result]] = []
        while queue and len(batch) < size and len(held_back) < size:
            waiting = queue.popleft()
            if waiting.since < oldest:
                if not waiting.future.done():
                    waiting.future.set_exception(self._overloaded())
            elif waiting.key in self._keys_under_way:
                held_back.append(waiting)
            else:
                batch.append(waiting)
        queue.extendleft(reversed(held_back))
        if not queue:
            self._pace.empty(now)
        return batch

    async def _run(self, batch: Sequence[_Waiting[Item, Result]], began: float) -> None:
        self._pace.begins(began)
        self._sizes.observe(len(batch))
        self._waits.observe(began - batch[0].since)
        try:
            await self._call(batch)
        finally:
            now = self._clock()
            self._pace.ends(len(batch), began, now)
            self._keys_under_way.difference_update(waiting.key for waiting in batch)
            self._calls.remove(asyncio.current_task())  # type: ignore[arg-type]  # it is one
            self._prepare(now)

    def _overloaded(self) -> Overloaded:
        self._refused.inc()
        return Overloaded(f"Too much is under way for {self._name}")

    async def _call(self, batch: Sequence[_Waiting[Item, Result]]) -> None:
        began = self._clock()
        try:
            results = await self._send([waiting.item for waiting in batch])
            if len(results) != len(batch):
                raise RuntimeError(f"{self._name} answered {len(results)} of {len(batch)} items")
        except asyncio.CancelledError:
            for waiting in batch:
                waiting.future.cancel()
            raise
        except Exception as error:  # whatever it is, it belongs to those who wait for it
            self._failed.observe(self._clock() - began)
            if len(batch) > 1 and may_be_one_items_fault(error):
                middle = len(batch) // 2
                await self._call(batch[:middle])
                await self._call(batch[middle:])
                return
            for waiting in batch:
                if not waiting.future.done():
                    waiting.future.set_exception(error)
            return
        self._ok.observe(self._clock() - began)
        for waiting, result in zip(batch, results, strict=True):
            if not waiting.future.done():
                waiting.future.set_result(result)
