"""`edge/attach.py` against replicas that behave, and replicas that don't."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import grpc

from edge.attach import ReplicaStream
from proto.connection.v1 import connection_pb2, connection_pb2_grpc
from tests.servicers.harness import until

TRUST = 0.5
NOT_ASKED: Any = None

Behaviour = Callable[["Replica", AsyncIterator[connection_pb2.AttachRequest]], AsyncIterator[Any]]


class Replica(connection_pb2_grpc.ConnectionServiceServicer):
    """A replica that does what a test says."""

    Deliver = DeliverStream = ListConnections = ListEdges = Register = RenewLease = Unregister = NOT_ASKED
    RegisterDevices = UnregisterDevices = NOT_ASKED

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.hellos: list[list[str]] = []
        self.known: set[str] = set()
        self.answered: list[int] = []
        self.acknowledged: list[int] = []

    async def Attach(
        self, request_iterator: AsyncIterator[connection_pb2.AttachRequest], context: Any
    ) -> AsyncIterator[connection_pb2.AttachResponse]:
        async for response in self.behaviour(self, request_iterator):
            yield response


async def well_behaved(
    replica: Replica, requests: AsyncIterator[connection_pb2.AttachRequest]
) -> AsyncIterator[connection_pb2.AttachResponse]:
    listed: list[str] = []
    yield connection_pb2.AttachResponse(probe=1)
    async for request in requests:
        match request.WhichOneof("message"):
            case "hello":
                listed += [each.connection_id for each in request.hello.connections]
                if request.hello.complete:
                    replica.hellos.append(listed)
                    replica.known = set(listed)
                    yield connection_pb2.AttachResponse(confirmed_sequence=0)
                    batch = connection_pb2.DeliveryBatch(sequence=1)
                    yield connection_pb2.AttachResponse(batch=batch)
            case "changes":
                replica.known |= {each.connection_id for each in request.changes.opened}
                replica.known -= set(request.changes.closed_connection_ids)
                yield connection_pb2.AttachResponse(confirmed_sequence=request.changes.sequence)
            case "acknowledged_sequence":
                replica.acknowledged.append(request.acknowledged_sequence)
            case "probe_answer":
                replica.answered.append(request.probe_answer)


async def says_nothing(
    replica: Replica, requests: AsyncIterator[connection_pb2.AttachRequest]
) -> AsyncIterator[connection_pb2.AttachResponse]:
    async for request in requests:
        if request.HasField("hello") and request.hello.complete:
            replica.hellos.append([])
            yield connection_pb2.AttachResponse(confirmed_sequence=0)
            yield connection_pb2.AttachResponse(probe=1)
        elif request.HasField("probe_answer"):
            replica.answered.append(request.probe_answer)


async def ends_at_once(
    replica: Replica, requests: AsyncIterator[connection_pb2.AttachRequest]
) -> AsyncIterator[connection_pb2.AttachResponse]:
    async for _ in requests:
        replica.hellos.append([])
        return
    yield connection_pb2.AttachResponse()  # makes this a generator


def connection(connection_id: str) -> connection_pb2.Connection:
    return connection_pb2.Connection(connection_id=connection_id, user_id="alice", device_id="phone")


@asynccontextmanager
async def attached(
    replica: Replica,
    connections: list[connection_pb2.Connection],
    on_lease_lost: Callable[[], None] = lambda: None,
    *,
    supersede: Callable[[Iterable[str]], None] = lambda _: None,
) -> AsyncIterator[ReplicaStream]:
    server = grpc.aio.server()
    connection_pb2_grpc.add_ConnectionServiceServicer_to_server(replica, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    stream = ReplicaStream(
        f"127.0.0.1:{port}",
        None,
        "edge-1",
        connections=lambda: list(connections),
        deliver=lambda _: None,
        supersede=supersede,
        on_lease_lost=on_lease_lost,
    )
    running = asyncio.create_task(stream.run())
    try:
        yield stream
        assert not running.done()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await server.stop(0)


async def timed(work: Awaitable[None]) -> float:
    started = time.monotonic()
    await work
    return time.monotonic() - started


async def test_the_whole_list_is_told_in_parts_then_every_change_and_deliveries_are_acknowledged() -> None:
    connections = [connection(f"c{number}") for number in range(2_500)]
    replica = Replica(well_behaved)
    async with attached(replica, connections) as stream:
        await until(lambda: stream.attached)
        assert replica.hellos == [[each.connection_id for each in connections]]
        await stream.announce(connection("new"), TRUST)
        assert "new" in replica.known
        stream.closed("c7")
        await until(lambda: "c7" not in replica.known)
        await until(lambda: replica.acknowledged == [1] and replica.answered == [1])


async def test_a_connection_that_is_gone_before_it_was_told_of_is_confirmed_all_the_same() -> None:
    replica = Replica(well_behaved)
    async with attached(replica, []) as stream:
        await until(lambda: stream.attached)
        announced = asyncio.create_task(stream.announce(connection("new"), TRUST))
        await asyncio.sleep(0)  # it waits, and nothing has been written
        stream.closed("new")
        await announced
        assert stream.attached
        assert len(replica.hellos) == 1


async def test_what_is_superseded_is_told_and_what_a_newer_replica_may_say_is_passed_over() -> None:
    async def tells(
        replica: Replica, requests: AsyncIterator[connection_pb2.AttachRequest]
    ) -> AsyncIterator[connection_pb2.AttachResponse]:
        superseded = connection_pb2.Superseded(connection_ids=["old", "gone"])
        yield connection_pb2.AttachResponse(superseded=superseded)
        yield connection_pb2.AttachResponse()  # what this edge does not know looks like this
        async for response in well_behaved(replica, requests):
            yield response

    told: list[list[str]] = []
    async with attached(Replica(tells), [], supersede=lambda ids: told.append(list(ids))) as stream:
        await until(lambda: stream.attached)
    assert told == [["old", "gone"]]


async def test_a_connection_waits_until_a_replica_that_does_not_confirm_can_trust_this_edge_no_longer() -> None:
    replica = Replica(says_nothing)
    async with attached(replica, []) as stream:
        await until(lambda: bool(replica.answered))
        answers = len(replica.answered)
        await stream.announce(connection("new"), TRUST)
        assert time.monotonic() >= stream.trusted_until(TRUST)
        assert len(replica.answered) == answers or len(replica.hellos) > 1  # no answer after giving up, on that stream
        await until(lambda: len(replica.hellos) > 1)  # and the stream is tried anew


async def test_without_a_replica_a_new_connection_waits_for_nothing() -> None:
    stream = ReplicaStream(
        "127.0.0.1:1",
        None,
        "edge-1",
        connections=list,
        deliver=lambda _: None,
        supersede=lambda _: None,
        on_lease_lost=lambda: None,
    )
    assert await timed(stream.announce(connection("new"), TRUST)) < TRUST


async def test_a_stream_that_ends_however_often_is_tried_again() -> None:
    replica = Replica(ends_at_once)
    async with attached(replica, [connection(f"c{number}") for number in range(5_000)]) as stream:
        await until(lambda: len(replica.hellos) >= 5)
        replica.behaviour = well_behaved
        await until(lambda: stream.attached)


async def test_a_replica_that_knows_of_no_lease_is_believed() -> None:
    lost = asyncio.Event()

    class Refusing(Replica):
        async def Attach(
            self, request_iterator: AsyncIterator[connection_pb2.AttachRequest], context: Any
        ) -> AsyncIterator[connection_pb2.AttachResponse]:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no lease")
            yield connection_pb2.AttachResponse()

    async with attached(Refusing(well_behaved), [], lost.set):
        await asyncio.wait_for(lost.wait(), 5)
