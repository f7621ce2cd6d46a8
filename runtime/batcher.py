"""Natural batching: what arrives while a call is in flight rides in the next one.

Nothing waits when the system is idle, and the size of batches follows the load. The idea is the "smart batching" of
M. Thompson (mechanical-sympathy, 2011). Two things are ours. Items with the same key always share a lane, and a lane is in one
call at a time, so that items of one key take effect in the order they were submitted; one call serves all free lanes, unless more
waits than fits into it. And where a call costs much however little is in it, calls may be kept an interval apart: then a
moderate load forms batches, too. That is a network card's interrupt moderation; a message queue's linger (5 ms in Kafka since
4.0, KIP-1030) would delay the lone item as well.
"""

import asyncio
import contextvars
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
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


Place = tuple[int, float]
"""Of an item in a batcher: its lane, and when it came."""


class _Waiting(NamedTuple, Generic[Item, Result]):
    item: Item
    future: "asyncio.Future[Result]"
    since: float


class Batcher(Generic[Item, Result]):
    """Collects single items into calls of `send`.

    `send` gets 1 to `max_batch` items, fewer while it is slow (`runtime/pace.py`), and returns one result per item, in
    order; what it raises, every item of the batch raises. At most `lanes` calls are in flight, at most `max_queue` items
    wait, and none is sent after more than `max_wait` seconds (it raises Overloaded then). A batch that fails as a
    whole, because it is too large or because of one item in it, is sent again in halves: nobody's item fails for
    another's.

    `interval`: seconds between the beginnings of two calls, unless `enough` items (as many as fit, if
    not said) are there for the second. `sheds`: what would come too late,
    as far as that can be known, is refused at once instead of queued. `name` is for those whose item is refused, `metric`
    for the labels of the metrics. `clock` gives seconds and never goes back.
    """

    def __init__(
        self,
        send: Send[Item, Result],
        *,
        name: str,
        metric: str = "",
        lanes: int = 2,
        max_batch: int = 128,
        max_queue: int = 10_000,
        max_wait: float = 5.0,
        interval: float = 0.0,
        enough: int | None = None,
        sheds: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._send = send
        self._name = name
        self._max_queue = max_queue
        self._max_batch = max_batch
        self._max_wait = max_wait
        self._interval = interval
        self._enough = enough or max_batch
        self._sheds = sheds
        self._clock = clock
        self._waiting = 0
        self._closed = False
        self._queues: list[deque[_Waiting[Item, Result]]] = [deque() for _ in range(lanes)]
        self._paces = [Pace(max_batch) for _ in range(lanes)]
        self._free = set(range(lanes))
        self._calls: set[asyncio.Task[None]] = set()
        self._next: asyncio.Handle | None = None
        """What begins the next call, when there is one to begin."""
        self._next_is_delayed = False
        self._begun_at = float("-inf")
        label = metric or name
        QUEUE.labels(label).set_function(lambda: self._waiting)
        QUEUE_LIMIT.labels(label).set(max_queue)
        self._refused = REFUSED.labels(label)
        self._sizes, self._waits = BATCH.labels(label), WAIT.labels(label)
        self._ok, self._failed = CALL.labels(label, "ok"), CALL.labels(label, "failed")

    def submit(self, item: Item, key: str, place: Place | None = None) -> "asyncio.Future[Result]":
        """Queues one item; the future gets its result.

        Items with equal keys are sent in the order of submission. Cancelling the future does not take the item back. `place`: what
        `admit` gave for this key in this turn of the loop. Without one, raises Overloaded as that does: then nothing was queued.
        """
        lane, now = place or self.admit(key)
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        if lane in self._free and not self._queues[lane]:
            self._paces[lane].empty(now)
        self._queues[lane].append(_Waiting(item, future, now))
        self._waiting += 1
        self._prepare(now)
        return future

    def admit(self, key: str) -> Place:
        """Where and when an item with this key would be queued now: for those who want to know before they make the item.

        Raises Overloaded when the queue is full, when the item would come too late, or when the batcher is closed.
        """
        if self._closed:
            raise Overloaded(f"{self._name} is shutting down")
        lane, now = hash(key) % len(self._queues), self._clock()
        if self._waiting >= self._max_queue or (
            self._sheds and self._paces[lane].refuses(len(self._queues[lane]), now)
        ):
            raise self._overloaded()
        return lane, now

    @property
    def waiting(self) -> int:
        """How many items wait for a call (those in flight are not counted)."""
        return self._waiting

    async def close(self) -> None:
        """Takes no more, and returns when everything queued has been sent and answered. Idempotent."""
        self._closed = True
        while self._waiting or self._calls:
            self._prepare(self._clock())
            if self._calls:
                await asyncio.wait(self._calls)
            else:
                await asyncio.sleep(0)  # one is about to begin

    def _prepare(self, now: float) -> None:
        """Sees to it that the next call begins when it may."""
        ready = sum(len(self._queues[lane]) for lane in self._free)
        if not ready:
            return
        wait = self._begun_at + self._interval - now
        if ready >= self._enough or self._closed:
            wait = 0.0
        if self._next is not None:
            if wait > 0 or not self._next_is_delayed:
                return
            self._next.cancel()
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
        lanes = [lane for lane in self._free if self._queues[lane]]
        ready = sum(len(self._queues[lane]) for lane in lanes)
        if ready > min((self._paces[lane].size for lane in lanes), default=0):
            for lane in lanes:
                self._begin_call([lane], now)
        else:
            self._begin_call(lanes, now)
        self._prepare(now)

    def _begin_call(self, lanes: Sequence[int], now: float) -> None:
        batch = [waiting for lane in lanes for waiting in self._take(lane, now)]
        if not batch:
            return
        self._begun_at = now
        self._free.difference_update(lanes)
        for lane in lanes:
            self._paces[lane].begins(now)
        self._sizes.observe(len(batch))
        self._waits.observe(now - min(waiting.since for waiting in batch))
        call = asyncio.create_task(self._call(batch), name=f"batcher {self._name}")
        self._calls.add(call)
        call.add_done_callback(partial(self._ended, lanes, batch))

    def _take(self, lane: int, now: float) -> list[_Waiting[Item, Result]]:
        """The next items of a lane."""
        queue, pace, oldest = self._queues[lane], self._paces[lane], now - self._max_wait
        items: list[_Waiting[Item, Result]] = []
        while queue and len(items) < pace.size:
            waiting = queue.popleft()
            self._waiting -= 1
            if waiting.since >= oldest:
                items.append(waiting)
            elif not waiting.future.done():
                waiting.future.set_exception(self._overloaded())
        if not queue:
            pace.empty(now)
        return items

    def _ended(self, lanes: Sequence[int], batch: Sequence[_Waiting[Item, Result]], task: "asyncio.Task[None]") -> None:
        """However a call has ended, its lanes are free again and nobody waits for it any more."""
        now = self._clock()
        self._calls.remove(task)
        for waiting in batch:
            if not waiting.future.done():
                waiting.future.cancel()
        for lane in lanes:
            self._paces[lane].ends(len(batch), now)
        self._free.update(lanes)
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
