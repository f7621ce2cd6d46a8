"""Timers in SQLite: one row each, the state as JSON, with columns for what is searched."""

import sqlite3
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from runtime.store.measured import MeasuredStore
from runtime.store.sqlite import SqliteDatabase, open_sqlite
from timer_service.domain import State, Timer
from timer_service.store.contract import WRITES, Marker, Save

SCHEMA = """
CREATE TABLE IF NOT EXISTS timers (
    timer_id TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    live_owner TEXT,                  -- the owner, while the timer is not stopped
    pending_since_us INTEGER,         -- the outbox marker
    stopped_at_us INTEGER,            -- while it is stopped
    state BLOB NOT NULL               -- JSON of timer_service.domain.Timer, the marker excluded
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS timers_live ON timers (live_owner) WHERE live_owner IS NOT NULL;
CREATE INDEX IF NOT EXISTS timers_pending ON timers (pending_since_us, timer_id) WHERE pending_since_us IS NOT NULL;
CREATE INDEX IF NOT EXISTS timers_stopped ON timers (stopped_at_us) WHERE stopped_at_us IS NOT NULL;
"""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Timer).decode


class SqliteTimerStore(MeasuredStore, writes=WRITES):
    """See `contract.TimerStore`."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def ping(self) -> None:
        await self._database.read(lambda connection: connection.execute("SELECT 1 FROM timers LIMIT 1").fetchone())

    async def probe(self) -> None:
        await self._database.probe()

    async def load(self, timer_ids: Collection[str]) -> dict[str, Timer]:
        timers = await self._select(
            "SELECT state FROM json_each(?) AS wanted JOIN timers ON timer_id = wanted.value", _json(timer_ids)
        )
        return {timer.timer_id: timer for timer in timers}

    async def save(self, saves: Sequence[Save]) -> list[bool]:
        rows = [(_row(save.timer), save.expected_version) for save in saves]

        def work(connection: sqlite3.Connection) -> list[bool]:
            return [_save(connection, row, expected) for row, expected in rows]

        return await self._database.write(work)

    async def count_live(self, owner: str) -> int:
        def work(connection: sqlite3.Connection) -> int:
            (count,) = connection.execute("SELECT count(*) FROM timers WHERE live_owner = ?", (owner,)).fetchone()
            return int(count)

        return await self._database.read(work)

    async def clear_pending(self, markers: Sequence[Marker]) -> None:
        def work(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "UPDATE timers SET pending_since_us = NULL WHERE timer_id = ? AND version = ?", markers
            )

        await self._database.write(work)

    async def list_pending(self, limit: int, after: tuple[int, str]) -> list[Timer]:
        def work(connection: sqlite3.Connection) -> list[tuple[bytes, int]]:
            return connection.execute(
                "SELECT state, pending_since_us FROM timers WHERE pending_since_us IS NOT NULL "
                "AND (pending_since_us, timer_id) > (?, ?) ORDER BY pending_since_us, timer_id LIMIT ?",
                (*after, limit),
            ).fetchall()

        return [
            msgspec.structs.replace(_decode(state), pending_since_us=since)
            for state, since in await self._database.read(work)
        ]

    async def list_live(self, owners: Collection[str]) -> list[Timer]:
        return await self._select(
            "SELECT state FROM json_each(?) AS wanted JOIN timers ON live_owner = wanted.value", _json(owners)
        )

    async def list_tombstones(self, stopped_before_us: int, limit: int) -> list[Timer]:
        return await self._select(
            "SELECT state FROM timers WHERE stopped_at_us < ? ORDER BY stopped_at_us LIMIT ?", stopped_before_us, limit
        )

    async def purge(self, markers: Sequence[Marker]) -> None:
        def work(connection: sqlite3.Connection) -> None:
            connection.executemany("DELETE FROM timers WHERE timer_id = ? AND version = ?", markers)

        await self._database.write(work)

    async def _select(self, query: str, *arguments: str | int) -> list[Timer]:
        def work(connection: sqlite3.Connection) -> list[bytes]:
            return [state for (state,) in connection.execute(query, arguments)]

        return [_decode(state) for state in await self._database.read(work)]


@asynccontextmanager
async def open_store(directory: Path) -> AsyncIterator[SqliteTimerStore]:
    """The store in `timers.sqlite` of a directory, for the length of the context."""
    async with open_sqlite(directory / "timers.sqlite", SCHEMA) as database:
        yield SqliteTimerStore(database)


Row = tuple[str, int, str | None, int | None, int | None, bytes]


def _json(ids: Collection[str]) -> str:
    return msgspec.json.encode(list(ids)).decode()


def _row(timer: Timer) -> Row:
    stopped = timer.state is State.STOPPED
    return (
        timer.timer_id,
        timer.version,
        None if stopped else timer.owner,
        timer.pending_since_us or None,
        timer.stopped_at_us if stopped else None,
        _encode(msgspec.structs.replace(timer, pending_since_us=0)),
    )


def _save(connection: sqlite3.Connection, row: Row, expected_version: int | None) -> bool:
    if expected_version is None:
        cursor = connection.execute("INSERT INTO timers VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", row)
    else:
        cursor = connection.execute(
            "UPDATE timers SET version = ?, live_owner = ?, pending_since_us = ?, stopped_at_us = ?, state = ? "
            "WHERE timer_id = ? AND version = ?",
            (*row[1:], row[0], expected_version),
        )
    return cursor.rowcount == 1
