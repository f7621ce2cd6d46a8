"""`connection_service/servicer.py` over gRPC, on SQLite, with edges that do as they are told."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest

from connection_service import attach
from connection_service.domain import LEASE, POLL_INTERVAL, SETTLE, TRUST
from connection_service.leases import Leases
from connection_service.push_sender import Attempt, Message
from connection_service.pushes import MAX_WAITING
from connection_service.servicer import MAX_IDS, MAX_ITEMS, MAX_USERS, ConnectionServicer
from connection_service.store.sqlite import SqliteConnectionStore, open_store
from proto.common.v1 import common_pb2
from proto.connection.v1 import connection_pb2, connection_pb2_grpc
from proto.event.v1 import event_pb2
from runtime.errors import Unavailable
from runtime.lifecycle import background, forever
from runtime.telemetry import Telemetry
from tests.servicers.harness import serving, until

SERVICE = connection_pb2.DESCRIPTOR.services_by_name["ConnectionService"].full_name
MOST_CONNECTIONS = 3

DELIVERED = connection_pb2.DELIVERY_STATUS_DELIVERED
PENDING = connection_pb2.DELIVERY_STATUS_PENDING

_PATIENCE = 1.0  # seconds an edge may take to acknowledge here


class Edge:
    """An edge's side of the stream. It answers probes and acknowledges batches, unless it is told not to."""

    def __init__(self, stub: "connection_pb2_grpc.ConnectionServiceAsyncStub", edge_id: str) -> None:
        self.edge_id = edge_id
        self.answers = True
        self.acknowledges = True
        self.confirmed: list[int] = []
        self.batches: list[connection_pb2.DeliveryBatch] = []
        self.superseded: list[list[str]] = []
        self.call: Any = stub.Attach()  # type: ignore[call-arg]  # written to as it goes; the stubs know only iterators
        self._reading = asyncio.create_task(self._read())

    @property
    def got(self) -> list[tuple[str, list[str]]]:
        """Every event that came, with the connections it is for."""
        return [
            (delivery.event.event_id, sorted(delivery.connection_ids))
            for batch in self.batches
            for delivery in batch.deliveries
        ]

    async def hello(self, *connections: connection_pb2.Connection, complete: bool = True) -> None:
        hello = connection_pb2.Hello(edge_id=self.edge_id, connections=connections, complete=complete)
        await self.call.write(connection_pb2.AttachRequest(hello=hello))

    async def change(
        self,
        sequence: int,
        *,
        opened: Iterable[connection_pb2.Connection] = (),
        closed: Iterable[str] = (),
    ) -> None:
        changes = connection_pb2.Changes(opened=opened, closed_connection_ids=closed, sequence=sequence)
        await self.call.write(connection_pb2.AttachRequest(changes=changes))
        await until(lambda: sequence in self.confirmed)

    async def acknowledge(self) -> None:
        sequence = self.batches[-1].sequence
        await self.call.write(connection_pb2.AttachRequest(acknowledged_sequence=sequence))

    async def ended(self) -> grpc.StatusCode:
        """Waits for the end of the stream; returns how it ended."""
        async with asyncio.timeout(5):
            code: grpc.StatusCode = await self.call.code()
            return code

    async def leave(self) -> None:
        self.call.cancel()
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self) -> None:
        async for response in self.call:
            match response.WhichOneof("message"):
                case "confirmed_sequence":
                    self.confirmed.append(response.confirmed_sequence)
                case "probe" if self.answers:
                    await self.call.write(connection_pb2.AttachRequest(probe_answer=response.probe))
                case "superseded":
                    self.superseded.append(list(response.superseded.connection_ids))
                case "batch":
                    self.batches.append(response.batch)
                    if self.acknowledges:
                        await self.acknowledge()


