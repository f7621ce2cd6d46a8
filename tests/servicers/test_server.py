"""`runtime/grpc_server.py`: health, reflection, errors and drain, with a service whose RPCs do as they are told."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from proto.connection.v1 import connection_pb2, connection_pb2_grpc
from proto.sharing.v1 import sharing_pb2, sharing_pb2_grpc
from proto.timer.v1 import timer_pb2
from runtime.errors import (
    BubbleError,
    Conflict,
    InvalidArgument,
    LimitReached,
    NotFound,
    Overloaded,
    PermissionDenied,
    Unavailable,
    may_be_one_items_fault,
)
from runtime.grpc_server import CALLS, serve
from tests.servicers.harness import healthy, rpc_error, serving, until

SERVICE = sharing_pb2.DESCRIPTOR.services_by_name["SharingService"].full_name
STREAMS = connection_pb2.DESCRIPTOR.services_by_name["ConnectionService"].full_name

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Obedient(sharing_pb2_grpc.SharingServiceServicer):
    """Does in `Release` what the test says."""

    def __init__(self, work: Callable[[], Awaitable[None]]) -> None:
        self._work = work

    async def Release(self, request: sharing_pb2.ReleaseRequest, context: Any) -> sharing_pb2.ReleaseResponse:
        await self._work()
        return sharing_pb2.ReleaseResponse()

    def Authorize(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    def AuthorizeStream(self, request_iterator: Any, context: Any) -> Any:
        raise NotImplementedError

    GetAudience = Change = ListShared = Authorize


class ObedientStream(connection_pb2_grpc.ConnectionServiceServicer):
    """Does in `Attach` what the test says, after one response."""

    def __init__(self, work: Callable[[], Awaitable[None]]) -> None:
        self._work = work

    async def Attach(self, request_iterator: Any, context: Any) -> AsyncIterator[connection_pb2.AttachResponse]:
        yield connection_pb2.AttachResponse(probe=1)
        await self._work()

    def Register(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    def DeliverStream(self, request_iterator: Any, context: Any) -> Any:
        raise NotImplementedError

    Unregister = ListConnections = RenewLease = ListEdges = Deliver = RegisterDevices = UnregisterDevices = Register


def obeying(work: Callable[[], Awaitable[None]]) -> Callable[[grpc.aio.Server], None]:
    return lambda server: sharing_pb2_grpc.add_SharingServiceServicer_to_server(Obedient(work), server)


def raising(error: Exception) -> Callable[[], Awaitable[None]]:
    async def work() -> None:
        raise error

    return work


async def release(channel: grpc.aio.Channel, seconds: float = 5.0) -> None:
    await sharing_pb2_grpc.SharingServiceStub(channel).Release(sharing_pb2.ReleaseRequest(), timeout=seconds)


async def status_of(error: Exception) -> tuple[grpc.StatusCode, str | None]:
    """What a caller sees of an error that an RPC raises."""
    async with serving(SERVICE, obeying(raising(error))) as (_, channel):
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await release(channel)
        return failure.value.code(), failure.value.details()


# --- errors ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidArgument("That is wrong"), grpc.StatusCode.INVALID_ARGUMENT),
        (PermissionDenied("That is wrong"), grpc.StatusCode.PERMISSION_DENIED),
        (NotFound("That is wrong"), grpc.StatusCode.NOT_FOUND),
        (Conflict("That is wrong"), grpc.StatusCode.FAILED_PRECONDITION),
        (LimitReached("That is wrong"), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (Overloaded("That is wrong"), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (Unavailable("That is wrong"), grpc.StatusCode.UNAVAILABLE),
    ],
)
async def test_an_error_of_the_domain_has_its_own_status_and_its_words(
    error: BubbleError, code: grpc.StatusCode
) -> None:
    assert await status_of(error) == (code, "That is wrong")


@pytest.mark.parametrize(
    "error", [KeyError("token"), ValueError("mongodb://admin:password@db"), RuntimeError(), AssertionError("x")]
)
async def test_whatever_nobody_expected_is_a_bare_internal_error(error: Exception) -> None:
    assert await status_of(error) == (grpc.StatusCode.INTERNAL, "Internal server error")


@pytest.mark.parametrize(
    ("behind", "code"),
    [
        (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAVAILABLE),
        (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.DEADLINE_EXCEEDED),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE),
        (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE),
    ],
)
async def test_a_failure_of_a_service_behind_is_worth_another_try_and_tells_no_details(
    behind: grpc.StatusCode, code: grpc.StatusCode
) -> None:
    status, details = await status_of(rpc_error(behind))
    assert status is code
    assert details is not None
    assert "10.0.0.7" not in details


async def test_whoever_asked_for_too_much_learns_that_less_would_do_however_far_behind_it_failed() -> None:
    behind = rpc_error(grpc.StatusCode.RESOURCE_EXHAUSTED, "SERVER: Sent message larger than max (17 vs. 16)")
    async with serving(SERVICE, obeying(raising(behind))) as (_, channel):
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await release(channel)
    assert failure.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert may_be_one_items_fault(failure.value)


@pytest.mark.parametrize(
    ("error", "code", "details"),
    [
        (NotFound("That is wrong"), grpc.StatusCode.NOT_FOUND, "That is wrong"),
        (KeyError("token"), grpc.StatusCode.INTERNAL, "Internal server error"),
    ],
)
async def test_an_error_within_a_stream_is_mapped_the_same_way(
    error: Exception, code: grpc.StatusCode, details: str
) -> None:
    def register(server: grpc.aio.Server) -> None:
        connection_pb2_grpc.add_ConnectionServiceServicer_to_server(ObedientStream(raising(error)), server)

    async with serving(STREAMS, register) as (_, channel):
        call = connection_pb2_grpc.ConnectionServiceStub(channel).Attach(iter(()))
        responses = call.__aiter__()
        assert (await anext(responses)).probe == 1
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await anext(responses)
        assert (failure.value.code(), failure.value.details()) == (code, details)


async def test_a_method_that_does_not_exist_is_unimplemented() -> None:
    async with serving(SERVICE, obeying(healthy)) as (_, channel):
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await channel.unary_unary(f"/{SERVICE}/Nothing", bytes, bytes)(b"")
        assert failure.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_message_beyond_the_limit_is_refused_and_the_server_lives_on() -> None:
    async with serving(SERVICE, obeying(healthy)) as (_, channel):
        stub = sharing_pb2_grpc.SharingServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await stub.Release(sharing_pb2.ReleaseRequest(timer_ids=["x" * 17 * 1024 * 1024]), timeout=10)
        assert failure.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await release(channel)


# --- what is measured -----------------------------------------------------------------------------------------------------


def calls(status: str, method: str = "SharingService.Release") -> int:
    return CALLS.labels(method, status).count


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, "OK"),
        (NotFound("That is wrong"), "NOT_FOUND"),
        (KeyError("token"), "INTERNAL"),
        (rpc_error(grpc.StatusCode.INTERNAL), "UNAVAILABLE"),
        (rpc_error(grpc.StatusCode.DEADLINE_EXCEEDED), "DEADLINE_EXCEEDED"),
    ],
)
async def test_a_call_is_counted_by_the_status_that_its_caller_got(error: Exception | None, status: str) -> None:
    before = calls(status)
    if error is not None:
        assert (await status_of(error))[0].name == status
    else:
        async with serving(SERVICE, obeying(healthy)) as (_, channel):
            await release(channel)
    assert calls(status) == before + 1


async def test_a_call_whose_caller_did_not_wait_is_counted_as_cancelled() -> None:
    async def hang() -> None:
        await asyncio.Event().wait()

    before = calls("CANCELLED")
    async with serving(SERVICE, obeying(hang)) as (_, channel):
        with pytest.raises(grpc.aio.AioRpcError):
            await release(channel, seconds=0.1)
        await until(lambda: calls("CANCELLED") == before + 1)


# --- health and reflection ------------------------------------------------------------------------------------------------


async def health_of(channel: grpc.aio.Channel, service: str) -> Any:
    stub = health_pb2_grpc.HealthStub(channel)
    response = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)
    return response.status


async def until_health(channel: grpc.aio.Channel, service: str, expected: Any, seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while await health_of(channel, service) != expected:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("service", ["", SERVICE])
async def test_health_follows_what_the_check_finds(service: str) -> None:
    faults: list[Exception] = [Unavailable("The database can't be reached")]

    async def check() -> None:
        if faults:
            raise faults[0]

    async with serving(SERVICE, obeying(healthy), check=check) as (_, channel):
        assert await health_of(channel, service) == NOT_SERVING
        fault = faults.pop()
        await until_health(channel, service, SERVING)
        faults.append(fault)
        await until_health(channel, service, NOT_SERVING)


async def test_a_check_that_hangs_is_a_check_that_fails() -> None:
    hangs = asyncio.Event()
    checks = 0

    async def check() -> None:
        nonlocal checks
        checks += 1
        if hangs.is_set():
            await asyncio.Event().wait()

    async with serving(SERVICE, obeying(healthy), check=check) as (_, channel):
        await until_health(channel, "", SERVING)
        hangs.set()
        await until_health(channel, "", NOT_SERVING)


async def test_the_health_of_an_unknown_service_is_unknown() -> None:
    async with serving(SERVICE, obeying(healthy)) as (_, channel):
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await health_of(channel, "no.such.Service")
        assert failure.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    "service",
    [
        timer_pb2.DESCRIPTOR.services_by_name["TimerService"].full_name,
        sharing_pb2.DESCRIPTOR.services_by_name["SharingService"].full_name,
        connection_pb2.DESCRIPTOR.services_by_name["ConnectionService"].full_name,
    ],
)
async def test_reflection_lists_the_service_beside_health_and_reflection(service: str) -> None:
    async with serving(service, lambda _: None) as (_, channel):
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        (response,) = [each async for each in stub.ServerReflectionInfo(iter([request]))]
        listed = {each.name for each in response.list_services_response.service}
        assert listed == {service, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}


async def test_reflection_tells_of_the_messages() -> None:
    async with serving(SERVICE, obeying(healthy)) as (_, channel):
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE)
        (response,) = [each async for each in stub.ServerReflectionInfo(iter([request]))]
        assert b"AuthorizeRequest" in response.file_descriptor_response.file_descriptor_proto[0]


# --- start and end --------------------------------------------------------------------------------------------------------


async def test_a_port_that_is_taken_is_an_error_and_not_a_second_server() -> None:
    async with serving(SERVICE, obeying(healthy)) as (server, _):
        with pytest.raises(OSError, match="port taken"):
            async with serve(
                SERVICE, obeying(healthy), host="127.0.0.1", port=server.port, check=healthy, drain_seconds=0
            ):
                pass


@asynccontextmanager
async def stoppable(
    work: Callable[[], Awaitable[None]], drain_seconds: float
) -> AsyncIterator[tuple[grpc.aio.Channel, Callable[[], "asyncio.Task[None]"]]]:
    """A server that can be stopped while its channel stays open: gives the channel, and a function that begins the end."""
    stop = asyncio.Event()
    ports: list[int] = []

    async def run() -> None:
        async with serve(
            SERVICE, obeying(work), host="127.0.0.1", port=0, check=healthy, drain_seconds=drain_seconds
        ) as server:
            ports.append(server.port)
            await stop.wait()

    running = asyncio.create_task(run())

    def end() -> "asyncio.Task[None]":
        stop.set()
        return running

    await until(lambda: bool(ports))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{ports[0]}", [("grpc.enable_retries", 0)]) as channel:
        yield channel, end
        await end()


async def test_draining_finishes_what_is_under_way_and_takes_no_more() -> None:
    begun, gate = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        await gate.wait()

    async with stoppable(work, drain_seconds=5) as (channel, end):
        under_way = asyncio.create_task(release(channel))
        await begun.wait()
        ending = end()
        refused = None
        async with asyncio.timeout(5):
            while refused is None:
                try:
                    await health_of(channel, "")
                except grpc.aio.AioRpcError as error:
                    refused = error.code()
        # CANCELLED: it came in the very moment in which the drain began.
        assert refused in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
        assert not ending.done()
        gate.set()
        await under_way
        await ending


async def test_a_call_that_does_not_end_is_cut_when_the_drain_is_over() -> None:
    begun = asyncio.Event()

    async def work() -> None:
        begun.set()
        await asyncio.Event().wait()

    async with stoppable(work, drain_seconds=0.2) as (channel, end):
        under_way = asyncio.create_task(release(channel))
        await begun.wait()
        async with asyncio.timeout(3):
            await end()
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await under_way
        assert failure.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
