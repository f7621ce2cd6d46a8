"""Metrics of a replica of the connection service: the edges as it sees them."""

from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge

from runtime.metrics import LATENCIES, Histogram

if TYPE_CHECKING:
    from connection_service.leases import Leases
    from connection_service.servicer import ConnectionServicer

PATIENT = (*LATENCIES, 30.0, 60.0, 300.0, 900.0, 3_600.0)
"""Seconds. What is tried for an hour at most takes longer than a call."""

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

PUSHES = Counter(
    "bubble_push_attempts",
    "Pushes by what came of them (accepted; unregistered: the token is no device's any more; refused; failed: to be tried again; "
    "given_up; needless: the user has come back, or has removed the device)",
    ["outcome"],
)
PUSH_TOOK = Histogram("bubble_push_seconds", "From keeping a push until it was accepted", buckets=PATIENT)
PUSHES_WAITING = Gauge(
    "bubble_push_waiting", "Pushes that are kept and neither sent nor given up, as of the last count"
)

DELIVERED, PENDING = EVENTS.labels("delivered"), EVENTS.labels("pending")


def watch(servicer: "ConnectionServicer", leases: "Leases") -> None:
    """Reads the gauges from these from now on."""
    LEASES.set_function(lambda: leases.count)
    ATTACHED.set_function(lambda: sum(stream.trusted for stream in servicer.streams))
    SUSPECT.set_function(lambda: sum(stream.is_suspect for stream in servicer.streams))
    pushes = servicer.pushes
    if pushes is not None:
        PUSHES_WAITING.set_function(lambda: pushes.waiting)
    CONNECTIONS.set_function(lambda: sum(servicer.registry.count(stream.edge_id) for stream in servicer.streams))