class Service(NamedTuple):
    """A connection service and what it keeps."""

    stub: "connection_pb2_grpc.ConnectionServiceAsyncStub"
    store: SqliteConnectionStore
    leases: Leases
    servicer: ConnectionServicer

    async def lease(self, edge_id: str, *, acquire: bool = True) -> connection_pb2.RenewLeaseResponse:
        request = connection_pb2.RenewLeaseRequest(edge_id=edge_id, acquire=acquire)
        terms = await self.stub.RenewLease(request, timeout=5)
        await self.leases.read()
        return terms

    async def register(self, *items: connection_pb2.RegisterItem) -> list[str]:
        response = await self.stub.Register(connection_pb2.RegisterRequest(items=items), timeout=5)
        return [result.connection_id for result in response.results]

    async def ids_of(self, *users: str) -> set[str]:
        request = connection_pb2.ListConnectionsRequest(user_ids=users)
        return {each.connection_id for each in (await self.stub.ListConnections(request, timeout=5)).connections}

    async def deliver(self, *items: connection_pb2.DeliverItem) -> list[int]:
        response = await self.stub.Deliver(connection_pb2.DeliverRequest(items=items), timeout=5)
        return list(response.statuses)

    async def edges(self) -> dict[str, connection_pb2.Edge]:
        response = await self.stub.ListEdges(connection_pb2.ListEdgesRequest(), timeout=5)
        return {each.edge_id: each for each in response.edges}

    async def until_attached(self, edge_id: str, *, attached: bool = True) -> None:
        async with asyncio.timeout(5):
            while (await self.edges())[edge_id].attached != attached:
                await asyncio.sleep(0.01)

    @asynccontextmanager
    async def attached(self, edge_id: str, *connections: connection_pb2.Connection) -> AsyncIterator[Edge]:
        """An edge with a lease, a stream, and the trust of the replica."""
        await self.lease(edge_id)
        edge = Edge(self.stub, edge_id)
        try:
            await edge.hello(*connections)
            await until(lambda: 0 in edge.confirmed)
            await self.until_attached(edge_id)
            yield edge
        finally:
            await edge.leave()


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An edge on a busy machine may be slower than a real one is allowed to be."""
    monkeypatch.setattr(attach, "ACK_PATIENCE", _PATIENCE)


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with open_store(tmp_path) as store:
        leases = Leases(store)
        servicer = ConnectionServicer(store, leases, Telemetry(), max_connections_per_user=MOST_CONNECTIONS)
        async with (
            serving(
                SERVICE,
                lambda server: connection_pb2_grpc.add_ConnectionServiceServicer_to_server(servicer, server),
                check=store.ping,
            ) as (_, channel),
            background(forever(POLL_INTERVAL, leases.read)),
        ):
            yield Service(connection_pb2_grpc.ConnectionServiceStub(channel), store, leases, servicer)


def connection(connection_id: str, user: str = "alice", device: str = "phone") -> connection_pb2.Connection:
    return connection_pb2.Connection(connection_id=connection_id, user_id=user, device_id=device)


def of_the_app(connection_id: str, user: str = "alice", device: str = "pixel") -> connection_pb2.Connection:
    return connection_pb2.Connection(connection_id=connection_id, user_id=user, device_id=device, supersedable=True)


def to_register(
    user: str = "alice", *, edge: str = "edge-1", device: str = "phone", connection_id: str = ""
) -> connection_pb2.RegisterItem:
    return connection_pb2.RegisterItem(user_id=user, device_id=device, edge_id=edge, connection_id=connection_id)


def event_for(*users: str, event_id: str = "e1", origin: common_pb2.Origin | None = None) -> connection_pb2.DeliverItem:
    event = event_pb2.Event(event_id=event_id, timer_changed=event_pb2.TimerChanged(), origin=origin)
    return connection_pb2.DeliverItem(event=event, user_ids=users)


async def status_of(call: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call
    code: grpc.StatusCode = failure.value.code()
    return code


# --- Register, Unregister, ListConnections --------------------------------------------------------------------------------


async def test_a_registered_connection_has_a_row_under_an_id_of_its_own(service: Service) -> None:
    ids = await service.register(to_register(), to_register(device=""), to_register("bob", edge="edge-2"))
    assert len(set(ids)) == 3
    assert all(ids)
    listed = (
        await service.stub.ListConnections(connection_pb2.ListConnectionsRequest(user_ids=["alice", "bob"]), timeout=5)
    ).connections
    rows = {each.connection_id: (each.user_id, each.device_id, each.edge_id) for each in listed}
    assert rows == {
        ids[0]: ("alice", "phone", "edge-1"),
        ids[1]: ("alice", "unknown", "edge-1"),
        ids[2]: ("bob", "phone", "edge-2"),
    }
    assert all(each.registered_at_us > 0 for each in listed)


async def test_registering_under_an_id_that_was_brought_is_idempotent(service: Service) -> None:
    for _ in range(3):
        assert await service.register(to_register(connection_id="c1")) == ["c1"]
    assert await service.ids_of("alice") == {"c1"}


async def test_a_user_with_too_many_connections_is_refused_and_nobody_else(service: Service) -> None:
    ids = await service.register(*(to_register(connection_id=f"c{number}") for number in range(MOST_CONNECTIONS + 1)))
    assert ids == ["c0", "c1", "c2", ""]
    assert await service.register(to_register(edge="edge-2"), to_register("bob")) != ["", ""]
    assert await service.register(to_register(edge="edge-2")) == [""]
    await service.stub.Unregister(connection_pb2.UnregisterRequest(connection_ids=["c0", "unknown"]), timeout=5)
    assert await service.register(to_register(connection_id="c4")) == ["c4"]
    assert await service.ids_of("alice") == {"c1", "c2", "c4"}


async def test_unregistering_again_does_not_touch_the_successor(service: Service) -> None:
    (first,) = await service.register(to_register())
    (second,) = await service.register(to_register())
    for _ in range(2):
        await service.stub.Unregister(connection_pb2.UnregisterRequest(connection_ids=[first]), timeout=5)
    assert await service.ids_of("alice") == {second}


@pytest.mark.parametrize(
    "item",
    [
        to_register(""),
        to_register("x" * 129),
        to_register(edge=""),
        to_register(device="a\nb"),
        to_register(connection_id="x" * 129),
    ],
)
async def test_an_impossible_id_is_refused_and_nothing_registered(
    service: Service, item: connection_pb2.RegisterItem
) -> None:
    assert await status_of(service.register(to_register("bob"), item)) is grpc.StatusCode.INVALID_ARGUMENT
    assert await service.ids_of("bob") == set()


# --- leases ---------------------------------------------------------------------------------------------------------------


async def test_a_lease_tells_its_terms_and_can_be_renewed(service: Service) -> None:
    terms = await service.lease("edge-1")
    assert (terms.lease_ms, terms.settle_ms, terms.trust_ms) == (LEASE * 1_000, SETTLE * 1_000, TRUST * 1_000)
    before = await service.store.list_leases()
    await service.lease("edge-1", acquire=False)
    assert (await service.store.list_leases())["edge-1"] > before["edge-1"]


async def test_a_lease_that_was_lost_can_not_be_renewed(service: Service) -> None:
    assert await status_of(service.lease("edge-1", acquire=False)) is grpc.StatusCode.NOT_FOUND


async def test_an_edge_that_leaves_gives_back_its_lease_and_rows(service: Service) -> None:
    await service.lease("edge-1")
    await service.register(to_register(connection_id="c1"), to_register(edge="edge-2", connection_id="c2"))
    for _ in range(2):
        await service.stub.RenewLease(connection_pb2.RenewLeaseRequest(edge_id="edge-1", release=True), timeout=5)
    assert await service.store.list_leases() == {}
    assert await service.ids_of("alice") == {"c2"}


async def test_a_lease_needs_a_name(service: Service) -> None:
    assert await status_of(service.lease("")) is grpc.StatusCode.INVALID_ARGUMENT


async def test_edges_are_listed_with_what_this_replica_knows_of_them(service: Service) -> None:
    await service.lease("absent")
    async with service.attached("edge-1", connection("c1"), connection("c2")):
        edges = await service.edges()
        assert {name: (edge.attached, edge.connections) for name, edge in edges.items()} == {
            "absent": (False, 0),
            "edge-1": (True, 2),
        }


# --- Attach ---------------------------------------------------------------------------------------------------------------


async def test_an_edge_without_a_lease_may_not_attach(service: Service) -> None:
    edge = Edge(service.stub, "edge-1")
    await edge.hello()
    assert await edge.ended() is grpc.StatusCode.FAILED_PRECONDITION
    assert edge.confirmed == []
    await edge.leave()


async def test_a_stream_that_does_not_begin_with_a_complete_hello_is_refused(service: Service) -> None:
    await service.lease("edge-1")
    for message in (
        connection_pb2.AttachRequest(changes=connection_pb2.Changes(sequence=1)),
        connection_pb2.AttachRequest(acknowledged_sequence=1),
        connection_pb2.AttachRequest(hello=connection_pb2.Hello(complete=True)),
        connection_pb2.AttachRequest(),
        None,
    ):
        edge = Edge(service.stub, "edge-1")
        await edge.hello(complete=False)
        if message is None:
            await edge.call.done_writing()
        else:
            await edge.call.write(message)
        assert await edge.ended() is grpc.StatusCode.INVALID_ARGUMENT
        await edge.leave()
    assert not (await service.edges())["edge-1"].attached


async def test_a_hello_in_parts_is_taken_in_whole(service: Service) -> None:
    await service.lease("edge-1")
    edge = Edge(service.stub, "edge-1")
    for number in range(5):
        await edge.hello(connection(f"c{number}"), complete=number == 4)
    await until(lambda: edge.confirmed == [0])
    assert (await service.edges())["edge-1"].connections == 5
    await edge.leave()


async def test_changes_are_confirmed_and_count_from_then_on(service: Service) -> None:
    async with service.attached("edge-1", connection("c1")) as edge:
        await edge.change(1, opened=[connection("c2")], closed=["c1"])
        await edge.change(2, opened=[connection("c3", "bob")])
        assert edge.confirmed == [0, 1, 2]
        assert await service.deliver(event_for("alice", "bob")) == [DELIVERED]
        assert edge.got == [("e1", ["c2", "c3"])]


async def test_a_second_hello_ends_the_stream(service: Service) -> None:
    async with service.attached("edge-1", connection("c1")) as edge:
        await edge.hello(connection("c2"))
        assert await edge.ended() is grpc.StatusCode.OK
        await service.until_attached("edge-1", attached=False)
        assert (await service.edges())["edge-1"].connections == 0


async def test_an_edge_that_attaches_again_takes_the_place_of_its_older_stream(service: Service) -> None:
    async with service.attached("edge-1", connection("old")) as older:
        async with service.attached("edge-1", connection("new")) as newer:
            assert await older.ended() is grpc.StatusCode.OK
            assert (await service.edges())["edge-1"].connections == 1
            assert await service.deliver(event_for("alice")) == [DELIVERED]
            assert (older.got, newer.got) == ([], [("e1", ["new"])])


async def test_an_edge_whose_stream_breaks_is_attached_no_longer(service: Service) -> None:
    async with service.attached("edge-1", connection("c1")) as edge:
        await edge.leave()
        await service.until_attached("edge-1", attached=False)
        assert (await service.edges())["edge-1"].connections == 0


async def test_an_edge_is_attached_only_while_it_answers_probes(service: Service) -> None:
    async with service.attached("edge-1", connection("c1")) as edge:
        edge.answers = False
        began = time.monotonic()
        await service.until_attached("edge-1", attached=False)
        assert time.monotonic() - began < TRUST + 2
        edge.answers = True
        await service.until_attached("edge-1")


async def test_a_replica_that_drains_ends_its_streams(service: Service) -> None:
    async with service.attached("edge-1") as one, service.attached("edge-2") as other:
        service.servicer.end_streams()
        assert [await one.ended(), await other.ended()] == [grpc.StatusCode.OK] * 2


async def test_the_edge_of_a_predecessor_is_told_once_when_its_device_connects_at_another_one(service: Service) -> None:
    async with (
        service.attached("edge-1", of_the_app("listed")) as one,
        service.attached("edge-2") as two,
        service.attached("edge-3") as three,
    ):
        await one.change(1, opened=[of_the_app("announced"), of_the_app("tablet", device="tablet"), connection("tab")])
        await two.change(1, opened=[of_the_app("new")])
        await until(lambda: bool(one.superseded))
        assert one.superseded == [["listed", "announced"]]
        await one.change(2, closed=["listed", "announced"])
        await three.change(1, opened=[of_the_app("newest")])
        await until(lambda: bool(two.superseded))
        assert two.superseded == [["new"]]
        # They are routed to for as long as their edges have them.
        assert await service.deliver(event_for("alice")) == [DELIVERED]
        assert one.got + two.got + three.got == [("e1", ["tab", "tablet"]), ("e1", ["new"]), ("e1", ["newest"])]
        assert (len(one.superseded), three.superseded) == (1, [])


async def test_nobody_is_superseded_by_others_by_devices_without_a_name_or_by_a_whole_list(service: Service) -> None:
    old = [of_the_app("old"), of_the_app("unknown", device="unknown"), connection("tab", device="pixel")]
    async with service.attached("edge-1", *old) as one, service.attached("edge-2") as two:
        await two.change(1, opened=[of_the_app("bobs", "bob"), of_the_app("nameless", device="unknown")])
        await two.change(2, opened=[connection("window", device="pixel")])  # a browser, or an edge of an older version
        async with service.attached("edge-3", of_the_app("listed")):
            await two.change(3, opened=[of_the_app("news")])  # what was told before comes before
            await until(lambda: bool(one.superseded))
            assert one.superseded == [["old"]]


async def test_of_an_edge_that_is_gone_nobody_is_told(service: Service) -> None:
    async with service.attached("edge-2") as two:
        async with service.attached("edge-1", of_the_app("old")):
            pass
        await service.until_attached("edge-1", attached=False)
        await two.change(1, opened=[of_the_app("new")])
        assert two.confirmed == [0, 1]


# --- Deliver --------------------------------------------------------------------------------------------------------------


async def test_an_event_reaches_every_connection_of_its_recipients_once(service: Service) -> None:
    async with (
        service.attached("edge-1", connection("a1"), connection("b1", "bob"), connection("m1", "mallory")) as one,
        service.attached("edge-2", connection("b2", "bob", "laptop")) as two,
        service.attached("edge-3", connection("c1", "carol")) as three,
    ):
        assert await service.deliver(event_for("alice", "bob", "bob")) == [DELIVERED]
        assert (one.got, two.got, three.got) == ([("e1", ["a1", "b1"])], [("e1", ["b2"])], [])


async def test_the_device_that_an_event_comes_from_is_left_out(service: Service) -> None:
    connections = (connection("a1"), connection("a2", device="laptop"), connection("b1", "bob"))
    async with service.attached("edge-1", *connections) as edge:
        origin = common_pb2.Origin(user_id="alice", device_id="phone", connection_id="a1")
        assert await service.deliver(event_for("alice", "bob", origin=origin)) == [DELIVERED]
        assert edge.got == [("e1", ["a2", "b1"])]


async def test_events_of_a_batch_travel_to_an_edge_together_and_in_order(service: Service) -> None:
    async with service.attached("edge-1", connection("a1"), connection("b1", "bob")) as edge:
        items = [event_for("alice" if number % 2 else "bob", event_id=f"e{number}") for number in range(MAX_ITEMS)]
        assert await service.deliver(*items) == [DELIVERED] * MAX_ITEMS
        assert [event_id for event_id, _ in edge.got] == [f"e{number}" for number in range(MAX_ITEMS)]
        assert len(edge.batches) == 1


async def test_what_does_not_fit_into_a_message_travels_to_its_edge_in_several(service: Service) -> None:
    users = [f"user-{number:031d}" for number in range(500)]  # as long as a UUID
    connections = [
        connection(f"{user_number:08d}{number:08d}", user, f"phone-{number}")
        for user_number, user in enumerate(users)
        for number in range(8)
    ]
    await service.lease("edge-1")
    edge = Edge(service.stub, "edge-1")
    try:
        for start in range(0, len(connections), 1_000):
            part = connections[start : start + 1_000]
            await edge.hello(*part, complete=start + 1_000 == len(connections))
        await until(lambda: 0 in edge.confirmed)
        await service.until_attached("edge-1")
        items = [event_for(*users, event_id=f"e{number}") for number in range(128)]
        for item in items:
            item.event.audience.member_ids.extend(users)
        await service.deliver(*items)  # pending or not: a busy machine may be slower than the patience
        await until(lambda: len(edge.got) == len(items))
        assert [event_id for event_id, _ in edge.got] == [f"e{number}" for number in range(128)]
        assert not edge.call.done()
        assert 1 < len(edge.batches) < 10
    finally:
        await edge.leave()


async def test_an_event_for_nobody_who_is_connected_is_delivered(service: Service) -> None:
    async with service.attached("edge-1", connection("a1")) as edge:
        assert await service.deliver(event_for("bob"), event_for()) == [DELIVERED, DELIVERED]
        assert edge.got == []
        assert await service.deliver() == []


async def test_an_edge_with_a_lease_that_is_not_attached_keeps_its_users_events_pending(service: Service) -> None:
    await service.lease("absent")
    await service.register(to_register("bob", edge="absent"))
    async with service.attached("edge-1", connection("a1"), connection("b1", "bob")) as edge:
        statuses = await service.deliver(event_for("alice"), event_for("bob", event_id="e2"), event_for("carol"))
        assert statuses == [DELIVERED, PENDING, DELIVERED]
        assert edge.got == [("e1", ["a1"]), ("e2", ["b1"])]  # who can be reached is not kept waiting
        await service.stub.RenewLease(connection_pb2.RenewLeaseRequest(edge_id="absent", release=True), timeout=5)
        await service.leases.read()
        assert await service.deliver(event_for("bob")) == [DELIVERED]


async def test_rows_of_an_edge_without_a_lease_hold_up_nothing(service: Service) -> None:
    await service.lease("edge-1")
    await service.register(to_register("bob", edge="dead"))
    assert await service.deliver(event_for("bob")) == [DELIVERED]


async def test_an_edge_that_does_not_answer_probes_is_asked_about_in_the_database(service: Service) -> None:
    async with service.attached("edge-1", connection("a1")) as edge:
        await service.register(to_register("bob", edge="edge-1"))  # a connection the replica has not heard of
        assert await service.deliver(event_for("bob")) == [DELIVERED]
        edge.answers = False
        await service.until_attached("edge-1", attached=False)
        assert await service.deliver(event_for("bob"), event_for("carol")) == [PENDING, DELIVERED]


async def test_a_slow_edge_makes_its_own_events_pending_and_holds_up_nobody_else(service: Service) -> None:
    async with (
        service.attached("slow", connection("a1")) as slow,
        service.attached("quick", connection("b1", "bob")) as quick,
    ):
        slow.acknowledges = False
        began = time.monotonic()
        statuses = await service.deliver(event_for("alice"), event_for("bob", event_id="e2"))
        assert statuses == [PENDING, DELIVERED]
        assert time.monotonic() - began < _PATIENCE + 1
        # From now on the slow one gets nothing more, before it has caught up.
        assert await service.deliver(event_for("alice", event_id="e3")) == [PENDING]
        assert slow.got == [("e1", ["a1"])]
        assert quick.got == [("e2", ["b1"])]
        slow.acknowledges = True
        await slow.acknowledge()
        async with asyncio.timeout(5):
            while await service.deliver(event_for("alice", event_id="e4")) != [DELIVERED]:
                await asyncio.sleep(0.01)
        assert slow.got == [("e1", ["a1"]), ("e4", ["a1"])]


async def test_an_edge_that_goes_before_it_has_acknowledged_leaves_its_events_pending(service: Service) -> None:
    async with service.attached("edge-1", connection("a1")) as edge:
        edge.acknowledges = False
        delivering = asyncio.create_task(service.deliver(event_for("alice")))
        await until(lambda: bool(edge.batches))
        await edge.leave()
        assert await delivering == [PENDING]


async def test_before_the_leases_are_known_everything_stays_pending(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        servicer = ConnectionServicer(store, Leases(store), Telemetry(), max_connections_per_user=0)
        async with serving(
            SERVICE, lambda server: connection_pb2_grpc.add_ConnectionServiceServicer_to_server(servicer, server)
        ) as (_, channel):
            stub = connection_pb2_grpc.ConnectionServiceStub(channel)
            response = await stub.Deliver(connection_pb2.DeliverRequest(items=[event_for("alice")] * 3), timeout=5)
            assert list(response.statuses) == [PENDING] * 3
            call = stub.ListEdges(connection_pb2.ListEdgesRequest(), timeout=5)
            assert await status_of(call) is grpc.StatusCode.UNAVAILABLE


async def test_while_the_database_is_away_only_what_it_would_be_asked_for_is_pending(service: Service) -> None:
    async with service.attached("edge-1", connection("a1")):
        rename = "ALTER TABLE connections RENAME TO away"
        await service.store._database.write(lambda database: database.execute(rename))
        assert await service.deliver(event_for("alice")) == [DELIVERED]  # answered from memory
        await service.lease("absent")
        assert await service.deliver(event_for("alice"), event_for("bob")) == [PENDING, PENDING]
        assert await status_of(service.register(to_register())) is grpc.StatusCode.UNAVAILABLE


# --- sizes ----------------------------------------------------------------------------------------------------------------


async def test_a_batch_may_be_as_long_as_the_proto_says(service: Service) -> None:
    await service.leases.read()
    users = [f"user-{number}" for number in range(MAX_ITEMS)]
    ids = await service.register(*(to_register(user) for user in users))
    assert len(set(ids)) == MAX_ITEMS
    assert len(await service.ids_of(*users[:MAX_USERS])) == MAX_USERS
    await service.stub.Unregister(connection_pb2.UnregisterRequest(connection_ids=ids * 4), timeout=5)
    assert await service.ids_of(*users[:MAX_USERS]) == set()
    assert await service.register() == []


async def test_a_batch_that_is_too_long_is_refused_as_a_whole(service: Service) -> None:
    for call in (
        service.register(*[to_register()] * (MAX_ITEMS + 1)),
        service.deliver(*[event_for("alice")] * (MAX_ITEMS + 1)),
        service.ids_of(*["alice"] * (MAX_USERS + 1)),
        service.stub.Unregister(connection_pb2.UnregisterRequest(connection_ids=["c"] * (MAX_IDS + 1))),
    ):
        assert await status_of(call) is grpc.StatusCode.INVALID_ARGUMENT


# --- devices and pushes ---------------------------------------------------------------------------------------------------


class Deaf:
    """A push service that nobody gets to."""

    async def send(self, message: Message) -> Attempt:
        raise AssertionError("nothing is sent in these tests")


class Locked:
    """A store that can't change anything now."""

    def __getattr__(self, name: str) -> Any:
        raise Unavailable("The database can't be reached")


