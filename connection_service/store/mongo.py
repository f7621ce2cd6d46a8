"""Connections, leases, push tokens and pushes in MongoDB: `connections` sharded by a hash of `user_id`, `devices` and `pushes` by one
of `_id`, `edges` small enough for one shard.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager

import msgspec
from pymongo import ASCENDING, DeleteMany, ReplaceOne, UpdateOne

from connection_service.domain import Connection
from connection_service.pushes import DeviceToken, Push, Removal, removal_id, surplus
from connection_service.store.contract import WRITES
from runtime.store.measured import MeasuredStore
from runtime.store.mongo import Database, Document, open_mongo, probe, translated


class MongoConnectionStore(MeasuredStore, writes=WRITES):
    """See `contract.ConnectionStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connections = database["connections"]
        self._edges = database["edges"]
        self._devices = database["devices"]
        self._pushes = database["pushes"]

    async def prepare(self) -> None:
        """Creates the indexes that are not there yet. Idempotent."""
        with translated():
            await self._connections.create_index([("user_id", ASCENDING), ("edge_id", ASCENDING)], name="user")
            await self._connections.create_index([("edge_id", ASCENDING)], name="edge")
            await self._devices.create_index([("user_id", ASCENDING), ("device_id", ASCENDING)], name="user")
            await self._pushes.create_index([("due_at_us", ASCENDING)], name="due", sparse=True)
            await self._pushes.create_index([("finished_at_us", ASCENDING)], name="finished", sparse=True)
            await self._pushes.create_index([("timer_id", ASCENDING), ("user_id", ASCENDING)], name="timer")

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

    # --- push tokens ----------------------------------------------------------------------------------------------------

    async def save_tokens(self, tokens: Sequence[DeviceToken], *, max_per_user: int) -> None:
        if not tokens:
            return
        with translated():
            # One document per token, so that it can't have two owners; what is superseded goes after that.
            operations: list[ReplaceOne[Document] | DeleteMany] = []
            for token in tokens:
                operations.append(ReplaceOne({"_id": token.token_id}, _token_document(token), upsert=True))
                device = {"user_id": token.user_id, "device_id": token.device_id}
                operations.append(DeleteMany({**device, "_id": {"$ne": token.token_id}}))
            await self._devices.bulk_write(operations, ordered=True)
            for user_id in {token.user_id for token in tokens}:
                too_many = surplus(await self._tokens({"user_id": user_id}), most=max_per_user)
                if too_many:
                    await self._devices.delete_many({"_id": {"$in": [token.token_id for token in too_many]}})

    async def delete_tokens(self, token_ids: Collection[str]) -> None:
        with translated():
            await self._devices.delete_many({"_id": {"$in": list(token_ids)}})

    async def delete_devices(self, devices: Collection[tuple[str, str]]) -> None:
        if not devices:
            return
        with translated():
            await self._devices.bulk_write(
                [DeleteMany({"user_id": user_id, "device_id": device_id}) for user_id, device_id in devices]
            )

    async def load_tokens(self, token_ids: Collection[str]) -> dict[str, DeviceToken]:
        with translated():
            found = await self._tokens({"_id": {"$in": list(token_ids)}})
            return {token.token_id: token for token in found}

    async def tokens_of_users(self, user_ids: Collection[str]) -> list[DeviceToken]:
        with translated():
            return await self._tokens({"user_id": {"$in": list(user_ids)}})

    async def _tokens(self, query: Document) -> list[DeviceToken]:
        return [msgspec.convert(document, DeviceToken) async for document in self._devices.find(query, {"_id": 0})]

    # --- pushes ---------------------------------------------------------------------------------------------------------

    async def add_pushes(self, pushes: Sequence[Push]) -> int:
        if not pushes:
            return 0
        with translated():
            written = await self._pushes.bulk_write(
                [
                    UpdateOne({"_id": push.push_id}, {"$setOnInsert": msgspec.to_builtins(push)}, upsert=True)
                    for push in pushes
                ],
                ordered=False,
            )
            # Afterwards, since a removal is remembered before it deletes: of two at once, one sees the other.
            marks = {removal_id(push.timer_id, push.user_id) for push in pushes}
            removed = [
                Removal(timer_id=mark["timer_id"], user_id=mark["user_id"], version=mark["version"])
                async for mark in self._pushes.find({"_id": {"$in": list(marks)}})
            ]
            taken_back = await self._delete_older(removed) if removed else 0
            return max(written.upserted_count - taken_back, 0)

    async def claim_pushes(self, now_us: int, until_us: int, limit: int) -> list[Push]:
        with translated():
            found = self._pushes.find({"due_at_us": {"$lte": now_us}}).sort([("due_at_us", ASCENDING)]).limit(limit)
            due = [msgspec.convert(document, Push) async for document in found]
            # Whoever moves it first has it.
            results = await asyncio.gather(
                *(
                    self._pushes.update_one(
                        {"_id": push.push_id, "due_at_us": push.due_at_us},
                        {"$set": {"due_at_us": until_us}, "$inc": {"attempts": 1}},
                    )
                    for push in due
                )
            )
            return [
                msgspec.structs.replace(push, due_at_us=until_us, attempts=push.attempts + 1)
                for push, result in zip(due, results, strict=True)
                if result.matched_count
            ]

    async def postpone_push(self, push_id: str, due_at_us: int) -> None:
        with translated():
            await self._pushes.update_one(
                {"_id": push_id, "due_at_us": {"$exists": True}}, {"$set": {"due_at_us": due_at_us}}
            )

    async def finish_push(self, push_id: str, now_us: int) -> None:
        with translated():
            await self._pushes.update_one(
                {"_id": push_id}, {"$set": {"finished_at_us": now_us}, "$unset": {"due_at_us": ""}}
            )

    async def cancel_pushes(self, removals: Collection[Removal], now_us: int) -> None:
        if not removals:
            return
        with translated():
            await self._pushes.bulk_write(
                [
                    UpdateOne(
                        {"_id": each.removal_id},
                        {
                            "$max": {"version": each.version},
                            "$set": {"timer_id": each.timer_id, "user_id": each.user_id, "finished_at_us": now_us},
                        },
                        upsert=True,
                    )
                    for each in removals
                ]
            )
            await self._delete_older(removals)

    async def _delete_older(self, removals: Collection[Removal]) -> int:
        """Deletes the pushes that were made before these removals; returns how many there were."""
        deleted = await self._pushes.bulk_write(
            [
                DeleteMany({"timer_id": each.timer_id, "user_id": each.user_id, "version": {"$lt": each.version}})
                for each in removals
            ]
        )
        return deleted.deleted_count

    async def forget_pushes(self, finished_before_us: int) -> None:
        with translated():
            await self._pushes.delete_many({"finished_at_us": {"$lt": finished_before_us}})

    async def count_pushes(self) -> int:
        with translated():
            return await self._pushes.count_documents({"due_at_us": {"$gt": 0}})


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


def _token_document(token: DeviceToken) -> Document:
    document: Document = msgspec.to_builtins(token)
    return document
