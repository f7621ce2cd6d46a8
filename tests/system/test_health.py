"""Readiness of every process when something is lost, and when it comes back: systems that are broken on purpose."""

import asyncio
import resource
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.system.client import Client
from tests.system.cluster import Cluster, Process
from tests.system.monitoring import readiness, value

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

SOON = 15.0
"""Seconds in which the loss of something must show: channels and drivers have their own patience."""

Answer = tuple[int, dict[str, Any]]


async def until_ready(process: Process, wanted: Callable[[Answer], bool]) -> Answer:
    """The first answer of `/readyz` that is wanted."""
    answer: Answer = (0, {})
    try:
        async with asyncio.timeout(SOON):
            while not wanted(answer := await readiness(process)):
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"{process.kind} answered {answer} to the end") from None
    return answer


def is_well(answer: Answer) -> bool:
    return answer == (200, {"status": "ready"})


def lacks(dependency: str) -> Callable[[Answer], bool]:
    """Not ready for want of something."""
    return lambda answer: answer[0] == 503 and answer[1].get("reason", "").startswith(f"{dependency}: ")


def is_degraded_by(dependency: str) -> Callable[[Answer], bool]:
    """Ready, but without something."""
    return lambda answer: answer[0] == 200 and set(answer[1].get("degraded", ())) == {dependency}


async def grpc_health(process: Process) -> Any:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{process.port}") as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
        return answer.status


def logged(process: Process, event: str, dependency: str) -> bool:
    return any(line.get("event") == event and line.get("dependency") == dependency for line in process.lines())


async def all_well(cluster: Cluster) -> None:
    for process in cluster.processes.values():
        await until_ready(process, is_well)


@pytest.mark.one_store
async def test_without_the_sharing_service_timer_and_edge_are_degraded_and_stay_ready(
    own_cluster: Callable[..., Awaitable[Cluster]],
) -> None:
    cluster = await own_cluster()
    edge, timer, connection = (cluster.processes[name] for name in ("edge", "timer", "connection"))
    await all_well(cluster)
    await cluster.processes["sharing"].kill()
    for process in (timer, edge):
        await until_ready(process, is_degraded_by("sharing"))
        assert await value(process, "bubble_dependency_up", dependency="sharing") == 0
        assert await value(process, "bubble_ready") == 1
        assert logged(process, "dependency is away", "sharing")
    assert await grpc_health(timer) == SERVING
    assert is_well(await readiness(connection))
    await cluster.processes["sharing"].start()
    await all_well(cluster)
    assert await value(timer, "bubble_dependency_up", dependency="sharing") == 1
    assert logged(timer, "dependency is back", "sharing")


@pytest.mark.one_store
async def test_without_the_timer_service_the_edge_is_degraded_and_keeps_its_connections(
    own_cluster: Callable[..., Awaitable[Cluster]],
) -> None:
    cluster = await own_cluster()
    edge = cluster.processes["edge"]
    await all_well(cluster)
    async with Client(cluster.edge_port, "alice", "phone") as alice:
        await cluster.processes["timer"].kill()
        await until_ready(edge, is_degraded_by("timer"))
        assert (await alice.ask(type="ping"))["type"] == "pong"
        await cluster.processes["timer"].start()
        await all_well(cluster)


@pytest.mark.one_store
async def test_without_the_connection_service_the_edge_is_not_ready_and_the_relays_are_degraded(
    own_cluster: Callable[..., Awaitable[Cluster]],
) -> None:
    cluster = await own_cluster()
    edge, timer, sharing = (cluster.processes[name] for name in ("edge", "timer", "sharing"))
    async with Client(cluster.edge_port, "alice", "phone") as alice:
        await cluster.processes["connection"].kill()
        _, answer = await until_ready(edge, lambda answer: answer[0] == 503)
        assert answer["reason"] == "not attached to any connection service"
        for process in (timer, sharing):
            await until_ready(process, is_degraded_by("connection"))
        # Changes are committed and acknowledged, and wait.
        await alice.done(type="timer", action="update", timer={"id": "tea", "name": "Tea"})
        async with asyncio.timeout(SOON):
            while not await value(timer, "bubble_outbox_pending_age_seconds") > 1:
                await asyncio.sleep(0.05)
        assert await value(timer, "bubble_outbox_pending_items") == 1
        await cluster.processes["connection"].start()
        await all_well(cluster)
        async with asyncio.timeout(SOON):
            while await value(timer, "bubble_outbox_pending_items"):
                await asyncio.sleep(0.05)
        # The first attempt waits for the service to come, and gives up after a while: who delivers is a matter of time.
        first, repeat = [
            await value(timer, "bubble_outbox_events_total", attempt=attempt, outcome="delivered")
            for attempt in ("first", "repeat")
        ]
        assert first + repeat == 1


