"""The stream between this edge and one replica of the connection service: what connections there are, and deliveries.

Nothing may be shown to a new connection before every replica either has confirmed that it knows of it, or can't trust this
edge's list any more (`connection_service/domain.py` tells the whole story).
"""

import asyncio
import random
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator

import grpc

from proto.connection.v1 import connection_pb2, connection_pb2_grpc
from runtime import logs
from runtime.errors import brief
from runtime.grpc_client import open_channel
from runtime.tls import Tls

log = logs.get(__name__)

HELLO_PART = 1_000
"""Connections in one part of a hello: some 100 KB."""

CONFIRM_PATIENCE = 1.0
"""Seconds a replica may take to confirm a new connection before its stream is given up."""

_SILENCE = 3.0  # a replica probes twice a second; one that is silent for this long is stopped or cut off
_FIRST_BACKOFF = 0.1
_LONGEST_BACKOFF = 1.0

Connections = Callable[[], Iterable[connection_pb2.Connection]]
Deliver = Callable[[connection_pb2.DeliveryBatch], None]
Supersede = Callable[[Iterable[str]], None]
Call = grpc.aio.StreamStreamCall


class ReplicaStream:
    """The edge's side of the stream to one replica, kept up by `run`, attempt after attempt."""

    def __init__(
        self,
        address: str,
        tls: Tls | None,
        edge_id: str,
        *,
        connections: Connections,
        deliver: Deliver,
        supersede: Supersede,
        on_lease_lost: Callable[[], None],
    ) -> None:
        self.address = address
        self._tls = tls
        self._edge_id = edge_id
        self._connections = connections
        self._deliver = deliver
        self._supersede = supersede
        self._on_lease_lost = on_lease_lost
        self._attempt: _Attempt | None = None
        self._last_answer = float("-inf")

    @property
    def attached(self) -> bool:
        """Whether the replica has confirmed that it knows all connections."""
        return self._attempt is not None and self._attempt.confirmed

    async def run(self) -> None:
        """Keeps the stream up until cancelled."""
        backoff = _FIRST_BACKOFF
        while True:
            # The list is made here; whoever comes later is told of on the stream.
            self._attempt = _Attempt(
                self._edge_id,
                self._connections(),
                self._deliver,
                self._answered,
                supersede=self._supersede,
                on_confirmed=self._confirmed,
            )
            try:
                async with open_channel(self.address, self._tls) as channel:
                    await self._attempt.run(connection_pb2_grpc.ConnectionServiceStub(channel))
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.FAILED_PRECONDITION:
                    self._on_lease_lost()
                log.warning("replica lost", replica=self.address, error=brief(error))
            except TimeoutError:
                log.warning("replica lost", replica=self.address, error="it is silent")
            except Exception:
                # Whatever it was: an edge without this stream gets no deliveries, so it is tried again.
                log.exception("stream crashed", replica=self.address)
            backoff = _FIRST_BACKOFF if self._attempt.confirmed else min(backoff * 2, _LONGEST_BACKOFF)
            self._attempt = None
            await asyncio.sleep(backoff * random.uniform(0.5, 1.0))

    async def announce(self, connection: connection_pb2.Connection, trust: float) -> None:
        """Returns when the replica knows of a new connection, or can't believe any more that it knows all of ours.

        The connection must be among those that `connections` gives already. `trust`: for how many seconds after an answered
        probe a replica trusts this edge.
        """
        if self._attempt is not None and await self._attempt.announce(connection):
            return
        await asyncio.sleep(self.trusted_until(trust) - time.monotonic())

    def closed(self, connection_id: str) -> None:
        """Tells the replica that a connection is gone."""
        if self._attempt is not None:
            self._attempt.closed(connection_id)

    def trusted_until(self, trust: float) -> float:
        """Until when, by the monotonic clock, the replica may trust what this edge told it."""
        return self._last_answer + trust

    def _confirmed(self) -> None:
        log.info("attached", replica=self.address)

    def _answered(self) -> None:
        self._last_answer = time.monotonic()


