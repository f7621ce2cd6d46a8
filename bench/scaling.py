"""What more of it costs: `python -m bench.scaling`, or with the names of some parts. Writes the tables of docs/scaling.md.

Each part is a question: what changes when there is more of one thing (rate, edges, replicas, stored timers, members, connections) and
all else is the same. The systems that are compared are all there at the same time and are put under load in turns, round after round, so
that what else the machine does meets all of them; a ratio is one between two neighbours of a round. Everything that is acknowledged is
checked afterwards, as in `make bench`.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench import results, scaling_report
from bench.crowd import Gathering
from bench.measure import Result, resting, under_load
from bench.rounds import rotated, run
from bench.scenarios import Crowd, Load
from bench.seed import seed
from bench.system import DATA
from bench.targets import Ours, make_token

_PINGS = 25.0  # seconds, as BUBBLE_PING_INTERVAL: in that time each connection is pinged once
_CALM = 2.0  # seconds after everybody has come, before that

_EIGHTS = Crowd(groups=50, people=8)
_FEW = Crowd(groups=16, people=8)
"""1,024 timers in all: the fewest that keep the batches full."""
_FULL = Load(window=8, seconds=2.0, warmup=0.7)


def _at(rate: float) -> Load:
    return Load(rate=rate, seconds=2.5, warmup=0.7)


_AT_EASE = _at(400)
"""Nothing else waits for a core: when all are busy, batches grow, and hide what more processes cost."""


@dataclass(frozen=True)
class Setup:
    """A system, and who uses it."""

    title: str
    crowd: Crowd = _EIGHTS
    edges: int = 1
    replicas: dict[str, int] = field(default_factory=dict)
    stored: int = 0
    """Timers in all; not fewer than the crowd's own."""
    idle: int = 0
    """Connections beside the crowd's, of people without timers."""


@dataclass(frozen=True)
class Part:
    """One question."""

    name: str
    title: str
    axis: str
    """What there is more of, as the head of a column."""
    setups: Sequence[Setup]
    loads: Sequence[Load] = (_FULL,)
    rounds: int = 3
    rest: float = 3.0
    """Seconds in which it is measured what all systems do when nobody does anything."""


PARTS = [
    Part(
        "rate", "The rate", "updates/s",
        [Setup("one of each")], [_at(250), _at(500), _at(1_000), _at(2_000), _at(4_000), _FULL],
    ),
    Part(
        "edges", "Edges", "edges",
        [Setup("1"), Setup("2", edges=2), Setup("4", edges=4)], [_FULL, _AT_EASE],
    ),
    Part(
        "replicas", "Replicas of the services", "replicas",
        [
            Setup("one of each"),
            Setup("2 timer", replicas={"timer": 2}),
            Setup("2 sharing", replicas={"sharing": 2}),
            Setup("2 connection", replicas={"connection": 2}),
            Setup("two of each, edges too", edges=2, replicas={"timer": 2, "sharing": 2, "connection": 2}),
        ],
        [_FULL, _AT_EASE], 2,
    ),
    Part(
        "stored", "Stored timers", "stored timers",
        [Setup(f"{stored:,}", _FEW, stored=stored) for stored in (1_024, 100_000, 1_000_000)],
    ),
    Part(
        "members", "Members", "people in a group",
        [
            Setup("2", Crowd(groups=16, people=2, senders=1)),
            Setup("8", Crowd(groups=16, people=8, senders=1)),
            Setup("50", Crowd(groups=8, people=50, senders=2)),
            Setup("500", Crowd(groups=1, people=500, senders=4)),
        ],
    ),
    Part(
        "connections", "Idle connections", "idle connections",
        [Setup(f"{idle:,}", _FEW, idle=idle) for idle in (100, 1_000, 5_000)],
        rest=_PINGS,
    ),
]  # fmt: skip