@asynccontextmanager
async def full_disk(process: Process) -> AsyncIterator[None]:
    """The process can write to no file for the length of the context, as if the disk were full (its log included)."""
    assert process._process is not None
    pid = process._process.pid
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of another process are Linux's")
@pytest.mark.parametrize("name", ["timer", "sharing", "connection"])
async def test_a_service_whose_disk_is_full_is_not_ready_until_a_write_succeeds(
    name: str, own_cluster: Callable[..., Awaitable[Cluster]], store_environment: dict[str, str]
) -> None:
    if store_environment["BUBBLE_STORE"] != "sqlite":
        pytest.skip("MongoDB's disk is not ours to fill")
    cluster = await own_cluster()
    process = cluster.processes[name]
    await all_well(cluster)
    async with Client(cluster.edge_port, "alice", "phone") as alice:
        await alice.done(type="timer", action="update", timer={"id": "tea", "name": "Tea"})
        async with full_disk(process):
            for number in range(3):  # the connection service writes by itself, renewing leases
                if name == "timer":
                    reply = await alice.ask(
                        type="timer", action="update", timer={"id": "tea", "name": f"Tea {number} " + "x" * 200}
                    )
                    assert reply.get("code") == 503, reply
                elif name == "sharing":
                    reply = await alice.ask(type="share", action="add", timerId="tea", sharedWithUser=f"bob{number}")
                    assert reply.get("code") == 503, reply
            await until_ready(process, lacks("database"))
            assert await grpc_health(process) == NOT_SERVING
            assert await value(process, "bubble_store_seconds_count", operation="probe", outcome="failed") > 0
        await until_ready(process, lambda answer: answer[0] == 200)
        await alice.done(type="timer", action="update", timer={"id": "tea", "name": "Tea again"})
    await all_well(cluster)


class Proxy:
    """TCP to somewhere else, until it is cut."""

    def __init__(self, host: str, port: int) -> None:
        self._to = (host, port)
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Ends all connections and takes no more."""
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(*self._to)
        self._writers |= {writer, there_writer}
        try:
            await asyncio.gather(_pump(reader, there_writer), _pump(there_reader, writer))
        finally:
            for each in (writer, there_writer):
                self._writers.discard(each)
                each.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.transport.abort()


async def test_services_whose_database_is_away_are_not_ready_and_the_edge_is_degraded(
    own_cluster: Callable[..., Awaitable[Cluster]], store_environment: dict[str, str]
) -> None:
    if store_environment["BUBBLE_STORE"] != "mongodb":
        pytest.skip("a file is not away: see the test with the full disk")
    real = urlsplit(store_environment["MONGODB_URI"])
    proxy = Proxy(real.hostname or "", real.port or 27017)
    await proxy.open()
    # Directly: a replica set would tell its clients where it really is.
    uri = urlunsplit(real._replace(netloc=f"127.0.0.1:{proxy.port}", path="/", query="directConnection=true"))
    try:
        cluster = await own_cluster(MONGODB_URI=uri)
        await all_well(cluster)
        await proxy.cut()
        for name in ("timer", "sharing", "connection"):
            await until_ready(cluster.processes[name], lacks("database"))
            assert await grpc_health(cluster.processes[name]) == NOT_SERVING
            assert await value(cluster.processes[name], "bubble_dependency_up", dependency="database") == 0
            assert await value(cluster.processes[name], "bubble_ready") == 0
        await until_ready(
            cluster.processes["edge"],
            lambda answer: (
                answer[1].get("degraded") == {"timer": "answers NOT_SERVING", "sharing": "answers NOT_SERVING"}
            ),
        )
        await proxy.open()
        await all_well(cluster)
        assert logged(cluster.processes["timer"], "dependency is back", "database")
    finally:
        await proxy.cut()


@pytest.mark.one_store
async def test_who_drains_says_so(own_cluster: Callable[..., Awaitable[Cluster]]) -> None:
    cluster = await own_cluster()
    edge, timer, sharing = (cluster.processes[name] for name in ("edge", "timer", "sharing"))
    async with Client(cluster.edge_port, "alice", "phone") as alice:
        await alice.done(type="timer", action="update", timer={"id": "tea", "name": "Tea"})
        # A call that can't end keeps the timer service from ending.
        sharing.signal(signal.SIGSTOP)
        try:
            sent = await value(edge, "bubble_batch_items_count", batcher="timer.write")
            await alice.send(type="timer", action="update", timer={"id": "tea", "name": "Tea 2"}, messageId="held")
            async with asyncio.timeout(SOON):
                while await value(edge, "bubble_batch_items_count", batcher="timer.write") == sent:
                    await asyncio.sleep(0.02)
            timer.signal(signal.SIGTERM)
            await until_ready(timer, lambda answer: answer[0] == 503 and answer[1]["reason"] == "draining")
        finally:
            sharing.signal(signal.SIGCONT)
        await timer.wait()
        edge.signal(signal.SIGTERM)
        # It takes no new connections then, not even for /readyz: that says as much.
        await alice.expect(lambda message: message.get("type") == "reconnect")
    assert await edge.wait() == 0
    assert "draining" in [line.get("event") for line in edge.lines()]
