"""`make bench`: the scenarios of bench/scenarios.py on ours and its peers, in turns; results, tables and the plot.

Ours, the yardstick and the peers are all there at the same time, and are put under load one after the other, round after round,
each round beginning with another one: what else the machine does meets all of them. Those that are not under load are idle.
What can't be installed or fails is left out with its reason; what was measured is kept.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from bench import report, results
from bench.crowd import Gathering
from bench.measure import Result, connecting, under_load
from bench.rounds import rotated, run
from bench.scenarios import SCENARIOS, Crowd, Scenario
from bench.targets import TARGETS, NotAvailable, Target, make_token

_QUIET = 1.0  # seconds after everybody has come, in which what that left behind is delivered


class Run:
    """All scenarios that were asked for, on all targets that can be had."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._most_rounds: int = options.rounds
        self._targets = [kind() for kind in TARGETS if not options.targets or kind.name in options.targets]
        self._scenarios = [each for each in SCENARIOS if not options.scenarios or each.name in options.scenarios]
        self._left_out: dict[str, str] = {}
        self._found: dict[str, dict[str, list[Result]]] = {}
        self._about: dict[str, Any] = {}

    async def whole(self) -> bool:
        """Measures; were there no faults in ours? When it is cancelled, what was measured is kept."""
        self._about = results.about()
        for target in self._targets:
            try:
                await target.install()
            except NotAvailable as error:
                self._leave_out(target, f"can't be installed: {error}")
        try:
            for crowd in dict.fromkeys(scenario.crowd for scenario in self._scenarios):
                scenarios = [scenario for scenario in self._scenarios if scenario.crowd == crowd]
                if scenarios[0].load is None:
                    await self._connecting(scenarios[0])
                else:
                    await self._crowd(crowd, scenarios)
                self._save(scenarios)
        finally:
            self._save(self._scenarios)
        ours = [result for found in self._found.values() for result in found.get("bubble", [])]
        wanted = any(target.name == "bubble" for target in self._targets)
        return bool(ours) >= wanted and not any(result["faults"] for result in ours)

    async def _crowd(self, crowd: Crowd, scenarios: Sequence[Scenario]) -> None:
        with tempfile.TemporaryDirectory(prefix="bubble-bench-") as place:
            async with AsyncExitStack() as stack:
                gatherings: dict[str, Gathering] = {}
                for target in self._there(scenarios):
                    stack.push_async_callback(target.stop)
                    gathering = await self._gather(target, crowd, Path(place))
                    if gathering is not None:
                        stack.callback(gathering.leave)
                        gatherings[target.name] = gathering
                await asyncio.sleep(_QUIET)
                for number in range(max(scenario.rounds for scenario in scenarios)):
                    for scenario in scenarios:
                        if number >= min(scenario.rounds, self._most_rounds):
                            continue
                        for target in rotated(self._there([scenario]), number):
                            if target.name in gatherings and number < target.most_rounds:
                                await self._measure(scenario, target, gatherings[target.name], number)
                    self._save(scenarios)

    async def _gather(self, target: Target, crowd: Crowd, place: Path) -> Gathering | None:
        """Starts a target and lets everybody come to it."""
        directory = place / target.name
        directory.mkdir()
        started = time.monotonic()
        try:
            await target.start(directory)
            gathering = Gathering(crowd, target.dialect, target.urls, make_token)
            await gathering.arrive()
        except Exception as error:
            self._leave_out(target, f"did not start: {error!r}")
            return None
        print(
            f"{target.name}: {crowd.connections} devices are there after {time.monotonic() - started:.1f} s", flush=True
        )
        return gathering

    async def _measure(self, scenario: Scenario, target: Target, gathering: Gathering, number: int) -> None:
        assert scenario.load is not None  # noqa: S101  # for mypy
        try:
            result = await under_load(target, gathering, scenario.load)
        except Exception as error:
            self._leave_out(target, f"failed in {scenario.name}: {error!r}")
            return
        self._keep(scenario, target, result)
        print(
            f"{scenario.name} {number + 1} {target.name:>16}: "
            f"{result['updates_per_s']:8.0f} updates/s, {result['deliveries_per_s']:8.0f} deliveries/s, "
            f"CPU {result['cpu_us_per_delivery'] or 0:6.1f} us/delivery (generator {result['generator_us_per_delivery'] or 0:4.1f}), "
            f"delivered p50 {result['delivery_ms']['p50'] or 0:6.1f} p99 {result['delivery_ms']['p99'] or 0:6.1f} ms, "
            f"others {result['other_cores']} cores, refused {result['refused']} {result['faults'] or ''}",
            flush=True,
        )

    async def _connecting(self, scenario: Scenario) -> None:
        for target in self._there([scenario]):
            if not target.connects_differently:
                continue
            with tempfile.TemporaryDirectory(prefix="bubble-bench-") as place:
                try:
                    await target.start(Path(place))
                    gathering = Gathering(scenario.crowd, target.dialect, target.urls, make_token)
                    try:
                        result = await connecting(target, gathering)
                    finally:
                        gathering.leave()
                except Exception as error:
                    self._leave_out(target, f"failed in {scenario.name}: {error!r}")
                    continue
                finally:
                    await target.stop()
            self._keep(scenario, target, result)
            print(
                f"{scenario.name} {target.name:>16}: {result['connects_per_s']} connects/s, "
                f"p99 {result['connect_ms']['p99']} ms, CPU {result['cpu_us_per_connect']} us/connect, "
                f"{result['bytes_per_connection']} bytes/connection {result['bytes_per_connection_of']} "
                f"idle {result['idle_cores']} cores {result['faults'] or ''}",
                flush=True,
            )

    def _there(self, scenarios: Iterable[Scenario]) -> list[Target]:
        peers = any(scenario.with_peers for scenario in scenarios)
        return [
            target for target in self._targets if target.name not in self._left_out and (peers or not target.is_peer)
        ]

    def _leave_out(self, target: Target, reason: str) -> None:
        print(f"{target.name} is left out: {reason}", file=sys.stderr, flush=True)
        self._left_out[target.name] = reason

    def _keep(self, scenario: Scenario, target: Target, result: Result) -> None:
        self._found.setdefault(scenario.name, {}).setdefault(target.name, []).append(result)

    def _save(self, scenarios: Iterable[Scenario]) -> None:
        for scenario in scenarios:
            if self._found.get(scenario.name):
                results.save(scenario, self._found[scenario.name], self._targets, self._left_out, self._about)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measures ours and its peers side by side.")
    parser.add_argument("scenarios", nargs="*", help="the names of some; all without any")
    parser.add_argument("--targets", nargs="+", choices=[kind.name for kind in TARGETS], help="only these")
    parser.add_argument(
        "--rounds", type=int, default=99, help="at most; fewer than the scenarios want, for a quick look"
    )
    parser.add_argument("--report", action="store_true", help="only write docs/performance.md from what there is")
    options = parser.parse_args()
    unknown = set(options.scenarios) - {scenario.name for scenario in SCENARIOS}
    if unknown:
        parser.error(f"no such scenario: {', '.join(unknown)}; there are {', '.join(each.name for each in SCENARIOS)}")
    fine = True
    try:
        if not options.report:
            fine = run(Run(options).whole())
    finally:
        report.write()
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
