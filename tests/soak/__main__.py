"""`python -m tests.soak --minutes 15`: the published app beside clients of the first dialect, on a system of its own.

Fails when a phone had to reconnect, when one threw an update away, or when not everybody ends on what is stored.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from tests.soak.people import Family
from tests.system.cluster import Cluster

OFFSETS = (0, 60, -300, 330, 120, -210)
"""Of the families' clocks, in minutes."""

SETTLE = 20.0
"""Seconds after the last change within which everybody shows the same: two spaced updates, and what a busy machine takes."""

_REPORT_INTERVAL = 60.0


class Report(NamedTuple):
    """How it went."""

    seconds: float
    changes: int
    refusals: int
    connects: int
    voluntary_reconnects: int
    forced_reconnects: int
    dropped_frames: int
    crossed_frames: int
    laptops_sent_away: int
    frames: Counter[str]
    reasons: list[str]
    differences: list[str]
    crashes: list[str]

    @property
    def is_well(self) -> bool:
        """Whether all is as it must be."""
        bad = self.forced_reconnects or self.dropped_frames or self.reasons or self.differences or self.crashes
        return not bad

    def __str__(self) -> str:
        lines = [
            f"{self.seconds:.0f} s, {self.changes} changes ({self.refusals} refused: stopped or taken away just before)",
            f"frames read by the phones: {dict(self.frames)}",
            f"connects {self.connects}, of which wished for {self.voluntary_reconnects}",
            f"forced reconnects {self.forced_reconnects}, dropped frames {self.dropped_frames}",
            f"frames that had crossed a change of the phone's own, which replaced them: {self.crossed_frames}",
            f"laptops that were told to come again (1013): {self.laptops_sent_away}",
            f"differences at the end {len(self.differences)}, errors in the log {len(self.crashes)}",
        ]
        return "\n".join([*lines, *self.reasons[:10], *self.differences[:10], *self.crashes[:10]])


async def soak(cluster: Cluster, seconds: float, families: int, name: str = "family") -> Report:
    """Runs so many families for so many seconds against a system that is running."""
    people = [Family(cluster.edge_port, f"{name}{n}", OFFSETS[n % len(OFFSETS)]) for n in range(families)]
    for family in people:
        await family.enter()
    started = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for family in people:
            group.create_task(family.live(started + seconds))
        group.create_task(_tell(people, started, started + seconds))
    deadline = time.monotonic() + SETTLE
    while differences := [each for family in people for each in await family.differences()]:
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(0.5)
    report = _report(people, time.monotonic() - started, differences, cluster.crashes())
    for family in people:
        await family.leave()
    return report


async def _tell(people: list[Family], started: float, until: float) -> None:
    while time.monotonic() < until:
        await asyncio.sleep(min(_REPORT_INTERVAL, max(until - time.monotonic(), 0)))
        print(_report(people, time.monotonic() - started, [], []), flush=True)


def _report(people: list[Family], seconds: float, differences: list[str], crashes: list[str]) -> Report:
    phones = [phone for family in people for phone in family.phones]
    frames = Counter(str(m.get("type", m.get("status"))) for phone in phones for m in phone.received)
    return Report(
        seconds=seconds,
        changes=sum(family.changes for family in people),
        refusals=sum(family.refusals for family in people),
        connects=sum(phone.counts.connects for phone in phones),
        voluntary_reconnects=sum(family.voluntary_reconnects for family in people),
        forced_reconnects=sum(phone.counts.forced_reconnects for phone in phones),
        dropped_frames=sum(phone.counts.thrown_away for phone in phones),
        crossed_frames=sum(phone.counts.crossed for phone in phones),
        laptops_sent_away=sum(family.laptops_sent_away for family in people),
        frames=frames,
        reasons=[reason for phone in phones for reason in phone.counts.reasons],
        differences=differences,
        crashes=crashes,
    )


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--families", type=int, default=4)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        cluster = Cluster(Path(directory), {"BUBBLE_STORE": "sqlite"})
        await cluster.start()
        try:
            report = await soak(cluster, given.minutes * 60, given.families)
        finally:
            await cluster.stop()
    print(report)
    return 0 if report.is_well else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
