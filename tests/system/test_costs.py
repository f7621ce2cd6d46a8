"""What an update costs, counted: calls, statements and frames, for scenarios in which each of them is needed once.

A guard against changes that make the way of an update longer. It is no measurement of time, so it holds on any machine;
what the counts cost is in docs/performance.md.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.system.client import WITHIN, Client
from tests.system.cluster import Cluster
from tests.system.monitoring import value

pytestmark = pytest.mark.one_store

Start = Callable[..., Any]

UPDATES = 50

CALLS = {
    "TimerService.Write": "timer",
    "TimerService.Get": "timer",
    "SharingService.Authorize": "sharing",
    "SharingService.GetAudience": "sharing",
    "ConnectionService.Deliver": "connection",
}
STATEMENTS = (
    ("timer", "load"),
    ("timer", "save"),
    ("timer", "clear_pending"),
    ("sharing", "load_audiences"),
    ("sharing", "save"),
)


async def _counts(cluster: Cluster) -> dict[str, float]:
    counts = {
        method: await value(cluster.processes[service], "bubble_grpc_server_seconds_count", method=method, status="OK")
        for method, service in CALLS.items()
    }
    for service, operation in STATEMENTS:
        counts[f"{service} {operation}"] = await value(
            cluster.processes[service], "bubble_store_seconds_count", operation=operation, outcome="ok"
        )
    counts["deliveries"] = await value(cluster.processes["edge"], "bubble_edge_deliveries_total")
    return counts


async def _settled(cluster: Cluster) -> dict[str, float]:
    """The counts when no event and no marker is on its way any more."""
    before: dict[str, float] = {}
    async with asyncio.timeout(WITHIN):
        while (now := await _counts(cluster)) != before:
            before = now
            await asyncio.sleep(0.3)
    return now


async def _shared_timer(alice: Client, bob: str, tea: str) -> None:
    await alice.done(type="timer", action="update", timer={"id": tea, "name": "Tea", "totalDuration": "PT5M"})
    await alice.done(type="share", action="add", timerId=tea, sharedWithUser=bob)
    # The member is told twice, the second time when nothing can be under way any more for the audience before.
    await asyncio.sleep(4)


async def _shown(client: Client, version: int) -> None:
    await client.expect(lambda m: m.get("timer", {}).get("version") == version)


async def _answered(client: Client, message_id: str) -> None:
    await client.expect(lambda m: m.get("messageId") == message_id)


async def test_updates_one_after_the_other_take_each_step_once_and_read_nothing_twice(
    own_cluster: Start, unique: Callable[[str], str]
) -> None:
    cluster = await own_cluster(BUBBLE_MESSAGES_PER_SECOND="0")
    alice, bob, tea = unique("alice"), unique("bob"), unique("tea")
    async with (
        Client(cluster.edge_port, alice, "phone") as phone,
        Client(cluster.edge_port, alice, "tablet"),
        Client(cluster.edge_port, bob, "phone") as member,
    ):
        await _shared_timer(phone, bob, tea)
        before = await _settled(cluster)
        for number in range(UPDATES):
            reply = await phone.done(type="timer", action="update", timer={"id": tea, "name": f"Tea {number}"})
            await _shown(member, reply["version"])
        grown = {name: count - before[name] for name, count in (await _settled(cluster)).items()}
    cleared = grown.pop("timer clear_pending")
    assert grown == {
        "TimerService.Write": UPDATES,
        "TimerService.Get": 0,
        "SharingService.Authorize": UPDATES,
        "SharingService.GetAudience": 0,
        "ConnectionService.Deliver": UPDATES,
        "timer load": 0,
        "timer save": UPDATES,
        "sharing load_audiences": UPDATES,
        "sharing save": 0,
        "deliveries": 2 * UPDATES,
    }
    assert 1 <= cleared <= UPDATES


async def test_updates_that_come_together_share_their_calls_and_statements(
    own_cluster: Start, unique: Callable[[str], str]
) -> None:
    cluster = await own_cluster(BUBBLE_MESSAGES_PER_SECOND="0")
    alice = unique("alice")
    names = [unique(f"timer-{number}") for number in range(60)]
    async with Client(cluster.edge_port, alice, "phone") as phone:
        for name in names:
            await phone.done(type="timer", action="update", timer={"id": name, "name": "Tea"})
        before = await _settled(cluster)
        for number, name in enumerate(names):
            await phone.send(type="timer", action="update", timer={"id": name, "name": "Tea 2"}, messageId=f"u{number}")
        for number in range(len(names)):
            await _answered(phone, f"u{number}")
        grown = {name: count - before[name] for name, count in (await _settled(cluster)).items()}
    assert grown["timer load"] == 0
    assert grown["SharingService.GetAudience"] == 0
    # How many come together depends on the machine; a quarter is far from it on any.
    for name in ("TimerService.Write", "SharingService.Authorize", "ConnectionService.Deliver", "timer save"):
        assert 1 <= grown[name] <= len(names) / 4, grown
