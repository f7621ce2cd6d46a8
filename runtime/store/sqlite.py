"""SQLite as a store: WAL, one file per service, group commit.

The standard library's `sqlite3` on two threads of its own (one writes, one reads), rather than aiosqlite: a transaction is
one hop to a thread instead of one per statement, and the changes that wait while another commit is under way share the
next one, so one fsync carries many.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeGuard, TypeVar, cast

import msgspec

from runtime import logs
from runtime.batcher import Batcher
from runtime.errors import Unavailable, brief

log = logs.get(__name__)

Result = TypeVar("Result")
Work = Callable[[sqlite3.Connection], object]

_CACHE_KIB = 32 * 1024  # pages kept in memory by each of the two connections
_BUSY_MS = 2_000  # another process on the same file (a backup, a second replica) may hold the lock this long
_SCHEMA_VERSION = 2


class SqliteDatabase:
    """One open database. Made by `open_sqlite`."""

    def __init__(self, path: Path) -> None:
        path.touch(mode=0o600)  # the mode of a new file only, for its user alone; SQLite gives it to -wal and -shm
        self._writer = ThreadPoolExecutor(1, f"sqlite-write {path.name}")
        self._reader = ThreadPoolExecutor(1, f"sqlite-read {path.name}")
        self._write_connection = _connect(path)
        self._read_connection = _connect(path)
        self._commits: Batcher[Work, object] = Batcher(
            self._commit, name="the database", metric="database.commit", lanes=1, max_batch=64
        )

    async def read(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Runs `work` on the reading thread; it sees everything committed before. Raises Unavailable."""
        return await asyncio.get_running_loop().run_in_executor(
            self._reader, _run_translated, work, self._read_connection
        )

    async def column(self, query: str, *arguments: object) -> list[bytes]:
        """The only column of what a query finds, in its order: documents, as they were stored. Raises Unavailable."""

        def work(connection: sqlite3.Connection) -> list[bytes]:
            return [value for (value,) in connection.execute(query, arguments)]

        return await self.read(work)

    async def count_each(self, table: str, column: str, values: Collection[str]) -> dict[str, int]:
        """How many rows of a table have each of the values in a column, which has an index. Raises Unavailable."""

        def work(connection: sqlite3.Connection) -> dict[str, int]:
            counts = connection.execute(
                f"SELECT value, (SELECT count(*) FROM {table} WHERE {column} = wanted.value) FROM json_each(?) AS wanted",  # noqa: S608  # both are ours
                (json_array(values),),
            )
            return dict(counts.fetchall())

        return await self.read(work)

    async def write(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Runs `work` in a transaction and returns its result when that is on disk.

        Transactions take effect in the order of the calls. `work` may be run a second time, when another one in its group
        failed, so it must have no effect beside the database. Raises Unavailable: whether it took effect is not known.
        """
        result = await self._commits.submit(work, key="")
        if isinstance(result, Exception):
            raise result
        return cast(Result, result)

    async def probe(self) -> None:
        """Returns when a write that changes nothing is on disk. Raises Unavailable."""
        await self.write(_mark_schema)

    async def close(self) -> None:
        """Finishes what is under way and closes the file."""
        await self._commits.close()
        for executor, connection in (
            (self._writer, self._write_connection),
            (self._reader, self._read_connection),
        ):
            await asyncio.get_running_loop().run_in_executor(executor, connection.close)
            executor.shutdown()

    def prepare(self, schema: str, upgrade: str) -> None:
        """Creates the tables when the file is new, and brings those of the version before up to date, all in one transaction.
        Raises Unavailable when the file was made by a newer version of this code.
        """
        connection = self._write_connection
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > _SCHEMA_VERSION:
            raise Unavailable("The database file was made by a newer version")
        script = upgrade if version == _SCHEMA_VERSION - 1 and version else schema
        connection.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {_SCHEMA_VERSION}; COMMIT;")

    async def _commit(self, group: Sequence[Work]) -> Sequence[object]:
        return await asyncio.get_running_loop().run_in_executor(self._writer, self._commit_in_thread, group)

    def _commit_in_thread(self, group: Sequence[Work]) -> list[object]:
        if len(group) > 1:
            try:
                return self._transaction(group)
            except Exception as error:  # one of them; each alone will tell which
                if _is_busy(error):  # unless it is none of them: each alone would wait as long for the lock again
                    return [_translated(error)] * len(group)
                log.warning("a group of transactions failed, trying each alone", count=len(group), error=brief(error))
        results: list[object] = []
        for work in group:
            try:
                results += self._transaction([work])
            except sqlite3.DatabaseError as error:
                results.append(_translated(error))
            except Exception as error:  # returned to whoever asked for it
                results.append(error)
        return results

    def _transaction(self, group: Sequence[Work]) -> list[object]:
        connection = self._write_connection
        if connection.in_transaction:  # the last rollback failed, too
            connection.execute("ROLLBACK")
        connection.execute("BEGIN IMMEDIATE")
        try:
            results = [work(connection) for work in group]
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return results


def _mark_schema(connection: sqlite3.Connection) -> None:
    # Says again what is so already, but a page is written and waited for.
    connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")


@asynccontextmanager
async def open_sqlite(path: Path, schema: str, upgrade: str = "") -> AsyncIterator[SqliteDatabase]:
    """Opens (and creates) a database for the length of the context. `upgrade` is SQL that makes tables of the version before
    those of `schema`; without it nothing has changed. Raises OSError or Unavailable when it can't be had.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        database = SqliteDatabase(path)
        database.prepare(schema, upgrade or schema)
    except sqlite3.Error as error:
        raise OSError(f"can't open {path}: {error}") from error
    try:
        yield database
    finally:
        await database.close()


def json_array(ids: Collection[str]) -> str:
    """Ids as one argument of a query, for `json_each`: a statement for any number of them."""
    return msgspec.json.encode(list(ids)).decode()


def _connect(path: Path) -> sqlite3.Connection:
    # Each connection is used by one thread only, but not by the one that makes it.
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    connection.execute("PRAGMA journal_mode = WAL")
    # FULL: in WAL mode, only this waits for the disk at each commit, which is what "acknowledged is durable" rests on.
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def _run_translated(work: Callable[[sqlite3.Connection], Result], connection: sqlite3.Connection) -> Result:
    try:
        return work(connection)
    except sqlite3.DatabaseError as error:
        raise _translated(error) from error


def _is_busy(error: Exception) -> TypeGuard[sqlite3.DatabaseError]:
    """Whether another process holds the lock. What Python's module finds itself has no code."""
    return (
        isinstance(error, sqlite3.DatabaseError) and getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
    )


def _translated(error: sqlite3.DatabaseError) -> Exception:
    if isinstance(error, sqlite3.ProgrammingError | sqlite3.IntegrityError):
        return error  # a mistake of ours
    # Locked for too long, disk full, I/O error, file gone or damaged: it may pass, or somebody mends it.
    log.warning("database failed", error=brief(error))
    return Unavailable("The database can't be reached")
