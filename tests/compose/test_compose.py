"""`docker compose up` for real: `make compose-test`. The tests build on each other's scale only through `Stack.up`."""

import asyncio
import json
import secrets
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import grpc
import pytest
import websockets

from proto.connection.v1 import connection_pb2, connection_pb2_grpc
from tests.compose.load import under_load
from tests.compose.stack import OURS, Container, Stack
from tests.system.client import Client, eventually, token

pytestmark = pytest.mark.timeout(1_200)  # seconds; building and pulling for the first time is most of it

EVERYTHING = ("mongo", *OURS, "proxy", "jaeger")

TRACE = {  # span: (service, parent)
    "ws.receive": ("edge", None),
    "timer.write": ("timer", "ws.receive"),
    "sharing.authorize": ("sharing", "timer.write"),
    "store.save": ("timer", "timer.write"),
    "outbox.deliver": ("timer", "timer.write"),
    "connection.deliver": ("connection", "outbox.deliver"),
    "ws.send": ("edge", "connection.deliver"),
    "ws.deliver": ("edge", "ws.send"),
}
"""What a change of a timer leaves in Jaeger."""

RECOVERED_WITHIN = 60.0
"""Seconds for whatever takes the engine's restarts or health checks, of which there is one every five seconds."""


def connections_of(stack: Stack, user: str) -> list[connection_pb2.Connection]:
    """Where a user is connected, as the connection service has it."""
    with grpc.insecure_channel(f"127.0.0.1:{stack.ports['BUBBLE_CONNECTION_PORT']}") as channel:
        stub = connection_pb2_grpc.ConnectionServiceStub(channel)
        answer = stub.ListConnections(connection_pb2.ListConnectionsRequest(user_ids=[user]), timeout=5)
    return list(answer.connections)


def edges_of(stack: Stack, user: str) -> set[str]:
    """The edges that hold a user's sockets: the short ids of their containers, which an edge's id begins with."""
    return {connection.edge_id.rpartition("-")[0] for connection in connections_of(stack, user)}


async def connect_to(stack: Stack, exits: AsyncExitStack, user: str, edge: str) -> Client:
    """A connection of a user that the proxy gave to a certain edge."""
    for attempt in range(40):
        name = f"{user}-{attempt}"
        client = await exits.enter_async_context(Client(stack.ports["BUBBLE_EDGE_PORT"], name, "phone"))
        if edges_of(stack, name) == {edge}:
            return client
    raise AssertionError(f"the proxy never chose {edge}")


async def share_a_timer(alice: Client, bob: Client, timer_id: str) -> None:
    """A timer of alice's that bob has seen."""
    await alice.done(type="timer", action="update", timer={"id": timer_id, "name": "Tea", "totalDuration": "PT5M"})
    await alice.done(type="share", action="add", timerId=timer_id, sharedWithUser=bob.user)
    await bob.expect(lambda message: message.get("type") == "share", within=10)


def test_everything_comes_up_healthy_and_in_order(stack: Stack) -> None:
    containers = {container.service: container for container in stack.containers()}
    assert set(containers) == set(EVERYTHING)
    assert {service: each.health for service, each in containers.items() if service != "jaeger"} == dict.fromkeys(
        [service for service in EVERYTHING if service != "jaeger"], "healthy"
    )
    starts = [containers[service].started_at for service in ("mongo", *OURS, "proxy")]
    assert starts == sorted(starts)
    assert {service: each.facts["RestartCount"] for service, each in containers.items()} == dict.fromkeys(EVERYTHING, 0)


def test_ports_are_published_on_the_loopback_address_only_and_by_the_proxy_for_all_of_ours(stack: Stack) -> None:
    published = {
        container.service: {
            binding["HostIp"]
            for bindings in container.facts["NetworkSettings"]["Ports"].values()
            for binding in bindings or []
        }
        for container in stack.containers()
    }
    assert published == {service: set() for service in EVERYTHING} | {"proxy": {"127.0.0.1"}, "jaeger": {"127.0.0.1"}}


def test_without_any_setting_it_is_a_system_for_development_on_this_machine_only(stack: Stack) -> None:
    # Asked of compose itself, with none of this project's variables.
    config = json.loads(
        stack.run(
            *("env", "-u", "BUBBLE_DEV", "-u", "BUBBLE_JWT_SECRET_FILE"),
            *("docker", "compose", "--profile", "*", "config", "--format", "json"),
        )
    )
    ports = [port for service in config["services"].values() for port in service.get("ports", [])]
    assert ports
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}
    assert config["services"]["edge"]["environment"]["BUBBLE_DEV"] == "1"
    assert all(service["read_only"] and service["mem_limit"] for service in config["services"].values())