class Trial:
    """One set-up that is there for the length of a part."""

    def __init__(self, setup: Setup, place: Path) -> None:
        self.setup = setup
        self.target = Ours(setup.edges, setup.replicas)
        self._place = place
        self._gatherings: list[Gathering] = []
        self.rest: Result = {}

    async def start(self) -> None:
        """Fills the databases, starts the processes and lets everybody come."""
        self._place.mkdir()
        await seed(self._place / DATA, self.setup.crowd, self.setup.stored)
        await self.target.start(self._place)
        crowds = [self.setup.crowd]
        if self.setup.idle:
            crowds.append(Crowd(groups=self.setup.idle, people=1, senders=0, prefix="idle"))
        for crowd in crowds:
            gathering = Gathering(crowd, self.target.dialect, self.target.urls, make_token, prepared=True)
            self._gatherings.append(gathering)
            await gathering.arrive()

    async def watch_rest(self, seconds: float) -> None:
        """Keeps what it uses while nobody does anything."""
        self.rest = await resting(self.target, seconds)

    async def measure(self, load: Load) -> Result:
        """One round. Idle connections that were cut meanwhile count as lost."""
        result = await under_load(self.target, self._gatherings[0], load)
        gone = sum(gathering.gone for gathering in self._gatherings[1:])
        if gone:
            result["faults"] = {**result["faults"], "lost_idle_connections": gone}
        return result

    async def stop(self) -> None:
        """Ends everything. Idempotent."""
        for gathering in self._gatherings:
            gathering.leave()
        await self.target.stop()


async def measure(part: Part) -> dict[str, Any]:
    """All rounds of a part, as a document."""
    about = results.about()
    found: dict[tuple[int, int], list[Result]] = {}
    with tempfile.TemporaryDirectory(prefix="bubble-scaling-") as place:
        async with AsyncExitStack() as stack:
            trials = []
            for number, setup in enumerate(part.setups):
                trial = Trial(setup, Path(place) / str(number))
                stack.push_async_callback(trial.stop)
                started = time.monotonic()
                await trial.start()
                trials.append(trial)
                print(f"{part.name} {setup.title}: there after {time.monotonic() - started:.1f} s", flush=True)
            await asyncio.sleep(_CALM)
            await asyncio.gather(*(trial.watch_rest(part.rest) for trial in trials))
            for number in range(part.rounds):
                for place_of_load, load in enumerate(part.loads):
                    for place_of_setup, trial in rotated(list(enumerate(trials)), number):
                        result = await trial.measure(load)
                        found.setdefault((place_of_load, place_of_setup), []).append(result)
                        _tell(part, trial, load, number, result)
            rests = [trial.rest for trial in trials]
    rows = [
        {
            "setup": asdict(part.setups[place_of_setup]),
            "load": asdict(part.loads[place_of_load]),
            "rest": rests[place_of_setup],
            "summary": results.summary(rounds),
            "faults": results.faults(rounds),
            "rounds": rounds,
        }
        for (place_of_load, place_of_setup), rounds in sorted(found.items())
    ]
    return {"name": part.name, "title": part.title, "axis": part.axis, **about, "rows": rows}


def _tell(part: Part, trial: Trial, load: Load, number: int, result: Result) -> None:
    print(
        f"{part.name} {number + 1} {trial.setup.title:>22} {load.rate or 'full':>6}: {result['updates_per_s']:7.0f} updates/s, "
        f"{result['deliveries_per_s']:7.0f} deliveries/s, CPU {result['cpu_us_per_update'] or 0:8.1f} us/update "
        f"{result['cpu_us_per_update_of']}, delivered p99 {result['delivery_ms']['p99'] or 0:6.1f} ms, "
        f"others {result['other_cores']} cores, refused {result['refused']} {result['faults'] or ''}",
        flush=True,
    )


async def whole(parts: Sequence[Part]) -> bool:
    """Measures; was nothing lost?"""
    fine = True
    for part in parts:
        document = await measure(part)
        results.write(results.SCALING, document)
        fine = fine and not any(row["faults"] for row in document["rows"])
    return fine


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.scaling", description="Measures what more of it costs.")
    parser.add_argument("parts", nargs="*", help=f"the names of some of {', '.join(part.name for part in PARTS)}")
    parser.add_argument("--report", action="store_true", help="only write docs/scaling.md from what there is")
    options = parser.parse_args()
    unknown = set(options.parts) - {part.name for part in PARTS}
    if unknown:
        parser.error(f"no such part: {', '.join(unknown)}")
    parts = [part for part in PARTS if not options.parts or part.name in options.parts]
    fine = True
    try:
        if not options.report:
            fine = run(whole(parts))
    finally:
        scaling_report.write([part.name for part in PARTS])
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
