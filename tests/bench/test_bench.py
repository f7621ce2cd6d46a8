"""The whole way, on real servers: start, connect, load, verify."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bench.crowd import Gathering
from bench.measure import Result, connecting, under_load
from bench.scenarios import Crowd, Load
from bench.targets import Ours, RawAiohttp, Target, make_token

pytestmark = pytest.mark.xdist_group("bench")  # each system is started once

CLOSED = Load(window=2, seconds=0.3, warmup=0.1)
OPEN = Load(rate=100, seconds=0.3, warmup=0.1)


class Forgetful(RawAiohttp):
    """Leaves out one delivery in five."""

    async def start(self, directory: Path) -> None:
        source = (Path(__file__).parents[2] / "bench" / "peers" / "raw_aiohttp" / "server.py").read_text()
        changed = source.replace("await other.send_str(text)", "if version % 5: await other.send_str(text)")
        assert changed != source
        server = directory / "server.py"
        server.write_text(changed)
        port = await self._run("server", [sys.executable, server], directory, {})
        self.urls = [f"ws://127.0.0.1:{port}"]


async def measured(target: Target, crowd: Crowd, *loads: Load) -> list[Result]:
    gathering = Gathering(crowd, target.dialect, target.urls, make_token)
    try:
        await gathering.arrive()
        return [await under_load(target, gathering, load) for load in loads]
    finally:
        gathering.leave()


@pytest.fixture(params=[Ours, RawAiohttp], ids=["ours", "raw"], scope="module")
async def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Target]:
    started: Target = request.param()
    try:
        await started.start(tmp_path_factory.mktemp(started.name))
        yield started
    finally:
        await started.stop()


async def test_closed_and_open_loops_reach_everybody(target: Target) -> None:
    closed, at_a_rate = await measured(target, Crowd(groups=2, people=3, timers=2), CLOSED, OPEN)
    for result in (closed, at_a_rate):
        assert result["faults"] == {}
        assert result["deliveries_per_s"] > 0
        assert result["delivery_ms"]["p50"] > 0
        assert set(result["cpu_us_per_update_of"]) == {part for part, _ in target.pids()}
    assert at_a_rate["refused"] == 0


async def test_devices_of_one_person_see_each_others_timers_without_shares(target: Target) -> None:
    (result,) = await measured(target, Crowd(groups=2, people=1, devices=3, timers=2), CLOSED)
    assert result["faults"] == {}
    assert result["deliveries_per_s"] > 0


async def test_a_storm_of_connects_and_what_it_leaves(target: Target) -> None:
    gathering = Gathering(Crowd(groups=50, people=1, senders=0), target.dialect, target.urls, make_token)
    try:
        result = await connecting(target, gathering)
    finally:
        gathering.leave()
    assert result["connections"] == 50
    assert result["faults"] == {}
    assert result["connect_ms"]["max"] > 0


async def test_a_server_that_forgets_deliveries_is_found_out(tmp_path: Path) -> None:
    forgetful = Forgetful()
    try:
        await forgetful.start(tmp_path)
        (result,) = await measured(forgetful, Crowd(groups=1, people=3, timers=1), CLOSED)
    finally:
        await forgetful.stop()
    assert result["superseded"] > 0 or result["faults"].get("missing", 0) > 0
