"""Metrics of what a replica of the connection service has at the moment, the edges as it sees them: read when somebody asks."""

from prometheus_client import Gauge

from connection_service.leases import Leases
from connection_service.servicer import ConnectionServicer

LEASES = Gauge("bubble_connection_leases", "Edges that hold a lease")
ATTACHED = Gauge("bubble_connection_edges_attached", "Edges with a stream to this replica that answer its probes")
SUSPECT = Gauge(
    "bubble_connection_edges_suspect", "Attached edges that get nothing new before they have taken over what they owe"
)
CONNECTIONS = Gauge("bubble_connection_connections", "Connections at the attached edges")
PUSHES_WAITING = Gauge(
    "bubble_push_waiting", "Pushes that are kept and neither sent nor given up, as of the last count"
)


def watch(servicer: ConnectionServicer, leases: Leases) -> None:
    """Reads the gauges from these from now on."""
    LEASES.set_function(lambda: leases.count)
    ATTACHED.set_function(lambda: sum(stream.trusted for stream in servicer.streams))
    SUSPECT.set_function(lambda: sum(stream.is_suspect for stream in servicer.streams))
    pushes = servicer.pushes
    if pushes is not None:
        PUSHES_WAITING.set_function(lambda: pushes.waiting)
    CONNECTIONS.set_function(lambda: sum(servicer.registry.count(stream.edge_id) for stream in servicer.streams))
