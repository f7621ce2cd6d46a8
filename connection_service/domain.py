"""The rules of presence: who is connected where, and who gets an event. Pure: no I/O, no protobuf.

How no event is lost between an edge and many replicas, without the replicas knowing each other:

- An edge holds a lease in the database. A replica reads the list of leases every `POLL_INTERVAL` and never believes a list
  that is older than `SETTLE`; a new edge serves nobody for `SETTLE`. So whoever routes an event knows every edge that may
  have a connection.
- An edge that is attached to a replica has told it all its connections, and a new connection is shown nothing before the
  replica has confirmed it. A replica trusts that for `TRUST` after it *sent* a probe which the edge answered, so neither
  a process that was stopped for a while nor bytes that waited in a buffer can make it trust too long (a read lease: Gray
  and Cheriton, SOSP 1989). An edge that is not confirmed lets `TRUST` pass before it goes on without.
- For an edge with a lease that is not trusted, the replica asks the database; events for users with a connection there
  are answered as pending, so their sender keeps and repeats them.
- A lease is a counter that its edge raises. It ends when a replica has seen the same number for `LEASE` by its own
  monotonic clock and can still delete it. No wall clock takes part: those of the replicas may be minutes apart.
"""

from collections.abc import Iterable

import msgspec

POLL_INTERVAL = 0.5
"""Seconds between two reads of the leases."""

SETTLE = 2.0
"""Seconds a list of leases is believed, and a new edge waits. A few polls, so that one slow read is no outage."""

LEASE = 15.0
"""Seconds without a renewal after which an edge is dead. Long enough for a paused machine, short beside the minutes in
which somebody would mind a row too many."""

PROBE_INTERVAL = 0.5
"""Seconds between two probes of an attached edge."""

TRUST = 2.0
"""Seconds an answered probe is good for, from when it was sent."""

ACK_PATIENCE = 0.25
"""Seconds an edge has to take over a batch before its items are answered as pending (docs/decisions.md tells why)."""

UNKNOWN_DEVICES = frozenset(("", "unknown"))
"""Names under which devices are never taken for the same one."""


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """One socket of a device of a user at an edge. `registered_at_us`: microseconds since 1970; `supersedable`: its device uses one
    such at a time (`connection_service/succession.py`), as far as that is known.
    """

    connection_id: str
    user_id: str
    device_id: str
    edge_id: str
    registered_at_us: int = 0
    supersedable: bool = False


class Registry:
    """All connections of the edges that are attached to this replica."""

    def __init__(self) -> None:
        self._by_user: dict[str, dict[str, Connection]] = {}
        self._by_edge: dict[str, dict[str, Connection]] = {}

    def attach(self, edge_id: str, connections: Iterable[Connection]) -> None:
        """An edge and its whole list, replacing what was known of it."""
        self.detach(edge_id)
        self._by_edge[edge_id] = {}
        for connection in connections:
            self.open(edge_id, connection)

    def detach(self, edge_id: str) -> None:
        """Forgets an edge. Unknown ones are fine."""
        for connection in self._by_edge.pop(edge_id, {}).values():
            self._forget(connection)

    def open(self, edge_id: str, connection: Connection) -> None:
        """A connection of an attached edge. Others are ignored: their edge is about to list them all."""
        if edge_id in self._by_edge:
            self._by_edge[edge_id][connection.connection_id] = connection
            self._by_user.setdefault(connection.user_id, {})[connection.connection_id] = connection

    def close(self, edge_id: str, connection_id: str) -> None:
        """A connection that is gone. Unknown ones are fine."""
        connection = self._by_edge.get(edge_id, {}).pop(connection_id, None)
        if connection is not None:
            self._forget(connection)

    def count(self, edge_id: str) -> int:
        """How many connections of an edge are known."""
        return len(self._by_edge.get(edge_id, {}))

    def is_connected(self, user_id: str) -> bool:
        """Whether a user has a connection at an attached edge."""
        return bool(self._by_user.get(user_id))

    def of_user(self, user_id: str) -> Iterable[Connection]:
        """The connections of a user at attached edges."""
        return self._by_user.get(user_id, {}).values()

    def route(
        self, user_ids: Iterable[str], *, user_id: str = "", device_id: str = "", connection_id: str = ""
    ) -> dict[str, list[str]]:
        """The connections of the recipients by edge, without those of the originating device.

        The device is told apart by user and name. It is not left out when its connection is gone: its successor may have
        read the state before the change was committed, and nobody could tell it otherwise.
        """
        origin_is_here = not connection_id or connection_id in self._by_user.get(user_id, {})
        left_out_device = device_id if origin_is_here and device_id not in UNKNOWN_DEVICES else None
        routes: dict[str, list[str]] = {}
        for recipient in dict.fromkeys(user_ids):
            for connection in self._by_user.get(recipient, {}).values():
                if connection.connection_id == connection_id:
                    continue
                if connection.device_id == left_out_device and recipient == user_id:
                    continue
                routes.setdefault(connection.edge_id, []).append(connection.connection_id)
        return routes

    def _forget(self, connection: Connection) -> None:
        connections = self._by_user.get(connection.user_id, {})
        connections.pop(connection.connection_id, None)
        if not connections:
            self._by_user.pop(connection.user_id, None)
