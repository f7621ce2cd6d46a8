"""Natural batching: what arrives while a call is in flight rides in the next one.

There is no timer, so nothing waits when the system is idle, and the size of batches follows the load. The idea is the
"smart batching" of M. Thompson (mechanical-sympathy, 2011); the lanes are ours: items with the same key always share a
lane, and a lane has one call in flight, so that items of one key take effect in the order they were submitted.
"""

import asyncio
import contextvars
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

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

Place = tuple[int, float]
"""Of an item in a batcher: its lane, and when it came."""

Send = Callable[[Sequence[Item]], Awaitable[Sequence[Result]]]


class Batcher(Generic[Item, Result]):
    """Collects single items into calls of `send`.

    `send` gets 1 to `max_batch` items, fewer while it is slow (`runtime/pace.py`), and returns one result per item, in
    order; what it raises, every item of the batch raises. At most `lanes` calls are in flight, at most `max_queue` items
    wait, and none for more than `max_wait` seconds (then it raises Overloaded, and was not sent). A batch that fails as a
    whole, because it is too large or because of one item in it, is sent again in halves: nobody's item fails for
    another's.

    `sheds`: what would come too late, as far as that can be known, is refused at once instead of queued. `name` is for
    those whose item is refused, `metric` for the labels of the metrics. `clock` gives seconds and never goes back.
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
        sheds: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._send = send
        self._name = name
        self._max_queue = max_queue
        self._max_wait = max_wait
        self._sheds = sheds
        self._clock = clock
        self._waiting = 0
        self._closed = False
        self._queues: list[deque[tuple[Item, asyncio.Future[Result], float]]] = [deque() for _ in range(lanes)]
        self._paces = [Pace(max_batch) for _ in range(lanes)]
        self._workers: list[asyncio.Task[None] | None] = [None] * lanes
        label = metric or name
        QUEUE.labels(label).set_function(lambda: self._waiting)
        QUEUE_LIMIT.labels(label).set(max_queue)
        self._refused = REFUSED.labels(label)
        self._sizes, self._waits = BATCH.labels(label), WAIT.labels(label)
        self._ok, self._failed = CALL.labels(label, "ok"), CALL.labels(label, "failed")

    def submit(self, item: Item, key: str, place: Place | None = None) -> asyncio.Future[Result]:
        """Queues one item; the future gets its result.

        Items with equal keys are sent in the order of submission. Cancelling the future does not take the item back. `place`: what
        `admit` gave for this key in this turn of the loop. Without one, raises Overloaded as that does: then nothing was queued.
        """
        lane, now = place or self.admit(key)
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._queues[lane].append((item, future, now))
        self._waiting += 1
        if self._workers[lane] is None:
            self._paces[lane].empty(now)
            # The task starts at the loop's next turn, so that everything submitted in this turn shares the first call.
            # In a context of its own: it works for many.
            self._workers[lane] = asyncio.create_task(
                self._work(lane), name=f"batcher {self._name}/{lane}", context=contextvars.Context()
            )
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
        await asyncio.gather(*(worker for worker in self._workers if worker is not None))

    async def _work(self, lane: int) -> None:
        queue, pace = self._queues[lane], self._paces[lane]
        try:
            while queue:
                batch: list[tuple[Item, asyncio.Future[Result]]] = []
                now = first_at = self._clock()
                oldest = now - self._max_wait
                while queue and len(batch) < pace.size:
                    item, future, submitted_at = queue.popleft()
                    self._waiting -= 1
                    if submitted_at >= oldest:
                        batch.append((item, future))
                        first_at = min(first_at, submitted_at)
                    elif not future.done():
                        future.set_exception(self._overloaded())
                if not queue:
                    pace.empty(now)
                if batch:
                    pace.begins(now)
                    self._sizes.observe(len(batch))
                    self._waits.observe(now - first_at)
                    await self._call(batch)
                    pace.ends(len(batch), self._clock())
        finally:
            # No await since the loop saw an empty queue: a later submit starts a new worker.
            self._workers[lane] = None

    def _overloaded(self) -> Overloaded:
        self._refused.inc()
        return Overloaded(f"Too much is under way for {self._name}")

    async def _call(self, batch: Sequence[tuple[Item, asyncio.Future[Result]]]) -> None:
        began = self._clock()
        try:
            results = await self._send([item for item, _ in batch])
            if len(results) != len(batch):
                raise RuntimeError(f"{self._name} answered {len(results)} of {len(batch)} items")
        except asyncio.CancelledError:
            for _, future in batch:
                future.cancel()
            raise
        except Exception as error:  # whatever it is, it belongs to those who wait for it
            self._failed.observe(self._clock() - began)
            if len(batch) > 1 and may_be_one_items_fault(error):
                middle = len(batch) // 2
                await self._call(batch[:middle])
                await self._call(batch[middle:])
                return
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        self._ok.observe(self._clock() - began)
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)
