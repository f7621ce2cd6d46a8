"""Timers in MongoDB: one document each, sharded by `_id`."""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager

import msgspec
from pymongo import ASCENDING, DESCENDING, DeleteOne, UpdateOne

from runtime.store.measured import MeasuredStore
from runtime.store.mongo import Database, Document, among, compare_and_set, count_each, open_mongo, probe, translated
from timer_service.domain import State, Timer
from timer_service.store.contract import WRITES, Marker, Save


class MongoTimerStore(MeasuredStore, writes=WRITES):
    """See `contract.TimerStore`."""

    system = "mongodb"

    def __init__(self, database: Database) -> None:
        self._database = database
        self._timers = database["timers"]

    async def prepare(self) -> None:
        """Creates the indexes that are not there yet. Idempotent."""
        with translated():
            await self._timers.create_index([("live_owner", ASCENDING)], name="live", sparse=True)
            await self._timers.create_index(
                [("pending_since_us", ASCENDING), ("_id", ASCENDING)], name="pending", sparse=True
            )
            await self._timers.create_index([("stopped_at_us", ASCENDING)], name="stopped", sparse=True)
            await self._timers.create_index(
                [("stopped_owner", ASCENDING), ("stopped_at_us", DESCENDING)], name="stopped_of_owner", sparse=True
            )

    async def ping(self) -> None:
        with translated():
            await self._database.command("ping")

    async def probe(self) -> None:
        await probe(self._database)

    async def load(self, timer_ids: Collection[str]) -> dict[str, Timer]:
        with translated():
            found = self._timers.find({"_id": among(timer_ids)})
            return {document["_id"]: _timer(document) async for document in found}

    async def save(self, saves: Sequence[Save]) -> list[bool]:
        return await compare_and_set(self._timers, [(_document(save.timer), save.expected_version) for save in saves])

    async def count_live(self, owners: Collection[str]) -> dict[str, int]:
        return await count_each(self._timers, "live_owner", owners)

    async def clear_pending(self, markers: Sequence[Marker]) -> None:
        if not markers:
            return
        with translated():
            await self._timers.bulk_write(
                [
                    UpdateOne({"_id": marker.timer_id, "version": marker.version}, {"$unset": {"pending_since_us": ""}})
                    for marker in markers
                ],
                ordered=False,
            )

    async def list_pending(self, limit: int, after: tuple[int, str]) -> list[Timer]:
        since, timer_id = after
        with translated():
            found = (
                self._timers.find(
                    {
                        "$or": [
                            {"pending_since_us": {"$gt": since}},
                            {"pending_since_us": since, "_id": {"$gt": timer_id}},
                        ]
                    }
                )
                .sort([("pending_since_us", ASCENDING), ("_id", ASCENDING)])
                .limit(limit)
            )
            return [_timer(document) async for document in found]

    async def list_live(self, owners: Collection[str]) -> list[Timer]:
        with translated():
            found = self._timers.find({"live_owner": among(owners)})
            return [_timer(document) async for document in found]

    async def list_stopped(self, owner: str, since_us: int, limit: int) -> list[Timer]:
        with translated():
            found = (
                self._timers.find({"stopped_owner": owner, "stopped_at_us": {"$gte": since_us}})
                .sort("stopped_at_us", DESCENDING)
                .limit(limit)
            )
            return [_timer(document) async for document in found]

    async def list_tombstones(self, stopped_before_us: int, limit: int) -> list[Timer]:
        with translated():
            found = (
                self._timers.find({"stopped_at_us": {"$gt": 0, "$lt": stopped_before_us}})
                .sort("stopped_at_us", ASCENDING)
                .limit(limit)
            )
            return [_timer(document) async for document in found]

    async def purge(self, markers: Sequence[Marker]) -> None:
        if not markers:
            return
        with translated():
            await self._timers.bulk_write(
                [DeleteOne({"_id": marker.timer_id, "version": marker.version}) for marker in markers], ordered=False
            )


@asynccontextmanager
async def open_store(uri: str, database: str) -> AsyncIterator[MongoTimerStore]:
    """The store in a MongoDB database, for the length of the context. Raises Unavailable when it can't be reached."""
    async with open_mongo(uri, database) as opened:
        store = MongoTimerStore(opened)
        await store.prepare()
        yield store


def _document(timer: Timer) -> Document:
    document: Document = msgspec.to_builtins(timer)
    document["_id"] = document.pop("timer_id")
    if timer.state is not State.STOPPED:
        document["live_owner"] = timer.owner
    else:
        document["stopped_owner"] = timer.owner
    return document


def _timer(document: Document) -> Timer:
    document["timer_id"] = document.pop("_id")
    return msgspec.convert(document, Timer)
