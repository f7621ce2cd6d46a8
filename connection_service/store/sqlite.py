"""Connections and leases in SQLite."""

import json
import sqlite3
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from connection_service.domain import Connection
from connection_service.pushes import DeviceToken, Push, Removal, removal_id, surplus
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
CREATE TABLE IF NOT EXISTS devices (
    token_id TEXT PRIMARY KEY,
    token TEXT NOT NULL,
    user_id TEXT NOT NULL,
    device_id TEXT NOT NULL,
    registered_at_us INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS devices_user ON devices (user_id, device_id);
CREATE TABLE IF NOT EXISTS pushes (
    push_id TEXT PRIMARY KEY,
    timer_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    due_at_us INTEGER,                -- NULL when it is finished
    finished_at_us INTEGER,           -- NULL before
    version INTEGER NOT NULL,
    push BLOB NOT NULL                -- JSON of connection_service.pushes.Push; empty: the user was removed
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS pushes_due ON pushes (due_at_us) WHERE due_at_us IS NOT NULL;
CREATE INDEX IF NOT EXISTS pushes_finished ON pushes (finished_at_us) WHERE finished_at_us IS NOT NULL;
CREATE INDEX IF NOT EXISTS pushes_timer ON pushes (timer_id, user_id);
"""

# DISTINCT would look at every row. This looks for the next edge after each one: as many steps as there are edges. Ends with NULL.
_ROW_EDGES = """
WITH RECURSIVE found (edge) AS (
    SELECT min(edge_id) FROM connections
    UNION ALL
    SELECT (SELECT min(edge_id) FROM connections WHERE edge_id > edge) FROM found WHERE edge IS NOT NULL
)
SELECT edge FROM found
"""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Push).decode


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
        return {edge_id for (edge_id,) in await self._rows(_ROW_EDGES) if edge_id is not None}

    async def unregister_edges(self, edge_ids: Collection[str]) -> None:
        await self._change("DELETE FROM connections WHERE edge_id = ?", [(each,) for each in edge_ids])

    # --- push tokens ----------------------------------------------------------------------------------------------------

    async def save_tokens(self, tokens: Sequence[DeviceToken], *, max_per_user: int) -> None:
        def work(connection: sqlite3.Connection) -> None:
            for token in tokens:
                _save_token(connection, token, max_per_user)

        await self._database.write(work)

    async def delete_tokens(self, token_ids: Collection[str]) -> None:
        await self._change("DELETE FROM devices WHERE token_id = ?", [(each,) for each in token_ids])

    async def delete_devices(self, devices: Collection[tuple[str, str]]) -> None:
        await self._change("DELETE FROM devices WHERE user_id = ? AND device_id = ?", list(devices))

    async def load_tokens(self, token_ids: Collection[str]) -> dict[str, DeviceToken]:
        found = await self._database.read(lambda connection: _tokens(connection, "token_id", list(token_ids)))
        return {token.token_id: token for token in found}

    async def tokens_of_users(self, user_ids: Collection[str]) -> list[DeviceToken]:
        return await self._database.read(lambda connection: _tokens(connection, "user_id", list(user_ids)))

    # --- pushes ---------------------------------------------------------------------------------------------------------

    async def add_pushes(self, pushes: Sequence[Push]) -> int:
        return await self._change(
            "INSERT INTO pushes (push_id, timer_id, user_id, due_at_us, version, push) SELECT ?, ?, ?, ?, ?, ? "
            "WHERE NOT EXISTS (SELECT 1 FROM pushes WHERE push_id = ? AND version > ?) ON CONFLICT DO NOTHING",
            [
                (
                    *(push.push_id, push.timer_id, push.user_id, push.due_at_us, push.version, _encode(push)),
                    *(removal_id(push.timer_id, push.user_id), push.version),
                )
                for push in pushes
            ],
        )

    async def claim_pushes(self, now_us: int, until_us: int, limit: int) -> list[Push]:
        def work(connection: sqlite3.Connection) -> list[Push]:
            due = connection.execute(
                "SELECT push FROM pushes WHERE due_at_us <= ? ORDER BY due_at_us LIMIT ?", (now_us, limit)
            ).fetchall()
            pushes = [_decode(push) for (push,) in due]
            claimed = [msgspec.structs.replace(push, due_at_us=until_us, attempts=push.attempts + 1) for push in pushes]
            connection.executemany(
                "UPDATE pushes SET due_at_us = ?, push = ? WHERE push_id = ?",
                [(until_us, _encode(push), push.push_id) for push in claimed],
            )
            return claimed

        return await self._database.write(work)

    async def postpone_push(self, push_id: str, due_at_us: int) -> None:
        statement = "UPDATE pushes SET due_at_us = ? WHERE push_id = ? AND due_at_us IS NOT NULL"
        await self._change(statement, [(due_at_us, push_id)])

    async def finish_push(self, push_id: str, now_us: int) -> None:
        statement = "UPDATE pushes SET due_at_us = NULL, finished_at_us = ? WHERE push_id = ?"
        await self._change(statement, [(now_us, push_id)])

    async def cancel_pushes(self, removals: Collection[Removal], now_us: int) -> None:
        marks = [(each.removal_id, each.timer_id, each.user_id, now_us, each.version) for each in removals]
        older = [(each.timer_id, each.user_id, each.version) for each in removals]

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "INSERT INTO pushes (push_id, timer_id, user_id, finished_at_us, version, push) "
                "VALUES (?, ?, ?, ?, ?, '') ON CONFLICT (push_id) DO UPDATE SET "
                "finished_at_us = excluded.finished_at_us, version = max(version, excluded.version)",
                marks,
            )
            connection.executemany("DELETE FROM pushes WHERE timer_id = ? AND user_id = ? AND version < ?", older)

        await self._database.write(work)

    async def forget_pushes(self, finished_before_us: int) -> None:
        await self._change("DELETE FROM pushes WHERE finished_at_us < ?", [(finished_before_us,)])

    async def count_pushes(self) -> int:
        ((count,),) = await self._rows("SELECT count(*) FROM pushes WHERE due_at_us IS NOT NULL")
        return int(count)

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


def _tokens(connection: sqlite3.Connection, column: str, values: list[str]) -> list[DeviceToken]:
    wanted = "(SELECT value FROM json_each(?))"
    rows = connection.execute(
        f"SELECT token, user_id, device_id, registered_at_us FROM devices WHERE {column} IN {wanted}",  # noqa: S608  # ours
        (json.dumps(values),),
    )
    return [DeviceToken(token=row[0], user_id=row[1], device_id=row[2], registered_at_us=row[3]) for row in rows]


def _save_token(connection: sqlite3.Connection, token: DeviceToken, max_per_user: int) -> None:
    connection.execute(
        "DELETE FROM devices WHERE user_id = ? AND device_id = ?",
        (token.user_id, token.device_id),
    )
    connection.execute(
        "INSERT OR REPLACE INTO devices VALUES (?, ?, ?, ?, ?)",
        (token.token_id, token.token, token.user_id, token.device_id, token.registered_at_us),
    )
    for each in surplus(_tokens(connection, "user_id", [token.user_id]), most=max_per_user):
        connection.execute("DELETE FROM devices WHERE token_id = ?", (each.token_id,))