@pytest.mark.parametrize("service", EVERYTHING)
def test_every_container_is_confined(stack: Stack, service: str) -> None:
    (container,) = stack.containers(service)
    host = container.facts["HostConfig"]
    assert host["ReadonlyRootfs"] is True
    assert host["Privileged"] is False
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert host["CapDrop"] == ["ALL"]
    assert 0 < host["Memory"] <= 1024**3


@pytest.mark.parametrize("service", [*OURS, "proxy"])
def test_what_faces_the_network_is_not_root_and_can_write_nowhere(stack: Stack, service: str) -> None:
    (container,) = stack.containers(service)
    assert stack.run("docker", "exec", container.id, "id", "-u").strip() != "0"
    for path in ("/", "/etc", "/app" if service in OURS else "/etc/haproxy"):
        with pytest.raises(AssertionError, match="Read-only file system"):
            stack.run("docker", "exec", container.id, "touch", f"{path}/x")


async def test_the_secret_is_read_from_a_file_and_is_in_no_variable(stack: Stack, edge_port: int) -> None:
    (edge,) = stack.containers("edge")
    variables = dict(variable.split("=", 1) for variable in edge.facts["Config"]["Env"])
    assert variables["BUBBLE_JWT_SECRET"] == ""
    async with Client(edge_port, "alice", "phone") as phone:
        assert phone.connected["userId"] == "alice"
    with pytest.raises(websockets.InvalidStatus) as refusal:
        async with Client(edge_port, "alice", token=token("alice", secret="another secret, of more than 32 bytes")):
            pass
    assert refusal.value.response.status_code == 401
    log = stack.compose("logs", "proxy", "edge")
    assert '"path": "/ws"' in log
    assert "token=" not in log


async def test_a_timer_goes_from_phone_to_phone_and_its_trace_to_jaeger(
    stack: Stack, edge_port: int, unique: Callable[[str], str]
) -> None:
    tea, trace_id = unique("tea"), secrets.token_hex(16)
    async with Client(edge_port, unique("alice"), "phone") as phone, Client(edge_port, unique("bob"), "phone") as other:
        await share_a_timer(phone, other, tea)
        started = await phone.done(
            type="timer", action="start", timerId=tea, traceparent=f"00-{trace_id}-b7ad6b7169203331-01"
        )
        delivery = await other.expect(
            lambda message: message.get("type") == "timer" and message["timer"]["version"] == started["version"]
        )
        assert delivery["timer"]["endTime"] == started["timer"]["endTime"]
        await other.send(type="ack", messageId=delivery["messageId"])
        spans = await _trace(stack, trace_id, set(TRACE))
    assert {name: spans[name] for name in TRACE} == TRACE


async def _trace(stack: Stack, trace_id: str, wanted: set[str]) -> dict[str, tuple[str, str | None]]:
    """The spans of a trace by name, each with its service and its parent's name, once Jaeger has all that are wanted."""
    url = f"http://127.0.0.1:{stack.ports['JAEGER_PORT']}/api/traces/{trace_id}"
    spans: dict[str, tuple[str, str | None]] = {}
    async with aiohttp.ClientSession() as http:
        for _ in range(60):  # processes send their spans every five seconds
            async with http.get(url) as response:
                spans = _by_name((await response.json())["data"][0]) if response.ok else {}
            if wanted <= spans.keys():
                return spans
            await asyncio.sleep(0.5)
    raise AssertionError(f"the trace is not whole: {sorted(spans)}")


def _by_name(trace: dict[str, Any]) -> dict[str, tuple[str, str | None]]:
    names = {span["spanID"]: span["operationName"] for span in trace["spans"]}
    return {
        span["operationName"]: (
            trace["processes"][span["processID"]]["serviceName"],
            next((names.get(reference["spanID"]) for reference in span["references"]), None),
        )
        for span in trace["spans"]
    }


async def test_two_edges_serve_behind_the_proxy_and_deliveries_cross_them(
    stack: Stack, unique: Callable[[str], str]
) -> None:
    stack.up(edge=2)
    one, two = [edge.id[:12] for edge in stack.containers("edge")]
    async with AsyncExitStack() as exits:
        alice = await connect_to(stack, exits, unique("alice"), one)
        bob = await connect_to(stack, exits, unique("bob"), two)
        tea = unique("tea")
        await share_a_timer(alice, bob, tea)
        for sender, receiver in ((alice, bob), (bob, alice)):
            name = f"from {sender.user}"
            await sender.done(type="timer", action="update", timer={"id": tea, "name": name})
            await receiver.expect(lambda m, name=name: m.get("timer", {}).get("name") == name)  # type: ignore[misc]


