"""What can go wrong, as data: each fault breaks something at once and mends it when its time is over."""

import asyncio
import itertools
import random
import resource
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from tests.faults.system import System

CLOCK_AHEAD = "600"
"""Seconds."""

FULL_DISK = 8 * 1024
"""Bytes at which no file of a service can grow any more: its write-ahead log is always longer."""


@dataclass(frozen=True)
class Fault:
    """`happen` breaks a system for the length of its context, in which `seconds` (at least, at most) pass."""

    name: str
    happen: Callable[[System, random.Random], AbstractAsyncContextManager[object]]
    seconds: tuple[float, float] = (0.0, 0.5)
    stores: tuple[str, ...] = ("sqlite", "mongodb")
    replicas: int = 1
    """It needs so many of each kind at least."""


def _process(system: System, chance: random.Random, kind: str) -> str:
    return chance.choice(system.running(kind))


def _kill(*kinds: str) -> Fault:
    @asynccontextmanager
    async def happen(system: System, chance: random.Random) -> AsyncIterator[None]:
        names = [_process(system, chance, kind) for kind in kinds]
        for name in names:
            system.processes[name].signal(signal.SIGKILL)
        for name in names:
            await system.processes[name].wait()
        try:
            yield
        finally:
            await asyncio.gather(*(system.start(name) for name in names))

    return Fault(f"kill {' and '.join(kinds)}", happen)


def _stop(kind: str) -> Fault:
    @asynccontextmanager
    async def happen(system: System, chance: random.Random) -> AsyncIterator[None]:
        process = system.processes[_process(system, chance, kind)]
        process.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.signal(signal.SIGCONT)

    return Fault(f"stop {kind} for a while", happen, (3, 20))


def _drain(kind: str) -> Fault:
    @asynccontextmanager
    async def happen(system: System, chance: random.Random) -> AsyncIterator[None]:
        name = _process(system, chance, kind)
        code = await system.processes[name].stop()
        assert code == 0, f"{name} ended with {code}:\n{system.processes[name].log_text()[-2_000:]}"
        try:
            yield
        finally:
            await system.start(name)

    return Fault(f"drain {kind}", happen)


def _cut(user: str, used: str, *, there: bool = True, back: bool = True) -> Fault:
    @asynccontextmanager
    async def happen(system: System, chance: random.Random) -> AsyncIterator[None]:
        ends = (
            user if user == "phones" else _process(system, chance, user),
            used if used == "database" else _process(system, chance, used),
        )
        link = system.links[ends]
        link.cut(there=there, back=back)
        try:
            yield
        finally:
            link.heal()

    way = "both ways" if there and back else "there" if there else "back"
    stores = ("mongodb",) if used == "database" else ("sqlite", "mongodb")
    return Fault(f"cut {user} to {used} {way}", happen, (2, 12), stores)


@asynccontextmanager
async def _database_refuses(system: System, chance: random.Random) -> AsyncIterator[None]:
    links = [link for (_, used), link in system.links.items() if used == "database"]
    for link in links:
        link.refuse()
    try:
        yield
    finally:
        for link in links:
            link.heal()


@asynccontextmanager
async def _database_locked(system: System, chance: random.Random) -> AsyncIterator[None]:
    name = chance.choice(("timers", "shares", "connections"))
    connection = sqlite3.connect(system.data / f"{name}.sqlite", isolation_level=None, timeout=10)
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
    finally:
        connection.close()


@asynccontextmanager
async def _disk_full(system: System, chance: random.Random) -> AsyncIterator[None]:
    # A limit on the size of files, which can be set from outside and lifted again, and needs no rights.
    pids = [system.processes[name].pid for kind in ("timer", "sharing", "connection") for name in system.running(kind)]
    soft, hard = resource.RLIM_INFINITY, resource.RLIM_INFINITY
    for pid in pids:
        assert pid is not None
        soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE, (FULL_DISK, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        for pid in pids:
            assert pid is not None
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))


def _clock_ahead(kind: str) -> Fault:
    @asynccontextmanager
    async def happen(system: System, chance: random.Random) -> AsyncIterator[None]:
        name = _process(system, chance, kind)
        await system.processes[name].kill()
        await system.start(name, PYTHONPATH=system.clock, BUBBLE_TEST_CLOCK_AHEAD=CLOCK_AHEAD)
        try:
            yield
        finally:
            await system.processes[name].kill()
            await system.start(name)

    return Fault(f"clock of {kind} ten minutes ahead", happen, (2, 5))


def _add_and_remove(kind: str) -> Fault:
    @asynccontextmanager
    async def happen(system: System, chance: random.Random) -> AsyncIterator[None]:
        name = system.spare(kind)
        await system.start(name)
        try:
            yield
        finally:
            assert await system.processes[name].stop() == 0

    return Fault(f"add a {kind} and remove it", happen, (3, 8), ("mongodb",), 2)


_KINDS = ("edge", "timer", "sharing", "connection")
_LINKS = (
    ("edge", "timer"),
    ("edge", "sharing"),
    ("edge", "connection"),
    ("timer", "sharing"),
    ("timer", "connection"),
    ("sharing", "connection"),
)

FAULTS = (
    *(_kill(kind) for kind in _KINDS),
    *(_kill(*pair) for pair in itertools.combinations(_KINDS, 2)),
    *(_stop(kind) for kind in _KINDS),
    *(_drain(kind) for kind in _KINDS),
    *(_cut(user, used) for user, used in _LINKS),
    *(_cut(user, used, back=False) for user, used in _LINKS),
    *(_cut(user, used, there=False) for user, used in _LINKS),
    _cut("phones", "edge"),
    _cut("phones", "edge", there=False),
    *(_cut(kind, "database") for kind in ("timer", "sharing", "connection")),
    Fault("database refuses connections", _database_refuses, (10, 10), ("mongodb",)),
    Fault("database locked by somebody else", _database_locked, (10, 10), ("sqlite",)),
    Fault("disk full", _disk_full, (5, 10), ("sqlite",)),
    *(_clock_ahead(kind) for kind in _KINDS),
    *(_add_and_remove(kind) for kind in _KINDS),
)
"""Everything there is."""


def fitting(store: str, replicas: int) -> list[Fault]:
    """The faults that can happen to a system with this store and so many of each process."""
    return [fault for fault in FAULTS if store in fault.stores and fault.replicas <= replicas]


def plan(faults: Sequence[Fault], rounds: int, chance: random.Random) -> list[Fault]:
    """So many rounds: each fault equally often, in random order."""
    planned: list[Fault] = []
    while len(planned) < rounds:
        planned += chance.sample(faults, min(len(faults), rounds - len(planned)))
    return planned
