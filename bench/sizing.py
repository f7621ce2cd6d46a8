"""From measured costs to a number of processes: what one core carries, and what a million connections take. Pure."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

PARTS = ("edge", "timer", "sharing", "connection")
HOLD_CONNECTIONS = ("edge", "connection")
"""The kinds of process that know of connections: idle ones cost them, and so does each edge that an event goes to."""
Rows = Sequence[Mapping[str, Any]]

CONNECTIONS = 1_000_000
GROUP = 8
"""People who see a timer."""
BUSY = 0.6
"""Of a core, that a process is planned to use: the rest is for a replica that is away, and for bursts."""
MOST_OF_AN_EDGE = 20_000
"""`BUBBLE_MAX_CONNECTIONS` by default."""
OF_A_SHARD = 10_000
"""Document writes per second of one MongoDB shard: an assumption, not measured."""
WRITES = 2
"""Documents written per update: the timer with its marker, and the marker's removal. The connection service writes none."""
AT_LEAST = 2
"""Replicas of anything, so that one may be away."""


class Line(NamedTuple):
    """Cost = `fixed` + `each` x how many there are, in microseconds."""

    fixed: float
    each: float


def line(points: Sequence[tuple[float, float]]) -> Line:
    """The line that comes nearest to the points (number, cost) by relative error: least squares with weights 1 / cost²."""
    weighted = [(x, y, 1 / y**2) for x, y in points]
    total = sum(w for _, _, w in weighted)
    mean_x = sum(w * x for x, _, w in weighted) / total
    mean_y = sum(w * y for _, y, w in weighted) / total
    each = sum(w * (x - mean_x) * (y - mean_y) for x, y, w in weighted) / sum(
        w * (x - mean_x) ** 2 for x, _, w in weighted
    )
    return Line(mean_y - each * mean_x, each)


def cost(row: Mapping[str, Any], part: str = "") -> float:
    """Microseconds of CPU per update, of one kind of process or of all."""
    summary = row["summary"]
    found = summary["cpu_us_per_update_of"][part] if part else summary["cpu_us_per_update"]
    return float(found["median"])


def at_rate(rows: Rows, rate: float) -> list[Mapping[str, Any]]:
    """The rows of one rate; 0: of the closed loop."""
    return [row for row in rows if row["load"]["rate"] == rate]


def by_edges(rows: Rows, part: str, rate: float = 0.0) -> Line:
    """What an update costs a kind of process for each edge that has somebody of its audience."""
    return line([(row["setup"]["edges"], cost(row, part)) for row in at_rate(rows, rate)])


def by_deliveries(rows: Rows, part: str = "") -> Line:
    """What an update costs, and each of its deliveries, where batches are full."""
    return line([(row["summary"]["deliveries_per_update"]["median"], cost(row, part)) for row in rows])


def by_idle(rows: Rows, part: str, what: str) -> float:
    """What one more idle connection takes of a kind of process: of `idle_cores_of` or `resident_bytes_of`."""
    first, *_, last = rows
    more: int = last["setup"]["idle"] - first["setup"]["idle"]
    before, after = (float(row["rest"][what][part]) for row in (first, last))
    return (after - before) / more


class Plan(NamedTuple):
    """What a million connections take at a rate of updates."""

    updates: float
    cores: dict[str, float]
    """That are needed at least, by kind of process."""
    processes: dict[str, int]
    writes: float
    """Documents per second."""
    shards: int


class Cost(NamedTuple):
    """Of an update, in microseconds of one kind of process, where each person of its group is at another edge."""

    at_one_edge: float
    """At the highest rate that was carried: at lower ones batches are smaller, so it costs more, but there is less of it."""
    spread: float
    """For the further edges."""

    @property
    def together(self) -> float:
        """Both."""
        return self.at_one_edge + self.spread


def planned(part: str, *, rates: Rows, edges: Rows) -> Cost:
    """What an update costs where batches are as large as they were measured."""
    top = max(rates, key=lambda row: row["summary"]["sustained_updates_per_s"]["median"])
    further = by_edges(edges, part).each * (GROUP - 2) if part in HOLD_CONNECTIONS else 0.0
    return Cost(cost(top, part), max(further, 0.0))


def plan(updates: float, *, rates: Rows, edges: Rows, idle: Rows) -> Plan:
    """For CONNECTIONS in groups of GROUP, each person of a group at another edge."""
    busy: dict[str, float] = {}
    for part in PARTS:
        busy[part] = updates * planned(part, rates=rates, edges=edges).together / 1e6
        if part in HOLD_CONNECTIONS:
            busy[part] += by_idle(idle, part, "idle_cores_of") * CONNECTIONS
    processes = {part: max(math.ceil(cores / BUSY), AT_LEAST) for part, cores in busy.items()}
    processes["edge"] = max(processes["edge"], math.ceil(CONNECTIONS / MOST_OF_AN_EDGE))
    writes = updates * WRITES
    return Plan(updates, busy, processes, writes, max(math.ceil(writes / OF_A_SHARD), 1))
