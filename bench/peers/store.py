"""What the Python peers keep their timers in: SQLite, as durable as ours, committed in groups by a thread.

Whoever wrote one of these servers would more likely commit each update alone. Each commit waits for the disk, so that would
measure nothing but the disk; committing together what waits is the same favour that we do ourselves.
"""

import asyncio
import sqlite3
from typing import Any

_SAVE = (
    "INSERT INTO timers (id, owner, name, total_duration, end_time, version) VALUES (?, ?, ?, ?, ?, 1) "
    "ON CONFLICT (id) DO UPDATE SET name = excluded.name, total_duration = excluded.total_duration, "
    "end_time = excluded.end_time, version = version + 1 RETURNING version"
)

Row = tuple[str, str, str, str, str]


class Store:
    """Timers, by id."""

    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS timers "
            "(id TEXT PRIMARY KEY, owner TEXT, name TEXT, total_duration TEXT, end_time TEXT, version INTEGER)"
        )
        self._waiting: list[tuple[Row, asyncio.Future[int]]] = []
        self._committing: asyncio.Task[None] | None = None

    async def save(self, owner: str, timer: dict[str, Any]) -> int:
        """The new version of a timer, when its state is on disk."""
        saved = asyncio.get_running_loop().create_future()
        row = (timer["id"], owner, timer["name"], timer["totalDuration"], timer["endTime"])
        self._waiting.append((row, saved))
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit_all())
        return await saved

    async def _commit_all(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting, []
            versions = await asyncio.to_thread(self._commit, [row for row, _ in group])
            for (_, saved), version in zip(group, versions, strict=True):
                if not saved.done():
                    saved.set_result(version)
        self._committing = None

    def _commit(self, rows: list[Row]) -> list[int]:
        self._connection.execute("BEGIN IMMEDIATE")
        versions = [self._connection.execute(_SAVE, row).fetchone()[0] for row in rows]
        self._connection.execute("COMMIT")
        return versions
