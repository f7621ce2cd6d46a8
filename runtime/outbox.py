"""The outbox's second half: delivering what was committed, until every edge concerned has it.

A service that commits a change saves a marker in the same write and offers the change here. The relay delivers it and
removes the marker. What was not delivered (a crash between the two, an edge that is away) is found by its marker: the
sweeper looks at all markers once a second and sends again what is still there. Delivery is therefore at least once; the
versions inside the events tell old from new. This is the transactional outbox with a polling publisher (C. Richardson,
microservices.io), with a shortcut for the common case.

Ages of markers are measured by this process's own monotonic clock from when it first saw them: the wall clocks of the
replicas may differ by minutes.
"""

import asyncio
import random
from collections.abc import Sequence
from typing import Generic, NamedTuple, Protocol, TypeAlias, TypeVar

import grpc
from prometheus_client import Counter, Gauge

from proto.connection.v1 import connection_pb2, connection_pb2_grpc
from runtime import logs
from runtime.batcher import QUEUE, QUEUE_LIMIT, Batcher
from runtime.errors import BubbleError, brief, may_be_one_items_fault
from runtime.grpc_client import CALL_DEADLINE
from runtime.metrics import CONVERGENCE
from runtime.telemetry import Telemetry

log = logs.get(__name__)

SWEEP_INTERVAL = 1.0
"""Seconds between two looks at the markers."""

GRACE = 1.5
"""Seconds a marker is left to the relay that was offered its change, before the sweeper sends it."""

LONGEST_BACKOFF = 2.0
"""Seconds between two attempts at most: with the interval, the bound on how late a state arrives after a fault ends."""

MAX_WAITING = 10_000
"""Changes that wait for their first delivery. Beyond that they are left to the sweeper."""

SWEEP_PAGE = 500
SWEEP_PAGES = 20
BATCH = 128
LANES = 2


EVENTS = Counter(
    "bubble_outbox_events",
    "Attempts to deliver a change: by the relay (first) or by the sweeper (repeat), and what became of it (delivered, or "
    "pending: an edge has not taken it over, or the call failed)",
    ["attempt", "outcome"],
)
FAILED = Counter("bubble_outbox_failed_calls", "Calls of the connection service that failed, or could not be made")
PENDING = Gauge("bubble_outbox_pending_items", "Changes that were not delivered at the last look of the sweeper")
PENDING_AGE = Gauge(
    "bubble_outbox_pending_age_seconds",
    "For how long the oldest of them has been so: since its commit, or since this process first saw it",
)
SWEEPS = Counter("bubble_outbox_sweeps", "Looks of the sweeper, by outcome (ok or failed)", ["outcome"])


class Marked(NamedTuple):
    """A committed change that may still have to be delivered."""

    timer_id: str
    version: int
    since_us: int


Change = TypeVar("Change")


class Outbox(Protocol[Change]):
    """What a service tells the relay about its changes."""

    def marker(self, change: Change) -> Marked:
        """Names a change."""

    async def events(self, changes: Sequence[Change]) -> Sequence[connection_pb2.DeliverItem]:
        """The changes as they are to be delivered now, in order. The audience must be read now, after the commit: who
        was added while the change was being committed has not seen it.
        """

    async def list_pending(self, limit: int, after: tuple[int, str]) -> Sequence[Change]:
        """Changes with a marker, ordered by (since, timer id), those after the given pair."""

    async def clear(self, changes: Sequence[Change]) -> None:
        """Removes the markers of delivered changes, each only where the version is still the same."""


_Waiting: TypeAlias = tuple[Change, float]  # and since when it is known, by the loop's clock


class _Attempt(NamedTuple):
    version: int
    since: float
    due: float
    backoff: float


