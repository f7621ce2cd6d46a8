"""`connection_service/leases.py`, with a store in memory."""

import asyncio
import time
from collections.abc import Collection, Sequence

import pytest

from connection_service.domain import LEASE, SETTLE, Connection
from connection_service.leases import Leases
from runtime.errors import Unavailable


class MemoryStore:
    """The leases and rows of a `ConnectionStore`."""

    def __init__(self) -> None:
        self.leases: dict[str, int] = {}
        self.rows: dict[str, Connection] = {}
        self.is_away = False
        self.reads = 0

    async def ping(self) -> None:
        self._reach()

    async def check(self) -> None:
        self._reach()

    async def register(self, connections: Sequence[Connection], *, max_per_user: int) -> list[bool]:
        self._reach()
        del max_per_user
        self.rows |= {each.connection_id: each for each in connections}
        return [True] * len(connections)

    async def unregister(self, connection_ids: Collection[str]) -> None:
        self._reach()
        for connection_id in connection_ids:
            self.rows.pop(connection_id, None)

    async def list_of_users(self, user_ids: Collection[str]) -> list[Connection]:
        self._reach()
        return [each for each in self.rows.values() if each.user_id in user_ids]

    async def users_at(self, user_ids: Collection[str], edge_ids: Collection[str]) -> set[str]:
        return {each.user_id for each in await self.list_of_users(user_ids) if each.edge_id in edge_ids}

    async def acquire_lease(self, edge_id: str) -> None:
        self._reach()
        self.leases.setdefault(edge_id, 1)

    async def renew_lease(self, edge_id: str) -> bool:
        self._reach()
        if edge_id not in self.leases:
            return False
        self.leases[edge_id] += 1
        return True

    async def list_leases(self) -> dict[str, int]:
        self._reach()
        self.reads += 1
        await asyncio.sleep(0)
        return dict(self.leases)

    async def end_lease(self, edge_id: str, counter: int) -> bool:
        self._reach()
        if self.leases.get(edge_id) != counter:
            return False
        del self.leases[edge_id]
        return True

    async def list_row_edges(self) -> set[str]:
        self._reach()
        return {each.edge_id for each in self.rows.values()}

    async def unregister_edges(self, edge_ids: Collection[str]) -> None:
        self._reach()
        self.rows = {key: each for key, each in self.rows.items() if each.edge_id not in edge_ids}

    def _reach(self) -> None:
        if self.is_away:
            raise Unavailable("The database can't be reached")


def row(connection_id: str, edge_id: str) -> Connection:
    return Connection(connection_id=connection_id, user_id="alice", device_id="phone", edge_id=edge_id)


def pass_time(leases: Leases, seconds: float) -> None:
    """As if the list had been read again and again for so long, with the same counters."""
    leases._seen = {edge_id: seen._replace(since=seen.since - seconds) for edge_id, seen in leases._seen.items()}


async def test_no_list_is_believed_before_the_first_read() -> None:
    leases = Leases(MemoryStore())
    assert leases.edges is None
    await leases.read()
    assert leases.edges == frozenset()


async def test_a_read_tells_which_edges_have_a_lease() -> None:
    store = MemoryStore()
    leases = Leases(store)
    await store.acquire_lease("edge-1")
    await store.acquire_lease("edge-2")
    await leases.read()
    assert leases.edges == frozenset({"edge-1", "edge-2"})
    await store.end_lease("edge-1", 1)
    await leases.read()
    assert leases.edges == frozenset({"edge-2"})


async def test_an_old_list_is_not_believed() -> None:
    store = MemoryStore()
    leases = Leases(store)
    await leases.read()
    read_at = time.monotonic()
    store.is_away = True
    with pytest.raises(Unavailable):
        await leases.read()
    assert leases.edges == frozenset()
    while leases.edges is not None:
        assert time.monotonic() < read_at + SETTLE + 5
        await asyncio.sleep(0.02)
    store.is_away = False
    await leases.read()
    assert leases.edges == frozenset()