async def test_every_service_may_have_several_replicas(
    stack: Stack, edge_port: int, unique: Callable[[str], str]
) -> None:
    stack.up(edge=2, timer=2, sharing=2, connection=2)
    assert {service: len(stack.containers(service)) for service in OURS} == dict.fromkeys(OURS, 2)
    async with under_load(edge_port, unique("scaled")) as load:
        await eventually(lambda: all(writer.acknowledged > 20 for writer, _ in load.pairs), within=60)
        await load.caught_up(within=30)
    print(f"\ntwo of each: {load.report()}")


@pytest.mark.parametrize("service", OURS)
async def test_a_replica_that_is_killed_comes_back_healthy_and_nothing_is_lost(
    stack: Stack, edge_port: int, unique: Callable[[str], str], service: str
) -> None:
    stack.up(edge=2, timer=2, sharing=2, connection=2)
    victim = stack.containers(service)[0]
    async with under_load(edge_port, unique(f"killed-{service}")) as load:
        await asyncio.to_thread(stack.kill, victim)

        deadline = time.monotonic() + RECOVERED_WITHIN
        while not await asyncio.to_thread(_is_back, stack, victim):
            assert time.monotonic() < deadline, f"{service} does not come back"
            await asyncio.sleep(0.5)
        await load.caught_up(within=30)
    print(f"\n{service} killed: {load.report()}")


def _is_back(stack: Stack, victim: Container) -> bool:
    again = next(each for each in stack.containers(victim.service) if each.id == victim.id)
    return again.started_at > victim.started_at and again.health == "healthy"


async def test_prometheus_finds_every_replica_and_its_rules_are_sound(stack: Stack) -> None:
    stack.up(edge=2, timer=2, sharing=2, connection=2)
    stack.compose("up", "--detach", "--wait", "--no-recreate", "--no-deps", "prometheus")
    address = f"http://127.0.0.1:{stack.ports['PROMETHEUS_PORT']}/api/v1"
    expected = Counter({"edge": 2, "timer": 2, "sharing": 2, "connection": 2, "proxy": 1})
    async with aiohttp.ClientSession() as http:
        up: Counter[str] = Counter()
        deadline = time.monotonic() + RECOVERED_WITHIN
        while up != expected:
            assert time.monotonic() < deadline, up
            await asyncio.sleep(1)
            async with http.get(f"{address}/targets", params={"state": "active"}) as response:
                targets = (await response.json())["data"]["activeTargets"]
            up = Counter(target["labels"]["job"] for target in targets if target["health"] == "up")
        async with http.get(f"{address}/rules") as response:
            groups = (await response.json())["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert rules
    assert not [rule for rule in rules if rule["health"] == "err"]


async def test_when_an_edge_stops_its_clients_go_to_the_other_one(
    stack: Stack, edge_port: int, unique: Callable[[str], str]
) -> None:
    stack.up(edge=2)
    one, two = [edge.id[:12] for edge in stack.containers("edge")]
    async with AsyncExitStack() as exits:
        client = await connect_to(stack, exits, unique("alice"), one)
        stopping = asyncio.create_task(asyncio.to_thread(stack.run, "docker", "stop", one))
        await client.expect(lambda message: message.get("type") == "reconnect", within=10)
        # From its first word of leaving on, whoever comes is sent to the other one, and nobody is refused.
        for number in range(20):
            async with Client(edge_port, unique(f"bob-{number}"), "phone") as other:
                assert edges_of(stack, other.user) == {two}
        assert await client.closed(within=20) == 1012
        await stopping
    assert [edge.facts["State"]["ExitCode"] for edge in stack.containers("edge") if edge.id.startswith(one)] == [0]
    stack.up(edge=2)


async def test_an_upgrade_one_by_one_loses_nothing(stack: Stack, edge_port: int, unique: Callable[[str], str]) -> None:
    stack.up(edge=2, timer=2, sharing=2, connection=2)
    before = {each.id for each in stack.containers(*OURS)}
    async with under_load(edge_port, unique("upgrade")) as load:
        await asyncio.to_thread(stack.run, "deploy/roll", within=600)
        await load.caught_up(within=30)
    print(f"\nupgraded: {load.report()}")
    after = stack.containers(*OURS)
    assert before.isdisjoint({each.id for each in after})
    assert {service: len([each for each in after if each.service == service]) for service in OURS} == dict.fromkeys(
        OURS, 2
    )
