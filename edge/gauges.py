"""Metrics of what an edge has at the moment: read from its parts when somebody asks."""

from prometheus_client import Gauge

from edge.delivery import Delivery
from edge.presence import Presence
from edge.sessions import Sessions

CONNECTIONS = Gauge("bubble_edge_connections", "Open connections")
BACKLOG = Gauge("bubble_edge_backlog_bytes", "Bytes that wait in all mailboxes")
CONGESTED = Gauge("bubble_edge_congested_connections", "Connections whose peers take no more bytes at the moment")
LOADING = Gauge("bubble_edge_loading_timers", "Timers that are being read for connections that must be shown them")
ATTACHED = Gauge("bubble_edge_streams_attached", "Replicas of the connection service that know all connections")
STREAMS = Gauge("bubble_edge_streams", "Replicas of the connection service that were found")


def watch(sessions: Sessions, presence: Presence, delivery: Delivery) -> None:
    """Reads the gauges from these from now on."""
    CONNECTIONS.set_function(lambda: len(sessions))
    BACKLOG.set_function(lambda: sum(session.outlet.backlog for session in sessions))
    CONGESTED.set_function(lambda: sessions.congested)
    LOADING.set_function(lambda: delivery.loading)
    STREAMS.set_function(lambda: len(presence.streams))
    ATTACHED.set_function(lambda: sum(stream.attached for stream in presence.streams))
