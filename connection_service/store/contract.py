"""What the connection service needs of a database. Every store passes the same tests (`tests/store/`)."""

from collections.abc import Collection, Sequence
from typing import Protocol

from connection_service.domain import Connection
from connection_service.pushes import DeviceToken, Push, Removal

WRITES = (
    "register", "unregister", "acquire_lease", "renew_lease", "end_lease", "unregister_edges",
    "save_tokens", "delete_tokens", "delete_devices",
    "add_pushes", "claim_pushes", "postpone_push", "finish_push", "cancel_pushes", "forget_pushes",
)  # fmt: skip
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


class PushStore(Protocol):
    """Push tokens, and pushes that are to be sent. Every method may raise Unavailable."""

    async def save_tokens(self, tokens: Sequence[DeviceToken], *, max_per_user: int) -> None:
        """Keeps tokens, in order. A token that another device had moves to this one; a device's new token replaces its old one;
        of a user with more than `max_per_user`, the oldest are forgotten. Idempotent. These are not one transaction: after a
        fault in the middle, repeating it brings all of that about.
        """

    async def delete_tokens(self, token_ids: Collection[str]) -> None:
        """Forgets tokens. Unknown ones are fine."""

    async def delete_devices(self, devices: Collection[tuple[str, str]]) -> None:
        """Forgets the tokens of devices, each given by its user and its name. Unknown ones are fine."""

    async def load_tokens(self, token_ids: Collection[str]) -> dict[str, DeviceToken]:
        """Those of the tokens that are there, by their ids."""

    async def tokens_of_users(self, user_ids: Collection[str]) -> list[DeviceToken]:
        """All tokens of these users."""

    async def add_pushes(self, pushes: Sequence[Push]) -> int:
        """Keeps pushes to be sent, each unless one of its id is kept already, finished or not, or its user was removed since;
        returns how many were new. Durable when it returns.
        """

    async def claim_pushes(self, now_us: int, until_us: int, limit: int) -> list[Push]:
        """Pushes that are due, those due longest first. Each is given out once until it is due again, at `until_us`, and has one
        more attempt.
        """

    async def postpone_push(self, push_id: str, due_at_us: int) -> None:
        """A push is to be tried again then. Nothing happens when it is finished or cancelled."""

    async def finish_push(self, push_id: str, now_us: int) -> None:
        """A push is not to be tried any more. It is remembered until `forget_pushes`."""

    async def cancel_pushes(self, removals: Collection[Removal], now_us: int) -> None:
        """Forgets the pushes for who was removed, those of later audiences excepted, and takes no more of them until
        `forget_pushes`.
        """

    async def forget_pushes(self, finished_before_us: int) -> None:
        """Forgets pushes that were finished, and users who were removed, before that."""

    async def count_pushes(self) -> int:
        """How many are not finished."""


class Store(ConnectionStore, PushStore, Protocol):
    """All of it, as one database has it."""
