"""What `/metrics` of every process says after things have happened."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.docs.pages import table_after
from tests.docs.test_monitoring import metrics
from tests.system.client import WITHIN, Client, token
from tests.system.cluster import Cluster
from tests.system.conftest import Connect
from tests.system.monitoring import scrape, value

SERVICES = ("edge", "timer", "sharing", "connection")


async def test_one_update_is_seen_at_every_hop_of_its_way_to_the_screen(
    cluster: Cluster, connect: Connect, unique: Callable[[str], str]
) -> None:
    edge, timer, connection = (cluster.processes[name] for name in ("edge", "timer", "connection"))
    tea = unique("tea")

    async def counted() -> list[float]:
        return [
            await value(edge, "bubble_edge_message_seconds_count", type="timer.update", outcome="processed"),
            await value(timer, "bubble_convergence_seconds_count", stage="taken_over"),
            await value(edge, "bubble_convergence_seconds_count", stage="written"),
            await value(edge, "bubble_convergence_seconds_count", stage="acked"),
            await value(edge, "bubble_edge_deliveries_total"),
            await value(timer, "bubble_outbox_events_total", attempt="first", outcome="delivered"),
            await value(connection, "bubble_connection_events_total", outcome="delivered"),
            await value(timer, "bubble_grpc_server_seconds_count", method="TimerService.Write", status="OK"),
            await value(timer, "bubble_store_seconds_count", operation="save", outcome="ok"),
            await value(edge, "bubble_batch_items_sum", batcher="timer.write"),
            await value(edge, "bubble_batch_call_seconds_count", batcher="timer.write", outcome="ok"),
        ]

    async with connect("alice", "phone") as alice, connect("alice", "tablet") as other:
        before = await counted()
        await alice.done(type="timer", action="update", timer={"id": tea, "name": "Tea"})
        shown = await other.expect(lambda message: message.get("type") == "timer")
        await other.send(type="ack", messageId=shown["messageId"])
        await other.ask(type="ping")  # answered after the ack was read
        async with asyncio.timeout(WITHIN):
            while (after := await counted()) and after[1] == before[1]:
                await asyncio.sleep(0.05)
        grown = [now - then for now, then in zip(after, before, strict=True)]
        assert grown == [1.0] * len(grown)
        slowest = await value(edge, "bubble_convergence_seconds_count", stage="acked") - await value(
            edge, "bubble_convergence_seconds_bucket", stage="acked", le="10.0"
        )
        assert slowest == 0, "an ack was taken for one of something long ago"


async def test_acks_that_nothing_was_sent_for_count_for_nothing(cluster: Cluster, connect: Connect) -> None:
    edge = cluster.processes["edge"]
    before = await value(edge, "bubble_convergence_seconds_count", stage="acked")
    async with connect("alice", "phone") as alice:
        await alice.send(type="ack", messageId="17a3b2c4d5e6f.1234abcd")
        await alice.ask(type="ping")
        assert await value(edge, "bubble_convergence_seconds_count", stage="acked") == before


async def test_connections_are_counted_when_they_come_stay_and_go(cluster: Cluster, connect: Connect) -> None:
    edge, connection = cluster.processes["edge"], cluster.processes["connection"]

    async def open_now() -> tuple[float, float]:
        return await value(edge, "bubble_edge_connections"), await value(connection, "bubble_connection_connections")

    open_before = await open_now()
    came = await value(edge, "bubble_edge_connects_total", status="101")
    went = await value(edge, "bubble_edge_disconnects_total", code="1000", reason="bye")
    async with connect("alice", "phone"), connect("bob", "phone"):
        assert await open_now() == tuple(number + 2 for number in open_before)
        assert await value(edge, "bubble_edge_connects_total", status="101") == came + 2
    async with asyncio.timeout(WITHIN):
        while await open_now() != open_before:
            await asyncio.sleep(0.05)
        while await value(edge, "bubble_edge_disconnects_total", code="1000", reason="bye") != went + 2:
            await asyncio.sleep(0.05)
    async with asyncio.timeout(20):  # another test's system may have died on the same database: its lease runs out
        while await value(connection, "bubble_connection_leases") != 1:
            await asyncio.sleep(0.1)
    assert await value(connection, "bubble_connection_edges_attached") == 1
    assert await value(edge, "bubble_edge_streams_attached") == await value(edge, "bubble_edge_streams") == 1


async def test_refusals_are_counted_by_what_the_client_was_told(cluster: Cluster, connect: Connect) -> None:
    edge = cluster.processes["edge"]
    async with connect("alice", "phone") as alice:
        for message, kind, outcome in (
            ({"type": "timer", "action": "stop", "timerId": "no-such-timer"}, "timer.stop", "404"),
            ({"type": "nonsense"}, "invalid", "400"),
            ({"type": "auth", "token": "nonsense"}, "auth", "401"),
        ):
            before = await value(edge, "bubble_edge_message_seconds_count", type=kind, outcome=outcome)
            await alice.ask(**message)
            after = await value(edge, "bubble_edge_message_seconds_count", type=kind, outcome=outcome)
            assert after == before + 1, kind


async def test_every_process_tells_what_the_table_says_and_who_it_is(
    cluster: Cluster, connect: Connect, unique: Callable[[str], str]
) -> None:
    async with connect("alice", "phone") as alice:
        await alice.done(type="timer", action="update", timer={"id": unique("tea"), "name": "Tea"})
    rows = table_after("docs/operations.md", "metrics: checked by tests/docs")
    readers = {row[0].strip("`"): SERVICES if row[3] == "all" else tuple(row[3].split(", ")) for row in rows}
    known = metrics()
    for name in SERVICES:
        text, samples = await scrape(cluster.processes[name])
        told = {found.removesuffix("_count") for found, _ in samples if found.startswith("bubble_")}
        expected = {metric for metric, its_readers in readers.items() if name in its_readers}
        assert told & set(known) <= expected, name
        # What nothing has happened to yet has no series, only a head.
        assert all(f"# TYPE {metric.removesuffix('_total')}" in text for metric in expected), name
        (build,) = [dict(labels) for found, labels in samples if found == "bubble_build_info"]
        assert build["service"] == name


async def test_nobody_and_nothing_is_named(cluster: Cluster, connect: Connect, unique: Callable[[str], str]) -> None:
    user, device, timer = unique("alice"), unique("phone"), unique("tea")
    async with connect("alice", device) as alice, connect("alice", "tablet") as other:
        await alice.done(type="timer", action="update", timer={"id": timer, "name": "Tea"})
        await alice.ask(type="timer", action=unique("action"), messageId=unique("message"))
        await alice.ask(type=unique("type"))
        await other.update(timer)
        suffix = user.removeprefix("alice")
        for process in cluster.processes.values():
            text, _ = await scrape(process)
            assert suffix not in text
            assert alice.connected["connectionId"] not in text


@contextmanager
def deaf(cluster: Cluster, user: str) -> Iterator[socket.socket]:
    """A device that connects and never reads."""
    with socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        peer.connect(("127.0.0.1", cluster.edge_port))
        peer.sendall(
            f"GET /ws?token={token(user)}&deviceId=deaf HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
        )
        yield peer


@pytest.mark.one_store
async def test_a_device_that_does_not_read_shows_as_congested_conflated_and_in_the_end_as_cut(
    own_cluster: Callable[..., Awaitable[Cluster]],
) -> None:
    cluster = await own_cluster(
        BUBBLE_MESSAGES_PER_SECOND="0", BUBBLE_BACKLOG_BYTES="20000", BUBBLE_BACKLOG_PATIENCE="1"
    )
    edge = cluster.processes["edge"]

    async def until(name: str, wanted: Callable[[float], bool], **labels: str) -> None:
        async with asyncio.timeout(15):
            while not wanted(await value(edge, name, **labels)):
                await asyncio.sleep(0.05)

    async with Client(cluster.edge_port, "alice", "phone") as alice:
        with deaf(cluster, "alice"):
            await until("bubble_edge_connections", lambda connections: connections == 2)

            async def change(timer_id: str) -> None:
                await alice.done(type="timer", action="update", timer={"id": timer_id, "name": "x" * 250})

            # One timer, again and again: only its latest state waits.
            async with asyncio.timeout(60):
                while await value(edge, "bubble_edge_conflated_total") < 10:
                    await asyncio.gather(*(change("tea") for _ in range(50)))
            assert await value(edge, "bubble_edge_congested_connections") == 1
            assert 0 < await value(edge, "bubble_edge_backlog_bytes") < 20_000
            assert await value(edge, "bubble_edge_disconnects_total", code="4413") == 0
            # Many timers: more waits than may.
            await asyncio.gather(*(change(f"tea-{number}") for number in range(60)))
            await until("bubble_edge_disconnects_total", lambda cut: cut == 1, code="4413", reason="too slow")
            assert await value(edge, "bubble_edge_congested_connections") == 0
            assert await value(edge, "bubble_edge_backlog_bytes") == 0
            assert await value(edge, "bubble_edge_connections") == 1
