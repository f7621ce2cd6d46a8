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
from typing import Generic, NamedTuple, Protocol, TypeVar

import grpc
from prometheus_client import Counter, Gauge

from proto.connection.v1 import connection_pb2, connection_pb2_grpc
from runtime import logs, semconv
from runtime.batcher import QUEUE, QUEUE_LIMIT
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

CLEAR_LINGER = 0.05
"""Seconds between two removals of markers. Nobody waits for them, so they wait for company: a commit costs what it costs,
whether it removes one marker or a hundred."""

CLEARED_AT_ONCE = 1_000

MAX_UNCLEARED = 2_000
"""Delivered changes whose markers wait to be removed, at most, before more are delivered. A slow store sets the pace so, and
what changes meanwhile is delivered once, as it is then."""

AUDIENCE_GOOD_FOR = 1.0
"""Seconds between asking who the audience is and the end of the commit, within which that audience will do. Well below `GRACE`,
which is when those who were added meanwhile are told once more to read the timer."""

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
    """A committed change that may still have to be delivered. `traceparent`: of the change, when it is recorded.
    `twice`: it is to be delivered once more when this process has known it for `GRACE` (`Outbox.events` says why).
    """

    timer_id: str
    version: int
    since_us: int
    traceparent: str = ""
    twice: bool = False


Change = TypeVar("Change")


class Outbox(Protocol[Change]):
    """What a service tells the relay about its changes."""

    def marker(self, change: Change) -> Marked:
        """Names a change."""

    async def events(self, changes: Sequence[Change], *, settled: bool = False) -> Sequence[connection_pb2.DeliverItem]:
        """The changes as they are to be delivered now, in order.

        The audience must be as it was after the commit (who was added while the change was being committed has not seen it), or
        as it was less than `AUDIENCE_GOOD_FOR` before it. The second is enough because whoever is added to an audience is told
        twice: at once, and, `settled`, when no change can be under way any more that was committed for the audience before.
        """

    async def list_pending(self, limit: int, after: tuple[int, str]) -> Sequence[Change]:
        """Changes with a marker, ordered by (since, timer id), those after the given pair."""

    async def clear(self, changes: Sequence[Change]) -> None:
        """Removes the markers of delivered changes, each only where the version is still the same."""


