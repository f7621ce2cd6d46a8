"""The stream between this edge and one replica of the connection service: what connections there are, and deliveries.

Nothing may be shown to a new connection before every replica either has confirmed that it knows of it, or can't trust this
edge's list any more (`connection_service/domain.py` tells the whole story).
"""

import asyncio
import random
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable

import grpc

from proto.connection.v1 import connection_pb2, connection_pb2_grpc
from runtime import logs
from runtime.grpc_client import open_channel

log = logs.get(__name__)

HELLO_PART = 1_000
"""Connections in one part of a hello: some 100 KB."""

CONFIRM_PATIENCE = 1.0
"""Seconds a replica may take to confirm a new connection before its stream is given up."""

_SILENCE = 3.0  # a replica probes twice a second; one that is silent for this long is stopped or cut off
_LONGEST_BACKOFF = 1.0

Connections = Callable[[], Iterable[connection_pb2.Connection]]
Deliver = Callable[[connection_pb2.DeliveryBatch], None]


class ReplicaStream:
    """The edge's side of the stream to one replica, kept up by `run`."""

    def __init__(
        self,
        address: str,
        edge_id: str,
        *,
        connections: Connections,
        deliver: Deliver,
        on_lease_lost: Callable[[], None],
    ) -> None:
        self.address = address
        self._edge_id = edge_id
        self._connections = connections
        self._deliver = deliver
        self._on_lease_lost = on_lease_lost
        self._last_answer = float("-inf")
        self._last_heard = 0.0
        self._up = False
        self._writing: asyncio.Task[None] | None = None
        self.attached = False
        """The replica has confirmed the hello."""
        self._reset()

    async def run(self) -> None:
        """Keeps the stream up until cancelled."""
        backoff = 0.1
        while True:
            try:
                await self._attach()
                backoff = 0.1
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.FAILED_PRECONDITION:
                    self._on_lease_lost()
                log.info("stream ended", replica=self.address, code=error.code().name, details=error.details())
            except TimeoutError:
                log.warning("replica is silent", replica=self.address)
            await asyncio.sleep(backoff * random.uniform(0.5, 1.0))
            backoff = min(backoff * 2, _LONGEST_BACKOFF)

    async def announce(self, connection: connection_pb2.Connection, trust: float) -> None:
        """Returns when the replica knows of a new connection, or can't believe any more that it knows all of ours.

        The connection must be among those that `connections` gives already. `trust`: for how many seconds after an answered
        probe a replica trusts this edge.
        """
        if self._up:
            self._opened[connection.connection_id] = connection
            self._changed.set()
            confirmed = self._next_confirmation
            try:
                async with asyncio.timeout(CONFIRM_PATIENCE):
                    if await asyncio.shield(confirmed):
                        return
            except TimeoutError:
                log.warning("replica does not confirm", replica=self.address)
            # From here on, no probe of this stream is answered.
            self._give_up()
        await asyncio.sleep(self._last_answer + trust - time.monotonic())

    def closed(self, connection_id: str) -> None:
        """Tells the replica that a connection is gone."""
        if self._up:
            if self._opened.pop(connection_id, None) is None:
                self._closed.append(connection_id)
            self._changed.set()

    def trusted_until(self, trust: float) -> float:
        """Until when, by the monotonic clock, the replica may trust what this edge told it."""
        return self._last_answer + trust

    def _reset(self) -> None:
        self._opened: dict[str, connection_pb2.Connection] = {}
        self._closed: list[str] = []
        self._acknowledged = 0
        self._answer = 0
        self._sequence = 0
        self._changed = asyncio.Event()
        self._next_confirmation: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._confirmations: OrderedDict[int, asyncio.Future[bool]] = OrderedDict()

    def _give_up(self) -> None:
        self._up = self.attached = False
        if self._writing is not None:
            self._writing.cancel()

    async def _attach(self) -> None:
        """One stream, from hello to its end. Raises AioRpcError, TimeoutError."""
        self._reset()
        async with open_channel(self.address) as channel:
            stub = connection_pb2_grpc.ConnectionServiceStub(channel)
            call = stub.Attach()  # type: ignore[call-arg]  # written to as it goes; the stubs know only iterators
            try:
                # Whoever comes after this list is made is told of on this stream: no await between the two.
                hello = self._hello()
                self._up = True
                self._last_heard = time.monotonic()
                for part in hello:
                    await call.write(part)
                self._writing = asyncio.create_task(self._write(call), name=f"attach {self.address}")
                reading = asyncio.create_task(self._read(call), name=f"attach {self.address}")
                watching = asyncio.create_task(self._watch(), name=f"attach {self.address}")
                tasks = (self._writing, reading, watching)
                try:
                    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    self._up = self.attached = False
                    for task in tasks:
                        task.cancel()
                    results = await asyncio.gather(*tasks, return_exceptions=True)
                for result in (results[1], results[0], results[2]):  # the reader knows best why a stream ended
                    if isinstance(result, Exception):
                        raise result
            finally:
                self._up = self.attached = False
                call.cancel()
                for confirmation in (self._next_confirmation, *self._confirmations.values()):
                    if not confirmation.done():
                        confirmation.set_result(False)

    def _hello(self) -> list[connection_pb2.AttachRequest]:
        connections = list(self._connections())
        parts = [connections[start : start + HELLO_PART] for start in range(0, len(connections), HELLO_PART)] or [[]]
        return [
            connection_pb2.AttachRequest(
                hello=connection_pb2.Hello(edge_id=self._edge_id, connections=part, complete=number == len(parts))
            )
            for number, part in enumerate(parts, 1)
        ]

    async def _write(
        self, call: "grpc.aio.StreamStreamCall[connection_pb2.AttachRequest, connection_pb2.AttachResponse]"
    ) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._opened or self._closed:
                self._sequence += 1
                opened, self._opened = list(self._opened.values()), {}
                closed, self._closed = self._closed, []
                self._confirmations[self._sequence] = self._next_confirmation
                self._next_confirmation = asyncio.get_running_loop().create_future()
                await call.write(
                    connection_pb2.AttachRequest(
                        changes=connection_pb2.Changes(
                            opened=opened, closed_connection_ids=closed, sequence=self._sequence
                        )
                    )
                )
            if self._acknowledged:
                acknowledged, self._acknowledged = self._acknowledged, 0
                await call.write(connection_pb2.AttachRequest(acknowledged_sequence=acknowledged))
            if self._answer:
                answer, self._answer = self._answer, 0
                # Before it is sent: it may arrive although the sending fails.
                self._last_answer = time.monotonic()
                await call.write(connection_pb2.AttachRequest(probe_answer=answer))

    async def _read(
        self, call: "grpc.aio.StreamStreamCall[connection_pb2.AttachRequest, connection_pb2.AttachResponse]"
    ) -> None:
        responses: AsyncIterator[connection_pb2.AttachResponse] = call.__aiter__()
        async for response in responses:
            self._last_heard = time.monotonic()
            match response.WhichOneof("message"):
                case "batch":
                    self._deliver(response.batch)
                    self._acknowledged = response.batch.sequence
                    self._changed.set()
                case "probe":
                    self._answer = response.probe
                    self._changed.set()
                case "confirmed_sequence":
                    if not self.attached:
                        self.attached = True
                        log.info("attached", replica=self.address, edge_id=self._edge_id)
                    self._confirm(response.confirmed_sequence)

    def _confirm(self, sequence: int) -> None:
        while self._confirmations and next(iter(self._confirmations)) <= sequence:
            _, confirmation = self._confirmations.popitem(last=False)
            if not confirmation.done():
                confirmation.set_result(True)

    async def _watch(self) -> None:
        while time.monotonic() - self._last_heard < _SILENCE:
            await asyncio.sleep(_SILENCE / 4)
        raise TimeoutError
