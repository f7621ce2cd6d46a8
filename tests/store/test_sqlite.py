"""`runtime/store/sqlite.py`: group commit, and what happens when the file can't be used."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from runtime.errors import Unavailable
from runtime.store.sqlite import SqliteDatabase, open_sqlite

SCHEMA = "CREATE TABLE IF NOT EXISTS numbers (number INTEGER PRIMARY KEY, note TEXT NOT NULL)"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "down" / "test.sqlite"


@pytest.fixture
async def database(path: Path) -> AsyncIterator[SqliteDatabase]:
    async with open_sqlite(path, SCHEMA) as opened:
        yield opened


async def add(database: SqliteDatabase, number: int) -> int:
    def work(connection: sqlite3.Connection) -> int:
        connection.execute("INSERT INTO numbers VALUES (?, '')", (number,))
        return number

    return await database.write(work)


async def numbers(database: SqliteDatabase) -> list[int]:
    return await database.read(
        lambda connection: [number for (number,) in connection.execute("SELECT number FROM numbers ORDER BY number")]
    )


async def test_the_directory_and_the_file_are_made(database: SqliteDatabase, path: Path) -> None:
    assert await numbers(database) == []
    assert path.exists()


async def test_what_is_made_is_for_its_user_alone(database: SqliteDatabase, path: Path) -> None:
    await add(database, 1)
    modes = {each.name: each.stat().st_mode & 0o777 for each in path.parent.iterdir()}
    assert modes == {"test.sqlite": 0o600, "test.sqlite-wal": 0o600, "test.sqlite-shm": 0o600}


async def test_a_file_that_somebody_has_opened_to_others_stays_so(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.touch()
    path.chmod(0o640)
    async with open_sqlite(path, SCHEMA):
        assert path.stat().st_mode & 0o777 == 0o640


async def test_a_commit_waits_for_the_disk(database: SqliteDatabase) -> None:
    def pragma(connection: sqlite3.Connection) -> tuple[object, object]:
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
        (synchronous,) = connection.execute("PRAGMA synchronous").fetchone()
        return mode, synchronous

    full = 2
    assert await database.read(pragma) == ("wal", full)
    connection = database._write_connection
    assert connection.execute("PRAGMA synchronous").fetchone() == (full,)


async def test_everything_that_is_written_at_once_is_there_and_in_order(database: SqliteDatabase) -> None:
    assert await asyncio.gather(*(add(database, number) for number in range(200))) == list(range(200))
    assert await numbers(database) == list(range(200))


async def test_a_read_sees_every_write_that_was_answered(database: SqliteDatabase) -> None:
    for number in range(20):
        await add(database, number)
        assert await numbers(database) == list(range(number + 1))


async def test_one_that_fails_takes_nobody_with_it(database: SqliteDatabase) -> None:
    def broken(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO numbers VALUES (999, '')")
        raise LookupError("broken")

    results = await asyncio.gather(
        add(database, 1),
        add(database, 2),
        database.write(broken),
        add(database, 2),
        add(database, 3),
        return_exceptions=True,
    )
    assert list(results[:2]) == [1, 2]
    assert isinstance(results[2], LookupError)
    assert isinstance(results[3], sqlite3.IntegrityError)
    assert results[4] == 3
    assert await numbers(database) == [1, 2, 3]


async def test_what_fails_in_the_database_is_unavailable(database: SqliteDatabase) -> None:
    def wrong(connection: sqlite3.Connection) -> None:
        connection.execute("SELECT * FROM nowhere")

    with pytest.raises(Unavailable):
        await database.write(wrong)
    with pytest.raises(Unavailable):
        await database.read(wrong)
    assert await add(database, 1) == 1


async def test_a_file_that_somebody_else_holds_is_unavailable_and_works_again_later(
    database: SqliteDatabase, path: Path
) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(Unavailable):
            await add(database, 1)
    finally:
        other.execute("ROLLBACK")
        other.close()
    assert await add(database, 1) == 1


async def test_what_pythons_own_module_refuses_takes_nobody_with_it(database: SqliteDatabase) -> None:
    def wrong(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO numbers VALUES (?, '')", ())

    results = await asyncio.gather(add(database, 1), database.write(wrong), add(database, 2), return_exceptions=True)
    assert [results[0], type(results[1]), results[2]] == [1, sqlite3.ProgrammingError, 2]


async def test_all_that_waits_for_a_file_that_somebody_else_holds_waits_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.store.sqlite._BUSY_MS", 10)
    async with open_sqlite(path, SCHEMA) as database:
        statements: list[str] = []
        database._write_connection.set_trace_callback(statements.append)
        with closing(sqlite3.connect(path, isolation_level=None)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            results = await asyncio.gather(*(add(database, number) for number in range(20)), return_exceptions=True)
        assert [type(result) for result in results] == [Unavailable] * 20
        assert statements == ["BEGIN IMMEDIATE"]
        assert await add(database, 1) == 1


async def test_closing_finishes_what_is_under_way(path: Path) -> None:
    async with open_sqlite(path, SCHEMA) as database:
        writes = [asyncio.create_task(add(database, number)) for number in range(100)]
        await asyncio.sleep(0)
    assert await asyncio.gather(*writes) == list(range(100))
    async with open_sqlite(path, SCHEMA) as database:
        assert await numbers(database) == list(range(100))


async def test_a_file_of_a_newer_version_is_left_alone(path: Path) -> None:
    async with open_sqlite(path, SCHEMA):
        pass
    newer = sqlite3.connect(path)
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(Unavailable, match="newer version"):
        async with open_sqlite(path, SCHEMA):
            pass


async def test_what_is_no_database_is_not_opened_and_not_touched(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(b"these are somebody's notes, and not a database at all" * 100)
    before = path.read_bytes()
    with pytest.raises(OSError, match="can't open"):
        async with open_sqlite(path, SCHEMA):
            pass
    assert path.read_bytes() == before
