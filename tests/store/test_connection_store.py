"""The contract of `connection_service/store/contract.py`."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from connection_service.domain import Connection
from connection_service.pushes import DeviceToken, Push, Removal
from connection_service.store import open_store
from connection_service.store.contract import Store
from runtime.settings import ServiceSettings

NOW = 1_764_000_000_000_000


@pytest.fixture
async def store(settings: ServiceSettings) -> AsyncIterator[Store]:
    async with open_store(settings) as opened:
        yield opened


def row(connection_id: str, user: str = "alice", *, edge: str = "edge-1", device: str = "phone") -> Connection:
    return Connection(connection_id=connection_id, user_id=user, device_id=device, edge_id=edge, registered_at_us=NOW)


async def ids_of(store: Store, *users: str) -> set[str]:
    listed = [each.connection_id for each in await store.list_of_users(users)]
    assert len(set(listed)) == len(listed)
    return set(listed)


async def registered(store: Store, *rows: Connection) -> None:
    assert await store.register(rows, max_per_user=0) == [True] * len(rows)


# --- rows -----------------------------------------------------------------------------------------------------------------


async def test_an_empty_store_has_nothing(store: Store) -> None:
    await store.ping()
    assert await store.list_of_users(["alice"]) == []
    assert await store.list_of_users([]) == []
    assert await store.users_at(["alice"], ["edge-1"]) == set()
    assert await store.list_leases() == {}
    assert await store.list_row_edges() == set()


async def test_a_row_comes_back_exactly_as_it_was_written(store: Store) -> None:
    written = row("c1", "алиса 🍵", edge="edge.$1", device="'; --")
    await registered(store, written, row("c2", "bob"))
    assert await store.list_of_users(["алиса 🍵"]) == [written]


async def test_rows_of_many_users_are_listed_together(store: Store) -> None:
    await registered(store, row("c1"), row("c2"), row("c3", "bob"), row("c4", "carol"))
    assert await ids_of(store, "alice", "bob", "unknown") == {"c1", "c2", "c3"}


async def test_a_removed_row_is_gone_and_removing_it_again_is_fine(store: Store) -> None:
    await registered(store, row("c1"), row("c2"))
    for _ in range(2):
        await store.unregister(["c1", "unknown"])
    await store.unregister([])
    assert await ids_of(store, "alice") == {"c2"}


async def test_registering_a_row_again_changes_nothing(store: Store) -> None:
    await registered(store, row("c1"))
    await registered(store, row("c1"))
    assert await ids_of(store, "alice") == {"c1"}


async def test_it_tells_which_users_have_a_row_at_some_edges(store: Store) -> None:
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


async def test_all_rows_of_an_edge_are_removed_and_of_no_other(store: Store) -> None:
    await registered(store, row("c1", edge="edge-1"), row("c2", edge="edge-2"), row("c3", "bob", edge="edge-1"))
    assert await store.list_row_edges() == {"edge-1", "edge-2"}
    await store.unregister_edges(["edge-1", "unknown"])
    await store.unregister_edges([])
    assert await ids_of(store, "alice", "bob") == {"c2"}
    assert await store.list_row_edges() == {"edge-2"}


# --- the limit of a user --------------------------------------------------------------------------------------------------


async def test_a_user_has_no_more_rows_than_the_limit(store: Store) -> None:
    assert await store.register([row("c1"), row("c2")], max_per_user=3) == [True, True]
    assert await store.register([row("c3")], max_per_user=3) == [True]
    assert await store.register([row("c4"), row("b1", "bob")], max_per_user=3) == [False, True]
    assert await ids_of(store, "alice") == {"c1", "c2", "c3"}
    await store.unregister(["c2"])
    assert await store.register([row("c4")], max_per_user=3) == [True]


async def test_of_one_batch_the_first_are_accepted(store: Store) -> None:
    rows = [row(f"c{number}") for number in range(6)]
    assert await store.register(rows, max_per_user=4) == [True] * 4 + [False] * 2
    assert await ids_of(store, "alice") == {"c0", "c1", "c2", "c3"}


async def test_a_limit_of_zero_is_no_limit(store: Store) -> None:
    await registered(store, *(row(f"c{number}") for number in range(100)))
    assert len(await ids_of(store, "alice")) == 100


async def test_repeating_a_row_is_answered_as_added_although_the_user_is_at_the_limit(store: Store) -> None:
    rows = [row("c1"), row("c2")]
    assert await store.register(rows, max_per_user=2) == [True, True]
    assert await store.register(rows, max_per_user=2) == [True, True]
    assert await store.register([row("c2"), row("c3")], max_per_user=2) == [True, False]
    assert await ids_of(store, "alice") == {"c1", "c2"}


async def test_a_row_that_is_refused_never_costs_one_that_is_there(
    store: Store, settings: ServiceSettings, request: pytest.FixtureRequest
) -> None:
    assert await store.register([row("c1"), row("c2")], max_per_user=2) == [True, True]
    assert await store.register([row("c3"), row("c2")], max_per_user=2) == [False, True]
    assert await ids_of(store, "alice") == {"c1", "c2"}


async def test_the_limit_holds_however_many_race_for_the_last_places(store: Store) -> None:
    await registered(store, row("c-first"))
    results = await asyncio.gather(*(store.register([row(f"c{number}")], max_per_user=4) for number in range(30)))
    accepted = {f"c{number}" for number, (added,) in enumerate(results) if added}
    assert await ids_of(store, "alice") == accepted | {"c-first"}
    assert len(accepted) <= 3


# --- leases ---------------------------------------------------------------------------------------------------------------


async def test_taking_a_lease_twice_is_taking_it_once(store: Store) -> None:
    await store.acquire_lease("edge-1")
    (counter,) = (await store.list_leases()).values()
    await store.renew_lease("edge-1")
    await store.acquire_lease("edge-1")
    assert await store.list_leases() == {"edge-1": counter + 1}


async def test_renewing_raises_the_counter_of_that_edge(store: Store) -> None:
    await store.acquire_lease("edge-1")
    await store.acquire_lease("edge-2")
    before = await store.list_leases()
    assert await store.renew_lease("edge-1")
    after = await store.list_leases()
    assert after["edge-1"] > before["edge-1"]
    assert after["edge-2"] == before["edge-2"]


async def test_a_lease_that_is_not_there_can_not_be_renewed(store: Store) -> None:
    assert not await store.renew_lease("edge-1")
    assert await store.list_leases() == {}


async def test_a_lease_ends_only_if_it_was_not_renewed_meanwhile(store: Store) -> None:
    await store.acquire_lease("edge-1")
    counter = (await store.list_leases())["edge-1"]
    await store.renew_lease("edge-1")
    assert not await store.end_lease("edge-1", counter)
    assert await store.end_lease("edge-1", counter + 1)
    assert not await store.end_lease("edge-1", counter + 1)
    assert await store.list_leases() == {}


async def test_no_renewal_is_lost_when_many_come_at_once(store: Store) -> None:
    await store.acquire_lease("edge-1")
    counter = (await store.list_leases())["edge-1"]
    assert all(await asyncio.gather(*(store.renew_lease("edge-1") for _ in range(100))))
    assert await store.list_leases() == {"edge-1": counter + 100}


async def test_of_many_replicas_that_end_a_lease_one_does(store: Store) -> None:
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


# --- push tokens ----------------------------------------------------------------------------------------------------------


def device(token: str, user: str = "alice", name: str = "phone", *, at: int = NOW) -> DeviceToken:
    return DeviceToken(token=token, user_id=user, device_id=name, registered_at_us=at)


async def tokens_of(store: Store, *users: str) -> set[str]:
    return {each.token for each in await store.tokens_of_users(users)}


async def saved(store: Store, *tokens: DeviceToken, most: int = 16) -> None:
    await store.save_tokens(tokens, max_per_user=most)


async def test_a_token_comes_back_exactly_as_it_was_written(store: Store) -> None:
    written = device("fcm:APA91b-_x", "алиса 🍵", "'; --")
    await saved(store, written, device("t2", "bob"))
    assert await store.tokens_of_users(["алиса 🍵", "nobody"]) == [written]
    assert await store.load_tokens([written.token_id, "unknown"]) == {written.token_id: written}
    await saved(store)
    assert await store.tokens_of_users([]) == []


async def test_a_new_token_of_a_device_replaces_its_old_one_and_no_other(store: Store) -> None:
    await saved(store, device("old"), device("tablet's", name="tablet"), device("bob's", "bob"))
    for _ in range(2):
        await saved(store, device("new", at=NOW + 1))
    assert await tokens_of(store, "alice", "bob") == {"new", "tablet's", "bob's"}


async def test_a_token_belongs_to_who_brought_it_last(store: Store) -> None:
    await saved(store, device("t1", "alice"))
    await saved(store, device("t1", "bob", at=NOW + 1))
    assert await tokens_of(store, "alice") == set()
    assert await tokens_of(store, "bob") == {"t1"}
    await saved(store, device("t2", "carol"), device("t2", "dave"))  # in one call, the last one counts, too
    assert (await tokens_of(store, "carol"), await tokens_of(store, "dave")) == (set(), {"t2"})


async def test_of_too_many_tokens_of_a_user_the_oldest_are_forgotten(store: Store) -> None:
    await saved(store, *(device(f"t{number}", name=f"d{number}", at=NOW + number) for number in range(3)), most=3)
    await saved(store, device("t9", name="d9", at=NOW + 9), most=3)
    assert await tokens_of(store, "alice") == {"t1", "t2", "t9"}


async def test_tokens_are_forgotten_by_id_and_by_device(store: Store) -> None:
    await saved(store, device("t1", name="d1"), device("t2", name="d2"), device("t3", "bob", "d1"))
    for _ in range(2):
        await store.delete_tokens([device("t1").token_id, "unknown"])
        await store.delete_devices([("alice", "d2"), ("alice", "unknown")])
    await store.delete_tokens([])
    await store.delete_devices([])
    assert await tokens_of(store, "alice", "bob") == {"t3"}


# --- pushes ---------------------------------------------------------------------------------------------------------------


def push(timer: str = "tea", user: str = "bob", to: str = "t1", *, version: int = 1, due: int = NOW) -> Push:
    return Push(
        timer_id=timer,
        user_id=user,
        token_id=to,
        timer_name="Tea 🍵",
        sharer_id="alice",
        version=version,
        created_at_us=NOW,
        due_at_us=due,
    )


async def due(store: Store, now: int, *, until: int | None = None, limit: int = 100) -> list[Push]:
    return await store.claim_pushes(now, now + 1_000 if until is None else until, limit)


async def test_a_push_is_given_out_once_until_its_claim_has_run_out(store: Store) -> None:
    assert await store.add_pushes([push()]) == 1
    assert await due(store, NOW - 1) == []
    (claimed,) = await due(store, NOW, until=NOW + 50)
    assert claimed == msgspec.structs.replace(push(), due_at_us=NOW + 50, attempts=1)
    assert await due(store, NOW + 49) == []
    (again,) = await due(store, NOW + 50)
    assert again.attempts == 2


async def test_of_many_who_look_at_once_one_gets_it(store: Store) -> None:
    await store.add_pushes([push(f"timer-{number}") for number in range(20)])
    looks = await asyncio.gather(*(due(store, NOW) for _ in range(5)))
    given = [each.timer_id for look in looks for each in look]
    assert sorted(given) == sorted(f"timer-{number}" for number in range(20))


async def test_those_that_are_due_longest_come_first(store: Store) -> None:
    await store.add_pushes([push("late", due=NOW + 9), push("early", due=NOW), push("later", due=NOW + 10)])
    assert [each.timer_id for each in await due(store, NOW + 10, limit=2)] == ["early", "late"]


async def test_a_push_is_kept_once_for_each_timer_user_and_token(store: Store) -> None:
    kinds = [push(), push("milk"), push(user="carol"), push(to="t2")]
    assert await store.add_pushes(kinds) == 4
    assert await store.add_pushes([push(version=2), push("new")]) == 1
    assert await store.add_pushes([]) == 0
    assert await store.count_pushes() == 5


async def test_a_finished_push_is_not_given_out_again_nor_added_again_until_it_is_forgotten(store: Store) -> None:
    await store.add_pushes([push()])
    await due(store, NOW)
    await store.finish_push(push().push_id, NOW + 5)
    await store.postpone_push(push().push_id, NOW)
    assert await store.add_pushes([push()]) == 0
    assert await due(store, NOW + 10_000_000) == []
    assert await store.count_pushes() == 0
    await store.forget_pushes(NOW + 5)
    assert await store.add_pushes([push()]) == 0
    await store.forget_pushes(NOW + 6)
    assert await store.add_pushes([push()]) == 1


async def test_a_postponed_push_comes_when_it_was_postponed_to(store: Store) -> None:
    await store.add_pushes([push()])
    await due(store, NOW)
    await store.postpone_push(push().push_id, NOW + 777)
    assert await due(store, NOW + 776) == []
    assert [each.attempts for each in await due(store, NOW + 777)] == [2]
    await store.postpone_push("unknown", NOW)
    assert await store.count_pushes() == 1


async def test_who_was_removed_is_not_told_any_more_unless_they_were_added_after_that(store: Store) -> None:
    await store.add_pushes([push(version=5), push(user="carol", version=5), push("milk", version=5)])
    await store.cancel_pushes([Removal(timer_id="tea", user_id="bob", version=5)], NOW)
    assert await store.count_pushes() == 3
    await store.cancel_pushes([Removal(timer_id="tea", user_id="bob", version=6)], NOW)
    await store.cancel_pushes([], NOW)
    assert {(each.timer_id, each.user_id) for each in await due(store, NOW)} == {("tea", "carol"), ("milk", "bob")}
    await store.postpone_push(push().push_id, NOW)
    await store.finish_push(push().push_id, NOW)
    assert await store.add_pushes([push(version=7)]) == 1


async def test_an_addition_that_comes_after_the_removal_behind_it_is_not_kept(store: Store) -> None:
    for version in (6, 5):  # removals overtake each other, too
        await store.cancel_pushes([Removal(timer_id="tea", user_id="bob", version=version)], NOW)
    assert await store.add_pushes([push(version=5), push("milk", version=5), push(user="carol", version=5)]) == 2
    assert {(each.timer_id, each.user_id) for each in await due(store, NOW)} == {("milk", "bob"), ("tea", "carol")}
    assert await store.add_pushes([push(version=7)]) == 1
    assert await store.count_pushes() == 3


async def test_a_removal_is_forgotten_with_the_pushes_that_were_finished_then(store: Store) -> None:
    removal = Removal(timer_id="tea", user_id="bob", version=6)
    await store.cancel_pushes([removal], NOW)
    await store.cancel_pushes([removal], NOW + 5)
    await store.forget_pushes(NOW + 5)
    assert await store.add_pushes([push(version=5)]) == 0
    await store.forget_pushes(NOW + 6)
    assert await store.add_pushes([push(version=5)]) == 1
