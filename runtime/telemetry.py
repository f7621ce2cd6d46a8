"""Tracing: spans whose context travels in the items of a batch, not in the headers of a call.

A call between the services carries many people's messages, so the context of a trace is a field of each item, a W3C
`traceparent`. Its sampled flag says whether the trace is recorded; when it is not, the context still names the message in
logs and in error replies. Who decides that is the edge (`edge/tracing.py`); everything here follows the flag, and does
nothing for items without it: the check in the hot path is one look at the last character.

Spans exist only per message: one that lived as long as a stream would not show up before the stream's end. What they are
called and what they carry is in `semconv`. Without an OTLP endpoint nothing of the SDK is loaded and every span is the same
inert object.
"""

import itertools
import os
import re
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from contextvars import Token
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from opentelemetry import context as otel_context
from opentelemetry import trace

from runtime import logs
from runtime.semconv import BATCH_COUNT, DB_BATCH_SIZE, ERROR_TYPE, Attributes, SpanType
from runtime.version import VERSION

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

MOST_LINKS = 128
"""Links of one span: as many as a batch has items, and as many as the SDK keeps."""

FLUSH_WITHIN = 3.0
"""Seconds that the last spans may take at a process's end; what is left then is lost, and counted in the log."""


class Span(Protocol):
    """Something that takes time. Ends once, by `end` or at the end of a `with`."""

    traceparent: str
    """The context for what happens within it; empty when it is not recorded."""

    @property
    def recorded(self) -> bool:
        """Whether anybody will see it. When it is False, nothing needs to be worked out for its attributes."""

    def set(self, attributes: Attributes) -> None:
        """Adds attributes."""

    def event(self, name: str) -> None:
        """Marks a moment within it."""

    def link(self, traceparent: str) -> None:
        """Points to a span of another trace, or of a client's; what is malformed is ignored."""

    def fail(self, kind: str, reason: str = "") -> None:
        """Marks it as failed. `kind` is one of few words (`error.type`), `reason` a sentence."""

    def end(self) -> None:
        """Ends it. Idempotent."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...


class _NoSpan:
    traceparent = ""
    recorded = False

    def set(self, attributes: Attributes) -> None:
        pass

    def event(self, name: str) -> None:
        pass

    def link(self, traceparent: str) -> None:
        pass

    def fail(self, kind: str, reason: str = "") -> None:
        pass

    def end(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        pass


class _RecordedSpan:
    recorded = True

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        self._token: Token[logs.TraceSource | None] | None = None
        self._ended = False
        context = span.get_span_context()
        self.traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def set(self, attributes: Attributes) -> None:
        self._span.set_attributes(attributes)

    def event(self, name: str) -> None:
        self._span.add_event(name)

    def link(self, traceparent: str) -> None:
        self._span.add_link(_span_context(traceparent))

    def fail(self, kind: str, reason: str = "") -> None:
        self._span.set_attribute(ERROR_TYPE, kind)
        self._span.set_status(trace.StatusCode.ERROR, reason or kind)

    def end(self) -> None:
        if not self._ended:
            self._ended = True
            self._span.end()

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


NO_SPAN: Span = _NoSpan()


class SpanGroup(AbstractContextManager["SpanGroup"]):
    """The spans of the items of one batch, in order. False when none of them is recorded."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self._spans = spans
        self._token: Token[logs.TraceSource | None] | None = None

    def __bool__(self) -> bool:
        return bool(self._spans)

    def parents(self, otherwise: Sequence[str]) -> Sequence[str]:
        """Each item's context within its span; what it brought, for those without one."""
        if not self._spans:
            return otherwise
        return [span.traceparent or other for span, other in zip(self._spans, otherwise, strict=True)]

    def __getitem__(self, index: int) -> Span:
        return self._spans[index] if self._spans else NO_SPAN

    def __enter__(self) -> Self:
        if self._spans:
            self._token = logs.bind_traces(lambda: [span.traceparent for span in self._spans])
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        if self._token is not None:
            logs.unbind_traces(self._token)
        for span in self._spans:
            span.__exit__(exc_type, exc, traceback)


_NO_SPANS = SpanGroup(())


