"""MongoDB as a store, through motor: majority writes, and compare-and-set in bulk.

Driver types stay in this file and in the services' `store/mongo.py`. Only what MongoDB, its sharded
clusters and MongoDB-compatible servers have in common is used: no transactions, no update pipelines, no change streams, no TTL or partial indexes.
"""

import asyncio
import secrets
from collections import abc
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeAlias

from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorCollection, AsyncIOMotorDatabase
from pymongo import InsertOne, ReplaceOne
from pymongo.errors import BulkWriteError, OperationFailure, PyMongoError

from runtime import logs
from runtime.errors import Unavailable

log = logs.get(__name__)

Document: TypeAlias = dict[str, Any]
Collection: TypeAlias = AsyncIOMotorCollection[Document]
Database: TypeAlias = AsyncIOMotorDatabase[Document]

_DUPLICATE_KEY = 11000
_COUNTED_AT_ONCE = 4


@asynccontextmanager
async def open_mongo(uri: str, database: str) -> AsyncIterator[Database]:
    """A database for the length of the context. Connects at first use; nothing is raised here when it is away."""
    client: AsyncIOMotorClient[Document] = AsyncIOMotorClient(
        uri,
        # "Acknowledged is durable": a majority of the replica set has it in its journal. Reads see only what is so.
        w="majority",
        journal=True,
        readConcernLevel="majority",
        readPreference="primary",
        serverSelectionTimeoutMS=2_000,
        connectTimeoutMS=2_000,
        socketTimeoutMS=10_000,
        appname="bubble-timer",
    )
    try:
        yield client[database]
    finally:
        client.close()


def among(ids: abc.Collection[str]) -> str | dict[str, list[str]]:
    """A filter for one of these ids. A single one is asked for as itself, which every server answers from the index."""
    return next(iter(ids)) if len(ids) == 1 else {"$in": list(ids)}


async def count_each(collection: Collection, field: str, values: abc.Collection[str]) -> dict[str, int]:
    """How many documents have each of the values in a field, some at a time: they share the driver's threads with everybody."""
    limit = asyncio.Semaphore(_COUNTED_AT_ONCE)

    async def count(value: str) -> int:
        async with limit:
            return await collection.count_documents({field: value})

    with translated():
        tasks = [asyncio.ensure_future(count(value)) for value in values]
        try:
            return dict(zip(values, [await task for task in tasks], strict=True))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def translated() -> Iterator[None]:
    """Turns the driver's errors into Unavailable: whether a write took effect is not known then."""
    try:
        yield
    except PyMongoError as error:
        # What the server says of a write has the document in it, which is nobody's business in a log.
        reason = f"code {error.code}" if isinstance(error, OperationFailure) else str(error)[:200]
        log.warning("database failed", error=f"{type(error).__name__}: {reason}")
        raise Unavailable("The database can't be reached") from error


async def probe(database: Database) -> None:
    """Returns when a write that concerns nobody is durable. Raises Unavailable."""
    with translated():
        await database["probe"].update_one({"_id": "probe"}, {"$inc": {"count": 1}}, upsert=True)


async def compare_and_set(
    collection: Collection,
    writes: Sequence[tuple[Document, int | None]],
) -> list[bool]:
    """Saves documents that carry `_id` and `version`, each only where the stored version is the one given with it.

    None as the version means that no document may exist yet. Returns per document whether this call saved it, in order,
    in one round trip when none was lost. False can also mean that it was saved and overwritten at once: whoever loads the
    document again must recognise its own change in it. Raises Unavailable.
    """
    if not writes:
        return []
    operations: list[InsertOne[Document] | ReplaceOne[Document]] = []
    write_ids = []
    for document, expected in writes:
        write_ids.append(secrets.token_hex(8))
        stamped = {**document, "write_id": write_ids[-1]}
        if expected is None:
            operations.append(InsertOne(stamped))
        else:
            operations.append(ReplaceOne({"_id": document["_id"], "version": expected}, stamped))
    duplicates: set[int] = set()
    with translated():
        try:
            result = await collection.bulk_write(operations, ordered=False)
            saved = result.matched_count + result.inserted_count
        except BulkWriteError as error:
            faults = error.details["writeErrors"]
            if error.details.get("writeConcernErrors") or any(fault["code"] != _DUPLICATE_KEY for fault in faults):
                raise
            duplicates = {fault["index"] for fault in faults}
            saved = error.details["nMatched"] + error.details["nInserted"]
        if saved == len(writes):
            return [True] * len(writes)
        found = collection.find({"_id": {"$in": [document["_id"] for document, _ in writes]}}, {"write_id": 1})
        current: Mapping[str, str] = {stored["_id"]: stored["write_id"] async for stored in found}
    return [
        index not in duplicates and current.get(document["_id"]) == write_id
        for index, ((document, _), write_id) in enumerate(zip(writes, write_ids, strict=True))
    ]
