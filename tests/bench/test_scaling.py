"""`bench/scaling.py` and `bench/seed.py`: stored beforehand, several of each, measured in turns."""

from pathlib import Path

import pytest

from bench.scaling import PARTS, Part, Setup, measure
from bench.scenarios import Crowd, Load
from bench.seed import owned, seed
from sharing_service.store import sqlite as shares
from timer_service.store import sqlite as timers

TWO = Crowd(groups=2, people=2, timers=2)
LOADS = (Load(window=2, seconds=0.3, warmup=0.1), Load(rate=50, seconds=0.3, warmup=0.1))


async def test_a_crowd_finds_what_was_stored_before_the_system_started(tmp_path: Path) -> None:
    await seed(tmp_path, TWO, stored=100)
    async with timers.open_store(tmp_path) as timer_store, shares.open_store(tmp_path) as share_store:
        assert set(await timer_store.load(["g0-0-0-0", "g1-1-0-1"])) == {"g0-0-0-0", "g1-1-0-1"}
        assert await share_store.count_shared_with(["u0-1"]) == {"u0-1": 2}
        stored = await timer_store.list_live([f"s{number}" for number in range(100)])
        assert len(stored) == 100 - TWO.groups * TWO.people * TWO.timers


def test_a_crowds_timers_lie_evenly_among_those_of_strangers() -> None:
    everything = list(owned(TWO, 80))
    places = [place for place, each in enumerate(everything) if "~" not in each.timer_id]
    assert len({each.timer_id for each in everything}) == 80
    assert everything == sorted(everything)
    assert places == list(range(0, 80, 10))


def test_a_crowds_own_timers_are_there_however_few_are_asked_for() -> None:
    assert len(list(owned(TWO, 0))) == 8


@pytest.mark.xdist_group("bench")
async def test_two_of_each_lose_nothing_and_are_measured_beside_one_of_each() -> None:
    twice = Setup("two", TWO, edges=2, replicas={"timer": 2, "sharing": 2, "connection": 2}, stored=50, idle=5)
    document = await measure(Part("p", "P", "replicas", [Setup("one", TWO), twice], LOADS, rounds=2))
    assert [(row["setup"]["title"], row["load"]["rate"]) for row in document["rows"]] == [
        ("one", 0), ("two", 0), ("one", 50), ("two", 50),
    ]  # fmt: skip
    for row in document["rows"]:
        assert row["faults"] == {}
        assert len(row["rounds"]) == 2
        assert row["summary"]["deliveries_per_s"]["least"] > 0
        assert set(row["summary"]["cpu_us_per_update_of"]) == {"edge", "timer", "sharing", "connection"}
        assert set(row["rest"]["idle_cores_of"]) == {"edge", "timer", "sharing", "connection"}


def test_every_part_has_a_name_of_its_own_and_something_to_compare() -> None:
    assert len({part.name for part in PARTS}) == len(PARTS)
    assert all(len(part.setups) * len(part.loads) > 1 for part in PARTS)