class _Entry(NamedTuple, Generic[Change]):
    change: Change
    marker: Marked
    since: float
    """Since when this process knows of it, by the loop's clock; of what replaced a waiting one: since when that."""


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
        self._waiting: dict[str, _Entry[Change]] = {}
        self._wake = asyncio.Event()
        self._in_flight = 0
        self._under_way: dict[str, int] = {}  # the newest version of a timer between its call and the end of its marker
        self._attempts: dict[str, _Attempt] = {}
        self._failing = False
        self._uncleared: dict[str, _Entry[Change]] = {}
        self._clearable = asyncio.Event()
        self._delivered = EVENTS.labels("first", "delivered"), EVENTS.labels("repeat", "delivered")
        self._pending = EVENTS.labels("first", "pending"), EVENTS.labels("repeat", "pending")
        self._taken_over = CONVERGENCE.labels("taken_over")
        QUEUE.labels("outbox").set_function(lambda: len(self._waiting))
        QUEUE_LIMIT.labels("outbox").set(MAX_WAITING)
        PENDING.set(0)
        PENDING_AGE.set(0)

    def offer(self, change: Change) -> None:
        """Delivers a committed change soon. Never blocks and never fails: the marker is there."""
        marker = self._outbox.marker(change)
        waiting = self._waiting.get(marker.timer_id)
        if waiting is None:
            if len(self._waiting) >= MAX_WAITING:
                return
            since = asyncio.get_running_loop().time()
        elif waiting.marker.version >= marker.version:
            return
        else:
            if is_sampled(waiting.marker.traceparent):
                self._tell_replaced(waiting.marker, marker)
            since = waiting.since  # who waited for the older state waits for this one
        self._waiting[marker.timer_id] = _Entry(change, marker, since)
        self._wake.set()

    async def run(self) -> None:
        """Delivers and sweeps until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(LANES):
                group.create_task(self._send_waiting(), name="relay")
            group.create_task(self._clear_forever(), name="markers")
            group.create_task(self._sweep_forever(), name="sweeper")

    async def drain(self, seconds: float) -> None:
        """Waits, so long at most, until everything offered has been delivered once."""
        try:
            async with asyncio.timeout(seconds):
                while self._waiting or self._in_flight or self._uncleared:
                    await asyncio.sleep(_LINGER)
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

    async def _deliver(self, entries: Sequence[_Entry[Change]], *, repeated: bool = False) -> list[bool]:
        """Delivers changes, and has the markers removed of those that every edge concerned has taken over, for good; tells
        which, in order.
        """
        for _, marker, _ in entries:
            self._under_way[marker.timer_id] = max(marker.version, self._under_way.get(marker.timer_id, 0))
        delivered = await self._send(entries, repeated=repeated)
        self._delivered[repeated].inc(sum(delivered))
        self._pending[repeated].inc(len(delivered) - sum(delivered))
        now = asyncio.get_running_loop().time()
        finished = []
        for entry, done in zip(entries, delivered, strict=True):
            marker = entry.marker
            if done:
                self._taken_over.observe(now - entry.since)
            if done and (repeated or not marker.twice):
                other = self._uncleared.get(marker.timer_id)
                if other is None or other.marker.version <= marker.version:
                    self._uncleared[marker.timer_id] = entry
                else:  # a later change was done earlier, and the marker is that one's
                    self._ended(marker)
                finished.append(True)
            else:
                self._ended(marker)
                finished.append(False)
        if self._uncleared:
            self._clearable.set()
        return finished

    def _ended(self, marker: Marked) -> None:
        if self._under_way.get(marker.timer_id) == marker.version:
            del self._under_way[marker.timer_id]

    async def _send(self, entries: Sequence[_Entry[Change]], *, repeated: bool) -> list[bool]:
        self._in_flight += len(entries)
        try:
            delivered = await self._call(entries, repeated=repeated)
        except (grpc.aio.AioRpcError, BubbleError) as error:
            if len(entries) > 1 and may_be_one_items_fault(error):
                middle = len(entries) // 2
                return [
                    *await self._send(entries[:middle], repeated=repeated),
                    *await self._send(entries[middle:], repeated=repeated),
                ]
            self._failing = True
            with logs.traces(entry.marker.traceparent for entry in entries):
                log.warning("delivery failed, the sweeper will repeat it", count=len(entries), error=brief(error))
            FAILED.inc()
            return [False] * len(entries)
        finally:
            self._in_flight -= len(entries)
        if self._failing:
            self._failing = False
            log.info("deliveries go through again")
        return delivered

    async def _call(self, entries: Sequence[_Entry[Change]], *, repeated: bool) -> list[bool]:
        traces = [entry.marker.traceparent for entry in entries]
        with self._telemetry.batch_span(semconv.OUTBOX_DELIVER, traces, _RETRY if repeated else None) as span:
            items = await self._outbox.events([entry.change for entry in entries], settled=repeated)
            if span.recorded:
                span.event("audience read")
                if len(items) == 1:
                    items[0].event.traceparent = span.traceparent
                    marker = entries[0].marker
                    span.set({semconv.TIMER_ID: marker.timer_id, semconv.VERSION: marker.version})
            response = await self._connections.Deliver(
                connection_pb2.DeliverRequest(items=items), timeout=CALL_DEADLINE
            )
            delivered = [status == connection_pb2.DELIVERY_STATUS_DELIVERED for status in response.statuses]
            if span.recorded:
                span.set({semconv.OUTCOME: semconv.DELIVERED if all(delivered) else semconv.PENDING})
            return delivered

    async def _deliver_first(self, batch: Sequence[_Entry[Change]]) -> None:
        """Delivers what was offered. Of what fails, or is to be repeated, the sweeper is told since when it is known."""
        finished = await self._deliver(batch)
        if all(finished):
            return
        now = asyncio.get_running_loop().time()
        for (_, marker, since), done in zip(batch, finished, strict=True):
            if not done and len(self._attempts) < MAX_WAITING:
                self._attempts[marker.timer_id] = _Attempt(marker.version, since, now + GRACE, SWEEP_INTERVAL / 2)

    def _tell_replaced(self, older: Marked, newer: Marked) -> None:
        """Ends the trace of a change that will not be delivered, with a link to the one that will be instead."""
        attributes: semconv.Attributes = {
            semconv.TIMER_ID: older.timer_id, semconv.VERSION: older.version, semconv.REPLACED_BY: newer.version
        }  # fmt: skip
        with self._telemetry.span(semconv.OUTBOX_REPLACED, older.traceparent, attributes) as span:
            if newer.traceparent:
                span.link(newer.traceparent)

    async def _until_cleared(self) -> None:
        while len(self._uncleared) > MAX_UNCLEARED:
            await asyncio.sleep(_LINGER)

    async def _clear_forever(self) -> None:
        while True:
            await self._clearable.wait()
            await asyncio.sleep(CLEAR_LINGER)
            batch = [self._uncleared[timer_id] for timer_id in list(self._uncleared)[:CLEARED_AT_ONCE]]
            # Where there is a newer change, the marker is that one's already.
            last = [entry.change for entry in batch if self._newest(entry.marker.timer_id) <= entry.marker.version]
            try:
                if last:
                    await self._outbox.clear(last)
            except (grpc.aio.AioRpcError, BubbleError) as error:
                # They stay, and their changes are delivered once more, which is harmless.
                log.warning("markers not cleared, their changes will be repeated", count=len(last), error=brief(error))
            for entry in batch:
                self._ended(entry.marker)
                if self._uncleared[entry.marker.timer_id] is entry:
                    del self._uncleared[entry.marker.timer_id]
            if not self._uncleared:
                self._clearable.clear()

    def _newest(self, timer_id: str) -> int:
        """The newest version of a timer that waits for its delivery or is under way; 0: none."""
        waiting = self._waiting.get(timer_id)
        return self._under_way.get(timer_id, 0) if waiting is None else waiting.marker.version

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
            due: list[_Entry[Change]] = []
            for change in page:
                marker = self._outbox.marker(change)
                attempt = self._attempts.get(marker.timer_id)
                if attempt is None or attempt.version != marker.version:
                    attempt = _Attempt(marker.version, now, now + GRACE, SWEEP_INTERVAL / 2)
                elif attempt.due <= now and not self._is_under_way(marker):
                    due.append(_Entry(change, marker, attempt.since))
                    backoff = min(attempt.backoff * 2, LONGEST_BACKOFF)
                    attempt = _Attempt(marker.version, attempt.since, now + backoff, backoff)
                seen[marker.timer_id] = attempt
            for start in range(0, len(due), BATCH):
                await self._until_cleared()
                await self._deliver(due[start : start + BATCH], repeated=True)
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
