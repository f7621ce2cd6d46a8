"""Connections and leases in MongoDB: `connections` sharded by a hash of `user_id`, `edges` small enough for one shard."""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager

from pymongo import ASCENDING, UpdateOne

from connection_service.domain import Connection
from connection_service.store.contract import WRITES
from runtime.store.measured import MeasuredStore
from runtime.store.mongo import Database, Document, open_mongo, probe, translated


class MongoConnectionStore(MeasuredStore, writes=WRITES):
    """See `contract.ConnectionStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connections = database["connections"]
        self._edges = database["edges"]

    async def prepare(self) -> None:
        """Creates the indexes that are not there yet. Idempotent."""
        with translated():
            await self._connections.create_index([("user_id", ASCENDING), ("edge_id", ASCENDING)], name="user")
            await self._connections.create_index([("edge_id", ASCENDING)], name="edge")

    async def ping(self) -> None:
        with translated():
            await self._database.command("ping")

    async def probe(self) -> None:
        await probe(self._database)

    async def register(self, connections: Sequence[Connection], *, max_per_user: int) -> list[bool]:
        # Insert, then count: two who race for the last place both see both, so the limit holds without a transaction.
        with translated():
            written = await self._connections.bulk_write(
                [UpdateOne(_key(row), {"$setOnInsert": _document(row)}, upsert=True) for row in connections],
                ordered=False,
            )
            if not max_per_user:
                return [True] * len(connections)
            users = list({row.user_id for row in connections})
            counts = await asyncio.gather(
                *(self._connections.count_documents({"user_id": user_id}) for user_id in users)
            )
            surplus = {user_id: count - max_per_user for user_id, count in zip(users, counts, strict=True)}
            accepted, refused = [True] * len(connections), []
            added = set(written.upserted_ids or ())  # the others were there already, and stay
            for index in sorted(added, reverse=True):  # of one batch, the first are kept
                row = connections[index]
                if surplus[row.user_id] > 0:
                    surplus[row.user_id] -= 1
                    accepted[index] = False
                    refused.append(row.connection_id)
            if refused:
                await self._connections.delete_many({"_id": {"$in": refused}})
            return accepted

    async def unregister(self, connection_ids: Collection[str]) -> None:
        with translated():
            await self._connections.delete_many({"_id": {"$in": list(connection_ids)}})

    async def list_of_users(self, user_ids: Collection[str]) -> list[Connection]:
        with translated():
            found = self._connections.find({"user_id": {"$in": list(user_ids)}})
            return [
                Connection(
                    connection_id=document["_id"],
                    user_id=document["user_id"],
                    device_id=document["device_id"],
                    edge_id=document["edge_id"],
                    registered_at_us=document["registered_at_us"],
                )
                async for document in found
            ]

    async def users_at(self, user_ids: Collection[str], edge_ids: Collection[str]) -> set[str]:
        with translated():
            found = self._connections.find(
                {"user_id": {"$in": list(user_ids)}, "edge_id": {"$in": list(edge_ids)}}, {"user_id": 1}
            )
            return {document["user_id"] async for document in found}

    async def acquire_lease(self, edge_id: str) -> None:
        with translated():
            await self._edges.update_one({"_id": edge_id}, {"$setOnInsert": {"counter": 1}}, upsert=True)

    async def renew_lease(self, edge_id: str) -> bool:
        with translated():
            result = await self._edges.update_one({"_id": edge_id}, {"$inc": {"counter": 1}})
            return result.matched_count == 1

    async def list_leases(self) -> dict[str, int]:
        with translated():
            return {document["_id"]: document["counter"] async for document in self._edges.find({})}

    async def end_lease(self, edge_id: str, counter: int) -> bool:
        with translated():
            result = await self._edges.delete_one({"_id": edge_id, "counter": counter})
            return result.deleted_count == 1

    async def list_row_edges(self) -> set[str]:
        with translated():
            return set(await self._connections.distinct("edge_id"))

    async def unregister_edges(self, edge_ids: Collection[str]) -> None:
        with translated():
            await self._connections.delete_many({"edge_id": {"$in": list(edge_ids)}})


@asynccontextmanager
async def open_store(uri: str, database: str) -> AsyncIterator[MongoConnectionStore]:
    """The store in a MongoDB database, for the length of the context. Raises Unavailable when it can't be reached."""
    async with open_mongo(uri, database) as opened:
        store = MongoConnectionStore(opened)
        await store.prepare()
        yield store


def _key(connection: Connection) -> Document:
    # With the shard key: an upsert must name it.
    return {"_id": connection.connection_id, "user_id": connection.user_id}


def _document(connection: Connection) -> Document:
    return {
        "device_id": connection.device_id,
        "edge_id": connection.edge_id,
        "registered_at_us": connection.registered_at_us,
    }
