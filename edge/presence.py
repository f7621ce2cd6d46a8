"""The edge among the others: its lease, its streams to all replicas of the connection service, its connections."""

import asyncio
import secrets
import socket
import time
from collections.abc import Callable, Collection, Coroutine, Iterable
from typing import Any

import grpc

from edge import metrics
from edge.attach import Deliver, ReplicaStream, Supersede
from edge.backend import Backend
from edge.errors import ClientError, busy
from proto.connection.v1 import connection_pb2, connection_pb2_grpc
from runtime import logs
from runtime.clock import now_us
from runtime.errors import BubbleError, Unavailable, brief
from runtime.grpc_client import CALL_DEADLINE, split_address
from runtime.tls import Tls

log = logs.get(__name__)

RENEW_INTERVAL = 3.0
"""Seconds between two renewals of the lease: a fifth of what it lasts."""

RESOLVE_INTERVAL = 2.0
"""Seconds between two looks for replicas of the connection service."""

_RENEW_DEADLINE = 2.0
_LEFTOVERS_AT_ONCE = 1_000


class TooManyConnections(ClientError):
    """The user has as many connections as one may have."""

    def __init__(self) -> None:
        super().__init__(429, "Too many connections")


class Presence:
    """Tells the connection service who is connected here, and takes deliveries from it."""

    def __init__(
        self,
        addresses: str,
        tls: Tls | None,
        connections: "connection_pb2_grpc.ConnectionServiceAsyncStub",
        backend: Backend,
        *,
        deliver: Deliver,
        supersede: Supersede,
        on_lease_lost: Callable[[], None],
    ) -> None:
        """`supersede` is called with the ids of connections whose devices have opened others, at other edges."""
        self._addresses = [split_address(address) for address in addresses.split(",")]
        self._tls = tls
        if tls is not None and len(self._addresses) == 1:
            self._tls = tls.for_host(self._addresses[0][0])
        self._service = connections
        self._backend = backend
        self._deliver = deliver
        self._supersede = supersede
        self._on_lease_lost = on_lease_lost
        self._open: dict[str, connection_pb2.Connection] = {}
        self._leftover: set[str] = set()
        self._streams: dict[str, ReplicaStream] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._trust = 0.0
        self._ready_at = float("inf")
        self._lost = asyncio.Event()
        self.edge_id = ""

    @property
    def not_ready(self) -> str | None:
        """Why no connection can be served now, or None."""
        if time.monotonic() < self._ready_at:
            return "the edge has no settled lease yet"
        if not any(stream.attached for stream in self._streams.values()):
            return "not attached to any connection service"
        return None

    @property
    def streams(self) -> Collection[ReplicaStream]:
        """The streams to all replicas that were found."""
        return self._streams.values()

    async def check(self) -> None:
        """Raises Unavailable when no connection can be served."""
        if self.not_ready is not None:
            raise Unavailable(self.not_ready)

    async def run(self) -> None:
        """Holds a lease and keeps the streams up, until cancelled."""
        try:
            while True:
                await self._acquire()
                try:
                    async with asyncio.TaskGroup() as group:
                        keeping = [group.create_task(self._renew()), group.create_task(self._resolve())]
                        await self._lost.wait()
                        for task in keeping:
                            task.cancel()
                finally:
                    await self._detach_all()
        finally:
            await self._detach_all()

    async def open(
        self, user_id: str, device_id: str, claim: Callable[[str], None], *, supersedable: bool = False
    ) -> str:
        """Registers a connection and announces it to every replica; returns its id. `supersedable`: its device uses one such at a
        time, at whichever edge.

        `claim` is called with the id before any event can come for it; it raises ConnectionError when nobody is there any more.
        When this returns, every event that is committed from now on will be delivered here. Raises TooManyConnections,
        AioRpcError, Overloaded, ConnectionError.
        """
        edge_id = self.edge_id
        connection_id = secrets.token_hex(8)
        item = connection_pb2.RegisterItem(
            user_id=user_id, device_id=device_id, edge_id=edge_id, connection_id=connection_id
        )
        try:
            result = await self._backend.register(item)
        except BaseException:
            self._leftover.add(connection_id)  # perhaps it was registered
            raise
        if not result.connection_id:
            raise TooManyConnections
        if edge_id != self.edge_id or self._lost.is_set():  # the lease went meanwhile, and the row with it
            raise busy("The edge is restarting")
        connection = connection_pb2.Connection(
            connection_id=connection_id,
            user_id=user_id,
            device_id=device_id,
            edge_id=edge_id,
            registered_at_us=now_us(),
            supersedable=supersedable,
        )
        try:
            claim(connection_id)
        except ConnectionError:
            self._unregister(connection_id)
            raise
        self._open[connection_id] = connection
        await asyncio.gather(*(stream.announce(connection, self._trust) for stream in self._streams.values()))
        return connection_id

    def close(self, connection_id: str) -> None:
        """Unregisters a connection, soon. Unknown ids are fine."""
        if self._open.pop(connection_id, None) is None:
            return
        for stream in self._streams.values():
            stream.closed(connection_id)
        self._unregister(connection_id)

    def _unregister(self, connection_id: str) -> None:
        """Removes a row; one that can't be removed now is tried again with the next renewal of the lease."""
        self._leftover.discard(connection_id)

        def done(future: "asyncio.Future[None]") -> None:
            if future.cancelled() or future.exception() is not None:
                self._leftover.add(connection_id)

        try:
            self._backend.unregister(connection_id).add_done_callback(done)
        except BubbleError:
            self._leftover.add(connection_id)

    async def leave(self) -> None:
        """Gives the lease and all rows back. For the end of a drain."""
        try:
            request = connection_pb2.RenewLeaseRequest(edge_id=self.edge_id, release=True)
            await self._service.RenewLease(request, timeout=_RENEW_DEADLINE)
        except grpc.aio.AioRpcError as error:
            log.info("lease not given back, it will run out", reason=error.details())

    async def _acquire(self) -> None:
        self.edge_id = f"{socket.gethostname()[:40]}-{secrets.token_hex(4)}"
        self._lost.clear()
        self._leftover.clear()  # the old id's rows went with its lease
        while True:
            try:
                terms = await self._service.RenewLease(
                    connection_pb2.RenewLeaseRequest(edge_id=self.edge_id, acquire=True), timeout=CALL_DEADLINE
                )
            except grpc.aio.AioRpcError as error:
                log.warning("no lease yet", reason=error.details())
                await asyncio.sleep(0.5)
            else:
                break
        self._trust = terms.trust_ms / 1_000
        self._ready_at = time.monotonic() + terms.settle_ms / 1_000
        log.info("lease taken", edge_id=self.edge_id)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_INTERVAL)
            try:
                await self._service.RenewLease(
                    connection_pb2.RenewLeaseRequest(edge_id=self.edge_id), timeout=_RENEW_DEADLINE
                )
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.NOT_FOUND:
                    self._lose()
                else:
                    log.warning("lease not renewed", reason=error.details())
            else:
                for connection_id in list(self._leftover)[:_LEFTOVERS_AT_ONCE]:
                    self._unregister(connection_id)

    def _lose(self) -> None:
        """Events may have passed us by: every connection must start anew, under a new id of this edge."""
        if not self._lost.is_set():
            log.warning("lease lost, all clients are to connect again", edge_id=self.edge_id)
            metrics.LEASES_LOST.inc()
            self._ready_at = float("inf")
            self._lost.set()
            self._on_lease_lost()

    async def _resolve(self) -> None:
        while True:
            addresses = await self._lookup()
            if addresses is not None:
                await self._follow(addresses)
            await asyncio.sleep(RESOLVE_INTERVAL)

    async def _lookup(self) -> set[str] | None:
        loop = asyncio.get_running_loop()
        found = set()
        try:
            for host, port in self._addresses:
                infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
                # One family only: the same replica under two addresses would be two streams that end each other.
                family = min(info[0] for info in infos)
                for ip in {str(info[4][0]) for info in infos if info[0] == family}:
                    found.add(f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}")
        except OSError as error:
            log.warning("connection service can't be resolved", error=brief(error))
            return None
        return found

    async def _follow(self, addresses: Iterable[str]) -> None:
        """Starts streams to new replicas, and ends those to replicas that are gone and can't trust us any more."""
        for address in addresses:
            if address not in self._streams:
                stream = ReplicaStream(
                    address,
                    self._tls,
                    self.edge_id,
                    connections=lambda: list(self._open.values()),
                    deliver=self._deliver,
                    supersede=self._supersede,
                    on_lease_lost=self._lose,
                )
                self._streams[address] = stream
                self._tasks[address] = _start(stream.run(), f"attach {address}")
        for address, stream in list(self._streams.items()):
            gone = address not in addresses and not stream.attached
            if gone and stream.trusted_until(self._trust) < time.monotonic():
                del self._streams[address]
                await _end(self._tasks.pop(address))

    async def _detach_all(self) -> None:
        self._streams.clear()
        tasks, self._tasks = self._tasks, {}
        for task in tasks.values():
            await _end(task)


def _start(work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
    return asyncio.create_task(work, name=name)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    (result,) = await asyncio.gather(task, return_exceptions=True)
    if isinstance(result, Exception):
        log.error("stream crashed", exc_info=result)
