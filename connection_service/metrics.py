"""Metrics of what happens at a replica of the connection service: events, pushes, and edges that die."""

from prometheus_client import Counter

from runtime.metrics import LATENCIES, Histogram

PATIENT = (*LATENCIES, 30.0, 60.0, 300.0, 900.0, 3_600.0)
"""Seconds. What is tried for an hour at most takes longer than a call."""

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

DELIVERED, PENDING = EVENTS.labels("delivered"), EVENTS.labels("pending")