@pytest.fixture
async def pushing(tmp_path: Path) -> AsyncIterator[Service]:
    """A service that keeps pushes; nobody sends them."""
    async with open_store(tmp_path) as store:
        leases = Leases(store)
        servicer = ConnectionServicer(store, leases, Telemetry(), max_connections_per_user=0, sender=Deaf())
        async with (
            serving(
                SERVICE,
                lambda server: connection_pb2_grpc.add_ConnectionServiceServicer_to_server(servicer, server),
                check=store.ping,
            ) as (_, channel),
            background(forever(POLL_INTERVAL, leases.read)),
        ):
            await leases.read()
            yield Service(connection_pb2_grpc.ConnectionServiceStub(channel), store, leases, servicer)


async def with_token(service: Service, *users: str) -> None:
    items = [
        connection_pb2.RegisterDeviceItem(user_id=user, device_id="phone", push_token=f"token-{user}") for user in users
    ]
    await service.stub.RegisterDevices(connection_pb2.RegisterDevicesRequest(items=items), timeout=5)


def shared_with(*users: str, version: int = 1, removed: Iterable[str] = ()) -> connection_pb2.DeliverItem:
    event = event_pb2.Event(
        event_id=f"e{version}",
        audience=event_pb2.Audience(owner_id="alice", member_ids=users, version=version),
        audience_changed=event_pb2.AudienceChanged(
            timer_id="tea", added_user_ids=users, removed_user_ids=removed, timer_name="Tea"
        ),
    )
    return connection_pb2.DeliverItem(event=event, user_ids=["alice", *users, *removed])


