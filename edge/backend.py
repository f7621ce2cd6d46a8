"""The services behind the edge, item by item: single calls of sessions ride together in batched ones."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from proto.connection.v1 import connection_pb2, connection_pb2_grpc
from proto.sharing.v1 import sharing_pb2, sharing_pb2_grpc
from proto.timer.v1 import timer_pb2, timer_pb2_grpc
from runtime.batcher import Batcher, Place
from runtime.grpc_client import CALL_DEADLINE

WRITE_INTERVAL = 0.005
"""Seconds between two calls that carry few commands: less than anybody sees, and at a moderate load each call then has company.
Every update costs three more calls behind this one, so what is gathered here is gathered for all of them."""

WRITE_COMPANY = 10
"""Commands that make a call worth its price, so that it waits for no more. Few: while services are busy, calls fill by themselves."""

_CLOSE_PATIENCE = 2.0  # seconds; what is unanswered then is so for clients, too, and they repeat it


class Backend:
    """Calls of the timer, sharing and connection services.

    Methods return futures. Beside what is said at the RPCs they raise grpc.aio.AioRpcError, and Overloaded when too much
    is waiting. Writes and changes of one timer take effect in the order in which they were asked for here.
    """

    def __init__(
        self,
        timers: "timer_pb2_grpc.TimerServiceAsyncStub",
        sharing: "sharing_pb2_grpc.SharingServiceAsyncStub",
        connections: "connection_pb2_grpc.ConnectionServiceAsyncStub",
    ) -> None:
        self._timers = timers
        self._sharing = sharing
        self._connections = connections
        # What people send without end is refused when it would come too late; the rest is bounded by what the edge does.
        self._writes = Batcher(
            self._write,
            name="timers",
            metric="timer.write",
            interval=WRITE_INTERVAL,
            enough=WRITE_COMPANY,
            sheds=True,
        )
        self._gets = Batcher(self._get, name="timers", metric="timer.get")
        self._snapshots = Batcher(self._snapshot, name="timers", metric="timer.snapshot", max_batch=32)
        self._changes = Batcher(self._change, name="sharing", metric="sharing.change", sheds=True)
        self._registrations = Batcher(self._register, name="connections", metric="connection.register")
        self._endings = Batcher(
            self._unregister,
            name="connections",
            metric="connection.unregister",
            lanes=1,
            max_batch=1_000,
            max_queue=100_000,
        )
        # An item may have 4 KiB: a token is longer than everything else that a connection has.
        self._device_registrations = Batcher(
            self._register_devices, name="connections", metric="connection.register_device", sheds=True
        )
        self._device_endings = Batcher(
            self._unregister_devices, name="connections", metric="connection.unregister_device", sheds=True
        )

    def admit_write(self, timer_id: str) -> Place:
        """The place of a command on this timer, for `write` in the same turn of the loop. Raises Overloaded when there is none."""
        return self._writes.admit(timer_id)

    def write(self, item: timer_pb2.WriteItem, place: Place | None = None) -> asyncio.Future[timer_pb2.WriteResult]:
        """One command on a timer. Raises Overloaded, unless it has a place."""
        return self._writes.submit(item, item.timer_id, place)

    def get(self, timer_id: str, user_id: str = "") -> asyncio.Future[timer_pb2.GetResult]:
        """A timer and its audience as they are now. Without a user, nobody's right to see it is checked."""
        return self._gets.submit(timer_pb2.GetItem(timer_id=timer_id, user_id=user_id), timer_id)

    def snapshot(self, item: timer_pb2.SnapshotItem) -> asyncio.Future[timer_pb2.UserSnapshot]:
        """All timers of a user."""
        return self._snapshots.submit(item, item.user_id)

    def change(self, item: sharing_pb2.ChangeItem) -> asyncio.Future[sharing_pb2.ChangeResult]:
        """One change of who sees a timer."""
        return self._changes.submit(item, item.timer_id)

    def register(self, item: connection_pb2.RegisterItem) -> asyncio.Future[connection_pb2.RegisterResult]:
        """The durable row of a connection."""
        return self._registrations.submit(item, item.user_id)

    def unregister(self, connection_id: str) -> asyncio.Future[None]:
        """The end of that row."""
        return self._endings.submit(connection_id, "")

    def register_device(self, item: connection_pb2.RegisterDeviceItem) -> asyncio.Future[None]:
        """A device's push token."""
        return self._device_registrations.submit(item, item.user_id)

    def unregister_device(self, item: connection_pb2.UnregisterDeviceItem) -> asyncio.Future[None]:
        """The end of that."""
        return self._device_endings.submit(item, item.user_id)

    async def close(self) -> None:
        """Finishes what is under way, for so long as a call may take, and takes no more."""
        batchers: tuple[Batcher[Any, Any], ...] = (
            self._writes, self._gets, self._snapshots, self._changes, self._registrations, self._endings,
            self._device_registrations, self._device_endings,
        )  # fmt: skip
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_PATIENCE):
                await asyncio.gather(*(batcher.close() for batcher in batchers))

    async def _write(self, items: Sequence[timer_pb2.WriteItem]) -> Sequence[timer_pb2.WriteResult]:
        response = await self._timers.Write(timer_pb2.WriteRequest(items=items), timeout=CALL_DEADLINE)
        return response.results

    async def _get(self, items: Sequence[timer_pb2.GetItem]) -> Sequence[timer_pb2.GetResult]:
        response = await self._timers.Get(timer_pb2.GetRequest(items=items), timeout=CALL_DEADLINE)
        return response.results

    async def _snapshot(self, items: Sequence[timer_pb2.SnapshotItem]) -> Sequence[timer_pb2.UserSnapshot]:
        response = await self._timers.Snapshot(timer_pb2.SnapshotRequest(items=items), timeout=CALL_DEADLINE)
        return response.results

    async def _change(self, items: Sequence[sharing_pb2.ChangeItem]) -> Sequence[sharing_pb2.ChangeResult]:
        response = await self._sharing.Change(sharing_pb2.ChangeRequest(items=items), timeout=CALL_DEADLINE)
        return response.results

    async def _register(self, items: Sequence[connection_pb2.RegisterItem]) -> Sequence[connection_pb2.RegisterResult]:
        response = await self._connections.Register(connection_pb2.RegisterRequest(items=items), timeout=CALL_DEADLINE)
        return response.results

    async def _unregister(self, connection_ids: Sequence[str]) -> Sequence[None]:
        request = connection_pb2.UnregisterRequest(connection_ids=connection_ids)
        await self._connections.Unregister(request, timeout=CALL_DEADLINE)
        return [None] * len(connection_ids)

    async def _register_devices(self, items: Sequence[connection_pb2.RegisterDeviceItem]) -> Sequence[None]:
        request = connection_pb2.RegisterDevicesRequest(items=items)
        await self._connections.RegisterDevices(request, timeout=CALL_DEADLINE)
        return [None] * len(items)

    async def _unregister_devices(self, items: Sequence[connection_pb2.UnregisterDeviceItem]) -> Sequence[None]:
        request = connection_pb2.UnregisterDevicesRequest(items=items)
        await self._connections.UnregisterDevices(request, timeout=CALL_DEADLINE)
        return [None] * len(items)
