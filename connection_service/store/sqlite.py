"""Connections and leases in SQLite."""

import json
import sqlite3
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from connection_service.domain import Connection
from connection_service.store.contract import WRITES
from runtime.store.measured import MeasuredStore
from runtime.store.sqlite import SqliteDatabase, open_sqlite

SCHEMA = """
CREATE TABLE IF NOT EXISTS connections (
    connection_id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL,
    device_id TEXT NOT NULL,
    edge_id TEXT NOT NULL,
    registered_at_us INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS connections_user ON connections (user_id, edge_id);
CREATE INDEX IF NOT EXISTS connections_edge ON connections (edge_id);
CREATE TABLE IF NOT EXISTS edges (
    edge_id TEXT PRIMARY KEY,
    counter INTEGER NOT NULL
) WITHOUT ROWID;
"""


class SqliteConnectionStore(MeasuredStore, writes=WRITES):
    """See `contract.ConnectionStore`."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def ping(self) -> None:
        await self._rows("SELECT 1 FROM edges LIMIT 1")

    async def probe(self) -> None:
        await self._database.probe()

    async def register(self, connections: Sequence[Connection], *, max_per_user: int) -> list[bool]:
        return await self._database.write(
            lambda connection: [_register(connection, row, max_per_user) for row in connections]
        )

    async def unregister(self, connection_ids: Collection[str]) -> None:
        await self._change("DELETE FROM connections WHERE connection_id = ?", [(each,) for each in connection_ids])

    async def list_of_users(self, user_ids: Collection[str]) -> list[Connection]:
        rows = await self._rows(
            "SELECT connection_id, user_id, device_id, edge_id, registered_at_us FROM connections "
            "WHERE user_id IN (SELECT value FROM json_each(?))",
            json.dumps(list(user_ids)),
        )
        return [
            Connection(connection_id=row[0], user_id=row[1], device_id=row[2], edge_id=row[3], registered_at_us=row[4])
            for row in rows
        ]

    async def users_at(self, user_ids: Collection[str], edge_ids: Collection[str]) -> set[str]:
        rows = await self._rows(
            "SELECT DISTINCT user_id FROM connections WHERE user_id IN (SELECT value FROM json_each(?)) "
            "AND edge_id IN (SELECT value FROM json_each(?))",
            json.dumps(list(user_ids)),
            json.dumps(list(edge_ids)),
        )
        return {user_id for (user_id,) in rows}

    async def acquire_lease(self, edge_id: str) -> None:
        await self._change("INSERT INTO edges VALUES (?, 1) ON CONFLICT DO NOTHING", [(edge_id,)])

    async def renew_lease(self, edge_id: str) -> bool:
        return await self._change("UPDATE edges SET counter = counter + 1 WHERE edge_id = ?", [(edge_id,)]) == 1

    async def list_leases(self) -> dict[str, int]:
        return dict(await self._rows("SELECT edge_id, counter FROM edges"))

    async def end_lease(self, edge_id: str, counter: int) -> bool:
        return await self._change("DELETE FROM edges WHERE edge_id = ? AND counter = ?", [(edge_id, counter)]) == 1

    async def list_row_edges(self) -> set[str]:
        return {edge_id for (edge_id,) in await self._rows("SELECT DISTINCT edge_id FROM connections")}

    async def unregister_edges(self, edge_ids: Collection[str]) -> None:
        await self._change("DELETE FROM connections WHERE edge_id = ?", [(each,) for each in edge_ids])

    async def _rows(self, query: str, *arguments: str) -> list[tuple[Any, ...]]:
        return await self._database.read(lambda connection: connection.execute(query, arguments).fetchall())

    async def _change(self, statement: str, rows: Sequence[tuple[object, ...]]) -> int:
        """Runs a statement for each row; returns how many rows of the table changed."""
        return await self._database.write(lambda connection: connection.executemany(statement, rows).rowcount)


@asynccontextmanager
async def open_store(directory: Path) -> AsyncIterator[SqliteConnectionStore]:
    """The store in `connections.sqlite` of a directory, for the length of the context."""
    async with open_sqlite(directory / "connections.sqlite", SCHEMA) as database:
        yield SqliteConnectionStore(database)


def _register(connection: sqlite3.Connection, row: Connection, max_per_user: int) -> bool:
    if max_per_user:
        (others,) = connection.execute(
            "SELECT count(*) FROM connections WHERE user_id = ? AND connection_id != ?",
            (row.user_id, row.connection_id),
        ).fetchone()
        if others >= max_per_user:
            return False
    connection.execute(
        "INSERT INTO connections VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (row.connection_id, row.user_id, row.device_id, row.edge_id, row.registered_at_us),
    )
    return True
