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
from runtime import logs, semconv
from runtime.batcher import QUEUE, QUEUE_LIMIT, Batcher
from runtime.errors import BubbleError, brief, may_be_one_items_fault
from runtime.grpc_client import CALL_DEADLINE
from runtime.metrics import CONVERGENCE
from runtime.telemetry import Telemetry, is_sampled

log = logs.get(__name__)

SWEEP_INTERVAL = 1.0
"""Seconds between two looks at the markers."""

GRACE = 1.5
"""Seconds a marker is left to the relay that was offered its change, before the sweeper sends it."""

LONGEST_BACKOFF = 2.0
"""Seconds between two attempts at most: with the interval, the bound on how late a state arrives after a fault ends."""

MAX_WAITING = 10_000
"""Changes that wait for their first delivery. Beyond that they are left to the sweeper."""

MAX_UNCLEARED = 512
"""Delivered changes whose markers wait to be removed, at most, before more are delivered. A slow store sets the pace so, and
what changes meanwhile is delivered once, as it is then."""

SWEEP_PAGE = 500
SWEEP_PAGES = 20
BATCH = 128
LANES = 2

_LINGER = 0.01  # seconds between two looks at what is under way

_RETRY: semconv.Attributes = {semconv.RETRY: True}

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
    """A committed change that may still have to be delivered. `traceparent`: of the change, when it is recorded."""

    timer_id: str
    version: int
    since_us: int
    traceparent: str = ""


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
        self._under_way: dict[str, int] = {}  # the newest version of a timer between its call and the end of its marker
        self._attempts: dict[str, _Attempt] = {}
        self._failing = False
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
        if waiting is not None:
            older = self._outbox.marker(waiting[0])
            if older.version >= marker.version:
                return
            if is_sampled(older.traceparent):
                self._tell_replaced(older, marker)
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
                    await asyncio.sleep(_LINGER)
                await self._clearing.close()
        except TimeoutError:
            log.info("changes left to the sweeper", count=len(self._waiting) + self._in_flight)

    async def _send_waiting(self) -> None:
        while True:
            await self._wake.wait()
            await self._until_cleared()
            # Two lanes wake at once; the second finds nothing and waits again.
            batch = [self._waiting.pop(timer_id) for timer_id in list(self._waiting)[:BATCH]]
            if not self._waiting:
                self._wake.clear()
            if batch:
                await self._deliver_first(batch)

    async def _deliver(self, changes: Sequence[Change], *, retry: bool = False) -> list[bool]:
        """Delivers changes and removes the markers of those that every edge concerned has taken over; tells which, in order."""
        markers = [self._outbox.marker(change) for change in changes]
        for marker in markers:
            self._under_way[marker.timer_id] = max(marker.version, self._under_way.get(marker.timer_id, 0))
        delivered = await self._send(changes, markers, retry=retry)
        for change, marker, done in zip(changes, markers, delivered, strict=True):
            if done:
                self._clear_soon(change, marker)
            else:
                self._ended(marker)
        return delivered

    def _ended(self, marker: Marked) -> None:
        if self._under_way.get(marker.timer_id) == marker.version:
            del self._under_way[marker.timer_id]

    async def _send(self, changes: Sequence[Change], markers: Sequence[Marked], *, retry: bool) -> list[bool]:
        self._in_flight += len(changes)
        try:
            with self._telemetry.batch_span(
                semconv.OUTBOX_DELIVER, [marker.traceparent for marker in markers], _RETRY if retry else None
            ) as span:
                items = await self._outbox.events(changes)
                if span.recorded:
                    span.event("audience read")
                    if len(items) == 1:
                        items[0].event.traceparent = span.traceparent
                        span.set({semconv.TIMER_ID: markers[0].timer_id, semconv.VERSION: markers[0].version})
                response = await self._connections.Deliver(
                    connection_pb2.DeliverRequest(items=items), timeout=CALL_DEADLINE
                )
                delivered = [status == connection_pb2.DELIVERY_STATUS_DELIVERED for status in response.statuses]
                if span.recorded:
                    span.set({semconv.OUTCOME: semconv.DELIVERED if all(delivered) else semconv.PENDING})
        except (grpc.aio.AioRpcError, BubbleError) as error:
            if len(changes) > 1 and may_be_one_items_fault(error):
                middle = len(changes) // 2
                return [
                    *await self._send(changes[:middle], markers[:middle], retry=retry),
                    *await self._send(changes[middle:], markers[middle:], retry=retry),
                ]
            self._failing = True
            with logs.traces(marker.traceparent for marker in markers):
                log.warning("delivery failed, the sweeper will repeat it", count=len(changes), error=brief(error))
            FAILED.inc()
            return [False] * len(changes)
        finally:
            self._in_flight -= len(changes)
        if self._failing:
            self._failing = False
            log.info("deliveries go through again")
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
        done = await self._deliver([change for change, _ in batch], retry=True)
        self._count("repeat", batch, done)

    def _count(self, attempt: str, batch: Sequence[_Waiting[Change]], done: Sequence[bool]) -> None:
        EVENTS.labels(attempt, "delivered").inc(sum(done))
        EVENTS.labels(attempt, "pending").inc(len(done) - sum(done))
        now = asyncio.get_running_loop().time()
        for (_, since), delivered in zip(batch, done, strict=True):
            if delivered:
                self._taken_over.observe(now - since)

    def _tell_replaced(self, older: Marked, newer: Marked) -> None:
        """Ends the trace of a change that will not be delivered, with a link to the one that will be instead."""
        attributes: semconv.Attributes = {
            semconv.TIMER_ID: older.timer_id, semconv.VERSION: older.version, semconv.REPLACED_BY: newer.version
        }  # fmt: skip
        with self._telemetry.span(semconv.OUTBOX_REPLACED, older.traceparent, attributes) as span:
            if newer.traceparent:
                span.link(newer.traceparent)

    def _clear_soon(self, change: Change, marker: Marked) -> None:
        def done(future: "asyncio.Future[None]") -> None:
            self._ended(marker)
            if not future.cancelled():
                future.exception()  # logged where it happened

        try:
            self._clearing.submit(change, "").add_done_callback(done)
        except BubbleError:
            self._ended(marker)  # it stays, and the change is delivered once more, which is harmless

    async def _until_cleared(self) -> None:
        while self._clearing.waiting > MAX_UNCLEARED:
            await asyncio.sleep(_LINGER)

    async def _clear(self, changes: Sequence[Change]) -> Sequence[None]:
        # Where there is a newer change, the marker is that one's already.
        last = [change for change in changes if self._marker_is_of(change)]
        try:
            if last:
                await self._outbox.clear(last)
        except (grpc.aio.AioRpcError, BubbleError) as error:
            log.warning("markers not cleared, their changes will be repeated", count=len(last), error=brief(error))
        return [None] * len(changes)

    def _marker_is_of(self, change: Change) -> bool:
        marker = self._outbox.marker(change)
        waiting = self._waiting.get(marker.timer_id)
        if waiting is None:
            newest = self._under_way.get(marker.timer_id, 0)
        else:
            newest = self._outbox.marker(waiting[0]).version
        return newest <= marker.version

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
                elif attempt.due <= now and not self._is_under_way(marker):
                    due.append((change, attempt.since))
                    backoff = min(attempt.backoff * 2, LONGEST_BACKOFF)
                    attempt = _Attempt(marker.version, attempt.since, now + backoff, backoff)
                seen[marker.timer_id] = attempt
            for start in range(0, len(due), BATCH):
                await self._until_cleared()
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

    def _is_under_way(self, marker: Marked) -> bool:
        """Whether the change is about to be delivered, or was and its marker is about to go: when everything is slow, doing
        the same twice would make it slower.
        """
        return marker.timer_id in self._waiting or self._under_way.get(marker.timer_id) == marker.version