async def test_tokens_of_devices_are_kept_and_forgotten(pushing: Service) -> None:
    await with_token(pushing, "alice", "bob")
    assert {each.token for each in await pushing.store.tokens_of_users(["alice", "bob"])} == {
        "token-alice",
        "token-bob",
    }
    item = connection_pb2.UnregisterDeviceItem(user_id="bob", device_id="phone")
    await pushing.stub.UnregisterDevices(connection_pb2.UnregisterDevicesRequest(items=[item, item]), timeout=5)
    assert await pushing.store.tokens_of_users(["bob"]) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"push_token": ""},
        {"push_token": "a b"},
        {"push_token": "x" * 4_097},
        {"user_id": ""},
        {"device_id": ""},
        {"device_id": "unknown"},
        {"device_id": "x" * 129},
    ],
)
async def test_what_is_no_device_or_token_is_refused_and_nothing_is_kept(
    pushing: Service, fields: dict[str, str]
) -> None:
    good = {"user_id": "bob", "device_id": "phone", "push_token": "t"}
    items = [connection_pb2.RegisterDeviceItem(**each) for each in (good, good | fields)]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await pushing.stub.RegisterDevices(connection_pb2.RegisterDevicesRequest(items=items), timeout=5)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert await pushing.store.tokens_of_users(["bob"]) == []


