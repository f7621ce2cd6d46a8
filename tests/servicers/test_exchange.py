"""`runtime/exchange.py` and its other side in `runtime/grpc_server.py`: unary methods on streams, over real gRPC."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest

from proto.sharing.v1 import sharing_pb2, sharing_pb2_grpc
from runtime import exchange
from runtime.errors import InvalidArgument, Unavailable
from runtime.exchange import streamed
from runtime.grpc_client import open_channel
from runtime.grpc_server import CALLS, GrpcServer, serve
from tests.servicers.harness import healthy, until

SERVICE = sharing_pb2.DESCRIPTOR.services_by_name["SharingService"].full_name


class Servicer(sharing_pb2_grpc.SharingServiceServicer):  # what else there is, nobody calls
    """Answers with as many roles as it was asked for; remembers, waits and fails as told."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.failure: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def Authorize(self, request: sharing_pb2.AuthorizeRequest, context: Any) -> sharing_pb2.AuthorizeResponse:
        self.asked.append(request.items[0].timer_id)
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return sharing_pb2.AuthorizeResponse(
            results=[sharing_pb2.Authorization(role=sharing_pb2.ROLE_OWNER) for _ in request.items]
        )


class World:
    """A server that can be ended and started again on its port, and a stub whose Authorize is on streams."""

    def __init__(self) -> None:
        self.servicer = Servicer()  # type: ignore[abstract]
        self.port = 0
        self.streams = 0
        self.unary_calls = 0
        self._server = AsyncExitStack()
        self._channel = AsyncExitStack()

    async def start(self) -> GrpcServer:
        server = await self._server.enter_async_context(
            serve(
                SERVICE,
                lambda server: sharing_pb2_grpc.add_SharingServiceServicer_to_server(self.servicer, server),
                host="127.0.0.1",
                port=self.port,
                check=healthy,
                drain_seconds=5.0,
            )
        )
        self.port = server.port
        return server

    async def stop(self) -> None:
        await self._server.aclose()

    async def connect(self) -> None:
        channel = await self._channel.enter_async_context(open_channel(f"127.0.0.1:{self.port}", None))
        stub: Any = sharing_pb2_grpc.SharingServiceStub(channel)
        unary, stream = stub.Authorize, stub.AuthorizeStream

        def count_stream() -> Any:
            self.streams += 1
            return stream()

        def count_unary(request: Any, *, timeout: float) -> Any:
            self.unary_calls += 1
            return unary(request, timeout=timeout)

        stub.Authorize, stub.AuthorizeStream = count_unary, count_stream
        self.unary = count_unary
        self.stub = streamed(stub, "Authorize")

    async def disconnect(self) -> None:
        await self._channel.aclose()

    async def ask(self, timer_id: str = "tea", *, timeout: float = 5.0) -> int:
        request = sharing_pb2.AuthorizeRequest(items=[sharing_pb2.AuthorizeItem(timer_id=timer_id)])
        response = await self.stub.Authorize(request, timeout=timeout)
        return len(response.results)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    await made.start()
    await made.connect()
    yield made
    await made.disconnect()
    await made.stop()