async def test_a_lease_that_is_not_renewed_runs_out() -> None:
    store = MemoryStore()
    leases = Leases(store)
    await store.acquire_lease("edge-1")
    await leases.read()
    pass_time(leases, LEASE + 0.1)
    await leases.read()
    assert leases.edges == frozenset()
    assert store.leases == {}
    assert not await store.renew_lease("edge-1")


async def test_an_outage_of_the_database_is_not_held_against_the_edges() -> None:
    store = MemoryStore()
    leases = Leases(store)
    await store.acquire_lease("edge-1")
    await leases.read()
    pass_time(leases, LEASE + 0.1)
    leases._read_at -= LEASE + 0.1  # nobody could read or renew meanwhile
    await leases.read()
    assert store.leases == {"edge-1": 1}


async def test_a_lease_that_is_renewed_lasts() -> None:
    store = MemoryStore()
    leases = Leases(store)
    await store.acquire_lease("edge-1")
    for _ in range(5):
        await leases.read()
        pass_time(leases, LEASE + 0.1)
        await store.renew_lease("edge-1")
    await leases.read()
    assert leases.edges == frozenset({"edge-1"})


async def test_a_renewal_at_the_last_moment_wins() -> None:
    class RenewedMeanwhile(MemoryStore):
        async def list_leases(self) -> dict[str, int]:
            listed = await super().list_leases()
            await self.renew_lease("edge-1")
            return listed

    store = RenewedMeanwhile()
    leases = Leases(store)
    await store.acquire_lease("edge-1")
    await leases.read()
    leases._seen = {edge: seen._replace(counter=seen.counter + 1) for edge, seen in leases._seen.items()}
    pass_time(leases, LEASE + 0.1)
    await leases.read()
    assert leases.edges == frozenset({"edge-1"})
    assert store.leases == {"edge-1": 3}


async def test_an_edge_gets_its_full_time_from_a_replica_that_has_only_just_heard_of_it() -> None:
    store = MemoryStore()
    await store.acquire_lease("edge-1")
    for _ in range(3):  # replicas come and go; nobody ever sees the counter stand still for long enough
        leases = Leases(store)
        await leases.read()
        pass_time(leases, LEASE - 1)
        await leases.read()
    assert store.leases == {"edge-1": 1}


async def test_an_edge_that_has_just_taken_its_lease_holds_it_although_the_list_is_older() -> None:
    store = MemoryStore()
    leases = Leases(store)
    await leases.read()
    await store.acquire_lease("edge-1")
    assert leases.edges == frozenset()
    assert await leases.holds("edge-1")
    assert not await leases.holds("edge-2")


async def test_an_edge_that_leaves_takes_its_rows_with_it_and_nobody_elses() -> None:
    store = MemoryStore()
    leases = Leases(store)
    await store.acquire_lease("edge-1")
    await store.acquire_lease("edge-2")
    await store.register([row("c1", "edge-1"), row("c2", "edge-2")], max_per_user=0)
    await leases.release("edge-1")
    assert store.leases == {"edge-2": 1}
    assert set(store.rows) == {"c2"}
    await leases.release("edge-1")
    await leases.release("never seen")


async def test_an_edge_that_has_left_holds_no_lease() -> None:
    store = MemoryStore()
    leases = Leases(store)
    await store.acquire_lease("edge-1")
    await leases.read()
    await leases.release("edge-1")
    await leases.read()
    assert leases.edges == frozenset()
    assert not await leases.holds("edge-1")


async def test_rows_of_edges_without_a_lease_are_removed() -> None:
    store = MemoryStore()
    leases = Leases(store)
    await store.acquire_lease("edge-1")
    await store.register([row("c1", "edge-1"), row("c2", "dead"), row("c3", "dead")], max_per_user=0)
    await leases.remove_orphans()
    assert set(store.rows) == {"c1"}


async def test_rows_of_an_edge_that_takes_its_lease_meanwhile_stay() -> None:
    class TakenMeanwhile(MemoryStore):
        async def list_row_edges(self) -> set[str]:
            found = await super().list_row_edges()
            await self.acquire_lease("edge-1")
            await self.register([row("c1", "edge-1")], max_per_user=0)
            return found

    store = TakenMeanwhile()
    await Leases(store).remove_orphans()
    assert set(store.rows) == {"c1"}
