"""Nothing acknowledged is lost and every view converges, whatever breaks: the promise, round after round.

In each round people write, something breaks at a random moment and is mended, and they finish what they began. Then every
connected phone must show what is stored within `CONVERGES_WITHIN` of the fault's end (or of its own reconnect, or of the
last acknowledgement, if those came later), and the referee must have seen no breach.
"""

import asyncio
import random
import time

import pytest

from tests.faults.crowd import Crowd
from tests.faults.faults import Fault, fitting, plan
from tests.faults.system import System

CONVERGES_WITHIN = 5.0
"""Seconds."""

DELIVERED_WITHIN = 30.0
"""Seconds after everybody has converged in which all outbox markers must be gone."""

ANSWERED_WITHIN = 60.0
"""Seconds after a fault's end in which every command must be answered, repeats of the client included: never silence. Generous, since
a starved machine is no fault of the system's."""

SHORT_FORM = (
    "kill timer",
    "kill edge and connection",
    "stop connection for a while",
    "cut timer to connection both ways",
    "drain edge",
    "database refuses connections",
    "database locked by somebody else",
    "disk full",
    "clock of timer ten minutes ahead",
    "add a connection and remove it",
)


@pytest.mark.timeout(3_600)
async def test_nothing_acknowledged_is_lost_and_every_view_converges(
    system: System, store_environment: dict[str, str], fault_rounds: int, fault_seed: int, fault_only: str
) -> None:
    chance = random.Random(fault_seed)
    store, replicas = store_environment["BUBBLE_STORE"], len(system.running("edge"))
    faults = [fault for fault in fitting(store, replicas) if fault_only in fault.name]
    if fault_rounds:
        faults = plan(faults, fault_rounds, chance)
    else:
        faults = [fault for fault in faults if fault.name in SHORT_FORM]
    print(f"\n{store}, {replicas} of each, {len(faults)} rounds, FAULT_SEED={fault_seed}")
    async with Crowd(system.edge_ports, f"-{fault_seed}", fault_seed) as crowd:
        for number, fault in enumerate(faults, 1):
            seconds = chance.uniform(*fault.seconds) if fault_rounds else fault.seconds[0]
            await _round(system, crowd, fault, seconds, chance, f"round {number}, {fault.name} ({seconds:.1f} s)")
    assert system.crashes() == []


async def _round(system: System, crowd: Crowd, fault: Fault, seconds: float, chance: random.Random, title: str) -> None:
    before = crowd.referee.operations
    crowd.write()
    await asyncio.sleep(chance.uniform(0.2, 1.0))
    try:
        async with fault.happen(system, chance):
            await asyncio.sleep(seconds)
        ended = time.monotonic()
        await asyncio.sleep(chance.uniform(0, 0.5))
        await crowd.finish(ANSWERED_WITHIN)
        answered = time.monotonic()
        connected = await crowd.everybody_connected(ANSWERED_WITHIN)
        since = max(ended, answered, connected)
        stale = await _stale_after(system, crowd, since + CONVERGES_WITHIN)
        assert not stale, "\n".join([f"{title}: stale {CONVERGES_WITHIN} s after all was mended", *stale])
        converged = time.monotonic()
        await _all_delivered(system, crowd)
        crowd.referee.compare(crowd.mine(system.database.timers()))
        assert crowd.referee.violations == [], title
    except BaseException:
        print(f"{title} failed\n{system.logs()}")
        raise
    print(
        f"{title}: {crowd.referee.operations - before} commands, answered {answered - ended:.2f} s, "
        f"converged {max(converged - ended, 0):.2f} s after the fault"
    )


async def _stale_after(system: System, crowd: Crowd, deadline: float) -> list[str]:
    """What is stale at the deadline; returns as soon as nothing is."""
    while True:
        stale = crowd.stale(crowd.mine(system.database.timers()))
        if not stale or time.monotonic() > deadline:
            return stale
        await asyncio.sleep(0.1)


async def _all_delivered(system: System, crowd: Crowd) -> None:
    """Returns when no outbox marker is left: nothing waits for a delivery that will never come."""
    deadline = time.monotonic() + DELIVERED_WITHIN
    while pending := system.database.pending():
        assert time.monotonic() < deadline, "\n".join(["not delivered, or their markers not removed:", *pending])
        await asyncio.sleep(0.1)
