"""The contract of `connection_service/store/contract.py`."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from connection_service.domain import Connection
from connection_service.store import open_store
from connection_service.store.contract import ConnectionStore
from runtime.settings import ServiceSettings

NOW = 1_764_000_000_000_000


@pytest.fixture
async def store(settings: ServiceSettings) -> AsyncIterator[ConnectionStore]:
    async with open_store(settings) as opened:
        yield opened


def row(connection_id: str, user: str = "alice", *, edge: str = "edge-1", device: str = "phone") -> Connection:
    return Connection(connection_id=connection_id, user_id=user, device_id=device, edge_id=edge, registered_at_us=NOW)


async def ids_of(store: ConnectionStore, *users: str) -> set[str]:
    listed = [each.connection_id for each in await store.list_of_users(users)]
    assert len(set(listed)) == len(listed)
    return set(listed)


async def registered(store: ConnectionStore, *rows: Connection) -> None:
    assert await store.register(rows, max_per_user=0) == [True] * len(rows)


# --- rows -----------------------------------------------------------------------------------------------------------------


async def test_an_empty_store_has_nothing(store: ConnectionStore) -> None:
    await store.ping()
    assert await store.list_of_users(["alice"]) == []
    assert await store.list_of_users([]) == []
    assert await store.users_at(["alice"], ["edge-1"]) == set()
    assert await store.list_leases() == {}
    assert await store.list_row_edges() == set()


async def test_a_row_comes_back_exactly_as_it_was_written(store: ConnectionStore) -> None:
    written = row("c1", "алиса 🍵", edge="edge.$1", device="'; --")
    await registered(store, written, row("c2", "bob"))
    assert await store.list_of_users(["алиса 🍵"]) == [written]


async def test_rows_of_many_users_are_listed_together(store: ConnectionStore) -> None:
    await registered(store, row("c1"), row("c2"), row("c3", "bob"), row("c4", "carol"))
    assert await ids_of(store, "alice", "bob", "unknown") == {"c1", "c2", "c3"}


async def test_a_removed_row_is_gone_and_removing_it_again_is_fine(store: ConnectionStore) -> None:
    await registered(store, row("c1"), row("c2"))
    for _ in range(2):
        await store.unregister(["c1", "unknown"])
    await store.unregister([])
    assert await ids_of(store, "alice") == {"c2"}


async def test_registering_a_row_again_changes_nothing(store: ConnectionStore) -> None:
    await registered(store, row("c1"))
    await registered(store, row("c1"))
    assert await ids_of(store, "alice") == {"c1"}


async def test_it_tells_which_users_have_a_row_at_some_edges(store: ConnectionStore) -> None:
    await registered(
        store,
        row("c1", "alice", edge="edge-1"),
        row("c2", "alice", edge="edge-2"),
        row("c3", "bob", edge="edge-2"),
        row("c4", "carol", edge="edge-3"),
    )
    everybody = ["alice", "bob", "carol", "dave"]
    assert await store.users_at(everybody, ["edge-1"]) == {"alice"}
    assert await store.users_at(everybody, ["edge-2", "edge-3", "unknown"]) == {"alice", "bob", "carol"}
    assert await store.users_at(["bob"], ["edge-2"]) == {"bob"}
    assert await store.users_at([], ["edge-2"]) == set()
    assert await store.users_at(everybody, []) == set()


async def test_all_rows_of_an_edge_are_removed_and_of_no_other(store: ConnectionStore) -> None:
    await registered(store, row("c1", edge="edge-1"), row("c2", edge="edge-2"), row("c3", "bob", edge="edge-1"))
    assert await store.list_row_edges() == {"edge-1", "edge-2"}
    await store.unregister_edges(["edge-1", "unknown"])
    await store.unregister_edges([])
    assert await ids_of(store, "alice", "bob") == {"c2"}
    assert await store.list_row_edges() == {"edge-2"}


# --- the limit of a user --------------------------------------------------------------------------------------------------


async def test_a_user_has_no_more_rows_than_the_limit(store: ConnectionStore) -> None:
    assert await store.register([row("c1"), row("c2")], max_per_user=3) == [True, True]
    assert await store.register([row("c3")], max_per_user=3) == [True]
    assert await store.register([row("c4"), row("b1", "bob")], max_per_user=3) == [False, True]
    assert await ids_of(store, "alice") == {"c1", "c2", "c3"}
    await store.unregister(["c2"])
    assert await store.register([row("c4")], max_per_user=3) == [True]


async def test_of_one_batch_the_first_are_accepted(store: ConnectionStore) -> None:
    rows = [row(f"c{number}") for number in range(6)]
    assert await store.register(rows, max_per_user=4) == [True] * 4 + [False] * 2
    assert await ids_of(store, "alice") == {"c0", "c1", "c2", "c3"}


async def test_a_limit_of_zero_is_no_limit(store: ConnectionStore) -> None:
    await registered(store, *(row(f"c{number}") for number in range(100)))
    assert len(await ids_of(store, "alice")) == 100


async def test_repeating_a_row_is_answered_as_added_although_the_user_is_at_the_limit(store: ConnectionStore) -> None:
    rows = [row("c1"), row("c2")]
    assert await store.register(rows, max_per_user=2) == [True, True]
    assert await store.register(rows, max_per_user=2) == [True, True]
    assert await store.register([row("c2"), row("c3")], max_per_user=2) == [True, False]
    assert await ids_of(store, "alice") == {"c1", "c2"}


async def test_a_row_that_is_refused_never_costs_one_that_is_there(
    store: ConnectionStore, settings: ServiceSettings, request: pytest.FixtureRequest
) -> None:
    assert await store.register([row("c1"), row("c2")], max_per_user=2) == [True, True]
    assert await store.register([row("c3"), row("c2")], max_per_user=2) == [False, True]
    assert await ids_of(store, "alice") == {"c1", "c2"}


async def test_the_limit_holds_however_many_race_for_the_last_places(store: ConnectionStore) -> None:
    await registered(store, row("c-first"))
    results = await asyncio.gather(*(store.register([row(f"c{number}")], max_per_user=4) for number in range(30)))
    accepted = {f"c{number}" for number, (added,) in enumerate(results) if added}
    assert await ids_of(store, "alice") == accepted | {"c-first"}
    assert len(accepted) <= 3


# --- leases ---------------------------------------------------------------------------------------------------------------


async def test_taking_a_lease_twice_is_taking_it_once(store: ConnectionStore) -> None:
    await store.acquire_lease("edge-1")
    (counter,) = (await store.list_leases()).values()
    await store.renew_lease("edge-1")
    await store.acquire_lease("edge-1")
    assert await store.list_leases() == {"edge-1": counter + 1}


async def test_renewing_raises_the_counter_of_that_edge(store: ConnectionStore) -> None:
    await store.acquire_lease("edge-1")
    await store.acquire_lease("edge-2")
    before = await store.list_leases()
    assert await store.renew_lease("edge-1")
    after = await store.list_leases()
    assert after["edge-1"] > before["edge-1"]
    assert after["edge-2"] == before["edge-2"]


async def test_a_lease_that_is_not_there_can_not_be_renewed(store: ConnectionStore) -> None:
    assert not await store.renew_lease("edge-1")
    assert await store.list_leases() == {}


async def test_a_lease_ends_only_if_it_was_not_renewed_meanwhile(store: ConnectionStore) -> None:
    await store.acquire_lease("edge-1")
    counter = (await store.list_leases())["edge-1"]
    await store.renew_lease("edge-1")
    assert not await store.end_lease("edge-1", counter)
    assert await store.end_lease("edge-1", counter + 1)
    assert not await store.end_lease("edge-1", counter + 1)
    assert await store.list_leases() == {}


async def test_no_renewal_is_lost_when_many_come_at_once(store: ConnectionStore) -> None:
    await store.acquire_lease("edge-1")
    counter = (await store.list_leases())["edge-1"]
    assert all(await asyncio.gather(*(store.renew_lease("edge-1") for _ in range(100))))
    assert await store.list_leases() == {"edge-1": counter + 100}


async def test_of_many_replicas_that_end_a_lease_one_does(store: ConnectionStore) -> None:
    await store.acquire_lease("edge-1")
    counter = (await store.list_leases())["edge-1"]
    ended = await asyncio.gather(*(store.end_lease("edge-1", counter) for _ in range(20)))
    assert sum(ended) == 1


async def test_a_lease_and_rows_are_there_after_the_store_was_opened_anew(settings: ServiceSettings) -> None:
    async with open_store(settings) as store:
        await store.acquire_lease("edge-1")
        await registered(store, row("c1"))
    async with open_store(settings) as store:
        assert set(await store.list_leases()) == {"edge-1"}
        assert await store.list_of_users(["alice"]) == [row("c1")]