async def test_a_push_is_kept_before_the_event_is_answered_and_for_nobody_who_is_connected(pushing: Service) -> None:
    await with_token(pushing, "bob", "carol")
    async with pushing.attached("edge-1", connection("c1", "carol")):
        for _ in range(2):
            assert await pushing.deliver(shared_with("bob", "carol", "dave")) == [DELIVERED]
            assert await pushing.store.count_pushes() == 1
    (push,) = await pushing.store.claim_pushes(2**60, 2**60, 10)
    assert (push.user_id, push.timer_name, push.sharer_id, push.version) == ("bob", "Tea", "alice", 1)


async def test_a_removal_takes_a_push_back(pushing: Service) -> None:
    await with_token(pushing, "bob")
    await pushing.deliver(shared_with("bob"))
    assert await pushing.deliver(shared_with(removed=["bob"], version=2)) == [DELIVERED]
    assert await pushing.store.count_pushes() == 0


async def test_a_removal_whose_push_can_not_be_taken_back_now_comes_again(pushing: Service) -> None:
    await with_token(pushing, "bob")
    await pushing.deliver(shared_with("bob"))
    worker = pushing.servicer.pushes
    assert worker is not None
    worker._store = Locked()
    removal = shared_with(removed=["bob"], version=2)
    assert await pushing.deliver(removal, event_for("alice")) == [PENDING, DELIVERED]
    worker._store = pushing.store
    assert await pushing.deliver(removal) == [DELIVERED]
    assert await pushing.store.count_pushes() == 0


