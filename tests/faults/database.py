"""What is really stored, read past the system: the measure of what clients were told."""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from pymongo import MongoClient


class Stored(NamedTuple):
    """A timer and its audience as the two services have them."""

    version: int
    state: str
    name: str
    remaining: str
    owner: str
    members: frozenset[str]
    share_version: int


class Database(Protocol):
    """The databases of the services."""

    def timers(self) -> dict[str, Stored]:
        """All timers, tombstones included, by id."""

    def pending(self) -> list[str]:
        """The outbox markers that there are, as a reader of a failed test wants to see them."""

    def close(self) -> None:
        """Lets go of it; one that was made for the test is dropped."""


class SqliteDatabase:
    """The files of a data directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def timers(self) -> dict[str, Stored]:
        shares = {row[0]: json.loads(row[1]) for row in self._rows("shares", "SELECT timer_id, share FROM shares")}
        return {
            timer_id: _stored(json.loads(state), shares.get(timer_id, {}))
            for timer_id, state in self._rows("timers", "SELECT timer_id, state FROM timers")
        }

    def pending(self) -> list[str]:
        timers = self._rows("timers", "SELECT pending.*, timers.version FROM pending LEFT JOIN timers USING (timer_id)")
        shares = self._rows("shares", "SELECT share FROM shares WHERE pending_since_us IS NOT NULL")
        return [f"timer {row}" for row in timers] + [f"share {share!r}" for (share,) in shares]

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody can write timers within."""
        with closing(sqlite3.connect(self._directory / "timers.sqlite", isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.execute("ROLLBACK")

    def close(self) -> None:
        pass

    def _rows(self, name: str, query: str) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(f"file:{self._directory / name}.sqlite?mode=ro", uri=True)
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()


class MongoDatabase:
    """A database on a MongoDB server, made for the test."""

    def __init__(self, uri: str, name: str) -> None:
        self._name = name
        self._client: MongoClient[dict[str, Any]] = MongoClient(uri)
        self._database = self._client[name]

    def timers(self) -> dict[str, Stored]:
        shares = {document["_id"]: document for document in self._database["shares"].find()}
        return {
            document["_id"]: _stored(document, shares.get(document["_id"], {}))
            for document in self._database["timers"].find()
        }

    def pending(self) -> list[str]:
        return [
            f"{name} {document}"
            for name in ("timers", "shares")
            for document in self._database[name].find({"pending_since_us": {"$gt": 0}})
        ]

    def close(self) -> None:
        self._client.drop_database(self._name)
        self._client.close()


def _stored(timer: Mapping[str, Any], share: Mapping[str, Any]) -> Stored:
    return Stored(
        version=timer["version"],
        state=timer.get("state", "idle"),
        name=timer.get("name", ""),
        remaining=timer.get("remaining_duration") or "",
        owner=share.get("owner", ""),
        members=frozenset(share.get("members", ())),
        share_version=share.get("version", 0),
    )
