"""Everybody comes back at once: an edge is drained or killed under its clients, and its successor takes them in."""

import asyncio
import contextlib
import itertools
import json
import signal
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import websockets

from tests.system.client import Client, Message, eventually
from tests.system.cluster import Cluster, Process

Unique = Callable[[str], str]
Start = Callable[..., Any]

TIMERS, CHANGED, STOPPED = 30, 3, 2
READERS_PER_USER = 22
WRITERS = 12
DRAIN_SECONDS = 8.0
WINDOW = DRAIN_SECONDS / 2
"""Seconds in which a draining edge closes its connections."""

NAME = "n" * 150


def _size(message: Message) -> int:
    """Bytes of a message as the edge writes it."""
    return len(json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode())


class Busy:
    """Somebody who goes on writing one timer of their own until the connection ends."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.timer_id = f"own-{client.user}"
        self.acknowledged: Message = {}
        self.sent = 0

    async def run(self) -> None:
        """Writes until the connection ends."""
        with contextlib.suppress(websockets.ConnectionClosed, AssertionError):
            for number in itertools.count(1):
                self.sent = number
                timer = {"id": self.timer_id, "name": str(number)}
                reply = await self.client.done(type="timer", action="update", timer=timer)
                self.acknowledged = {"number": number, "version": reply["version"]}


async def _another_edge(cluster: Cluster, directory: Path) -> Process:
    edge = Process("edge", cluster.processes["edge"]._environment, directory / "other-edge.log")
    await edge.start()
    async with aiohttp.ClientSession() as http:
        while True:
            async with http.get(f"http://127.0.0.1:{edge.port}/readyz") as response:
                if response.status == 200:
                    return edge
            await asyncio.sleep(0.05)


async def _resumed(port: int, user: str, device: str, known: dict[str, Message]) -> Message:
    """What a client is told that comes back with what it knows."""
    async with Client(port, user, device, resume=True) as client:
        await client.send(
            type="sync",
            versions={timer_id: timer["version"] for timer_id, timer in known.items()},
            shareVersions={timer_id: timer["shareVersion"] for timer_id, timer in known.items()},
            messageId="sync",
        )
        snapshot = await client.expect(lambda message: message.get("type") == "snapshot", 20)
        assert snapshot["messageId"] == "sync"  # no full one came before
        await client.ask(type="ping")  # behind everything that was under way
        # Delivery is at least once: a stop that waited for the dead edge may come again to one who has just heard of it.
        assert all(m.get("action") == "stop" and m["timerId"] in snapshot["gone"] for m in client.inbox), client.inbox
        return snapshot


# With one store: it is about the edge, and a hundred snapshots at once only measure a stand-in for MongoDB.
@pytest.mark.timeout(240)
@pytest.mark.parametrize("store_environment", ["sqlite"], indirect=True)
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["drained", "killed"])
async def test_after_a_restart_everybody_gets_exactly_what_changed_and_no_acknowledged_write_is_lost(
    own_cluster: Start, unique: Unique, tmp_path: Path, how: signal.Signals
) -> None:
    cluster: Cluster = await own_cluster(
        BUBBLE_DRAIN_SECONDS=str(DRAIN_SECONDS),
        BUBBLE_LOG_LEVEL="debug",
        BUBBLE_MESSAGES_PER_SECOND="0",
        BUBBLE_MAX_CONNECTIONS_PER_USER="0",
    )
    edge, other = cluster.processes["edge"], await _another_edge(cluster, tmp_path)
    users = [unique(name) for name in ("alice", "bob", "carol", "dave")]
    timer_ids = [f"{users[0]}-{number}" for number in range(TIMERS)]
    readers = [Client(edge.port, user, f"d{number}") for user in users for number in range(READERS_PER_USER)]
    busy = [Busy(Client(edge.port, unique(f"w{number}"), "phone")) for number in range(WRITERS)]
    everybody = [*readers, *(each.client for each in busy)]
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(other.stop)
        async with Client(other.port, users[0], "desk") as alice:
            for timer_id in timer_ids:
                await alice.done(type="timer", action="update", timer={"id": timer_id, "name": f"old {NAME}"})
                for member in users[1:]:
                    await alice.done(type="share", action="add", timerId=timer_id, sharedWithUser=member)
            for client in everybody:
                await stack.enter_async_context(client)
            known = {timer["id"]: timer for timer in readers[0].snapshot["timers"]}
            assert known.keys() == set(timer_ids)
            full = _size(readers[0].snapshot)
            writing = [asyncio.create_task(each.run()) for each in busy]
            await eventually(lambda: all(each.acknowledged for each in busy))

            told_at = time.time()
            edge.signal(how)
            for client in everybody:
                assert await client.closed(2 * DRAIN_SECONDS) == (1012 if how is signal.SIGTERM else 1006)
            await asyncio.gather(*writing)
            assert await edge.wait(DRAIN_SECONDS) == (0 if how is signal.SIGTERM else -signal.SIGKILL)
            if how is signal.SIGTERM:
                _were_closed_one_after_the_other(edge, everybody, told_at)

            changed, stopped = timer_ids[:CHANGED], timer_ids[CHANGED : CHANGED + STOPPED]
            versions = {}
            for timer_id in changed:
                reply = await alice.done(type="timer", action="update", timer={"id": timer_id, "name": f"new {NAME}"})
                versions[timer_id] = reply["version"]
            for timer_id in stopped:
                await alice.done(type="timer", action="stop", timerId=timer_id)
        await edge.start()
        await cluster.wait_until_ready()
        snapshots = await asyncio.gather(
            *(_resumed(edge.port, client.user, client.connected["deviceId"], known) for client in readers)
        )
        most = (CHANGED + 1) * max(_size(known[timer_id]) for timer_id in changed)
        for snapshot in snapshots:
            assert {timer["id"]: timer["version"] for timer in snapshot["timers"]} == versions
            assert sorted(snapshot["gone"]) == sorted(stopped)
            assert _size(snapshot) <= most
        assert most < full / 5
        for each in busy:
            async with Client(edge.port, each.client.user, "phone") as client:
                (timer,) = client.snapshot["timers"]
                # What was not answered any more may have happened as well: the client would repeat it.
                assert timer["version"] >= each.acknowledged["version"]
                assert each.acknowledged["number"] <= int(timer["name"]) <= each.sent
    assert await other.stop() == 0
    assert cluster.crashes() == []


def _were_closed_one_after_the_other(edge: Process, clients: list[Client], told_at: float) -> None:
    """Everybody was told a moment, these are spread evenly over the window, and at its moment each was closed."""
    after = {}
    for client in clients:
        (hint,) = [message for message in client.received if message.get("type") == "reconnect"]
        after[client.connected["connectionId"]] = hint["afterMs"] / 1_000
    for place, moment in enumerate(sorted(after.values())):
        assert place * WINDOW / len(clients) - 0.001 <= moment <= (place + 1) * WINDOW / len(clients) + 0.001
    closings = [line for line in edge.lines() if line.get("event") == "closing"]
    assert [line["close_code"] for line in closings] == [1012] * len(clients)
    moments = [after[line["connection_id"]] for line in closings]
    assert moments == sorted(moments)
    for line, moment in zip(closings, moments, strict=True):
        assert datetime.fromisoformat(line["timestamp"]).timestamp() >= told_at + moment - 0.001
