"""From the connection service's instructions to the mailboxes of sessions."""

import asyncio
import contextvars
from collections.abc import Iterable, Sequence

import grpc

from edge import metrics
from edge.backend import Backend
from edge.knowledge import TimerState, Verdict
from edge.session import Session
from edge.sessions import Sessions
from proto.connection.v1 import connection_pb2
from proto.event.v1 import event_pb2
from runtime import logs, semconv
from runtime.clock import now_us
from runtime.errors import BubbleError, brief
from runtime.event_id import event_id
from runtime.telemetry import MOST_LINKS, Span, Telemetry

log = logs.get(__name__)

MAX_LOADING = 10_000
"""Timers that may be waited for at once. Sessions beyond that are closed and catch up when they reconnect."""

_SEND = Verdict.SEND  # looked up once: this is where every delivery passes
_SENT = (Verdict.SEND, Verdict.SEND_AS_SHARE)
_RETRY = 0.5  # seconds between two attempts to load a timer while the services are away


class Delivery:
    """Gives every event to the sessions it is for."""

    def __init__(self, sessions: Sessions, backend: Backend, telemetry: Telemetry) -> None:
        self._sessions = sessions
        self._backend = backend
        self._telemetry = telemetry
        self._wanted: dict[str, set[Session]] = {}
        self._causes: dict[str, list[str]] = {}
        self._loading: set[asyncio.Task[None]] = set()

    @property
    def loading(self) -> int:
        """How many timers are waited for."""
        return len(self._wanted)

    def deliver(self, batch: connection_pb2.DeliveryBatch) -> None:
        """Puts a batch into the mailboxes. When this returns, the batch may be acknowledged: what a session can't be given
        from the event alone is loaded until it succeeds.
        """
        server_time_us = now_us()
        deliveries = 0
        committed_at_us = []
        for delivery in batch.deliveries:
            event = delivery.event
            sessions = self._sessions.named(delivery.connection_ids)
            try:
                with self._telemetry.span(semconv.WS_SEND, event.traceparent) as span:
                    if event.HasField("timer_changed"):
                        view = event_pb2.TimerView(timer=event.timer_changed.timer, audience=event.audience)
                        state = TimerState(view, event.event_id, server_time_us, span.traceparent)
                        sent = self._offer(state, sessions, span)
                        if sent:  # a repetition that everybody has already would tell of its first delivery's age
                            deliveries += sent
                            committed_at_us.append(event.committed_at_us)
                    elif event.HasField("audience_changed"):
                        self._offer_audience(event, sessions, server_time_us, span)
            except Exception:
                # It would come again and again, and hold up all others.
                log.exception("event not delivered", event_id=event.event_id, **logs.about(event.traceparent))
        if deliveries:
            metrics.DELIVERIES.inc(deliveries)
            # The mailboxes are emptied at the end of this turn of the loop; this comes right after.
            asyncio.get_running_loop().call_soon(_count_written, committed_at_us)

    def load(self, timer_id: str, sessions: Iterable[Session], traceparent: str = "") -> None:
        """Reads a timer as it is now, or later, and offers it to the sessions; repeats that until it succeeds.

        `traceparent`: of the event that asks for it, when that is traced.
        """
        if traceparent:
            causes = self._causes.setdefault(timer_id, [])
            if len(causes) < MOST_LINKS:
                causes.append(traceparent)
        wanted = self._wanted.get(timer_id)
        if wanted is not None:
            wanted.update(sessions)
            return
        if len(self._wanted) >= MAX_LOADING:
            self._causes.pop(timer_id, None)
            for session in sessions:
                session.give_up()
            return
        self._wanted[timer_id] = set(sessions)
        # In a context of its own: it works for many.
        task = asyncio.create_task(self._load(timer_id), name="load", context=contextvars.Context())
        self._loading.add(task)
        task.add_done_callback(self._loading.discard)

    async def close(self) -> None:
        """Ends all loading."""
        for task in self._loading:
            task.cancel()
        await asyncio.gather(*self._loading, return_exceptions=True)

    def _offer(self, state: TimerState, sessions: Sequence[Session], span: Span) -> int:
        """Offers a state to sessions; returns to how many of them it was sent."""
        verdicts = [session.offer(state) for session in sessions]
        sent = verdicts.count(_SEND)
        in_need = []
        if sent < len(verdicts):
            in_need = [each for each, verdict in zip(sessions, verdicts, strict=True) if verdict is Verdict.LOAD]
            if in_need:
                self.load(state.timer_id, in_need, span.traceparent)
        if span.recorded:
            _tell(span, state.event_id, state.timer_id, len(sessions), sent, len(in_need))
            span.set({semconv.VERSION: state.version, semconv.SHARE_VERSION: state.audience_version})
        return sent

    def _offer_audience(
        self, event: event_pb2.Event, sessions: Sequence[Session], server_time_us: int, span: Span
    ) -> None:
        change, audience = event.audience_changed, event.audience
        removed = set(change.removed_user_ids)
        # A settled event is for what was committed for the audience of before, while the first one was under way.
        to_look_again = set(change.added_user_ids) if change.settled else ()
        in_need = []
        told = 0
        for session in sessions:
            if session.user_id in removed:
                told += session.revoke(
                    change.timer_id, audience.version, event.event_id, server_time_us, span.traceparent
                )
            elif session.user_id in to_look_again or not session.knowledge.audience_is_known(
                change.timer_id, audience.version
            ):
                in_need.append(session)
        if in_need:
            self.load(change.timer_id, in_need, span.traceparent)
        if span.recorded:
            _tell(span, event.event_id, change.timer_id, len(sessions), told, len(in_need))
            span.set({semconv.SHARE_VERSION: audience.version})

    async def _load(self, timer_id: str) -> None:
        # Who comes while a read is under way may have come for something newer than that read sees: another round.
        while sessions := {session for session in self._wanted[timer_id] if session.is_open}:
            self._wanted[timer_id] = set()
            causes = self._causes.pop(timer_id, [])
            try:
                with self._telemetry.batch_span(semconv.WS_LOAD, causes) as span:
                    result = await self._backend.get(timer_id)
                    if span.recorded:
                        span.set({semconv.TIMER_ID: timer_id, semconv.CONNECTIONS: len(sessions)})
                        span.set({semconv.VERSION: result.view.timer.version})
                        span.set({semconv.SHARE_VERSION: result.view.audience.version})
            except (grpc.aio.AioRpcError, BubbleError) as error:
                with logs.traces(causes):
                    log.warning("timer not loaded yet", timer_id=timer_id, error=brief(error))
                self._wanted[timer_id] |= sessions
                if causes:
                    self._causes[timer_id] = [*causes, *self._causes.get(timer_id, [])][:MOST_LINKS]
                await asyncio.sleep(_RETRY)
                continue
            except Exception:
                with logs.traces(causes):
                    log.exception("timer not loaded", timer_id=timer_id)
                for session in sessions:
                    session.give_up()
                continue
            if result.HasField("view"):
                view = result.view
                name = event_id(timer_id, view.timer.version, view.audience.version)
                state = TimerState(view, name, now_us(), span.traceparent)
                verdicts = {session: session.offer_loaded(state) for session in sessions}
                self._wanted[timer_id].update(each for each, verdict in verdicts.items() if verdict is Verdict.LOAD)
                metrics.DELIVERIES.inc(sum(verdict in _SENT for verdict in verdicts.values()))
        del self._wanted[timer_id]
        self._causes.pop(timer_id, None)


def _tell(span: Span, name: str, timer_id: str, connections: int, sent: int, loading: int) -> None:
    span.set(
        {
            semconv.MESSAGE_ID: name,
            semconv.TIMER_ID: timer_id,
            semconv.CONNECTIONS: connections,
            semconv.SENT: sent,
            semconv.LOADING: loading,
            semconv.SKIPPED: connections - sent - loading,
        }
    )


def _count_written(committed_at_us: Sequence[int]) -> None:
    now = now_us()
    for moment in committed_at_us:
        metrics.written(moment, now)