class _Attempt:
    """One stream, from hello to its end."""

    def __init__(
        self,
        edge_id: str,
        connections: Iterable[connection_pb2.Connection],
        deliver: Deliver,
        on_answer: Callable[[], None],
        *,
        supersede: Supersede,
        on_confirmed: Callable[[], None],
    ) -> None:
        self.confirmed = False
        """The replica has taken in the hello (and may be trusting this edge)."""
        self._edge_id = edge_id
        self._listed = list(connections)
        self._deliver = deliver
        self._on_answer = on_answer
        self._supersede = supersede
        self._on_confirmed = on_confirmed
        self._over = False
        self._given_up = asyncio.Event()
        self._heard_at = time.monotonic()
        self._opened: dict[str, connection_pb2.Connection] = {}
        self._closed: list[str] = []
        self._acknowledged = 0
        self._answer = 0
        self._sequence = 0
        self._changed = asyncio.Event()
        self._next_confirmation: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._confirmations: OrderedDict[int, asyncio.Future[bool]] = OrderedDict()

    async def announce(self, connection: connection_pb2.Connection) -> bool:
        """Whether the replica has confirmed a new connection. If not, no probe is answered any more and the stream ends."""
        if self._over:
            return False
        self._opened[connection.connection_id] = connection
        self._changed.set()
        try:
            async with asyncio.timeout(CONFIRM_PATIENCE):
                return await asyncio.shield(self._next_confirmation)
        except TimeoutError:
            self._over = True
            self._given_up.set()
            return False

    def closed(self, connection_id: str) -> None:
        """A connection is gone. Told in any case: somebody may wait for the confirmation of what was to be told in its place."""
        self._opened.pop(connection_id, None)
        self._closed.append(connection_id)
        self._changed.set()

    async def run(self, stub: connection_pb2_grpc.ConnectionServiceStub) -> None:
        """Runs to the stream's end. Raises AioRpcError; TimeoutError when the replica is silent or does not confirm."""
        call: Call[connection_pb2.AttachRequest, connection_pb2.AttachResponse]
        call = stub.Attach()  # type: ignore[call-arg, assignment]  # written to as it goes; the stubs know only iterators
        reading = asyncio.create_task(self._read(call), name="attach: read")
        others = [
            asyncio.create_task(self._write(call), name="attach: write"),
            asyncio.create_task(self._watch(), name="attach: watch"),
            asyncio.create_task(self._given_up.wait(), name="attach: given up"),
        ]
        try:
            await asyncio.wait([reading, *others], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._over = True
            for task in others:
                task.cancel()
            call.cancel()
            reading.cancel()
            results = await asyncio.gather(reading, *others, return_exceptions=True)
            for confirmation in (self._next_confirmation, *self._confirmations.values()):
                if not confirmation.done():
                    confirmation.set_result(False)
        raise _reason(results)

    def _hello(self) -> Iterator[connection_pb2.AttachRequest]:
        last = max(len(self._listed) - 1, 0) // HELLO_PART
        for number in range(last + 1):
            part = self._listed[number * HELLO_PART : (number + 1) * HELLO_PART]
            yield connection_pb2.AttachRequest(
                hello=connection_pb2.Hello(edge_id=self._edge_id, connections=part, complete=number == last)
            )

    async def _write(self, call: "Call[connection_pb2.AttachRequest, connection_pb2.AttachResponse]") -> None:
        for part in self._hello():
            await call.write(part)
            self._heard_at = time.monotonic()  # taking it in counts as a sign of life: it answers only the whole
        self._listed.clear()
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._opened or self._closed:
                await call.write(connection_pb2.AttachRequest(changes=self._changes()))
            if self._acknowledged:
                acknowledged, self._acknowledged = self._acknowledged, 0
                await call.write(connection_pb2.AttachRequest(acknowledged_sequence=acknowledged))
            if self._answer and not self._over:
                answer, self._answer = self._answer, 0
                self._on_answer()  # before it is sent: it may arrive although the sending fails
                await call.write(connection_pb2.AttachRequest(probe_answer=answer))

    def _changes(self) -> connection_pb2.Changes:
        self._sequence += 1
        opened, self._opened = self._opened, {}
        closed, self._closed = self._closed, []
        self._confirmations[self._sequence] = self._next_confirmation
        self._next_confirmation = asyncio.get_running_loop().create_future()
        return connection_pb2.Changes(opened=opened.values(), closed_connection_ids=closed, sequence=self._sequence)

    async def _read(self, call: "Call[connection_pb2.AttachRequest, connection_pb2.AttachResponse]") -> None:
        async for response in call:
            self._heard_at = time.monotonic()
            match response.WhichOneof("message"):
                case "batch":
                    self._deliver(response.batch)
                    self._acknowledged = response.batch.sequence
                    self._changed.set()
                case "probe":
                    self._answer = response.probe
                    self._changed.set()
                case "superseded":
                    self._supersede(response.superseded.connection_ids)
                case "confirmed_sequence":
                    if not self.confirmed:
                        self.confirmed = True
                        self._on_confirmed()
                    self._confirm(response.confirmed_sequence)

    def _confirm(self, sequence: int) -> None:
        while self._confirmations and next(iter(self._confirmations)) <= sequence:
            _, confirmation = self._confirmations.popitem(last=False)
            if not confirmation.done():
                confirmation.set_result(True)

    async def _watch(self) -> None:
        while time.monotonic() - self._heard_at < _SILENCE:
            await asyncio.sleep(_SILENCE / 4)


def _reason(results: Iterable[object]) -> Exception:
    """Why a stream ended. The reader knows best; a writer that finds the call over says only that."""
    errors = [result for result in results if isinstance(result, Exception)]
    for error in errors:
        if isinstance(error, grpc.aio.AioRpcError) and error.code() is not grpc.StatusCode.CANCELLED:
            return error
    for error in errors:
        if not isinstance(error, grpc.aio.AioRpcError | asyncio.InvalidStateError):
            return error
    return TimeoutError()
