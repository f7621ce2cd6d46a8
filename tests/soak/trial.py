"""The trial: families use their timers for a while, and then every screen shows what is stored."""

import asyncio
import time
from pathlib import Path

from playwright.async_api import Browser

from tests.soak.people import Family, Place
from tests.soak.report import Report, report
from tests.system.cluster import Cluster

OFFSETS = (0, 60, -300, 330, 120, -210)
"""Of the families' clocks, in minutes."""

SETTLE = 20.0
"""Seconds after the last change within which everybody shows the same: two spaced updates, and what a busy machine takes."""

STAYS = 3.0
"""Seconds for which it must stay so: a state that was held back longer than that is not allowed."""

_TELL_INTERVAL = 60.0
_LOOK_AGAIN = 0.5


async def trial(
    cluster: Cluster,
    directory: Path,
    seconds: float,
    families: int,
    *,
    name: str = "family",
    okhttp: bool = False,
    browser: Browser | None = None,
) -> Report:
    """Runs so many families for so many seconds against a system that is running; prints what it found, too."""
    place = Place(cluster.edge_port, directory, okhttp, browser)
    people = [Family(place, f"{name}{n}", OFFSETS[n % len(OFFSETS)]) for n in range(families)]
    try:
        for family in people:
            await family.enter()
        started = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for family in people:
                group.create_task(family.live(started + seconds))
            group.create_task(_tell(people, started, started + seconds))
        lived = time.monotonic() - started
        differences = await _settled(people)
        found = report(people, lived, differences, cluster.crashes())
        print(found, flush=True)
        return found
    finally:
        for family in people:
            await family.leave()


async def _settled(people: list[Family]) -> list[str]:
    """What is different, at the latest when it may not be any more."""
    deadline = time.monotonic() + SETTLE
    while differences := await _differences(people):
        if time.monotonic() > deadline:
            return differences
        await asyncio.sleep(_LOOK_AGAIN)
    await asyncio.sleep(STAYS)
    return await _differences(people)


async def _differences(people: list[Family]) -> list[str]:
    return [each for family in people for each in await family.differences()]


async def _tell(people: list[Family], started: float, until: float) -> None:
    while (left := until - time.monotonic()) > _TELL_INTERVAL:
        await asyncio.sleep(min(_TELL_INTERVAL, left))
        print(report(people, time.monotonic() - started, [], []).progress, flush=True)