class Telemetry:
    """Makes the spans of one process."""

    def __init__(
        self,
        provider: "TracerProvider | None" = None,
        shut_down: Callable[[float], None] | None = None,
        name_next: Callable[[int], None] | None = None,
    ) -> None:
        """`name_next` gives the next trace that begins an id."""
        self._tracer = provider.get_tracer("bubble") if provider else None
        self._shut_down = shut_down
        self._name_next = name_next

    @property
    def enabled(self) -> bool:
        """Whether any span can be recorded. When it is False, no work needs to be done for tracing."""
        return self._tracer is not None

    def begin(
        self, kind: SpanType, *, client_parent: str = "", attributes: Attributes | None = None, started_ns: int = 0
    ) -> Span:
        """The first span of a message in this system. That it is to be recorded has been decided.

        `client_parent` is the client's own `traceparent`, or one of `unrecorded` whose message is to be recorded after all;
        one that is malformed is ignored. `started_ns`: when it began, in nanoseconds since 1970, if not now.
        """
        if self._tracer is None:
            return NO_SPAN
        if client_parent[3:19] == _prefix and self._name_next is not None:
            self._name_next(int(client_parent[3:35], 16))
            client_parent = ""
        return self._start(kind, _context(client_parent), attributes, started_ns=started_ns)

    def span(self, kind: SpanType, parent: str, attributes: Attributes | None = None, *, started_ns: int = 0) -> Span:
        """A span within the trace of one item; inert when that is not recorded."""
        if self._tracer is None or not is_sampled(parent):
            return NO_SPAN
        return self._start(kind, _context(parent), attributes, started_ns=started_ns)

    def spans(
        self, kind: SpanType, parents: Sequence[str], describe: Callable[[int], Attributes] | None = None
    ) -> SpanGroup:
        """One span per item of a batch, each within its item's trace, all ended together.

        `describe` gives the attributes of the item at an index; it is asked for items that are recorded only.
        """
        if self._tracer is None or not any(map(is_sampled, parents)):
            return _NO_SPANS
        return SpanGroup(
            [
                self._start(kind, _context(parent), describe(index) if describe else None)
                if is_sampled(parent)
                else NO_SPAN
                for index, parent in enumerate(parents)
            ]
        )

    def batch_span(self, kind: SpanType, parents: Sequence[str], attributes: Attributes | None = None) -> Span:
        """One span for work done once for a whole batch.

        When one item of the batch is recorded, its trace is continued. Of several none can be the parent: then the span
        starts a trace of its own, with a link to each.
        """
        if self._tracer is None:
            return NO_SPAN
        traced = [parent for parent in parents if is_sampled(parent)]
        if not traced:
            return NO_SPAN
        context = _context(traced[0]) if len(traced) == 1 else otel_context.Context()
        links = [trace.Link(_span_context(parent)) for parent in traced[:MOST_LINKS]] if len(traced) > 1 else None
        span = self._start(kind, context, attributes, links=links)
        if len(parents) > 1:
            span.set({DB_BATCH_SIZE if DB_BATCH_SIZE in kind.attributes else BATCH_COUNT: len(parents)})
        return span

    def shutdown(self, within: float = FLUSH_WITHIN) -> None:
        """Sends what is left. Blocks for so many seconds at most; call it last, when no loop is running."""
        if self._shut_down is not None:
            self._shut_down(within)

    def _start(
        self,
        kind: SpanType,
        context: otel_context.Context,
        attributes: Attributes | None,
        *,
        links: "Sequence[trace.Link] | None" = None,
        started_ns: int = 0,
    ) -> Span:
        assert self._tracer is not None  # noqa: S101  # for mypy: every caller has looked
        whole = {**kind.constants, **attributes} if attributes else kind.constants
        span = self._tracer.start_span(kind.name, context, kind.kind, whole, links, start_time=started_ns or None)
        return _RecordedSpan(span)


def configure(service: str, otlp_endpoint: str, *, queue_size: int = 8_192) -> Telemetry:
    """The telemetry of this process: off without an endpoint. `queue_size`: spans that may wait to be sent."""
    if not otlp_endpoint:
        return Telemetry()
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON

    from runtime.span_export import Export, Ids

    ids = Ids()
    provider = TracerProvider(
        # What is asked to be recorded is: the edge has decided (`edge/tracing.py`), and nobody decides again.
        sampler=ALWAYS_ON,
        resource=Resource.create(
            {
                "service.name": service,
                "service.version": VERSION,
                "service.namespace": "bubble",
                "service.instance.id": f"{socket.gethostname()}-{os.getpid()}",
            }
        ),
        id_generator=ids,
        shutdown_on_exit=False,
    )
    export = Export(otlp_endpoint, queue_size)
    provider.add_span_processor(export.processor)
    return Telemetry(provider, export.shut_down, ids.name_next)


def is_sampled(traceparent: str) -> bool:
    """Whether the trace of this context is recorded: the lowest bit of its last hexadecimal digit."""
    return traceparent[-1:] in _ODD


def well_formed(value: object) -> str:
    """A W3C `traceparent` as it came from outside; empty for whatever is none."""
    return value if isinstance(value, str) and _FORM.fullmatch(value) else ""


def unrecorded(client_parent: str = "") -> str:
    """A context for a message that is not recorded: it continues the client's, if any, and names it in logs."""
    if client_parent:
        return f"{client_parent[:-2]}00"
    number = next(_numbers)
    return f"00-{_prefix}{number:016x}-{number:016x}-00"


def trace_id(traceparent: str) -> str:
    """The trace id in a context; empty when there is none."""
    return traceparent[3:35]


_FORM = re.compile("(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_ODD = frozenset("13579bdfBDF")
# Ids of what is not recorded need to be unique, not random: a counter behind a random half is a tenth of the work.
_prefix = secrets.token_hex(8)
_numbers = itertools.count(time.time_ns())


def _context(traceparent: str) -> otel_context.Context:
    # An explicit empty context: what happens to be current in this task is not this item's.
    parent = trace.NonRecordingSpan(_span_context(traceparent))
    return trace.set_span_in_context(parent, otel_context.Context())


def _span_context(traceparent: str) -> trace.SpanContext:
    """What is malformed is no context. By hand, since the SDK's own way costs half as much as a span."""
    if not well_formed(traceparent):
        return trace.INVALID_SPAN_CONTEXT
    return trace.SpanContext(
        int(traceparent[3:35], 16),
        int(traceparent[36:52], 16),
        is_remote=True,
        trace_flags=trace.TraceFlags(int(traceparent[53:55], 16)),
    )
