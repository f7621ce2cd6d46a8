"""What the connection service needs of a database. Every store passes the same tests (`tests/store/`)."""

from collections.abc import Collection, Sequence
from typing import Protocol

from connection_service.domain import Connection

WRITES = ("register", "unregister", "acquire_lease", "renew_lease", "end_lease", "unregister_edges")
"""The methods that change something."""


class ConnectionStore(Protocol):
    """Rows of connections, and the leases of edges. Every method may raise Unavailable."""

    async def ping(self) -> None:
        """Returns when the database answers."""

    async def check(self) -> None:
        """Returns when the database answers, and takes writes as far as is known."""

    async def register(self, connections: Sequence[Connection], *, max_per_user: int) -> list[bool]:
        """Adds rows, each unless its user would have more than `max_per_user` (0: no limit). In order.

        The limit is never exceeded; of several that race for the last places, all may be refused. Repeating a row that is
        there already is answered as added.
        """

    async def unregister(self, connection_ids: Collection[str]) -> None:
        """Removes rows. Unknown ids are fine."""

    async def list_of_users(self, user_ids: Collection[str]) -> list[Connection]:
        """All rows of these users."""

    async def users_at(self, user_ids: Collection[str], edge_ids: Collection[str]) -> set[str]:
        """Those of the users with at least one row at one of the edges."""

    async def acquire_lease(self, edge_id: str) -> None:
        """Gives an edge a lease. Idempotent."""

    async def renew_lease(self, edge_id: str) -> bool:
        """Raises the counter of an edge's lease. False: it has none."""

    async def list_leases(self) -> dict[str, int]:
        """The counters of all leases by edge."""

    async def end_lease(self, edge_id: str, counter: int) -> bool:
        """Ends a lease if its counter is still the one given. Returns whether it did."""

    async def list_row_edges(self) -> set[str]:
        """All edges that rows name."""

    async def unregister_edges(self, edge_ids: Collection[str]) -> None:
        """Removes all rows of these edges."""