class Relay(Generic[Change]):
    """Delivers one service's changes. At most `LANES` calls are in flight; a newer change of a timer replaces an older one
    that waits.
    """

    def __init__(
        self,
        outbox: Outbox[Change],
        connections: "connection_pb2_grpc.ConnectionServiceAsyncStub",  # quoted: it exists for type checkers only
        telemetry: Telemetry,
    ) -> None:
        self._outbox = outbox
        self._connections = connections
        self._telemetry = telemetry
        self._waiting: dict[str, _Waiting[Change]] = {}
        self._wake = asyncio.Event()
        self._in_flight = 0
        self._attempts: dict[str, _Attempt] = {}
        self._clearing: Batcher[Change, None] = Batcher(
            self._clear, name="the outbox", metric="outbox.clear", lanes=1, max_batch=1_000
        )
        self._taken_over = CONVERGENCE.labels("taken_over")
        QUEUE.labels("outbox").set_function(lambda: len(self._waiting))
        QUEUE_LIMIT.labels("outbox").set(MAX_WAITING)
        PENDING.set(0)
        PENDING_AGE.set(0)

    def offer(self, change: Change) -> None:
        """Delivers a committed change soon. Never blocks and never fails: the marker is there."""
        marker = self._outbox.marker(change)
        waiting = self._waiting.get(marker.timer_id)
        if waiting is not None and self._outbox.marker(waiting[0]).version >= marker.version:
            return
        if waiting is None and len(self._waiting) >= MAX_WAITING:
            return
        # Who waited for the older state waits for this one: the age is that of the older one.
        since = asyncio.get_running_loop().time() if waiting is None else waiting[1]
        self._waiting[marker.timer_id] = (change, since)
        self._wake.set()

    async def run(self) -> None:
        """Delivers and sweeps until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(LANES):
                group.create_task(self._send_waiting(), name="relay")
            group.create_task(self._sweep_forever(), name="sweeper")

    async def drain(self, seconds: float) -> None:
        """Waits, so long at most, until everything offered has been delivered once."""
        try:
            async with asyncio.timeout(seconds):
                while self._waiting or self._in_flight:
                    await asyncio.sleep(0.01)
                await self._clearing.close()
        except TimeoutError:
            log.info("changes left to the sweeper", count=len(self._waiting) + self._in_flight)

    async def _send_waiting(self) -> None:
        while True:
            await self._wake.wait()
            # Two lanes wake at once; the second finds nothing and waits again.
            batch = [self._waiting.pop(timer_id) for timer_id in list(self._waiting)[:BATCH]]
            if not self._waiting:
                self._wake.clear()
            if batch:
                await self._deliver_first(batch)

    async def _deliver(self, changes: Sequence[Change]) -> list[bool]:
        self._in_flight += len(changes)
        try:
            items = await self._outbox.events(changes)
            traces = [item.event.traceparent for item in items]
            with self._telemetry.batch_span("outbox.deliver", traces) as span:
                if len(items) == 1:
                    items[0].event.traceparent = span.traceparent
                response = await self._connections.Deliver(
                    connection_pb2.DeliverRequest(items=items), timeout=CALL_DEADLINE
                )
            delivered = [status == connection_pb2.DELIVERY_STATUS_DELIVERED for status in response.statuses]
        except (grpc.aio.AioRpcError, BubbleError) as error:
            if len(changes) > 1 and may_be_one_items_fault(error):
                middle = len(changes) // 2
                return [*await self._deliver(changes[:middle]), *await self._deliver(changes[middle:])]
            reason = brief(error)
            log.warning("delivery failed, the sweeper will repeat it", changes=len(changes), error=reason)
            FAILED.inc()
            return [False] * len(changes)
        finally:
            self._in_flight -= len(changes)
        for change, done in zip(changes, delivered, strict=True):
            if done:
                self._clear_soon(change)
        return delivered

    async def _deliver_first(self, batch: Sequence[_Waiting[Change]]) -> None:
        """Delivers what was offered. Of what fails, the sweeper is told since when it is known."""
        done = await self._deliver([change for change, _ in batch])
        self._count("first", batch, done)
        if all(done):
            return
        now = asyncio.get_running_loop().time()
        for (change, since), delivered in zip(batch, done, strict=True):
            if not delivered and len(self._attempts) < MAX_WAITING:
                marker = self._outbox.marker(change)
                self._attempts[marker.timer_id] = _Attempt(marker.version, since, now + GRACE, SWEEP_INTERVAL / 2)

    async def _deliver_again(self, batch: Sequence[_Waiting[Change]]) -> None:
        """Delivers what the sweeper found."""
        done = await self._deliver([change for change, _ in batch])
        self._count("repeat", batch, done)

    def _count(self, attempt: str, batch: Sequence[_Waiting[Change]], done: Sequence[bool]) -> None:
        EVENTS.labels(attempt, "delivered").inc(sum(done))
        EVENTS.labels(attempt, "pending").inc(len(done) - sum(done))
        now = asyncio.get_running_loop().time()
        for (_, since), delivered in zip(batch, done, strict=True):
            if delivered:
                self._taken_over.observe(now - since)

    def _clear_soon(self, change: Change) -> None:
        try:
            future = self._clearing.submit(change, "")
        except BubbleError:
            return  # the marker stays and the change is delivered once more, which is harmless
        future.add_done_callback(_ignore_failure)

    async def _clear(self, changes: Sequence[Change]) -> Sequence[None]:
        try:
            await self._outbox.clear(changes)
        except (grpc.aio.AioRpcError, BubbleError) as error:
            log.warning("markers not cleared, their changes will be repeated", changes=len(changes), error=brief(error))
        return [None] * len(changes)

    async def _sweep_forever(self) -> None:
        while True:
            # Replicas sweep the same markers: at different moments, so that one of them usually finds them cleared.
            await asyncio.sleep(SWEEP_INTERVAL * random.uniform(0.75, 1.25))
            try:
                await self.sweep()
            except (grpc.aio.AioRpcError, BubbleError) as error:
                SWEEPS.labels("failed").inc()
                log.warning("sweep failed", error=brief(error))
            else:
                SWEEPS.labels("ok").inc()

    async def sweep(self) -> None:
        """Looks at the markers once and delivers again what is due. Raises Unavailable."""
        now = asyncio.get_running_loop().time()
        seen: dict[str, _Attempt] = {}
        after = (0, "")
        for _ in range(SWEEP_PAGES):
            page = await self._outbox.list_pending(SWEEP_PAGE, after)
            due: list[_Waiting[Change]] = []
            for change in page:
                marker = self._outbox.marker(change)
                attempt = self._attempts.get(marker.timer_id)
                if attempt is None or attempt.version != marker.version:
                    attempt = _Attempt(marker.version, now, now + GRACE, SWEEP_INTERVAL / 2)
                elif attempt.due <= now:
                    due.append((change, attempt.since))
                    backoff = min(attempt.backoff * 2, LONGEST_BACKOFF)
                    attempt = _Attempt(marker.version, attempt.since, now + backoff, backoff)
                seen[marker.timer_id] = attempt
            for start in range(0, len(due), BATCH):
                await self._deliver_again(due[start : start + BATCH])
            if len(page) < SWEEP_PAGE:
                break
            last = self._outbox.marker(page[-1])
            after = (last.since_us, last.timer_id)
        self._attempts = seen
        PENDING.set(len(seen))
        oldest = min((attempt.since for attempt in seen.values()), default=None)
        clock = asyncio.get_running_loop().time
        # As of the moment it is asked for: it goes on rising while no sweep comes to its end.
        PENDING_AGE.set_function(lambda: clock() - oldest if oldest is not None else 0.0)


def _ignore_failure(future: "asyncio.Future[None]") -> None:
    if not future.cancelled():
        future.exception()  # logged where it happened
