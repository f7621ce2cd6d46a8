"""The stream between this replica and one edge: taking in its connections, sending deliveries, probing."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping

import grpc

from connection_service import metrics
from connection_service.domain import ACK_PATIENCE, PROBE_INTERVAL, TRUST, Connection, Registry
from proto.connection.v1 import connection_pb2
from runtime import logs
from runtime.errors import BubbleError

log = logs.get(__name__)

MAX_UNACKNOWLEDGED = 256
"""Batches an edge may owe an acknowledgement for before it gets no more. With the patience that is ten thousand a second."""

_MAX_PROBES = 32  # probes whose answers are still of interest; older ones could not give trust any more

Acknowledgement = asyncio.Future[bool]


class NoLease(BubbleError):
    """The edge has no lease (any longer): it must take a new one, under a new id."""

    status = grpc.StatusCode.FAILED_PRECONDITION


class EdgeStream:
    """One attached edge."""

    def __init__(self, edge_id: str, registry: Registry, *, on_opened: Callable[[Connection], None]) -> None:
        """`on_opened`: is called with each connection that comes after the hello, when the registry has it."""
        self.edge_id = edge_id
        self._registry = registry
        self._on_opened = on_opened
        self._outgoing: asyncio.Queue[connection_pb2.AttachResponse | None] = asyncio.Queue()
        self._unacknowledged: OrderedDict[int, tuple[Acknowledgement, float]] = OrderedDict()
        self._sequence = 0
        self._suspect = False
        self._ended = False
        self._probes: OrderedDict[int, float] = OrderedDict()
        self._trusted_until = float("-inf")

    @property
    def is_suspect(self) -> bool:
        """Whether it owes acknowledgements for longer than the patience."""
        return self._suspect

    @property
    def trusted(self) -> bool:
        """Whether the registry has every connection this edge may have shown anything to."""
        return time.monotonic() < self._trusted_until

    def send(self, response: connection_pb2.AttachResponse) -> Acknowledgement | None:
        """Sends a batch, and numbers it. The future is True when the edge has taken it over, False when the stream ended before.

        None: not sent, because the edge is slow. Of a slow edge nothing more is asked before it has caught up.
        """
        if self._ended or self._suspect or len(self._unacknowledged) >= MAX_UNACKNOWLEDGED:
            return None
        self._sequence += 1
        acknowledgement: Acknowledgement = asyncio.get_running_loop().create_future()
        self._unacknowledged[self._sequence] = (acknowledgement, time.monotonic())
        response.batch.sequence = self._sequence
        self._outgoing.put_nowait(response)
        return acknowledgement

    def suspect(self) -> None:
        """The edge took longer than the patience."""
        if not self._suspect:
            log.warning("edge is slow", edge_id=self.edge_id, count=len(self._unacknowledged))
        self._suspect = True

    def take_in(self, message: connection_pb2.AttachRequest) -> None:
        """What the edge says after its hello. A second hello ends the stream."""
        if self._ended:  # its successor has the whole list, newer than this
            return
        match message.WhichOneof("message"):
            case "changes":
                changes = message.changes
                for opened in changes.opened:
                    connection = connection_from(opened, self.edge_id)
                    self._registry.open(self.edge_id, connection)
                    self._on_opened(connection)
                for connection_id in changes.closed_connection_ids:
                    self._registry.close(self.edge_id, connection_id)
                self.confirm(changes.sequence)
            case "acknowledged_sequence":
                self._acknowledge(message.acknowledged_sequence)
            case "probe_answer":
                sent_at = self._probes.pop(message.probe_answer, None)
                if sent_at is not None:
                    self._trusted_until = max(self._trusted_until, sent_at + TRUST)
            case "hello":
                log.warning("edge said hello twice", edge_id=self.edge_id)
                self.end()

    def confirm(self, sequence: int) -> None:
        """Tells the edge that its changes up to this number are taken in."""
        self._outgoing.put_nowait(connection_pb2.AttachResponse(confirmed_sequence=sequence))

    def supersede(self, connection_ids: Iterable[str]) -> None:
        """Tells the edge that the devices of these connections have opened others elsewhere. Nobody acknowledges it."""
        superseded = connection_pb2.Superseded(connection_ids=connection_ids)
        self._outgoing.put_nowait(connection_pb2.AttachResponse(superseded=superseded))

    async def probe(self) -> None:
        """Asks for a sign of life again and again. Runs until it is cancelled."""
        number = 0
        while True:
            number += 1
            self._probes[number] = time.monotonic()
            if len(self._probes) > _MAX_PROBES:
                self._probes.popitem(last=False)
            self._outgoing.put_nowait(connection_pb2.AttachResponse(probe=number))
            await asyncio.sleep(PROBE_INTERVAL)

    def end(self) -> None:
        """Ends `responses`, and everything that waits for this edge."""
        self._ended = True
        self._trusted_until = float("-inf")
        self._acknowledge(self._sequence, taken_over=False)
        self._outgoing.put_nowait(None)

    async def responses(self) -> AsyncIterator[connection_pb2.AttachResponse]:
        """What the edge is told, in order."""
        while (response := await self._outgoing.get()) is not None:
            yield response

    def _acknowledge(self, sequence: int, *, taken_over: bool = True) -> None:
        while self._unacknowledged and next(iter(self._unacknowledged)) <= sequence:
            _, (acknowledgement, sent_at) = self._unacknowledged.popitem(last=False)
            if taken_over:
                metrics.TAKE_OVER.observe(time.monotonic() - sent_at)
            if not acknowledgement.done():
                acknowledgement.set_result(taken_over)
        if not self._unacknowledged:
            self._suspect = False


async def await_acknowledgements(waiting: Mapping[Acknowledgement, EdgeStream]) -> set[Acknowledgement]:
    """Those of the batches that their edges took over within the patience; the edges of others are suspect from now on."""
    if not waiting:
        return set()
    await asyncio.wait(waiting, timeout=ACK_PATIENCE)
    taken_over = set()
    for acknowledgement, stream in waiting.items():
        if not acknowledgement.done():
            stream.suspect()
        elif not acknowledgement.cancelled() and acknowledgement.result():
            taken_over.add(acknowledgement)
    return taken_over


def connection_from(message: connection_pb2.Connection, edge_id: str) -> Connection:
    """A connection as its edge tells of it."""
    return Connection(
        connection_id=message.connection_id,
        user_id=message.user_id,
        device_id=message.device_id,
        edge_id=edge_id,
        registered_at_us=message.registered_at_us,
        supersedable=message.supersedable,
    )
