"""The connection service's RPCs: presence, leases, the edges' streams, and the routing of events to them."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Collection, Iterable, Sequence

import grpc

from connection_service import metrics
from connection_service.attach import EdgeStream, NoLease, await_acknowledgements, connection_from
from connection_service.batches import Batches
from connection_service.domain import LEASE, SETTLE, TRUST, Connection, Registry
from connection_service.leases import Leases
from connection_service.push_convert import to_be_pushed, token_from
from connection_service.push_sender import PushSender
from connection_service.push_worker import PushWorker
from connection_service.pushes import MAX_TOKENS_PER_USER
from connection_service.store.contract import Store
from connection_service.succession import predecessors
from proto.connection.v1 import connection_pb2, connection_pb2_grpc
from runtime import logs, semconv
from runtime.clock import now_us
from runtime.errors import InvalidArgument, NotFound, Unavailable, brief, check_size
from runtime.telemetry import SpanGroup, Telemetry
from runtime.text import check_id

log = logs.get(__name__)

MAX_ITEMS = 256
MAX_IDS = 1_024
MAX_USERS = 64

Context = grpc.aio.ServicerContext


class ConnectionServicer(connection_pb2_grpc.ConnectionServiceServicer):
    """See `proto/connection/v1/connection.proto`."""

    def __init__(
        self,
        store: Store,
        leases: Leases,
        telemetry: Telemetry,
        *,
        max_connections_per_user: int,
        sender: PushSender | None = None,
    ) -> None:
        """`sender`: without one, nobody is told by push."""
        self._store = store
        self._leases = leases
        self._telemetry = telemetry
        self._max_connections_per_user = max_connections_per_user
        self.registry = Registry()
        self._streams: dict[str, EdgeStream] = {}
        self.pushes = None if sender is None else PushWorker(store, sender, self.registry.is_connected)

    @property
    def streams(self) -> Collection[EdgeStream]:
        """The streams of the edges that are attached."""
        return self._streams.values()

    async def Register(
        self,
        request: connection_pb2.RegisterRequest,
        context: "Context[connection_pb2.RegisterRequest, connection_pb2.RegisterResponse]",
    ) -> connection_pb2.RegisterResponse:
        check_size(request.items, MAX_ITEMS)
        rows = [
            Connection(
                connection_id=check_id("connectionId", item.connection_id or secrets.token_hex(8)),
                user_id=check_id("userId", item.user_id),
                device_id=check_id("deviceId", item.device_id or "unknown"),
                edge_id=check_id("edgeId", item.edge_id),
                registered_at_us=now_us(),
            )
            for item in request.items
        ]
        accepted = await self._store.register(rows, max_per_user=self._max_connections_per_user) if rows else []
        return connection_pb2.RegisterResponse(
            results=[
                connection_pb2.RegisterResult(connection_id=row.connection_id if added else "")
                for row, added in zip(rows, accepted, strict=True)
            ]
        )

    async def Unregister(
        self,
        request: connection_pb2.UnregisterRequest,
        context: "Context[connection_pb2.UnregisterRequest, connection_pb2.UnregisterResponse]",
    ) -> connection_pb2.UnregisterResponse:
        check_size(request.connection_ids, MAX_IDS)
        await self._store.unregister(set(request.connection_ids))
        return connection_pb2.UnregisterResponse()

    async def ListConnections(
        self,
        request: connection_pb2.ListConnectionsRequest,
        context: "Context[connection_pb2.ListConnectionsRequest, connection_pb2.ListConnectionsResponse]",
    ) -> connection_pb2.ListConnectionsResponse:
        check_size(request.user_ids, MAX_USERS)
        rows = await self._store.list_of_users(set(request.user_ids))
        return connection_pb2.ListConnectionsResponse(
            connections=[
                connection_pb2.Connection(
                    connection_id=row.connection_id,
                    user_id=row.user_id,
                    device_id=row.device_id,
                    edge_id=row.edge_id,
                    registered_at_us=row.registered_at_us,
                )
                for row in rows
            ]
        )

    async def RegisterDevices(
        self,
        request: connection_pb2.RegisterDevicesRequest,
        context: "Context[connection_pb2.RegisterDevicesRequest, connection_pb2.RegisterDevicesResponse]",
    ) -> connection_pb2.RegisterDevicesResponse:
        check_size(request.items, MAX_ITEMS)
        tokens = [token_from(item, now_us()) for item in request.items]
        await self._store.save_tokens(tokens, max_per_user=MAX_TOKENS_PER_USER)
        return connection_pb2.RegisterDevicesResponse()

    async def UnregisterDevices(
        self,
        request: connection_pb2.UnregisterDevicesRequest,
        context: "Context[connection_pb2.UnregisterDevicesRequest, connection_pb2.UnregisterDevicesResponse]",
    ) -> connection_pb2.UnregisterDevicesResponse:
        check_size(request.items, MAX_ITEMS)
        await self._store.delete_devices({(item.user_id, item.device_id) for item in request.items})
        return connection_pb2.UnregisterDevicesResponse()

    async def RenewLease(
        self,
        request: connection_pb2.RenewLeaseRequest,
        context: "Context[connection_pb2.RenewLeaseRequest, connection_pb2.RenewLeaseResponse]",
    ) -> connection_pb2.RenewLeaseResponse:
        edge_id = check_id("edgeId", request.edge_id)
        if request.release:
            await self._leases.release(edge_id)
        elif request.acquire:
            await self._store.acquire_lease(edge_id)
        elif not await self._store.renew_lease(edge_id):
            raise NotFound("The edge has no lease")
        return connection_pb2.RenewLeaseResponse(
            lease_ms=int(LEASE * 1_000), settle_ms=int(SETTLE * 1_000), trust_ms=int(TRUST * 1_000)
        )

    async def ListEdges(
        self,
        request: connection_pb2.ListEdgesRequest,
        context: "Context[connection_pb2.ListEdgesRequest, connection_pb2.ListEdgesResponse]",
    ) -> connection_pb2.ListEdgesResponse:
        edges = self._leases.edges
        if edges is None:
            raise Unavailable("The edges are not known: the database can't be reached")
        return connection_pb2.ListEdgesResponse(
            edges=[
                connection_pb2.Edge(
                    edge_id=edge_id,
                    attached=edge_id in self._streams and self._streams[edge_id].trusted,
                    connections=self.registry.count(edge_id),
                )
                for edge_id in edges
            ]
        )

    async def Attach(
        self,
        request_iterator: AsyncIterator[connection_pb2.AttachRequest],
        context: "Context[connection_pb2.AttachRequest, connection_pb2.AttachResponse]",
    ) -> AsyncIterator[connection_pb2.AttachResponse]:
        edge_id, connections = await _read_hello(request_iterator)
        if not await self._leases.holds(edge_id):
            raise NoLease("The edge has no lease")
        stream = EdgeStream(edge_id, self.registry, on_opened=self._supersede_others)
        previous = self._streams.get(edge_id)
        if previous is not None:
            previous.end()
        self._streams[edge_id] = stream
        self.registry.attach(edge_id, connections)
        stream.confirm(0)
        log.info("edge attached", edge_id=edge_id, count=len(connections))
        tasks: list[asyncio.Task[None]] = []
        try:
            # Plain tasks: a TaskGroup does not survive that a generator is ended at a `yield`.
            tasks = [asyncio.create_task(stream.probe()), asyncio.create_task(_take_in(request_iterator, stream))]
            async for response in stream.responses():
                yield response
        finally:
            stream.end()
            for task in tasks:
                task.cancel()
            if self._streams.get(edge_id) is stream:
                del self._streams[edge_id]
                self.registry.detach(edge_id)
                log.info("edge detached", edge_id=edge_id)

    async def Deliver(
        self,
        request: connection_pb2.DeliverRequest,
        context: "Context[connection_pb2.DeliverRequest, connection_pb2.DeliverResponse]",
    ) -> connection_pb2.DeliverResponse:
        items = request.items
        check_size(items, MAX_ITEMS)
        parents = [item.event.traceparent for item in items]
        with self._telemetry.spans(
            semconv.CONNECTION_DELIVER, parents, lambda index: _attributes(items[index], len(items))
        ) as spans:
            for index, span in spans.recorded():
                items[index].event.traceparent = span.traceparent
            pending = await self._deliver(items, spans)
            for index, span in spans.recorded():
                span.set({semconv.OUTCOME: semconv.PENDING if index in pending else semconv.DELIVERED})
        metrics.PENDING.inc(len(pending))
        metrics.DELIVERED.inc(len(items) - len(pending))
        return connection_pb2.DeliverResponse(
            statuses=[
                connection_pb2.DELIVERY_STATUS_PENDING if index in pending else connection_pb2.DELIVERY_STATUS_DELIVERED
                for index in range(len(items))
            ]
        )

    def DeliverStream(
        self,
        request_iterator: AsyncIterator[connection_pb2.DeliverRequest],
        context: "Context[connection_pb2.DeliverRequest, connection_pb2.DeliverResponse]",
    ) -> AsyncIterator[connection_pb2.DeliverResponse]:
        raise NotImplementedError  # the server makes it out of the method above (runtime/grpc_server.py)

    async def follow_leases(self) -> None:
        """Reads the leases, and ends the streams of edges that have lost theirs. Raises Unavailable."""
        await self._leases.read()
        edges = self._leases.edges or frozenset()
        for edge_id, stream in list(self._streams.items()):
            # One that has just taken its lease is perhaps not in the list yet.
            if edge_id not in edges and not await self._leases.holds(edge_id):
                stream.end()

    def end_streams(self) -> None:
        """Ends all streams, so that the edges go to other replicas."""
        for stream in self._streams.values():
            stream.end()

    def _supersede_others(self, newcomer: Connection) -> None:
        """Tells the edges of the connections that a new one takes the place of."""
        for edge_id, connection_ids in predecessors(newcomer, self.registry.of_user(newcomer.user_id)).items():
            self._streams[edge_id].supersede(connection_ids)  # the registry has connections of attached edges only

    async def _deliver(self, items: Sequence[connection_pb2.DeliverItem], spans: SpanGroup) -> set[int]:
        """Sends events to the edges; returns the numbers of those that not every edge concerned has taken over."""
        pending = await self._concerning_absent_edges(items)
        if spans and pending:
            absent = sorted(self._absent(self._leases.edges or ()))
            for index in pending:
                spans[index].set({semconv.ABSENT_EDGES: absent})
        unroutable = frozenset(pending)
        # No await from there to the end of routing: what was absent then is absent now, and the rest is in the registry.
        batches = Batches()
        for index, item in enumerate(items):
            origin = item.event.origin
            routes = self.registry.route(
                item.user_ids,
                user_id=origin.user_id,
                device_id=origin.device_id,
                connection_id=origin.connection_id,
            )
            span = spans[index]
            if span.recorded:
                connections = sum(map(len, routes.values()))
                span.set({semconv.EDGES: list(routes), semconv.CONNECTIONS: connections})
            for edge_id, connection_ids in routes.items():
                batches.add(edge_id, index, item, connection_ids)
        invitations, removals = to_be_pushed(items, unroutable, self.registry.is_connected, now_us())
        sent = [(edge_id, batch, self._streams[edge_id].send(batch.response)) for edge_id, batch in batches]
        waiting = {
            acknowledgement: self._streams[edge_id]
            for edge_id, _, acknowledgement in sent
            if acknowledgement is not None
        }
        taken_over = await await_acknowledgements(waiting)
        for edge_id, batch, acknowledgement in sent:
            if acknowledgement not in taken_over:
                pending.update(batch.events)
                if spans:
                    for index in batch.events:
                        spans[index].event(f"not taken over by {edge_id}")
        if self.pushes is not None and (invitations or removals):
            try:
                pending |= await self.pushes.keep(invitations, removals)
            except Unavailable as error:
                log.warning("pushes not kept or not taken back", count=len(invitations), error=brief(error))
                pending |= invitations.keys() | removals.keys()
        return pending

    async def _concerning_absent_edges(self, items: Sequence[connection_pb2.DeliverItem]) -> set[int]:
        """The numbers of the items with a recipient at an edge whose connections this replica can't know."""
        users: set[str] = set()
        asked: set[str] = set()
        while True:
            edges = self._leases.edges
            if edges is None:
                return set(range(len(items)))
            absent = self._absent(edges)
            if absent <= asked:
                return {index for index, item in enumerate(items) if not users.isdisjoint(item.user_ids)}
            # While the database is asked, another edge may go: then it is asked about that one, too.
            try:
                users |= await self._store.users_at({user for item in items for user in item.user_ids}, absent - asked)
            except Unavailable:
                return set(range(len(items)))
            asked |= absent

    def _absent(self, edges: Iterable[str]) -> set[str]:
        """Those of the edges whose connections this replica can't know."""
        return {edge_id for edge_id in edges if edge_id not in self._streams or not self._streams[edge_id].trusted}


