"""One trace tells the whole story: from the phone's message through all services to the send to the other phone."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.system.client import Client, eventually
from tests.system.cluster import Cluster

Start = Callable[..., Any]


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """An OTLP collector that keeps what it gets."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Span]] = []
        self.port = 0

    async def Export(
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: Any
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        for resource in request.resource_spans:
            names = [a.value.string_value for a in resource.resource.attributes if a.key == "service.name"]
            for scope in resource.scope_spans:
                self.spans += [(names[0], span) for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()

    def of_trace(self, trace_id: bytes) -> dict[str, tuple[str, Span]]:
        """The spans of one trace by name, with their services."""
        return {span.name: (service, span) for service, span in self.spans if span.trace_id == trace_id}


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    """A running collector."""
    running = Collector()
    server = grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(running, server)  # type: ignore[no-untyped-call]
    running.port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield running
    await server.stop(0)


EDGES = {  # span: (service, parent)
    "ws.receive": ("edge", None),
    "timer.write": ("timer", "ws.receive"),
    "sharing.authorize": ("sharing", "timer.write"),
    "store.save": ("timer", "timer.write"),
    "outbox.deliver": ("timer", "timer.write"),
    "connection.deliver": ("connection", "outbox.deliver"),
    "ws.send": ("edge", "connection.deliver"),
}


async def test_one_trace_spans_the_edge_all_services_and_the_way_back(
    own_cluster: Start, collector: Collector, unique: Callable[[str], str]
) -> None:
    cluster: Cluster = await own_cluster(
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{collector.port}", OTEL_BSP_SCHEDULE_DELAY="100"
    )
    alice, bob, tea = unique("alice"), unique("bob"), unique("tea")
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    async with Client(cluster.edge_port, alice, "phone") as phone, Client(cluster.edge_port, bob, "phone") as other:
        await phone.done(type="timer", action="update", timer={"id": tea, "totalDuration": "PT5M"})
        await phone.done(type="share", action="add", timerId=tea, sharedWithUser=bob)
        await other.expect(lambda m: m.get("type") == "share")
        await phone.done(type="timer", action="start", timerId=tea, traceparent=f"00-{trace_id}-b7ad6b7169203331-01")
        await other.update(tea)
        refused = await phone.ask(
            type="timer", action="extend", timerId=tea, by="?", traceparent=f"00-{'1' * 32}-b7ad6b7169203331-01"
        )
        assert refused["traceId"] == "1" * 32
        await eventually(lambda: EDGES.keys() <= collector.of_trace(bytes.fromhex(trace_id)).keys(), within=10)
    spans = collector.of_trace(bytes.fromhex(trace_id))
    for name, (service, parent) in EDGES.items():
        expected_parent = spans[parent][1].span_id if parent else bytes.fromhex("b7ad6b7169203331")
        assert spans[name][0] == service, name
        assert spans[name][1].parent_span_id == expected_parent, name


async def test_spans_are_not_lost_when_the_processes_end(
    own_cluster: Start, collector: Collector, unique: Callable[[str], str]
) -> None:
    cluster: Cluster = await own_cluster(
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{collector.port}", OTEL_BSP_SCHEDULE_DELAY="60000"
    )
    async with Client(cluster.edge_port, unique("alice"), "phone") as phone:
        await asyncio.gather(
            *(phone.done(type="timer", action="update", timer={"id": unique(f"t{number}")}) for number in range(20))
        )
    assert set((await cluster.stop()).values()) == {0}
    traces = {span.trace_id for _, span in collector.spans if span.name == "ws.receive"}
    assert len(traces) == 20
    for trace_id in traces:
        assert collector.of_trace(trace_id).keys() >= {"ws.receive", "timer.write", "sharing.authorize"}