async def status_of(call: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call
    code: grpc.StatusCode = failure.value.code()
    return code


async def test_one_call_after_the_other_shares_a_stream_and_is_counted_as_the_unary_method(world: World) -> None:
    series = CALLS.labels("SharingService.Authorize", "OK")
    before = series.count
    for number in range(5):
        assert await world.ask(f"timer-{number}") == 1
    assert world.servicer.asked == [f"timer-{number}" for number in range(5)]
    assert (world.streams, world.unary_calls) == (1, 0)
    assert series.count == before + 5


async def test_calls_at_the_same_time_have_streams_of_their_own_and_a_bounded_number_is_kept(world: World) -> None:
    await asyncio.gather(*(world.ask() for _ in range(12)))
    assert world.streams == 12
    await asyncio.gather(*(world.ask() for _ in range(exchange.MOST_IDLE)))
    assert world.streams == 12
    await asyncio.gather(*(world.ask() for _ in range(exchange.MOST_IDLE + 1)))
    assert world.streams == 13


async def test_an_error_of_the_method_is_raised_with_its_status_and_the_next_call_goes_on(world: World) -> None:
    await world.ask()
    world.servicer.failure = InvalidArgument("Too many", field="items")
    assert await status_of(world.ask()) is grpc.StatusCode.INVALID_ARGUMENT
    world.servicer.failure = ValueError("a mistake of ours")
    assert await status_of(world.ask()) is grpc.StatusCode.INTERNAL
    world.servicer.failure = None
    assert await world.ask() == 1
    assert world.unary_calls == 0


async def test_what_is_unavailable_for_a_moment_is_tried_again_as_a_unary_call_would_be(world: World) -> None:
    await world.ask()
    world.servicer.failure = Unavailable("The database can't be reached")
    asked = asyncio.create_task(world.ask())
    await until(lambda: len(world.servicer.asked) >= 3)
    world.servicer.failure = None
    assert await asked == 1
    assert world.unary_calls == 1


async def test_a_call_that_takes_too_long_ends_with_its_deadline_and_spoils_no_other(world: World) -> None:
    world.servicer.gate.clear()
    assert await status_of(world.ask("slow", timeout=0.1)) is grpc.StatusCode.DEADLINE_EXCEEDED
    world.servicer.gate.set()
    assert await world.ask() == 1


async def test_a_cancelled_call_is_cancelled_at_the_other_side_and_its_stream_is_not_used_again(world: World) -> None:
    cancelled = CALLS.labels("SharingService.Authorize", "CANCELLED")
    before = cancelled.count
    world.servicer.gate.clear()
    call = asyncio.create_task(world.ask("given up"))
    await until(lambda: world.servicer.asked == ["given up"])
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await until(lambda: cancelled.count == before + 1)
    world.servicer.gate.set()
    assert await world.ask() == 1
    assert world.streams == 2


async def test_a_server_that_drains_ends_idle_streams_at_once_and_answers_what_it_was_asked(world: World) -> None:
    await asyncio.gather(world.ask(), world.ask())  # two streams: one will be idle
    world.servicer.gate.clear()
    last = asyncio.create_task(world.ask("last"))
    await until(lambda: "last" in world.servicer.asked)
    began = asyncio.get_running_loop().time()
    stopping = asyncio.create_task(world.stop())
    await asyncio.sleep(0.05)
    world.servicer.gate.set()
    assert await last == 1
    await stopping
    assert asyncio.get_running_loop().time() - began < 4.0  # the drain has 5 s, and needed none of them


async def test_a_restart_of_the_server_is_not_noticed(world: World) -> None:
    await world.ask("before")
    await world.stop()
    after = asyncio.create_task(world.ask("after"))
    await asyncio.sleep(0.05)
    await world.start()
    assert await after == 1
    assert await world.ask("later") == 1
    assert world.unary_calls <= 1


async def test_a_write_to_a_connection_that_was_cut_is_not_taken_for_a_mistake_of_the_server(world: World) -> None:
    """When a server dies, its callers' reads say UNAVAILABLE, but the writes under way say INTERNAL (grpcio 1.85)."""
    real = world.stub.AuthorizeStream

    class Cut:
        def __init__(self) -> None:
            self.call = real()

        async def write(self, request: Any) -> None:
            raise grpc.aio.AioRpcError(
                grpc.StatusCode.INTERNAL, grpc.aio.Metadata(), grpc.aio.Metadata(), "Internal error from Core", ""
            )

        def __getattr__(self, name: str) -> Any:
            return getattr(self.call, name)

    world.stub.Authorize = exchange.Exchange(Cut, world.unary)
    assert await world.ask() == 1
    assert world.unary_calls == 1


async def test_a_stream_is_replaced_after_a_while_so_that_every_replica_has_its_turn(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "LONGEST_USE", 0.0)
    await world.ask()
    await world.ask()
    assert (world.streams, world.unary_calls) == (2, 0)
