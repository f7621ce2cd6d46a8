"""The last step of a trace: from the moment a state is written to one client's socket until the client acknowledges it.

Only deliveries of traced events are remembered, a bounded number per connection, each for a bounded time. Whatever becomes
of one, its span ends, and says what it was (`semconv.OUTCOME_*`).
"""

import time
from collections.abc import Callable
from typing import NamedTuple

from runtime import semconv
from runtime.telemetry import Span, Telemetry

ACK_WITHIN = 10.0
"""Seconds an ack is waited for. Then a phone is asleep, or was lost on the way, or does not send acks."""

MOST_UNACKNOWLEDGED = 64
"""Traced deliveries of one connection that are remembered: some 2 KB each."""


class TracedState(NamedTuple):
    """A traced state on its way to one client. `traceparent` is the context it came with."""

    timer_id: str
    event_id: str
    traceparent: str
    version: int
    share_version: int
    size: int


class _Waiting(NamedTuple):
    state: TracedState
    since_ns: int


class _Written(NamedTuple):
    span: Span
    at: float


class TracedDeliveries:
    """Those of one connection. `waits` tells whether the state of a timer has not been written yet."""

    __slots__ = ("_about", "_telemetry", "_waiting", "_waits", "_written")

    def __init__(self, telemetry: Telemetry, about: semconv.Attributes, waits: Callable[[str], bool]) -> None:
        self._telemetry = telemetry
        self._about = about
        self._waits = waits
        self._waiting: dict[str, _Waiting] = {}
        self._written: dict[str, _Written] = {}

    def __len__(self) -> int:
        return len(self._waiting) + len(self._written)

    def put(self, state: TracedState) -> None:
        """A state was put into the mailbox."""
        self.superseded(state.timer_id)
        if len(self._waiting) >= MOST_UNACKNOWLEDGED:
            self._end_waiting(next(iter(self._waiting)), semconv.OUTCOME_FORGOTTEN)
        self._waiting[state.timer_id] = _Waiting(state, time.time_ns())

    def superseded(self, timer_id: str) -> None:
        """A newer state of a timer was put into the mailbox, where only the newest waits."""
        self._end_waiting(timer_id, semconv.OUTCOME_REPLACED)

    def withdrawn(self, timer_id: str) -> None:
        """A timer's waiting state was taken out of the mailbox."""
        self._end_waiting(timer_id, semconv.OUTCOME_WITHDRAWN)

    def written(self) -> None:
        """Some of what waited was written to the socket."""
        for timer_id in [timer_id for timer_id in self._waiting if not self._waits(timer_id)]:
            state, since_ns = self._waiting.pop(timer_id)
            span = self._span(state)
            span.set({semconv.WAITED_MS: (time.time_ns() - since_ns) // 1_000_000})
            if len(self._written) >= MOST_UNACKNOWLEDGED:
                self._end_written(next(iter(self._written)), semconv.OUTCOME_FORGOTTEN)
            elif state.event_id in self._written:  # told again, under the same name
                self._end_written(state.event_id, semconv.OUTCOME_REPLACED)
            self._written[state.event_id] = _Written(span, time.monotonic())

    def acknowledged(self, event_id: str, client_traceparent: str) -> None:
        """The client acknowledges a delivery, perhaps from within a span of its own. Unknown ones are fine."""
        written = self._written.pop(event_id, None)
        if written is None:
            return
        if client_traceparent:
            written.span.link(client_traceparent)
        written.span.set({semconv.OUTCOME: semconv.OUTCOME_ACKED})
        written.span.end()

    def give_up(self, now: float) -> None:
        """Waits no longer for acks of what was written too long ago. `now` by the monotonic clock."""
        while self._written and now - next(iter(self._written.values())).at > ACK_WITHIN:
            self._end_written(next(iter(self._written)), semconv.OUTCOME_NO_ACK)

    def close(self) -> None:
        """The connection has ended."""
        for timer_id in list(self._waiting):
            self._end_waiting(timer_id, semconv.OUTCOME_CLOSED)
        for event_id in list(self._written):
            self._end_written(event_id, semconv.OUTCOME_CLOSED)

    def _span(self, state: TracedState, *, started_ns: int = 0) -> Span:
        span = self._telemetry.span(semconv.WS_DELIVER, state.traceparent, self._about, started_ns=started_ns)
        span.set(
            {
                semconv.MESSAGE_ID: state.event_id,
                semconv.MESSAGE_SIZE: state.size,
                semconv.TIMER_ID: state.timer_id,
                semconv.VERSION: state.version,
                semconv.SHARE_VERSION: state.share_version,
            }
        )
        return span

    def _end_waiting(self, timer_id: str, outcome: str) -> None:
        waiting = self._waiting.pop(timer_id, None)
        if waiting is not None:
            _end(self._span(waiting.state, started_ns=waiting.since_ns), outcome)

    def _end_written(self, event_id: str, outcome: str) -> None:
        _end(self._written.pop(event_id).span, outcome)


_FAILURES = {
    semconv.OUTCOME_NO_ACK: f"no ack came within {ACK_WITHIN:g} s",
    semconv.OUTCOME_CLOSED: "the connection ended before an ack came",
    semconv.OUTCOME_FORGOTTEN: "no ack was waited for: too many are missing",
}


def _end(span: Span, outcome: str) -> None:
    span.set({semconv.OUTCOME: outcome})
    if outcome in _FAILURES:
        span.fail(outcome, _FAILURES[outcome])
    span.end()
