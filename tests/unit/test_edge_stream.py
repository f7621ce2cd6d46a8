"""`connection_service/attach.py`: the stream between a replica and one edge."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from connection_service import metrics
from connection_service.attach import MAX_UNACKNOWLEDGED, EdgeStream, await_acknowledgements
from connection_service.domain import ACK_PATIENCE, TRUST, Registry
from proto.connection.v1 import connection_pb2
from proto.event.v1 import event_pb2

DELIVERIES = [connection_pb2.Delivery(event=event_pb2.Event(event_id="e1"), connection_ids=["c1"])]


def batch() -> connection_pb2.AttachResponse:
    """A batch that has no number yet."""
    return connection_pb2.AttachResponse(batch=connection_pb2.DeliveryBatch(deliveries=DELIVERIES))


def stream(registry: Registry | None = None) -> EdgeStream:
    return EdgeStream("edge-1", registry or Registry(), on_opened=lambda _: None)


def acknowledge(sequence: int) -> connection_pb2.AttachRequest:
    return connection_pb2.AttachRequest(acknowledged_sequence=sequence)


def opened(*connection_ids: str, sequence: int = 1) -> connection_pb2.AttachRequest:
    return connection_pb2.AttachRequest(
        changes=connection_pb2.Changes(
            opened=[connection_pb2.Connection(connection_id=each, user_id="alice") for each in connection_ids],
            sequence=sequence,
        )
    )


async def said(edge: EdgeStream) -> list[connection_pb2.AttachResponse]:
    """All that the edge is told until the stream ends; ends it."""
    edge.end()
    return [response async for response in edge.responses()]


@asynccontextmanager
async def probing(edge: EdgeStream) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(edge.probe())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def next_probe(edge: EdgeStream) -> int:
    async for response in edge.responses():
        if response.WhichOneof("message") == "probe":
            return response.probe
    raise AssertionError("the stream ended")


def results(acknowledgements: Sequence["asyncio.Future[bool] | None"]) -> list[bool | None]:
    return [each.result() if each is not None and each.done() else None for each in acknowledgements]


async def test_batches_are_numbered_in_order() -> None:
    edge = stream()
    for _ in range(3):
        edge.send(batch())
    batches = [response.batch for response in await said(edge)]
    assert [batch.sequence for batch in batches] == [1, 2, 3]
    assert list(batches[0].deliveries) == DELIVERIES


async def test_an_acknowledgement_counts_for_its_batch_and_all_before_it() -> None:
    edge = stream()
    sent = [edge.send(batch()) for _ in range(3)]
    edge.take_in(acknowledge(2))
    assert results(sent) == [True, True, None]
    edge.take_in(acknowledge(3))
    assert results(sent) == [True, True, True]


async def test_an_acknowledgement_that_comes_twice_or_of_nothing_is_harmless() -> None:
    edge = stream()
    edge.take_in(acknowledge(7))
    sent = edge.send(batch())
    edge.take_in(acknowledge(0))
    assert results([sent]) == [None]
    edge.take_in(acknowledge(1))
    edge.take_in(acknowledge(1))
    assert results([sent]) == [True]


async def test_an_edge_that_owes_too_much_gets_no_more_before_it_has_acknowledged() -> None:
    edge = stream()
    sent = [edge.send(batch()) for _ in range(MAX_UNACKNOWLEDGED)]
    assert None not in sent
    assert edge.send(batch()) is None
    edge.take_in(acknowledge(1))
    assert edge.send(batch()) is not None


async def test_a_suspect_edge_gets_nothing_until_it_has_acknowledged_everything() -> None:
    edge = stream()
    edge.send(batch())
    edge.send(batch())
    edge.suspect()
    assert edge.send(batch()) is None
    edge.take_in(acknowledge(1))
    assert edge.send(batch()) is None
    edge.take_in(acknowledge(2))
    assert edge.send(batch()) is not None


async def test_an_ended_stream_tells_all_who_wait_and_takes_no_more() -> None:
    edge = stream()
    sent = [edge.send(batch()) for _ in range(2)]
    edge.take_in(acknowledge(1))
    edge.end()
    assert results(sent) == [True, False]
    assert edge.send(batch()) is None
    edge.take_in(acknowledge(2))
    assert results(sent) == [True, False]


async def test_an_ended_stream_does_not_touch_the_registry_of_its_successor() -> None:
    registry = Registry()
    registry.attach("edge-1", [])
    edge = stream(registry)
    edge.take_in(opened("c1"))
    assert registry.count("edge-1") == 1
    edge.end()
    edge.take_in(opened("c2"))
    assert registry.count("edge-1") == 1


async def test_changes_are_taken_in_before_they_are_confirmed() -> None:
    registry = Registry()
    registry.attach("edge-1", [])
    edge = stream(registry)
    edge.take_in(opened("c1", "c2", sequence=1))
    edge.take_in(
        connection_pb2.AttachRequest(changes=connection_pb2.Changes(closed_connection_ids=["c1", "x"], sequence=2))
    )
    assert registry.route(["alice"]) == {"edge-1": ["c2"]}
    assert [response.confirmed_sequence for response in await said(edge)] == [1, 2]


async def test_a_connection_belongs_to_the_edge_of_its_stream_whatever_it_says_itself() -> None:
    registry = Registry()
    registry.attach("edge-1", [])
    message = opened("c1")
    message.changes.opened[0].edge_id = "edge-2"
    stream(registry).take_in(message)
    assert registry.route(["alice"]) == {"edge-1": ["c1"]}


async def test_a_second_hello_ends_the_stream() -> None:
    edge = stream()
    sent = edge.send(batch())
    edge.take_in(connection_pb2.AttachRequest(hello=connection_pb2.Hello(edge_id="edge-1", complete=True)))
    assert results([sent]) == [False]
    assert edge.send(batch()) is None


async def test_a_message_of_a_newer_edge_that_is_not_understood_is_ignored() -> None:
    edge = stream()
    edge.take_in(connection_pb2.AttachRequest())
    assert edge.send(batch()) is not None


async def test_an_edge_is_trusted_from_its_first_answered_probe_on_and_only_for_a_while() -> None:
    edge = stream()
    assert not edge.trusted
    async with probing(edge):
        number = await next_probe(edge)
        asked_at = time.monotonic()
        edge.take_in(connection_pb2.AttachRequest(probe_answer=number + 100))  # an answer to nothing
        assert not edge.trusted
        edge.take_in(connection_pb2.AttachRequest(probe_answer=number))
        assert edge.trusted
        while edge.trusted:
            assert time.monotonic() < asked_at + TRUST + 5
            await asyncio.sleep(0.02)
        edge.take_in(connection_pb2.AttachRequest(probe_answer=number))  # the same answer once more
        assert not edge.trusted
        edge.take_in(connection_pb2.AttachRequest(probe_answer=await next_probe(edge)))
        # That probe was sent at most TRUST ago, or its answer gives nothing: asked again, trust comes back.
        edge.take_in(connection_pb2.AttachRequest(probe_answer=await _latest_probe(edge)))
        assert edge.trusted


async def _latest_probe(edge: EdgeStream) -> int:
    """The number of a probe that has only just been sent: the first one that had to be waited for."""
    while True:
        began = time.monotonic()
        number = await next_probe(edge)
        if time.monotonic() - began > 0.1:
            return number


async def test_an_ended_stream_is_trusted_no_longer() -> None:
    edge = stream()
    async with probing(edge):
        edge.take_in(connection_pb2.AttachRequest(probe_answer=await next_probe(edge)))
        assert edge.trusted
        edge.end()
        assert not edge.trusted


async def test_only_edges_that_acknowledge_in_time_have_taken_over() -> None:
    quick, slow, gone = (EdgeStream(name, Registry(), on_opened=lambda _: None) for name in ("quick", "slow", "gone"))
    waiting = {sent: edge for edge in (quick, slow, gone) if (sent := edge.send(batch())) is not None}
    began = time.monotonic()
    asyncio.get_running_loop().call_soon(quick.take_in, acknowledge(1))
    asyncio.get_running_loop().call_soon(gone.end)
    assert {waiting[sent] for sent in await await_acknowledgements(waiting)} == {quick}
    assert ACK_PATIENCE <= time.monotonic() - began < ACK_PATIENCE + 1
    assert quick.send(batch()) is not None
    assert slow.send(batch()) is None
    slow.take_in(acknowledge(1))
    assert slow.send(batch()) is not None


async def test_nobody_is_waited_for_longer_than_needed() -> None:
    assert await await_acknowledgements({}) == set()
    edge = stream()
    sent = edge.send(batch())
    assert sent is not None
    edge.take_in(acknowledge(1))
    waiting = asyncio.create_task(await_acknowledgements({sent: edge}))
    for _ in range(5):  # turns of the loop
        await asyncio.sleep(0)
    assert waiting.done()
    assert await waiting == {sent}


async def test_how_long_an_edge_took_is_measured_for_what_it_took_over_and_for_nothing_else() -> None:
    before = metrics.TAKE_OVER.labels().count
    edge = stream()
    for _ in range(3):
        edge.send(batch())
    edge.take_in(acknowledge(2))
    assert metrics.TAKE_OVER.labels().count == before + 2
    edge.end()
    assert metrics.TAKE_OVER.labels().count == before + 2


async def test_an_edge_is_suspect_from_the_end_of_the_patience_until_it_has_caught_up() -> None:
    edge = stream()
    sent = edge.send(batch())
    assert sent is not None
    assert not edge.is_suspect
    assert await await_acknowledgements({sent: edge}) == set()
    assert edge.is_suspect
    edge.take_in(acknowledge(1))
    assert not edge.is_suspect
