"""Metrics of what happens at an edge: its connections come and go, ask and get."""

from prometheus_client import Counter

from edge.close_codes import CloseCode
from runtime.clock import now_us
from runtime.event_id import made_at_us
from runtime.metrics import CONVERGENCE, LATENCIES, Histogram

CONNECTS = Counter("bubble_edge_connects", "Handshakes, by the HTTP status of their answer (101: let in)", ["status"])
DISCONNECTS = Counter(
    "bubble_edge_disconnects",
    "Connections that ended, by close code and its reason (docs/protocol.md)",
    ["code", "reason"],
)
MESSAGES = Histogram(
    "bubble_edge_message_seconds",
    "From reading a message to its answer, by type and outcome (processed, or the code of the error); acks get no answer",
    ["type", "outcome"],
    buckets=LATENCIES,
)
REST = Histogram(
    "bubble_edge_rest_seconds",
    "From a REST request to its answer, by method and path, and outcome (processed, or the status of the error)",
    ["type", "outcome"],
    buckets=LATENCIES,
)
INVITATIONS = Counter(
    "bubble_edge_invitations", "Invitations that were asked for or presented, by what came of that", ["outcome"]
)
DELIVERIES = Counter("bubble_edge_deliveries", "States that were put into mailboxes, one per connection")
CONFLATED = Counter("bubble_edge_conflated", "Of these, states that gave way to a newer one before they were written")
LEASES_LOST = Counter("bubble_edge_leases_lost", "How often this edge lost its lease, and all connections with it")

CLOCK_SKEW = Counter(
    "bubble_clock_skew",
    "Changes that arrived before they were committed, by the clocks of the machines: those differ",
)

WRITTEN, ACKED = CONVERGENCE.labels("written"), CONVERGENCE.labels("acked")

_LATEST_ACK_US = 60_000_000  # an ack that comes later than this tells of its device, not of us


def disconnected(code: CloseCode) -> None:
    """A connection has ended."""
    DISCONNECTS.labels(str(code.code), code.reason).inc()


def written(committed_at_us: int, at_us: int) -> None:
    """A change has been written to all connections that are to have it."""
    if committed_at_us > at_us:
        CLOCK_SKEW.inc()
        WRITTEN.observe(0.0)
    else:
        WRITTEN.observe((at_us - committed_at_us) / 1_000_000)


def acknowledged(event_id: str | None) -> None:
    """A device says that it shows a delivery. The delivery's name tells when its state was made, so nothing needs to be
    remembered per connection; how many acks may come is limited by what was sent.
    """
    made_at = made_at_us(event_id or "")
    now = now_us()
    if 0 <= now - made_at <= _LATEST_ACK_US:
        ACKED.observe((now - made_at) / 1_000_000)
