"""Tracing: spans whose context travels in the items of a batch, not in the headers of a call.

A call between the services carries many people's messages, so the context of a trace is a field of each item, a W3C
`traceparent`. It is empty when the item is not traced, which makes the check in the hot path one comparison. Spans exist
only per message: one that lived as long as a stream would not show up before the stream's end.

Without an OTLP endpoint nothing of the SDK is loaded and every span is the same inert object.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_PROPAGATOR = TraceContextTextMapPropagator()
_EXPORT_TIMEOUT = 2  # seconds; also what a collector that is away adds to a process's end
_MOST_LINKS = 32  # more than a person follows; keeps the span of a large batch small


class Span(Protocol):
    """Something that takes time. Ends once, by `end` or at the end of a `with`."""

    traceparent: str
    """The context for what happens within it; empty when it is not recorded."""

    def set(self, attributes: Mapping[str, str | int]) -> None:
        """Adds attributes."""

    def fail(self, reason: str) -> None:
        """Marks it as failed."""

    def end(self) -> None:
        """Ends it. Idempotent."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...


class _NoSpan:
    traceparent = ""

    def set(self, attributes: Mapping[str, str | int]) -> None:
        pass

    def fail(self, reason: str) -> None:
        pass

    def end(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        pass


class _RecordedSpan:
    def __init__(self, span: trace.Span) -> None:
        self._span = span
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier, trace.set_span_in_context(span, otel_context.Context()))
        self.traceparent = carrier.get("traceparent", "")

    def set(self, attributes: Mapping[str, str | int]) -> None:
        self._span.set_attributes(attributes)

    def fail(self, reason: str) -> None:
        self._span.set_status(trace.StatusCode.ERROR, reason)

    def end(self) -> None:
        self._span.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        if exc_type is not None:
            self.fail(exc_type.__name__)
        self._span.end()


NO_SPAN: Span = _NoSpan()


class Telemetry:
    """Makes the spans of one process."""

    def __init__(self, provider: "TracerProvider | None" = None) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("bubble") if provider else None

    @property
    def enabled(self) -> bool:
        """Whether any span can be recorded. When it is False, no work needs to be done for tracing."""
        return self._tracer is not None

    def begin(self, name: str, *, client_parent: str = "", attributes: Mapping[str, str | int] | None = None) -> Span:
        """The first span of a message in this system: the sampler decides whether the trace is recorded.

        `client_parent` is the client's own `traceparent`; one that is malformed is ignored.
        """
        if self._tracer is None:
            return NO_SPAN
        span = self._tracer.start_span(name, _context(client_parent), trace.SpanKind.SERVER, attributes)
        return _RecordedSpan(span) if span.is_recording() else NO_SPAN

    def span(self, name: str, parent: str, attributes: Mapping[str, str | int] | None = None) -> Span:
        """A span within the trace of one item; inert when `parent` is empty."""
        if self._tracer is None or not parent:
            return NO_SPAN
        return _RecordedSpan(self._tracer.start_span(name, _context(parent), trace.SpanKind.INTERNAL, attributes))

    def spans(self, name: str, parents: Iterable[str]) -> "SpanGroup":
        """One span per item of a batch, each within its item's trace, all ended together."""
        return SpanGroup([self.span(name, parent) for parent in parents] if self._tracer is not None else [])

    def batch_span(self, name: str, parents: Sequence[str]) -> Span:
        """One span for work done once for a whole batch.

        A batch of one continues its item's trace; a batch of many starts a trace of its own, with links to the items'.
        """
        if self._tracer is None:
            return NO_SPAN
        traced = [parent for parent in parents if parent]
        if not traced:
            return NO_SPAN
        size: dict[str, str | int] = {"messaging.batch.message_count": len(parents)}
        if len(traced) == 1:
            return self.span(name, traced[0], size)
        links = [
            trace.Link(trace.get_current_span(_context(parent)).get_span_context()) for parent in traced[:_MOST_LINKS]
        ]
        return _RecordedSpan(self._tracer.start_span(name, otel_context.Context(), links=links, attributes=size))

    def shutdown(self) -> None:
        """Sends what is left. Blocks for some seconds at most; call it last, from a thread when a loop is running."""
        if self._provider is not None:
            self._provider.shutdown()


class SpanGroup(AbstractContextManager["SpanGroup"]):
    """The spans of the items of one batch, in order."""

    def __init__(self, spans: list[Span]) -> None:
        self._spans = spans

    def parents(self, otherwise: Iterable[str]) -> list[str]:
        """Each item's context within its span; `otherwise` when tracing is off."""
        return [span.traceparent for span in self._spans] if self._spans else list(otherwise)

    def __getitem__(self, index: int) -> Span:
        return self._spans[index] if self._spans else NO_SPAN

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        for span in self._spans:
            span.__exit__(exc_type, exc, traceback)


def configure(service: str, otlp_endpoint: str) -> Telemetry:
    """The telemetry of this process: off without an endpoint.

    Sampling and the exporter follow OpenTelemetry's own variables (`OTEL_TRACES_SAMPLER`, ...), which the SDK reads.
    """
    if not otlp_endpoint:
        return Telemetry()
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(
        resource=Resource.create({"service.name": service, "service.namespace": "bubble"}), shutdown_on_exit=False
    )
    exporter = OTLPSpanExporter(endpoint=otlp_endpoint, timeout=_EXPORT_TIMEOUT)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return Telemetry(provider)


def _context(traceparent: str) -> otel_context.Context:
    # An explicit empty context: what happens to be current in this task is not this item's.
    return _PROPAGATOR.extract({"traceparent": traceparent}, otel_context.Context())
