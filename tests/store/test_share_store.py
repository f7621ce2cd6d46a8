"""The contract of `sharing_service/store/contract.py`."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from runtime.settings import ServiceSettings
from sharing_service.domain import Audience, Origin, Share
from sharing_service.store import open_store
from sharing_service.store.contract import Save, ShareStore

NOW = 1_764_000_000_000_000

FULL = Share(
    timer_id="tea",
    owner="alice",
    members=("dave", "bob", "carol"),
    version=2**53 - 1,
    added=("carol",),
    removed=("erin", "frank"),
    origin=Origin("alice", "pixel", "c1"),
    traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    pending_since_us=NOW,
)


@pytest.fixture
async def store(settings: ServiceSettings) -> AsyncIterator[ShareStore]:
    async with open_store(settings) as opened:
        yield opened


def share(
    timer_id: str = "tea",
    version: int = NOW,
    *members: str,
    owner: str = "alice",
    pending_since_us: int = 0,
) -> Share:
    return Share(timer_id=timer_id, owner=owner, members=members, version=version, pending_since_us=pending_since_us)


async def created(store: ShareStore, *shares: Share) -> None:
    assert await store.save([Save(each, None) for each in shares]) == [True] * len(shares)


async def timers_of(store: ShareStore, user_id: str) -> set[str]:
    """What is shared with a user."""
    listed = (await store.list_shared_with([user_id]))[user_id]
    assert len(set(listed)) == len(listed)
    return set(listed)


async def count_of(store: ShareStore, user_id: str) -> int:
    """How much is shared with a user."""
    (count,) = (await store.count_shared_with([user_id])).values()
    return count


async def pending_ids(store: ShareStore) -> list[str]:
    return [each.timer_id for each in await store.list_pending(1_000, (0, ""))]


async def test_audiences_are_read_without_the_rest(store: ShareStore) -> None:
    await created(store, FULL, share("eggs", NOW))
    assert await store.load_audiences(["tea", "eggs", "rice"]) == {
        "tea": Audience(timer_id="tea", owner="alice", members=("dave", "bob", "carol"), version=2**53 - 1),
        "eggs": Audience(timer_id="eggs", owner="alice", version=NOW),
    }


async def test_an_empty_store_has_nothing(store: ShareStore) -> None:
    await store.ping()
    assert await store.load(["tea"]) == {}
    assert await store.load([]) == {}
    assert await store.list_shared_with(["alice"]) == {"alice": []}
    assert await store.list_shared_with([]) == {}
    assert await store.count_shared_with([]) == {}
    assert await count_of(store, "alice") == 0
    assert await store.list_pending(10, (0, "")) == []


async def test_a_share_comes_back_exactly_as_it_was_saved(store: ShareStore) -> None:
    await created(store, FULL, share("bare", 1))
    assert await store.load(["tea", "bare", "unknown"]) == {"tea": FULL, "bare": share("bare", 1)}


async def test_saving_replaces_the_whole_share(store: ShareStore) -> None:
    await created(store, FULL)
    bare = share("tea", FULL.version + 1, "erin")
    assert await store.save([Save(bare, FULL.version)]) == [True]
    assert await store.load(["tea"]) == {"tea": bare}
    assert await pending_ids(store) == []
    assert await timers_of(store, "bob") == set()
    assert await timers_of(store, "erin") == {"tea"}


@pytest.mark.parametrize("odd", ["$where", "a.b", "'; DROP TABLE shares; --", "ключ", "🍵", "x" * 128, "%"])
async def test_any_id_is_only_a_name(store: ShareStore, odd: str) -> None:
    await created(store, share("other", 1, "bob"), share(odd, 1, odd, owner="carol", pending_since_us=NOW))
    assert set(await store.load([odd])) == {odd}
    assert await timers_of(store, odd) == {odd}
    assert await count_of(store, odd) == 1
    await store.delete([odd])
    assert set(await store.load([odd, "other"])) == {"other"}


# --- who sees what --------------------------------------------------------------------------------------------------------


async def test_a_user_is_listed_what_is_shared_with_it_and_not_what_it_owns(store: ShareStore) -> None:
    await created(
        store,
        share("a", 1),
        share("b", 1, "bob", "carol"),
        share("c", 1, "alice", owner="bob"),
        share("d", 1, "carol", owner="bob"),
    )
    assert await timers_of(store, "alice") == {"c"}
    assert await timers_of(store, "bob") == {"b"}
    assert await timers_of(store, "carol") == {"b", "d"}
    assert await timers_of(store, "mallory") == set()
    counts = await store.count_shared_with(["alice", "bob", "carol", "mallory"])
    assert counts == {"alice": 1, "bob": 1, "carol": 2, "mallory": 0}


async def test_who_was_removed_sees_it_no_longer(store: ShareStore) -> None:
    await created(store, share("tea", 1, "bob", "carol"))
    await store.save([Save(share("tea", 2, "carol"), 1)])
    assert await timers_of(store, "bob") == set()
    assert await count_of(store, "bob") == 0
    await store.save([Save(share("tea", 3), 2)])
    assert await timers_of(store, "carol") == set()


async def test_a_save_that_lost_changes_nobodys_view(store: ShareStore) -> None:
    await created(store, share("tea", 1, "bob"))
    assert await store.save([Save(share("tea", 2, "mallory"), None), Save(share("eggs", 2, "mallory"), 1)]) == [
        False,
        False,
    ]
    assert await store.save([Save(share("tea", 3, "mallory"), 2)]) == [False]
    assert await timers_of(store, "mallory") == set()
    assert await timers_of(store, "bob") == {"tea"}


async def test_everything_that_is_shared_is_listed_however_much_it_is(store: ShareStore) -> None:
    await created(store, *(share(f"shared-{number}", 1, "alice", owner="bob") for number in range(300)))
    assert len(await timers_of(store, "alice")) == 300


async def test_each_user_has_a_list_of_their_own(store: ShareStore) -> None:
    await created(store, FULL)
    assert await store.list_shared_with(["bob", "carol", "erin"]) == {"bob": ["tea"], "carol": ["tea"], "erin": []}


# --- compare and set ------------------------------------------------------------------------------------------------------


async def test_a_share_is_saved_only_over_the_version_it_was_made_from(store: ShareStore) -> None:
    await created(store, share("tea", 5))
    for wrong in (None, 0, 4, 6):
        assert await store.save([Save(share("tea", 7, "bob"), wrong)]) == [False]
    assert await store.load(["tea"]) == {"tea": share("tea", 5)}
    assert await store.save([Save(share("tea", 7, "bob"), 5)]) == [True]
    assert await store.load(["tea"]) == {"tea": share("tea", 7, "bob")}


async def test_of_many_saves_each_has_its_own_answer_in_order(store: ShareStore) -> None:
    await created(store, share("a", 1), share("b", 1))
    saves = [Save(share("a", 2), 1), Save(share("b", 2), 5), Save(share("c", 2), None), Save(share("a2", 2), 1)]
    assert await store.save(saves) == [True, False, True, False]


async def test_nothing_to_save_is_saved(store: ShareStore) -> None:
    assert await store.save([]) == []


async def test_of_many_who_claim_one_timer_exactly_one_gets_it(store: ShareStore) -> None:
    results = await asyncio.gather(
        *(store.save([Save(share("tea", 1 + number, owner=f"user-{number}"), None)]) for number in range(50))
    )
    assert sum(saved for (saved,) in results) == 1
    winner = results.index([True])
    assert (await store.load(["tea"]))["tea"].owner == f"user-{winner}"
    assert await timers_of(store, f"user-{(winner + 1) % 50}") == set()


async def test_of_many_who_change_one_version_exactly_one_wins(store: ShareStore) -> None:
    await created(store, share("tea", 1))
    results = await asyncio.gather(*(store.save([Save(share("tea", 2, f"user-{number}"), 1)]) for number in range(50)))
    assert sum(saved for (saved,) in results) == 1
    winner = results.index([True])
    assert (await store.load(["tea"]))["tea"].members == (f"user-{winner}",)
    for number in range(0, 50, 7):
        assert await count_of(store, f"user-{number}") == (number == winner)


async def test_many_who_load_and_save_until_they_win_lose_nothing(store: ShareStore) -> None:
    await created(store, share("tea", 1))

    async def add(user: str) -> None:
        while True:
            current = (await store.load(["tea"]))["tea"]
            changed = share("tea", current.version + 1, *current.members, user)
            if (await store.save([Save(changed, current.version)]))[0]:
                return

    async def add_some(worker: int) -> None:
        for number in range(10):
            await add(f"user-{worker}-{number}")

    await asyncio.gather(*(add_some(worker) for worker in range(5)))
    final = (await store.load(["tea"]))["tea"]
    assert set(final.members) == {f"user-{worker}-{number}" for worker in range(5) for number in range(10)}
    assert final.version == 51
    assert await count_of(store, "user-3-7") == 1


# --- the outbox -----------------------------------------------------------------------------------------------------------


async def test_removing_a_marker_forgets_whom_the_change_concerned_and_nothing_else(store: ShareStore) -> None:
    await created(store, FULL)
    await store.clear_pending([FULL])
    settled = msgspec.structs.replace(FULL, added=(), removed=(), pending_since_us=0)
    assert await store.load(["tea"]) == {"tea": settled}
    assert await pending_ids(store) == []
    assert await timers_of(store, "bob") == {"tea"}


async def test_a_marker_is_removed_only_for_the_version_that_was_delivered(store: ShareStore) -> None:
    delivered = share("tea", 5, "bob", pending_since_us=NOW)
    await created(store, delivered)
    newer = share("tea", 6, "bob", "carol", pending_since_us=NOW)
    await store.save([Save(newer, 5)])
    await store.clear_pending([delivered, share("unknown", 5)])
    assert await store.list_pending(10, (0, "")) == [newer]
    assert await store.load(["tea", "unknown"]) == {"tea": newer}


async def test_pending_shares_are_listed_page_by_page_oldest_first_and_each_once(store: ShareStore) -> None:
    markers = [(f"timer-{number % 7}-{number}", NOW + number // 10) for number in range(45)]
    await created(store, *(share(timer_id, 1, pending_since_us=since) for timer_id, since in markers), share("done"))
    listed: list[tuple[int, str]] = []
    after = (0, "")
    while page := await store.list_pending(8, after):
        assert len(page) <= 8
        listed += [(each.pending_since_us, each.timer_id) for each in page]
        after = listed[-1]
    assert listed == sorted((since, timer_id) for timer_id, since in markers)


async def test_nothing_to_remove_is_removed(
    store: ShareStore, settings: ServiceSettings, request: pytest.FixtureRequest
) -> None:
    await store.clear_pending([])
    await store.delete([])


# --- forgetting -----------------------------------------------------------------------------------------------------------


async def test_a_deleted_share_is_gone_for_everybody_and_can_be_claimed_anew(store: ShareStore) -> None:
    await created(store, FULL, share("eggs", 1, "bob"))
    await store.delete(["tea", "unknown"])
    await store.delete([])
    assert await store.load(["tea"]) == {}
    assert await timers_of(store, "bob") == {"eggs"}
    assert await count_of(store, "carol") == 0
    assert await pending_ids(store) == []
    await created(store, share("tea", 2, owner="mallory"))


# --- durability -----------------------------------------------------------------------------------------------------------


async def test_what_was_saved_is_there_after_the_store_was_opened_anew(settings: ServiceSettings) -> None:
    async with open_store(settings) as store:
        await created(store, FULL)
    async with open_store(settings) as store:
        assert await store.list_pending(10, (0, "")) == [FULL]
        assert await timers_of(store, "bob") == {"tea"}
