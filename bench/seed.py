"""A system's databases, filled before it starts, by the stores' own code: a crowd's timers and shares among those of strangers.

The crowd's timers lie evenly among the others, as those in use do in life: side by side they would share the pages that are written.
"""

import asyncio
import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from bench.scenarios import Crowd
from sharing_service.domain import Share
from sharing_service.store import sqlite as shares
from sharing_service.store.contract import Save as SaveShare
from timer_service.domain import State, Timer
from timer_service.store import sqlite as timers
from timer_service.store.contract import Save as SaveTimer

_AT_ONCE = 2_000
_TIMERS_OF_A_STRANGER = 8


class Owned(NamedTuple):
    """A timer, whose it is, and who else sees it."""

    timer_id: str
    owner: str
    members: tuple[str, ...]


def owned(crowd: Crowd, stored: int) -> Iterator[Owned]:
    """The timers of a crowd, and of strangers as many as there must be for `stored` in all, in the order of their ids: in any other, a
    table that is kept by id takes minutes to fill. Pure, and the same each time.
    """
    mine = [
        Owned(timer_id, seat.user, tuple(dict.fromkeys(other.user for other in seats if other.user != seat.user)))
        for seats in crowd.seats()
        for seat in seats
        for timer_id in seat.timers
    ]
    strangers = max(stored - len(mine), 0)
    for place, each in enumerate(sorted(mine)):
        yield each
        for number in range(place * strangers // len(mine), (place + 1) * strangers // len(mine)):
            user = number // _TIMERS_OF_A_STRANGER
            yield Owned(f"{each.timer_id}~{number:07}", f"s{user}", (f"s{user + 1}",))


async def seed(directory: Path, crowd: Crowd, stored: int) -> None:
    """Fills the databases of a system that has not been started yet."""
    # Two processes: the two files have nothing to do with each other.
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as processes:
        loop = asyncio.get_running_loop()
        await asyncio.gather(
            *(loop.run_in_executor(processes, work, directory, crowd, stored) for work in (_timers, _shares))
        )


def _timers(directory: Path, crowd: Crowd, stored: int) -> None:
    async def fill() -> None:
        version = time.time_ns() // 1_000
        async with timers.open_store(directory) as store:
            for some in _batched(owned(crowd, stored)):
                await store.save([SaveTimer(_timer(each, version), None) for each in some])

    asyncio.run(fill())


def _shares(directory: Path, crowd: Crowd, stored: int) -> None:
    async def fill() -> None:
        version = time.time_ns() // 1_000
        async with shares.open_store(directory) as store:
            for some in _batched(owned(crowd, stored)):
                await store.save([SaveShare(_share(each, version), None) for each in some])

    asyncio.run(fill())


def _timer(each: Owned, version: int) -> Timer:
    return Timer(
        timer_id=each.timer_id, owner=each.owner, name="new", total_duration="PT25M", state=State.IDLE, version=version
    )


def _share(each: Owned, version: int) -> Share:
    return Share(timer_id=each.timer_id, owner=each.owner, members=each.members, version=version)


def _batched(everything: Iterator[Owned]) -> Iterator[list[Owned]]:
    while some := list(islice(everything, _AT_ONCE)):
        yield some
