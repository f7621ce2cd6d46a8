"""What this replica knows of the edges' leases, and the end of those that are not renewed."""

import time
from typing import NamedTuple

from connection_service import metrics
from connection_service.domain import LEASE, SETTLE
from connection_service.store.contract import ConnectionStore
from runtime import logs

log = logs.get(__name__)


class _Seen(NamedTuple):
    counter: int
    since: float


class Leases:
    """A list of the edges that are alive, as of the last read."""

    def __init__(self, store: ConnectionStore) -> None:
        self._store = store
        self._seen: dict[str, _Seen] = {}
        self._read_at = float("-inf")

    @property
    def edges(self) -> frozenset[str] | None:
        """The edges with a lease. None: the list is too old to be believed."""
        if time.monotonic() - self._read_at >= SETTLE:
            return None
        return frozenset(self._seen)

    @property
    def count(self) -> int:
        """How many edges held a lease when the list was read last."""
        return len(self._seen)

    async def read(self) -> None:
        """Reads the list, and ends leases that were not renewed. Raises Unavailable."""
        started = time.monotonic()
        leases = await self._store.list_leases()
        # An edge that this replica has only just heard of gets its full time, also after a restart of the replica. So does
        # every edge when there was a time without looks: perhaps none could renew in it.
        known = self._seen if started - self._read_at < SETTLE else {}
        self._seen = {
            edge_id: seen
            if (seen := known.get(edge_id)) is not None and seen.counter == counter
            else _Seen(counter, started)
            for edge_id, counter in leases.items()
        }
        self._read_at = started
        for edge_id, seen in list(self._seen.items()):
            if started - seen.since > LEASE and await self._store.end_lease(edge_id, seen.counter):
                log.warning("edge lost its lease", edge_id=edge_id)
                metrics.LEASES_ENDED.inc()
                del self._seen[edge_id]

    async def holds(self, edge_id: str) -> bool:
        """Whether an edge has a lease now; asks the database when the list does not have it. Raises Unavailable."""
        return edge_id in self._seen or edge_id in await self._store.list_leases()

    async def release(self, edge_id: str) -> None:
        """Ends the lease of an edge that leaves, and removes its rows. Raises Unavailable."""
        counter = (await self._store.list_leases()).get(edge_id)
        if counter is not None:
            await self._store.end_lease(edge_id, counter)
        await self._store.unregister_edges([edge_id])

    async def remove_orphans(self) -> None:
        """Removes the rows of edges without a lease. An edge takes its lease before its first row and never comes back
        under the same id, so rows are read first and leases second. Raises Unavailable.
        """
        with_rows = await self._store.list_row_edges()
        dead = with_rows - (await self._store.list_leases()).keys()
        if dead:
            await self._store.unregister_edges(dead)
            log.info("rows of dead edges removed", edges=len(dead))