def _attributes(item: connection_pb2.DeliverItem, batch_size: int) -> semconv.Attributes:
    """What a span says of an event before it is routed."""
    event = item.event
    timer_id = (
        event.timer_changed.timer.timer_id if event.HasField("timer_changed") else event.audience_changed.timer_id
    )
    return {
        semconv.MESSAGE_ID: event.event_id,
        semconv.TIMER_ID: timer_id,
        semconv.USERS: len(item.user_ids),
        semconv.BATCH_SIZE: batch_size,
    }


async def _read_hello(
    requests: AsyncIterator[connection_pb2.AttachRequest],
) -> tuple[str, list[Connection]]:
    """All parts of the hello: who the edge is and its connections. Raises InvalidArgument."""
    edge_id = ""
    connections: list[Connection] = []
    async for message in requests:
        if message.WhichOneof("message") != "hello":
            break
        hello = message.hello
        edge_id = check_id("edgeId", hello.edge_id)
        connections += [connection_from(each, edge_id) for each in hello.connections]
        if hello.complete:
            return edge_id, connections
    raise InvalidArgument("A stream begins with a complete hello")


async def _take_in(requests: AsyncIterator[connection_pb2.AttachRequest], stream: EdgeStream) -> None:
    try:
        async for message in requests:
            stream.take_in(message)
    except Exception as error:  # the ways in which a stream breaks are gRPC's, and none of them matters here
        log.warning("stream of an edge broke", edge_id=stream.edge_id, error=brief(error))
    finally:
        stream.end()
