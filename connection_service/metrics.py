"""Metrics of a replica of the connection service: the edges as it sees them."""

from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge

from runtime.metrics import LATENCIES, Histogram

if TYPE_CHECKING:
    from connection_service.leases import Leases
    from connection_service.servicer import ConnectionServicer

LEASES = Gauge("bubble_connection_leases", "Edges that hold a lease")
ATTACHED = Gauge("bubble_connection_edges_attached", "Edges with a stream to this replica that answer its probes")
SUSPECT = Gauge(
    "bubble_connection_edges_suspect", "Attached edges that get nothing new before they have taken over what they owe"
)
CONNECTIONS = Gauge("bubble_connection_connections", "Connections at the attached edges")
EVENTS = Counter(
    "bubble_connection_events",
    "Events that were routed, by outcome (delivered: every edge concerned has taken it over; pending: one has not)",
    ["outcome"],
)
TAKE_OVER = Histogram(
    "bubble_connection_take_over_seconds",
    "How long an edge took to take over a batch of events",
    buckets=LATENCIES,
)
LEASES_ENDED = Counter("bubble_connection_leases_ended", "Leases that ran out: edges that died without a word")

DELIVERED, PENDING = EVENTS.labels("delivered"), EVENTS.labels("pending")


def watch(servicer: "ConnectionServicer", leases: "Leases") -> None:
    """Reads the gauges from these from now on."""
    LEASES.set_function(lambda: leases.count)
    ATTACHED.set_function(lambda: sum(stream.trusted for stream in servicer.streams))
    SUSPECT.set_function(lambda: sum(stream.is_suspect for stream in servicer.streams))
    CONNECTIONS.set_function(lambda: sum(servicer.registry.count(stream.edge_id) for stream in servicer.streams))
