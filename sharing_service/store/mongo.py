"""Shares in MongoDB: one document each, sharded by `_id`."""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager

import msgspec
from pymongo import ASCENDING, UpdateOne

from runtime.store.measured import MeasuredStore
from runtime.store.mongo import Database, Document, among, compare_and_set, count_each, open_mongo, probe, translated
from sharing_service.domain import Audience, Share
from sharing_service.store.contract import WRITES, Save


class MongoShareStore(MeasuredStore, writes=WRITES):
    """See `contract.ShareStore`."""

    system = "mongodb"

    def __init__(self, database: Database) -> None:
        self._database = database
        self._shares = database["shares"]

    async def prepare(self) -> None:
        """Creates the indexes that are not there yet. Idempotent."""
        with translated():
            await self._shares.create_index([("members", ASCENDING)], name="members")
            await self._shares.create_index(
                [("pending_since_us", ASCENDING), ("_id", ASCENDING)], name="pending", sparse=True
            )

    async def ping(self) -> None:
        with translated():
            await self._database.command("ping")

    async def probe(self) -> None:
        await probe(self._database)

    async def load(self, timer_ids: Collection[str]) -> dict[str, Share]:
        with translated():
            found = self._shares.find({"_id": among(timer_ids)})
            return {document["_id"]: _share(document) async for document in found}

    async def load_audiences(self, timer_ids: Collection[str]) -> dict[str, Audience]:
        with translated():
            found = self._shares.find({"_id": among(timer_ids)}, {"owner": 1, "members": 1, "version": 1})
            return {document["_id"]: _audience(document) async for document in found}

    async def save(self, saves: Sequence[Save]) -> list[bool]:
        return await compare_and_set(self._shares, [(_document(save.share), save.expected_version) for save in saves])

    async def list_shared_with(self, user_ids: Collection[str]) -> dict[str, list[str]]:
        shared: dict[str, list[str]] = {user_id: [] for user_id in user_ids}
        with translated():
            async for document in self._shares.find({"members": among(shared)}, {"members": 1}):
                for member in shared.keys() & document["members"]:
                    shared[member].append(document["_id"])
        return shared

    async def count_shared_with(self, user_ids: Collection[str]) -> dict[str, int]:
        return await count_each(self._shares, "members", user_ids)

    async def clear_pending(self, delivered: Sequence[Share]) -> None:
        if not delivered:
            return
        with translated():
            await self._shares.bulk_write(
                [
                    UpdateOne(
                        {"_id": share.timer_id, "version": share.version},
                        {"$unset": {"pending_since_us": "", "added": "", "removed": ""}},
                    )
                    for share in delivered
                ],
                ordered=False,
            )

    async def list_pending(self, limit: int, after: tuple[int, str]) -> list[Share]:
        since, timer_id = after
        with translated():
            found = (
                self._shares.find(
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
            return [_share(document) async for document in found]

    async def delete(self, timer_ids: Collection[str]) -> None:
        with translated():
            await self._shares.delete_many({"_id": among(timer_ids)})


@asynccontextmanager
async def open_store(uri: str, database: str) -> AsyncIterator[MongoShareStore]:
    """The store in a MongoDB database, for the length of the context. Raises Unavailable when it can't be reached."""
    async with open_mongo(uri, database) as opened:
        store = MongoShareStore(opened)
        await store.prepare()
        yield store


def _document(share: Share) -> Document:
    document: Document = msgspec.to_builtins(share)
    document["_id"] = document.pop("timer_id")
    return document


def _audience(document: Document) -> Audience:
    document["timer_id"] = document.pop("_id")
    return msgspec.convert(document, Audience)


def _share(document: Document) -> Share:
    document["timer_id"] = document.pop("_id")
    return msgspec.convert(document, Share)
