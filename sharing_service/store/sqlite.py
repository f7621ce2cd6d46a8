"""Shares in SQLite: one row each, the share as JSON, and a table of who is a member where."""

import sqlite3
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from runtime.store.measured import MeasuredStore
from runtime.store.sqlite import SqliteDatabase, json_array, open_sqlite
from sharing_service import domain
from sharing_service.domain import Audience, Share
from sharing_service.store.contract import WRITES, Save

SCHEMA = """
CREATE TABLE IF NOT EXISTS shares (
    timer_id TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    pending_since_us INTEGER,         -- the outbox marker
    share BLOB NOT NULL               -- JSON of sharing_service.domain.Share
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS shares_pending ON shares (pending_since_us, timer_id) WHERE pending_since_us IS NOT NULL;
CREATE TABLE IF NOT EXISTS members (
    user_id TEXT NOT NULL,
    timer_id TEXT NOT NULL,
    PRIMARY KEY (user_id, timer_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS members_timer ON members (timer_id);
"""

_BY_ID = "SELECT share FROM json_each(?) AS wanted JOIN shares ON timer_id = wanted.value"

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Share).decode
_decode_audience = msgspec.json.Decoder(Audience).decode  # skips the rest


class SqliteShareStore(MeasuredStore, writes=WRITES):
    """See `contract.ShareStore`."""

    system = "sqlite"

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def ping(self) -> None:
        await self._database.read(lambda connection: connection.execute("SELECT 1 FROM shares LIMIT 1").fetchone())

    async def probe(self) -> None:
        await self._database.probe()

    async def load(self, timer_ids: Collection[str]) -> dict[str, Share]:
        shares = await self._select(_BY_ID, json_array(timer_ids))
        return {share.timer_id: share for share in shares}

    async def load_audiences(self, timer_ids: Collection[str]) -> dict[str, Audience]:
        audiences = map(_decode_audience, await self._database.column(_BY_ID, json_array(timer_ids)))
        return {audience.timer_id: audience for audience in audiences}

    async def save(self, saves: Sequence[Save]) -> list[bool]:
        return await self._database.write(
            lambda connection: [_save(connection, save.share, save.expected_version) for save in saves]
        )

    async def list_shared_with(self, user_ids: Collection[str]) -> dict[str, list[str]]:
        def work(connection: sqlite3.Connection) -> list[tuple[str, str]]:
            return connection.execute(
                "SELECT user_id, timer_id FROM json_each(?) AS wanted JOIN members ON user_id = wanted.value",
                (json_array(user_ids),),
            ).fetchall()

        shared: dict[str, list[str]] = {user_id: [] for user_id in user_ids}
        for user_id, timer_id in await self._database.read(work):
            shared[user_id].append(timer_id)
        return shared

    async def count_shared_with(self, user_ids: Collection[str]) -> dict[str, int]:
        return await self._database.count_each("members", "user_id", user_ids)

    async def clear_pending(self, delivered: Sequence[Share]) -> None:
        rows = [(_encode(domain.delivered(share)), share.timer_id, share.version) for share in delivered]

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "UPDATE shares SET pending_since_us = NULL, share = ? WHERE timer_id = ? AND version = ?", rows
            )

        await self._database.write(work)

    async def list_pending(self, limit: int, after: tuple[int, str]) -> list[Share]:
        return await self._select(
            "SELECT share FROM shares WHERE pending_since_us IS NOT NULL AND (pending_since_us, timer_id) > (?, ?) "
            "ORDER BY pending_since_us, timer_id LIMIT ?",
            *after,
            limit,
        )

    async def delete(self, timer_ids: Collection[str]) -> None:
        rows = [(timer_id,) for timer_id in timer_ids]

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany("DELETE FROM shares WHERE timer_id = ?", rows)
            connection.executemany("DELETE FROM members WHERE timer_id = ?", rows)

        await self._database.write(work)

    async def _select(self, query: str, *arguments: str | int) -> list[Share]:
        return [_decode(share) for share in await self._database.column(query, *arguments)]


@asynccontextmanager
async def open_store(directory: Path) -> AsyncIterator[SqliteShareStore]:
    """The store in `shares.sqlite` of a directory, for the length of the context."""
    async with open_sqlite(directory / "shares.sqlite", SCHEMA) as database:
        yield SqliteShareStore(database)


def _save(connection: sqlite3.Connection, share: Share, expected_version: int | None) -> bool:
    row = (share.version, share.pending_since_us or None, _encode(share), share.timer_id)
    if expected_version is None:
        saved = connection.execute(
            "INSERT INTO shares (version, pending_since_us, share, timer_id) VALUES (?, ?, ?, ?) "
            "ON CONFLICT DO NOTHING",
            row,
        )
    else:
        saved = connection.execute(
            "UPDATE shares SET version = ?, pending_since_us = ?, share = ? WHERE timer_id = ? AND version = ?",
            (*row, expected_version),
        )
    if saved.rowcount != 1:
        return False
    if expected_version is not None or share.members:
        connection.execute("DELETE FROM members WHERE timer_id = ?", (share.timer_id,))
        connection.executemany("INSERT INTO members VALUES (?, ?)", [(user, share.timer_id) for user in share.members])
    return True