async def test_an_addition_that_a_removal_has_overtaken_leaves_no_push(pushing: Service) -> None:
    await with_token(pushing, "bob")
    async with pushing.attached("edge-1", connection("c1", "alice")) as edge:
        edge.acknowledges = False
        addition = asyncio.create_task(pushing.deliver(shared_with("bob")))
        await until(lambda: bool(edge.batches))
        await pushing.deliver(shared_with(removed=["bob"], version=2))
        await edge.acknowledge()
        await addition
    assert await pushing.store.count_pushes() == 0


async def test_while_an_edge_is_away_that_may_have_the_user_nothing_is_kept(pushing: Service) -> None:
    await with_token(pushing, "bob")
    await pushing.lease("edge-1")
    await pushing.register(connection_pb2.RegisterItem(user_id="bob", device_id="phone", edge_id="edge-1"))
    assert await pushing.deliver(shared_with("bob")) == [PENDING]
    assert await pushing.store.count_pushes() == 0


async def test_when_too_many_pushes_wait_only_shares_that_need_one_do(pushing: Service) -> None:
    await with_token(pushing, "bob")
    assert pushing.servicer.pushes is not None
    pushing.servicer.pushes._waiting = MAX_WAITING
    statuses = await pushing.deliver(shared_with("bob"), shared_with("dave"))
    assert statuses == [PENDING, DELIVERED]


async def test_without_a_push_service_nothing_is_kept(service: Service) -> None:
    await service.leases.read()
    await with_token(service, "bob")
    assert await service.deliver(shared_with("bob")) == [DELIVERED]
    assert await service.store.count_pushes() == 0
