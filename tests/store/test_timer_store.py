"""The contract of `timer_service/store/contract.py`."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from runtime.operations import Operation
from runtime.settings import ServiceSettings
from timer_service.domain import LocalEnd, Origin, State, Timer
from timer_service.store import open_store
from timer_service.store.contract import Marker, Save, TimerStore
from timer_service.store.sqlite import open_store as open_sqlite_store

NOW = 1_764_000_000_000_000

ODD_IDS = ["$where", "a.b.c", "'; DROP TABLE timers; --", "{}", "ключ", "🍵", "x" * 128, " ", "%", "Tea", "tea"]


@pytest.fixture
async def store(settings: ServiceSettings) -> AsyncIterator[TimerStore]:
    async with open_store(settings) as opened:
        yield opened


def timer(
    timer_id: str = "tea",
    version: int = NOW,
    *,
    owner: str = "alice",
    pending_since_us: int = 0,
    stopped_at_us: int = 0,
    name: str = "",
) -> Timer:
    return Timer(
        timer_id=timer_id,
        owner=owner,
        name=name,
        version=version,
        state=State.STOPPED if stopped_at_us else State.IDLE,
        stopped_at_us=stopped_at_us,
        pending_since_us=pending_since_us,
    )


FULL = Timer(
    timer_id="tea",
    owner="alice",
    name="Grüner Tee 👩‍👩‍👧",
    total_duration="PT-5M-3S",
    end_time="2026-11-24T08:20:30.123456789+02:00",
    remaining_duration="PT4M",
    local_end=LocalEnd("2026-11-24T08:20:30.123456789", 120),
    tags=("hot", "kitchen"),
    state=State.RUNNING,
    version=2**53 - 1,
    origin=Origin("bob", "pixel", "c1"),
    operations=(Operation("op-1", 5, 4), Operation("op-2", 6, 5)),
    traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    pending_since_us=NOW,
)


async def created(store: TimerStore, *timers: Timer) -> None:
    assert await store.save([Save(each, None) for each in timers]) == [True] * len(timers)


async def pending_ids(store: TimerStore) -> list[str]:
    return [each.timer_id for each in await store.list_pending(1_000, (0, ""))]


async def test_an_empty_store_has_nothing(store: TimerStore) -> None:
    await store.ping()
    assert await store.load(["tea"]) == {}
    assert await store.load([]) == {}
    assert await store.count_live(["alice"]) == {"alice": 0}
    assert await store.list_pending(10, (0, "")) == []
    assert await store.list_tombstones(2 * NOW, 10) == []


async def test_a_timer_comes_back_exactly_as_it_was_saved(store: TimerStore) -> None:
    stopped = msgspec.structs.replace(FULL, timer_id="eggs", state=State.STOPPED, stopped_by="bob", stopped_at_us=NOW)
    await created(store, FULL, stopped, timer("bare"))
    loaded = await store.load(["tea", "eggs", "bare", "unknown"])
    assert set(loaded) == {"tea", "eggs", "bare"}
    assert msgspec.structs.replace(loaded["tea"], pending_since_us=NOW) == FULL
    assert msgspec.structs.replace(loaded["eggs"], pending_since_us=NOW) == stopped
    assert loaded["bare"] == timer("bare")
    assert await store.list_pending(10, (0, "")) == [stopped, FULL]


async def test_saving_replaces_the_whole_timer(store: TimerStore) -> None:
    await created(store, FULL)
    bare = timer(version=FULL.version + 1)
    assert await store.save([Save(bare, FULL.version)]) == [True]
    assert await store.load(["tea"]) == {"tea": bare}
    assert await pending_ids(store) == []


@pytest.mark.parametrize("odd_id", ODD_IDS)
async def test_any_id_is_only_a_name(store: TimerStore, odd_id: str) -> None:
    await created(store, timer("other"), timer(odd_id, name="odd", pending_since_us=NOW, owner=odd_id))
    assert (await store.load([odd_id]))[odd_id].name == "odd"
    assert await store.count_live([odd_id]) == {odd_id: 1}
    await store.clear_pending([Marker(odd_id, NOW)])
    assert await pending_ids(store) == []
    await store.purge([Marker(odd_id, NOW)])
    assert set(await store.load(["other", odd_id])) == {"other"}


# --- compare and set ------------------------------------------------------------------------------------------------------


async def test_a_timer_that_exists_is_not_created_again(store: TimerStore) -> None:
    await created(store, timer(name="first"))
    assert await store.save([Save(timer(version=NOW + 1, name="second"), None)]) == [False]
    assert (await store.load(["tea"]))["tea"].name == "first"


async def test_a_timer_is_saved_only_over_the_version_it_was_made_from(store: TimerStore) -> None:
    await created(store, timer(version=5))
    for wrong in (0, 4, 6):
        assert await store.save([Save(timer(version=7, name="wrong"), wrong)]) == [False]
    assert (await store.load(["tea"]))["tea"].version == 5
    assert await store.save([Save(timer(version=7, name="right"), 5)]) == [True]
    assert (await store.load(["tea"]))["tea"].name == "right"


async def test_a_timer_that_does_not_exist_is_not_replaced(store: TimerStore) -> None:
    assert await store.save([Save(timer(), 5)]) == [False]
    assert await store.load(["tea"]) == {}


async def test_of_many_saves_each_has_its_own_answer_in_order(store: TimerStore) -> None:
    await created(store, *(timer(f"old-{number}", 1) for number in range(6)))
    saves = [
        Save(timer("old-0", 2), 1),
        Save(timer("new-0", 2), None),
        Save(timer("old-1", 2), None),
        Save(timer("old-2", 2), 9),
        Save(timer("old-3", 2), 1),
        Save(timer("missing", 2), 1),
        Save(timer("new-1", 2), None),
    ]
    assert await store.save(saves) == [True, True, False, False, True, False, True]
    loaded = await store.load([save.timer.timer_id for save in saves])
    assert {timer_id: each.version for timer_id, each in loaded.items()} == {
        "old-0": 2,
        "new-0": 2,
        "old-1": 1,
        "old-2": 1,
        "old-3": 2,
        "new-1": 2,
    }


async def test_a_whole_batch_is_saved_at_once(store: TimerStore) -> None:
    await created(store, *(timer(f"timer-{number}", 1) for number in range(256)))
    saves = [Save(timer(f"timer-{number}", 2), 1) for number in range(256)]
    assert await store.save(saves) == [True] * 256
    assert len(await store.load([save.timer.timer_id for save in saves])) == 256


async def test_nothing_to_save_is_saved(store: TimerStore) -> None:
    assert await store.save([]) == []


async def test_of_many_who_create_one_timer_exactly_one_wins(store: TimerStore) -> None:
    results = await asyncio.gather(*(store.save([Save(timer(name=f"{number}"), None)]) for number in range(50)))
    assert sum(saved for (saved,) in results) == 1
    winner = results.index([True])
    assert (await store.load(["tea"]))["tea"].name == f"{winner}"


async def test_of_many_who_change_one_version_exactly_one_wins(store: TimerStore) -> None:
    await created(store, timer(version=1))
    results = await asyncio.gather(
        *(store.save([Save(timer(version=2 + number, name=f"{number}"), 1)]) for number in range(50))
    )
    assert sum(saved for (saved,) in results) == 1
    winner = results.index([True])
    assert (await store.load(["tea"]))["tea"].name == f"{winner}"


async def test_many_who_load_and_save_until_they_win_lose_nothing(store: TimerStore) -> None:
    await created(store, timer(version=1, name="0"))

    async def add_one() -> None:
        while True:
            current = (await store.load(["tea"]))["tea"]
            changed = timer(version=current.version + 1, name=str(int(current.name) + 1))
            if (await store.save([Save(changed, current.version)]))[0]:
                return

    async def add(count: int) -> None:
        for _ in range(count):
            await add_one()

    await asyncio.gather(*(add(20) for _ in range(5)))
    assert (await store.load(["tea"]))["tea"] == timer(version=101, name="100")


async def test_batches_that_overlap_never_save_a_timer_twice_from_one_version(store: TimerStore) -> None:
    ids = [f"timer-{number}" for number in range(10)]
    await created(store, *(timer(timer_id, 1) for timer_id in ids))
    results = await asyncio.gather(
        *(
            store.save([Save(timer(timer_id, 2 + batch, name=f"{batch}"), 1) for timer_id in ids[batch % 3 :]])
            for batch in range(9)
        )
    )
    winners: dict[str, list[str]] = {timer_id: [] for timer_id in ids}
    for batch, saved in enumerate(results):
        for timer_id, won in zip(ids[batch % 3 :], saved, strict=True):
            if won:
                winners[timer_id].append(f"{batch}")
    loaded = await store.load(ids)
    assert {timer_id: [each.name] for timer_id, each in loaded.items()} == winners


async def test_what_was_saved_is_seen_by_the_next_read(store: TimerStore) -> None:
    await created(store, timer(version=1))
    for version in range(2, 30):
        assert await store.save([Save(timer(version=version), version - 1)]) == [True]
        assert (await store.load(["tea"]))["tea"].version == version


# --- limits ---------------------------------------------------------------------------------------------------------------


async def test_only_timers_that_are_not_stopped_count_for_their_owner(store: TimerStore) -> None:
    await created(store, timer("a"), timer("b"), timer("c", stopped_at_us=NOW), timer("d", owner="bob"))
    assert await store.count_live(["alice", "bob", "mallory"]) == {"alice": 2, "bob": 1, "mallory": 0}
    await store.save([Save(timer("a", NOW + 1, stopped_at_us=NOW), NOW)])
    assert await store.count_live(["alice"]) == {"alice": 1}
    await store.save([Save(timer("a", NOW + 2), NOW + 1)])
    assert await store.count_live(["alice"]) == {"alice": 2}


async def test_the_living_timers_of_owners_are_listed_whole(store: TimerStore) -> None:
    await created(
        store, FULL, timer("a"), timer("b", stopped_at_us=NOW), timer("c", owner="bob"), timer("d", owner="carol")
    )
    listed = {each.timer_id: each for each in await store.list_live(["alice", "carol", "nobody"])}
    assert set(listed) == {"tea", "a", "d"}
    assert listed["a"] == timer("a")
    assert msgspec.structs.replace(listed["tea"], pending_since_us=NOW) == FULL
    assert await store.list_live([]) == []
    await store.save([Save(timer("a", NOW + 1, stopped_at_us=NOW), NOW)])
    assert {each.timer_id for each in await store.list_live(["alice"])} == {"tea"}


# --- the outbox -----------------------------------------------------------------------------------------------------------


async def test_a_saved_timer_is_pending_until_its_marker_is_removed(store: TimerStore) -> None:
    await created(store, timer("tea", 5, pending_since_us=NOW), timer("eggs", 5, pending_since_us=NOW))
    await store.clear_pending([Marker("tea", 5)])
    assert await pending_ids(store) == ["eggs"]
    assert (await store.load(["tea"]))["tea"] == timer("tea", 5)


async def test_a_marker_is_removed_only_for_the_version_that_was_delivered(store: TimerStore) -> None:
    await created(store, timer(version=5, pending_since_us=NOW))
    await store.save([Save(timer(version=6, pending_since_us=NOW + 1), 5)])
    await store.clear_pending([Marker("tea", 5), Marker("unknown", 5)])
    (pending,) = await store.list_pending(10, (0, ""))
    assert (pending.version, pending.pending_since_us) == (6, NOW + 1)
    await store.clear_pending([Marker("tea", 6)])
    await store.clear_pending([Marker("tea", 6)])
    assert await pending_ids(store) == []


async def test_removing_a_marker_does_not_stand_in_the_way_of_the_next_save(store: TimerStore) -> None:
    await created(store, timer(version=5, pending_since_us=NOW))
    await store.clear_pending([Marker("tea", 5)])
    assert await store.save([Save(timer(version=6, pending_since_us=NOW), 5)]) == [True]
    assert await pending_ids(store) == ["tea"]


async def test_pending_timers_are_listed_page_by_page_oldest_first_and_each_once(store: TimerStore) -> None:
    markers = [(f"timer-{number % 7}-{number}", NOW + number // 10) for number in range(45)]
    await created(store, *(timer(timer_id, pending_since_us=since) for timer_id, since in markers), timer("done"))
    expected = sorted((since, timer_id) for timer_id, since in markers)
    listed: list[tuple[int, str]] = []
    after = (0, "")
    while page := await store.list_pending(8, after):
        assert len(page) <= 8
        listed += [(each.pending_since_us, each.timer_id) for each in page]
        after = listed[-1]
    assert listed == expected


async def test_a_pending_timer_is_listed_whole(store: TimerStore) -> None:
    await created(store, FULL)
    assert await store.list_pending(10, (0, "")) == [FULL]


# --- tombstones -----------------------------------------------------------------------------------------------------------


async def test_old_tombstones_are_listed_oldest_first(store: TimerStore) -> None:
    await created(
        store,
        timer("b", 3, stopped_at_us=NOW - 20),
        timer("a", 4, stopped_at_us=NOW - 30),
        timer("c", 5, stopped_at_us=NOW - 10),
        timer("young", 6, stopped_at_us=NOW),
        timer("living", 7),
    )
    expected = [
        timer("a", 4, stopped_at_us=NOW - 30),
        timer("b", 3, stopped_at_us=NOW - 20),
        timer("c", 5, stopped_at_us=NOW - 10),
    ]
    assert await store.list_tombstones(NOW, 10) == expected
    assert await store.list_tombstones(NOW, 2) == expected[:2]


async def test_what_was_stopped_since_a_moment_is_listed_by_owner_newest_first(store: TimerStore) -> None:
    await created(
        store,
        timer("old", 1, stopped_at_us=NOW - 30),
        timer("b", 2, stopped_at_us=NOW - 10),
        timer("a", 3, stopped_at_us=NOW - 20),
        timer("his", 4, owner="bob", stopped_at_us=NOW),
        timer("living", 5),
    )
    assert [each.timer_id for each in await store.list_stopped("alice", NOW - 20, 10)] == ["b", "a"]
    assert [each.timer_id for each in await store.list_stopped("alice", 0, 2)] == ["b", "a"]
    assert await store.list_stopped("bob", NOW, 10) == [timer("his", 4, owner="bob", stopped_at_us=NOW)]
    assert await store.list_stopped("nobody", 0, 10) == []
    await store.save([Save(timer("b", 6), 2)])
    assert [each.timer_id for each in await store.list_stopped("alice", 0, 10)] == ["a", "old"]
    await store.purge([Marker("a", 3)])
    assert [each.timer_id for each in await store.list_stopped("alice", 0, 10)] == ["old"]


async def test_a_timer_that_was_brought_back_has_no_tombstone_and_is_not_purged(store: TimerStore) -> None:
    await created(store, timer("a", 4, stopped_at_us=NOW - 30), timer("b", 4, stopped_at_us=NOW - 30))
    listed = await store.list_tombstones(NOW, 10)
    await store.save([Save(timer("a", 5), 4)])
    assert await store.list_tombstones(NOW, 10) == [timer("b", 4, stopped_at_us=NOW - 30)]
    await store.purge([Marker(each.timer_id, each.version) for each in listed])
    assert set(await store.load(["a", "b"])) == {"a"}


async def test_a_purged_timer_can_be_created_anew(store: TimerStore) -> None:
    await created(store, timer(version=4, stopped_at_us=NOW, pending_since_us=NOW))
    await store.purge([Marker("tea", 4)])
    assert await pending_ids(store) == []
    assert await store.list_tombstones(2 * NOW, 10) == []
    await created(store, timer(version=5))


async def test_nothing_to_remove_is_removed(
    store: TimerStore, settings: ServiceSettings, request: pytest.FixtureRequest
) -> None:
    await store.clear_pending([])
    await store.purge([])


# --- durability -----------------------------------------------------------------------------------------------------------


async def test_what_was_saved_is_there_after_the_store_was_opened_anew(settings: ServiceSettings) -> None:
    async with open_store(settings) as store:
        await created(store, FULL, timer("eggs", 5, stopped_at_us=NOW))
    async with open_store(settings) as store:
        assert await store.list_pending(10, (0, "")) == [FULL]
        assert await store.list_tombstones(2 * NOW, 10) == [timer("eggs", 5, stopped_at_us=NOW)]
        assert await store.count_live(["alice"]) == {"alice": 1}


async def test_two_replicas_on_one_database_see_each_others_changes(settings: ServiceSettings) -> None:
    async with open_store(settings) as one, open_store(settings) as other:
        await created(one, timer(version=1))
        assert await other.save([Save(timer(version=2), 1)]) == [True]
        assert await one.save([Save(timer(version=3), 1)]) == [False]
        assert (await one.load(["tea"]))["tea"].version == 2


async def test_a_file_of_the_version_before_is_brought_up_to_date(tmp_path: Path) -> None:
    pending, done = timer("tea", pending_since_us=NOW - 7), timer("eggs")
    stopped = timer("rice", stopped_at_us=NOW)
    with closing(sqlite3.connect(tmp_path / "timers.sqlite")) as before, before:
        before.executescript("""
            CREATE TABLE timers (timer_id TEXT PRIMARY KEY, version INTEGER NOT NULL, live_owner TEXT,
                pending_since_us INTEGER, stopped_at_us INTEGER, state BLOB NOT NULL) WITHOUT ROWID;
            CREATE INDEX timers_live ON timers (live_owner) WHERE live_owner IS NOT NULL;
            CREATE INDEX timers_pending ON timers (pending_since_us, timer_id) WHERE pending_since_us IS NOT NULL;
            CREATE INDEX timers_stopped ON timers (stopped_at_us) WHERE stopped_at_us IS NOT NULL;
            PRAGMA user_version = 1;
        """)
        for each in (pending, done, stopped):
            state = msgspec.json.encode(msgspec.structs.replace(each, pending_since_us=0))
            live = None if each is stopped else "alice"
            since = each.pending_since_us or None
            row = (each.timer_id, each.version, live, since, each.stopped_at_us or None, state)
            before.execute("INSERT INTO timers VALUES (?, ?, ?, ?, ?, ?)", row)
    for _ in range(2):  # the second time it is up to date
        async with open_sqlite_store(tmp_path) as store:
            assert await store.list_pending(10, (0, "")) == [pending]
            assert await store.load(["eggs", "rice"]) == {"eggs": done, "rice": stopped}
            assert {each.timer_id for each in await store.list_live(["alice"])} == {"tea", "eggs"}
            assert await store.list_tombstones(NOW + 1, 10) == [stopped]
