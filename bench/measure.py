"""One system, one crowd: measured once under a load, or while everybody connects and is then idle."""

import asyncio
import os
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.crowd import Gathering
from bench.histogram import Histogram
from bench.processes import cpu_seconds, resident_bytes
from bench.scenarios import Load
from bench.targets import Target
from bench.verify import Verdict, check_group

PERCENTILES = {"p50": 50, "p90": 90, "p99": 99, "p99.9": 99.9, "max": 100}

_CALM = 2.0  # seconds of idleness before memory is looked at, and during which its CPU is
_REST_WITHIN, _LOOK = 20.0, 0.2  # seconds
_RESTING = 0.25  # cores that a system may use when it has nothing to do: pings, sweepers
_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
_GENERATOR = "generator"

Result = dict[str, Any]


class _Meter:
    """CPU seconds of each part of a system, of the generator and of the machine, between two moments."""

    def __init__(self, target: Target) -> None:
        self._pids = target.pids()
        self._before: Mapping[str, float] = {}
        self.used: dict[str, float] = {}
        self.other = 0.0
        """Seconds that the machine's cores were busy with anything else, or taken away by other machines."""

    def start(self) -> None:
        self._before = self._now()

    def stop(self) -> None:
        now = self._now()
        spent = {part: now[part] - self._before[part] for part in now}
        machine = spent.pop("machine")
        self.used = spent
        self.other = max(machine - sum(spent.values()), 0.0)

    def servers(self) -> float:
        """Seconds of all processes of the system together."""
        return sum(seconds for part, seconds in self.used.items() if part != _GENERATOR)

    def _now(self) -> Mapping[str, float]:
        now: dict[str, float] = defaultdict(float)
        for part, pid in self._pids:
            now[part] += cpu_seconds(pid)
        now[_GENERATOR] = time.process_time()
        now["machine"] = _busy_seconds()
        return now


def _busy_seconds() -> float:
    user, nice, system, _, _, hard, soft, stolen = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:9])
    return (user + nice + system + hard + soft + stolen) / _CLOCK_TICKS


async def under_load(target: Target, gathering: Gathering, load: Load) -> Result:
    """Puts the load on and says what came of it. Takes as long as the load, and a few seconds."""
    target.check()
    whole, measured = _Meter(target), _Meter(target)
    whole.start()
    window = await gathering.endure(load, measured.start, measured.stop)
    target.check()
    await _rest(target)
    whole.stop()
    verdict = Verdict()
    elapsed = window.end - window.start
    replies = Histogram()
    updates = deliveries = all_updates = all_deliveries = 0
    async for group in window.histories():
        check_group(group, verdict, echo=target.dialect.echo)
        for history in group:
            dues = {sent.number: sent.due for sent in history.sent}
            replies.record(
                reply.at - dues[reply.number]
                for reply in history.replies
                if window.start <= dues.get(reply.number, 0.0) < window.end
            )
            updates += sum(window.start <= reply.at < window.end for reply in history.replies)
            deliveries += sum(window.start <= delivery.at < window.end for delivery in history.deliveries)
            all_updates += len(history.replies)
            all_deliveries += len(history.deliveries)
    arrivals = Histogram(delay for due, delay in verdict.delays if window.start <= due < window.end)
    # Some systems acknowledge faster than they deliver. So costs are those of the whole load, until all had arrived.
    return {
        "updates_per_s": round(updates / elapsed, 1),
        "deliveries_per_s": round(deliveries / elapsed, 1),
        "deliveries_per_update": round(all_deliveries / all_updates, 2) if all_updates else None,
        "sustained_updates_per_s": round(min(updates, deliveries * all_updates / max(all_deliveries, 1)) / elapsed, 1),
        "cpu_us_per_update": _per(whole.servers(), all_updates),
        "cpu_us_per_delivery": _per(whole.servers(), all_deliveries),
        "cpu_us_per_update_of": {
            part: _per(seconds, all_updates) for part, seconds in whole.used.items() if part != _GENERATOR
        },
        "cores_of": {part: round(seconds / elapsed, 3) for part, seconds in measured.used.items()},
        "generator_us_per_delivery": _per(measured.used[_GENERATOR], deliveries),
        "other_cores": round(measured.other / elapsed, 2),
        "reply_ms": _percentiles(replies),
        "delivery_ms": _percentiles(arrivals),
        "refused": verdict.refused,
        "echoed": 0 if target.dialect.echo else verdict.echoed,
        "superseded": verdict.superseded,
        "repeated": verdict.repeated,
        "faults": _faults(verdict, window.lost_connections),
    }


async def _rest(target: Target) -> None:
    """Returns when a system has nothing to do any more, lest it disturb the next one."""
    deadline = time.monotonic() + _REST_WITHIN
    while time.monotonic() < deadline:
        before = sum(cpu_seconds(pid) for _, pid in target.pids())
        await asyncio.sleep(_LOOK)
        if sum(cpu_seconds(pid) for _, pid in target.pids()) - before < _LOOK * _RESTING:
            return


def _faults(verdict: Verdict, lost_connections: int) -> Mapping[str, int]:
    return verdict.faults | ({"lost_connections": lost_connections} if lost_connections else {})


async def connecting(target: Target, gathering: Gathering) -> Result:
    """Everybody connects at once; then what the connections hold, and what they cost while nothing happens."""
    before = _memory(target)
    meter = _Meter(target)
    meter.start()
    started = time.perf_counter()
    await gathering.arrive()
    elapsed = time.perf_counter() - started
    meter.stop()
    storm_cpu = meter.servers()
    await asyncio.sleep(_CALM)
    idle = await resting(target, _CALM)
    after = idle["resident_bytes_of"]
    count = len(gathering.phones)
    grown = {part: after[part] - before[part] for part in after}
    return {
        "connections": count,
        "seconds": round(elapsed, 2),
        "connects_per_s": round(count / elapsed),
        "cpu_us_per_connect": _per(storm_cpu, count),
        "connect_ms": _percentiles(Histogram(phone.answered - phone.asked for phone in gathering.phones)),
        "turned_away": sum(phone.turned_away for phone in gathering.phones),
        "bytes_per_connection": round(sum(grown.values()) / count),
        "bytes_per_connection_of": {part: round(grown[part] / count) for part in grown},
        "idle_cores": idle["idle_cores"],
        "faults": {"lost_connections": gathering.gone} if gathering.gone else {},
    }


async def resting(target: Target, seconds: float) -> Result:
    """What a system uses while nobody does anything."""
    memory = _memory(target)
    meter = _Meter(target)
    meter.start()
    await asyncio.sleep(seconds)
    meter.stop()
    return {
        "idle_cores": round(meter.servers() / seconds, 4),
        "idle_cores_of": {part: round(used / seconds, 4) for part, used in meter.used.items() if part != _GENERATOR},
        "resident_bytes_of": memory,
    }


def _memory(target: Target) -> dict[str, int]:
    used: dict[str, int] = defaultdict(int)
    for part, pid in target.pids():
        used[part] += resident_bytes(pid)
    return dict(used)


def _per(seconds: float, count: int) -> float | None:
    return round(seconds / count * 1e6, 2) if count else None


def _percentiles(histogram: Histogram) -> dict[str, float | None]:
    values = {name: histogram.percentile(percent) for name, percent in PERCENTILES.items()}
    return {name: None if value is None else round(value * 1_000, 2) for name, value in values.items()}
