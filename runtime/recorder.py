"""Spans that are recorded: plain fields while they live, the SDK's `ReadableSpan` when they end.

The SDK's own way to make a span checks every attribute, takes locks and asks samplers, 25 µs for a span of ours where this takes
3; and in an event loop that does something else most of the time, both are several times that (decision 70). What comes after a
span's end, queue, encoding and export, is the SDK's. Only loaded when tracing is on.
"""

import random
import time
from collections.abc import Sequence
from contextvars import Token
from types import TracebackType
from typing import Self

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, Status, StatusCode, TraceFlags

from runtime import logs
from runtime.semconv import ERROR_TYPE, Attributes, SpanType, Value
from runtime.telemetry import well_formed

_SCOPE = InstrumentationScope("bubble")
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_UNSET = Status()


class Recorder:
    """Makes the spans of one process; `processor` gets each when it has ended."""

    def __init__(self, processor: SpanProcessor, resource: Resource | None = None) -> None:
        self.processor = processor
        self.resource = resource or Resource.get_empty()

    def start(
        self,
        kind: SpanType,
        parent: str,
        attributes: Attributes | None,
        *,
        links: Sequence[str] = (),
        trace_id: int = 0,
        started_ns: int = 0,
    ) -> "RecordedSpan":
        """A span that begins now, or began so many nanoseconds after 1970. When `parent` is not a well-formed `traceparent`, it
        begins a trace, one with this id if there is one.
        """
        above = _span_context(parent)
        trace_id = above.trace_id if above is not None else trace_id or _random_id(128)
        span = RecordedSpan(self, kind, SpanContext(trace_id, _random_id(64), False, _SAMPLED), above, started_ns)
        if attributes:
            span.set(attributes)
        for link in links:
            span.link(link)
        return span


class RecordedSpan:
    """See `telemetry.Span`."""

    __slots__ = (
        "_attributes", "_context", "_ended", "_events", "_kind", "_links", "_parent", "_recorder", "_started_ns", "_status",
        "_token", "traceparent",
    )  # fmt: skip
    recorded = True

    def __init__(
        self, recorder: Recorder, kind: SpanType, context: SpanContext, parent: SpanContext | None, started_ns: int
    ) -> None:
        self.traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-01"
        self._recorder = recorder
        self._kind = kind
        self._context = context
        self._parent = parent
        self._started_ns = started_ns or time.time_ns()
        self._attributes: dict[str, Value] = dict(kind.constants)
        self._events: list[Event] = []
        self._links: list[Link] = []
        self._status = _UNSET
        self._token: Token[logs.TraceSource | None] | None = None
        self._ended = False

    def set(self, attributes: Attributes) -> None:
        self._attributes.update(attributes)

    def event(self, name: str) -> None:
        self._events.append(Event(name))

    def link(self, traceparent: str) -> None:
        context = _span_context(traceparent)
        if context is not None:
            self._links.append(Link(context))

    def fail(self, kind: str, reason: str = "") -> None:
        self._attributes[ERROR_TYPE] = kind
        self._status = Status(StatusCode.ERROR, reason or kind)

    def end(self) -> None:
        if self._ended:
            return
        self._ended = True
        self._recorder.processor.on_end(
            ReadableSpan(
                self._kind.name,
                self._context,
                self._parent,
                self._recorder.resource,
                self._attributes,
                self._events,
                self._links,
                self._kind.kind,
                status=self._status,
                start_time=self._started_ns,
                end_time=time.time_ns(),
                instrumentation_scope=_SCOPE,
            )
        )

    def __enter__(self) -> Self:
        self._token = logs.bind_traces(lambda: (self.traceparent,))
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        if self._token is not None:
            logs.unbind_traces(self._token)
            self._token = None
        if exc_type is not None and not self._ended:
            self.fail(exc_type.__name__)
        self.end()


def _span_context(traceparent: str) -> SpanContext | None:
    """The context that a `traceparent` names, in another process; None when it is malformed."""
    if not well_formed(traceparent):
        return None
    flags = TraceFlags(int(traceparent[53:55], 16))
    return SpanContext(int(traceparent[3:35], 16), int(traceparent[36:52], 16), True, flags)


def _random_id(bits: int) -> int:
    return random.getrandbits(bits) or 1  # zero is no id
