"""Timers in SQLite: one row each, the state as JSON, with columns for what is searched."""

import sqlite3
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from runtime.store.measured import MeasuredStore
from runtime.store.sqlite import SqliteDatabase, json_array, open_sqlite
from timer_service.domain import State, Timer
from timer_service.store.contract import WRITES, Marker, Save

# States have up to 6 KB, and a table WITHOUT ROWID keeps rows that large badly; the outbox markers are a table of their own,
# since removing one would otherwise write the whole state once more. Together that made a write four times cheaper.
SCHEMA = """
CREATE TABLE IF NOT EXISTS timers (
    timer_id TEXT NOT NULL PRIMARY KEY,
    version INTEGER NOT NULL,
    live_owner TEXT,                  -- the owner, while the timer is not stopped
    stopped_at_us INTEGER,            -- while it is stopped
    state BLOB NOT NULL               -- JSON of timer_service.domain.Timer, the marker excluded
);
CREATE INDEX IF NOT EXISTS timers_live ON timers (live_owner) WHERE live_owner IS NOT NULL;
CREATE INDEX IF NOT EXISTS timers_stopped ON timers (stopped_at_us) WHERE stopped_at_us IS NOT NULL;
CREATE INDEX IF NOT EXISTS timers_stopped_of_owner ON timers (json_extract(CAST(state AS TEXT), '$.owner'), stopped_at_us)
    WHERE stopped_at_us IS NOT NULL;
CREATE TABLE IF NOT EXISTS pending (  -- the outbox: timers whose state of this version is still to be delivered
    timer_id TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    since_us INTEGER NOT NULL
) WITHOUT ROWID;
"""

_UPGRADE = f"""
DROP INDEX timers_live; DROP INDEX timers_pending; DROP INDEX timers_stopped;
ALTER TABLE timers RENAME TO timers_before;
{SCHEMA}
INSERT INTO timers SELECT timer_id, version, live_owner, stopped_at_us, state FROM timers_before;
INSERT INTO pending SELECT timer_id, version, pending_since_us FROM timers_before WHERE pending_since_us IS NOT NULL;
DROP TABLE timers_before;
"""  # noqa: S608  # nothing in it comes from outside

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Timer).decode


class SqliteTimerStore(MeasuredStore, writes=WRITES):
    """See `contract.TimerStore`."""

    system = "sqlite"

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def ping(self) -> None:
        await self._database.read(lambda connection: connection.execute("SELECT 1 FROM timers LIMIT 1").fetchone())

    async def probe(self) -> None:
        await self._database.probe()

    async def load(self, timer_ids: Collection[str]) -> dict[str, Timer]:
        timers = await self._select(
            "SELECT state FROM json_each(?) AS wanted JOIN timers ON timer_id = wanted.value", json_array(timer_ids)
        )
        return {timer.timer_id: timer for timer in timers}

    async def save(self, saves: Sequence[Save]) -> list[bool]:
        rows = [(_row(save.timer), save.timer.pending_since_us, save.expected_version) for save in saves]

        def work(connection: sqlite3.Connection) -> list[bool]:
            return [_save(connection, *row) for row in rows]

        return await self._database.write(work)

    async def count_live(self, owners: Collection[str]) -> dict[str, int]:
        return await self._database.count_each("timers", "live_owner", owners)

    async def clear_pending(self, markers: Sequence[Marker]) -> None:
        def work(connection: sqlite3.Connection) -> None:
            connection.executemany("DELETE FROM pending WHERE timer_id = ? AND version = ?", markers)

        await self._database.write(work)

    async def list_pending(self, limit: int, after: tuple[int, str]) -> list[Timer]:
        # Sorted anew each time: there are few, and an index would have to be kept with every write. CROSS JOIN has SQLite take
        # the markers first: left to choose, it takes every timer there is and looks for its marker, once a second.
        def work(connection: sqlite3.Connection) -> list[tuple[bytes, int]]:
            return connection.execute(
                "SELECT state, since_us FROM (SELECT timer_id, since_us FROM pending WHERE (since_us, timer_id) > (?, ?) "
                "ORDER BY since_us, timer_id LIMIT ?) CROSS JOIN timers USING (timer_id) ORDER BY since_us, timer_id",
                (*after, limit),
            ).fetchall()

        return [
            msgspec.structs.replace(_decode(state), pending_since_us=since)
            for state, since in await self._database.read(work)
        ]

    async def list_live(self, owners: Collection[str]) -> list[Timer]:
        return await self._select(
            "SELECT state FROM json_each(?) AS wanted JOIN timers ON live_owner = wanted.value", json_array(owners)
        )

    async def list_stopped(self, owner: str, since_us: int, limit: int) -> list[Timer]:
        return await self._select(
            "SELECT state FROM timers WHERE json_extract(CAST(state AS TEXT), '$.owner') = ? AND stopped_at_us >= ? "
            "ORDER BY stopped_at_us DESC LIMIT ?",
            owner,
            since_us,
            limit,
        )

    async def list_tombstones(self, stopped_before_us: int, limit: int) -> list[Timer]:
        return await self._select(
            "SELECT state FROM timers WHERE stopped_at_us < ? ORDER BY stopped_at_us LIMIT ?", stopped_before_us, limit
        )

    async def purge(self, markers: Sequence[Marker]) -> None:
        def work(connection: sqlite3.Connection) -> None:
            connection.executemany("DELETE FROM timers WHERE timer_id = ? AND version = ?", markers)
            connection.executemany("DELETE FROM pending WHERE timer_id = ? AND version = ?", markers)

        await self._database.write(work)

    async def _select(self, query: str, *arguments: str | int) -> list[Timer]:
        return [_decode(state) for state in await self._database.column(query, *arguments)]


@asynccontextmanager
async def open_store(directory: Path) -> AsyncIterator[SqliteTimerStore]:
    """The store in `timers.sqlite` of a directory, for the length of the context."""
    async with open_sqlite(directory / "timers.sqlite", SCHEMA, _UPGRADE) as database:
        yield SqliteTimerStore(database)


class _Row(NamedTuple):
    version: int
    live_owner: str | None
    stopped_at_us: int | None
    state: bytes
    timer_id: str


def _row(timer: Timer) -> _Row:
    stopped = timer.state is State.STOPPED
    return _Row(
        timer.version,
        None if stopped else timer.owner,
        timer.stopped_at_us if stopped else None,
        _encode(msgspec.structs.replace(timer, pending_since_us=0)),
        timer.timer_id,
    )


def _save(connection: sqlite3.Connection, row: _Row, since_us: int, expected_version: int | None) -> bool:
    if expected_version is None:
        saved = connection.execute(
            "INSERT INTO timers (version, live_owner, stopped_at_us, state, timer_id) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT DO NOTHING",
            row,
        )
    else:
        saved = connection.execute(
            "UPDATE timers SET version = ?, live_owner = ?, stopped_at_us = ?, state = ? "
            "WHERE timer_id = ? AND version = ?",
            (*row, expected_version),
        )
    if saved.rowcount != 1:
        return False
    if since_us:
        connection.execute("REPLACE INTO pending VALUES (?, ?, ?)", (row.timer_id, row.version, since_us))
    else:
        connection.execute("DELETE FROM pending WHERE timer_id = ?", (row.timer_id,))
    return True
