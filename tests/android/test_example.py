"""The OkHttp example client beside another one, on the real system."""

import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from tests.android.example import Example, build
from tests.system.client import Client, eventually
from tests.system.cluster import Cluster

pytestmark = [
    pytest.mark.timeout(600),  # building it takes that long where Maven has nothing yet
    pytest.mark.xdist_group("android"),
]

RECOVERY = 30.0
"""Seconds within which everybody is back after a kill. Generous: back-off, a busy machine, the JVM."""


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    """The example, with its own tests passed."""
    build()


@pytest.fixture(scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    """A system whose edge tests may kill, when they start it again."""
    running = Cluster(tmp_path_factory.mktemp("android"), {"BUBBLE_STORE": "sqlite", "BUBBLE_DRAIN_SECONDS": "1"})
    try:
        await running.start()
        yield running
    finally:
        await running.stop()


async def test_both_clients_end_on_the_same_state_though_the_edge_was_killed(cluster: Cluster, tmp_path: Path) -> None:
    async with Example(cluster.edge_port, "alice", tmp_path) as alice:
        async with Client(cluster.edge_port, "bob", "laptop") as bob:
            await alice.do("new tea PT5M Green tea")
            await alice.do("share tea bob")
            await bob.expect(lambda message: message.get("type") == "share")
            await bob.done(type="timer", action="start", timerId="tea")
            await alice.wait_for(lambda: "endTime" in alice.timers["tea"])
            await alice.do("extend tea PT1M")
            await bob.update("tea")

            await cluster.processes["edge"].kill()
            await alice.wait_for(lambda: alice.states[-1] == "WAITING", RECOVERY)
            # Asked for while nobody is there: sent when somebody is, once.
            await alice.type("extend tea PT2M")
            await alice.type("new eggs PT3M")
            await alice.type("share eggs bob")
        await bring_back(cluster)

        async with Client(cluster.edge_port, "bob", "laptop") as bob:
            await alice.wait_for(partial(alice.answer_to, "share eggs bob"), RECOVERY)
            await bob.done(type="timer", action="pause", timerId="tea")
            await alice.wait_for(lambda: "remainingDuration" in alice.timers["tea"], RECOVERY)
            stored = {timer["id"]: timer for timer in (await bob.ask(type="sync", versions={}))["timers"]}
            await alice.wait_for(lambda: alice.timers == stored, RECOVERY)
        assert set(stored) == {"tea", "eggs"}
        # Five minutes, one before the kill, two during it: once each, whatever was repeated.
        assert "PT7M" < stored["tea"]["remainingDuration"] < "PT8M"


async def test_a_reply_that_was_lost_is_asked_for_again_and_the_command_has_one_effect(
    cluster: Cluster, tmp_path: Path
) -> None:
    async with Example(cluster.edge_port, "carol", tmp_path) as carol:
        await carol.do("new soup PT5M")
        await carol.do("start soup")
        for minutes in (1, 2):
            command = f"extend soup PT{minutes}M"
            await carol.type(command)
            await cluster.processes["edge"].kill()  # before the request, its effect, or its reply: who knows
            await bring_back(cluster)
            await carol.wait_for(partial(carol.answer_to, command), RECOVERY)
        await carol.do("pause soup", RECOVERY)
        assert "PT7M" < carol.timers["soup"]["remainingDuration"] < "PT8M"


async def test_after_a_restart_it_has_what_it_missed(cluster: Cluster, tmp_path: Path) -> None:
    async with Example(cluster.edge_port, "dave", tmp_path) as dave:
        await dave.do("new rice PT5M")
        await dave.do("new peas PT5M")
        assert await cluster.processes["edge"].stop() == 0
        await dave.wait_for(lambda: any("1012" in line.get("message", "") for line in dave.lines), RECOVERY)
        await bring_back(cluster)
        async with Client(cluster.edge_port, "dave", "laptop") as laptop:
            await laptop.done(type="timer", action="stop", timerId="rice")
        await dave.wait_for(lambda: set(dave.timers) == {"peas"} and dave.states[-1] == "CONNECTED", RECOVERY)


async def test_the_token_is_renewed_over_the_living_connection(cluster: Cluster, tmp_path: Path) -> None:
    lifetime = 6.0
    async with Example(cluster.edge_port, "erin", tmp_path, token_lifetime=lifetime) as erin:
        expires = time.time() + lifetime
        await erin.wait_for(lambda: "CONNECTED" in erin.states)
        erin.give_token(600)
        await eventually(lambda: time.time() > expires + 2, within=lifetime + 5)  # when the edge would have closed it
        await erin.do("new leek PT5M")
        assert erin.states == ["CONNECTING", "CONNECTED"]


async def test_its_clock_is_the_servers_within_the_bound_that_it_says(cluster: Cluster, tmp_path: Path) -> None:
    async with Example(cluster.edge_port, "frank", tmp_path) as frank:
        for number in range(5):
            before = time.time() * 1e6
            await frank.do(f"new f{number} PT5M")
            after = time.time() * 1e6
            line = frank.answer_to(f"new f{number} PT5M")
            assert line is not None
            assert before - line["errorMicros"] <= line["serverMicros"] <= after + line["errorMicros"]


async def bring_back(cluster: Cluster) -> None:
    """Starts the edge again."""
    await cluster.processes["edge"].start()
    await cluster.wait_until_ready()
