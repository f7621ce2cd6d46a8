"""`python -m cli doctor` beside a running system."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
import pytest

from runtime.version import VERSION
from tests.system.client import Client
from tests.system.cluster import Cluster
from tests.system.conftest import Connect
from tests.system.monitoring import addresses


async def doctor(environment: Mapping[str, str], *arguments: str) -> tuple[int, str]:
    """Its exit code and what it printed."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("BUBBLE_", "OTEL_"))}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "cli",
        "doctor",
        *arguments,
        env={**inherited, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode is not None
    return process.returncode, output.decode()


async def findings(cluster: Cluster, *arguments: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """The same as data, by process."""
    code, output = await doctor(addresses(cluster), "--json", *arguments)
    report = msgspec.json.decode(output)
    assert report["well"] is (code == 0)
    return code, {each["process"]: each for each in report["processes"]}


async def until_well(cluster: Cluster) -> dict[str, dict[str, Any]]:
    async with asyncio.timeout(20):
        while (result := await findings(cluster))[0] != 0:
            await asyncio.sleep(0.1)
    return result[1]


async def test_of_a_healthy_system_it_tells_everything_and_that_all_is_well(cluster: Cluster, connect: Connect) -> None:
    async with connect("alice", "phone"):
        found = await until_well(cluster)
    assert list(found) == ["edge", "timer", "sharing", "connection"]
    for name, finding in found.items():
        assert (finding["state"], finding["version"], finding["problems"]) == ("ready", VERSION, [])
        assert finding["address"] == f"127.0.0.1:{cluster.processes[name].metrics_port}"
    assert len({finding["store"] for name, finding in found.items() if name != "edge"}) == 1
    assert found["connection"]["edges_attached"] == found["connection"]["edges_expected"] == 1
    assert found["connection"]["connections"] >= 1
    assert found["edge"]["connections"] >= 1
    assert found["timer"]["pending_age_seconds"] >= 0


async def test_the_table_names_every_process(cluster: Cluster) -> None:
    await until_well(cluster)
    code, output = await doctor(addresses(cluster))
    assert code == 0, output
    for name in ("edge", "timer", "sharing", "connection", VERSION, "ready", "1 of 1", cluster.edge_port):
        assert str(name) in output


@pytest.mark.one_store
async def test_it_names_what_is_down_and_what_that_means_for_the_others(
    own_cluster: Callable[..., Awaitable[Cluster]],
) -> None:
    cluster = await own_cluster()
    async with Client(cluster.edge_port, "alice", "phone"):
        async with asyncio.timeout(20):
            while (await findings(cluster))[1]["timer"]["state"] != "ready":
                pass
        await cluster.processes["sharing"].kill()
        async with asyncio.timeout(20):
            while True:
                code, found = await findings(cluster)
                assert code == 1
                if found["timer"]["state"] == found["edge"]["state"] == "degraded":
                    break
        assert found["sharing"]["state"] == "unreachable"
        assert "BUBBLE_SHARING_METRICS_PORT" in found["sharing"]["problems"][0]
        assert "can't use sharing" in found["timer"]["problems"][0]
        assert found["connection"]["state"] == "ready"


@pytest.mark.one_store
async def test_further_processes_are_looked_at_and_tell_who_they_are(cluster: Cluster) -> None:
    await until_well(cluster)
    timer = cluster.processes["timer"].metrics_port
    environment = {name: value for name, value in addresses(cluster).items() if name != "BUBBLE_TIMER_METRICS_PORT"} | {
        "BUBBLE_TIMER_METRICS_PORT": "1"
    }
    code, output = await doctor(environment, "--json", f"127.0.0.1:{timer}")
    report = msgspec.json.decode(output)["processes"]
    assert code == 1
    assert [(each["process"], each["state"]) for each in report if each["process"] == "timer"] == [
        ("timer", "unreachable"),
        ("timer", "ready"),
    ]


async def test_a_wrong_address_or_setting_is_named_in_one_line() -> None:
    for environment, arguments, word in (
        ({}, ["somewhere"], "'somewhere' is not host:port"),
        ({"BUBBLE_TIMER_METRICS_PORT": "many"}, [], "BUBBLE_TIMER_METRICS_PORT"),
    ):
        code, output = await doctor(environment, *arguments)
        assert code == 1
        assert word in output
        assert len(output.splitlines()) == 1
