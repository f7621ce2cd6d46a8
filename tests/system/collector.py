"""An OTLP collector for tests, and the trees that traces are."""

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage
from opentelemetry.proto.trace.v1.trace_pb2 import Status


class Span(NamedTuple):
    """A span as it arrived."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    links: tuple[tuple[str, str], ...]
    attributes: dict[str, Any]
    failed: bool
    reason: str
    events: tuple[str, ...]
    start: int
    end: int


class Edge(NamedTuple):
    """A span below another one. `parent` is None at the top."""

    service: str
    name: str
    parent: str | None


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps what it gets."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.port = 0

    @property
    def settings(self) -> dict[str, str]:
        """What a process needs to send its spans here soon."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.port}", "OTEL_BSP_SCHEDULE_DELAY": "100"}

    async def Export(
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: Any
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        for resource in request.resource_spans:
            (service,) = (a.value.string_value for a in resource.resource.attributes if a.key == "service.name")
            for scope in resource.scope_spans:
                self.spans += [_span(service, span) for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()

    def of(self, trace_id: str) -> list[Span]:
        """The spans of one trace, in the order in which they began."""
        return sorted((span for span in self.spans if span.trace_id == trace_id), key=lambda span: span.start)

    def one(self, trace_id: str, name: str, **attributes: Any) -> Span:
        """The only span of a trace with this name and these attributes (`_` for `.`)."""
        wanted = {key.replace("__", "."): value for key, value in attributes.items()}
        (span,) = [
            span for span in self.of(trace_id) if span.name == name and wanted.items() <= span.attributes.items()
        ]
        return span

    def edges(self, trace_id: str) -> list[Edge]:
        """The shape of a trace: every span with its parent's name, sorted. One whose parent is not here has `?`."""
        spans = self.of(trace_id)
        names = {span.span_id: span.name for span in spans}
        return sorted(
            (
                Edge(span.service, span.name, names.get(span.parent_id, "?") if span.parent_id else None)
                for span in spans
            ),
            key=str,
        )


@asynccontextmanager
async def collecting(port: int = 0) -> AsyncIterator[Collector]:
    """A running collector."""
    running = Collector()
    server = grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(running, server)  # type: ignore[no-untyped-call]
    running.port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield running
    finally:
        await server.stop(0)


def broken(spans: Iterable[Span], clients: Iterable[str] = ()) -> list[Span]:
    """The spans whose parent, or one of whose links, leads to a span that does not exist.

    `clients`: ids of the spans that clients have made and keep to themselves.
    """
    every = list(spans)
    known = {(span.trace_id, span.span_id) for span in every}
    by_clients = set(clients)
    return [
        span
        for span in every
        if any(
            (trace_id, span_id) not in known and span_id not in by_clients
            for trace_id, span_id in [*span.links, *([(span.trace_id, span.parent_id)] if span.parent_id else [])]
        )
    ]


def by_trace(spans: Iterable[Span]) -> dict[str, list[Span]]:
    """The spans of each trace."""
    traces: dict[str, list[Span]] = defaultdict(list)
    for span in spans:
        traces[span.trace_id].append(span)
    return traces


def _span(service: str, span: SpanMessage) -> Span:
    return Span(
        service=service,
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        attributes={each.key: _value(each.value) for each in span.attributes},
        failed=span.status.code == Status.STATUS_CODE_ERROR,
        reason=span.status.message,
        events=tuple(event.name for event in span.events),
        start=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
    )


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return getattr(value, kind) if kind else None
