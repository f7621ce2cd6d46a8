"""What the system should reach, and whether it does: the numbers that its design sets. Pure."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

Summaries = Mapping[str, Mapping[str, Any]]
"""By target, what was measured of it in a scenario."""


class Goal(NamedTuple):
    """A figure of ours with its limit."""

    what: str
    scenario: str
    figure: Callable[[Summaries], float]
    limit: Callable[[Summaries], float]
    at_least: bool
    unit: str
    digits: int


def _of(*path: str, target: str = "bubble") -> Callable[[Summaries], float]:
    def find(summaries: Summaries) -> float:
        value: Any = summaries[target]
        for name in path:
            value = value[name]
        return float(value["median"])

    return find


def _share(summaries: Summaries) -> float:
    return _of("deliveries_per_s")(summaries) / _of("deliveries_per_s", target="raw")(summaries) * 100


GOALS = [
    Goal("durable updates, 8 unanswered each", "groups-8-closed-8",
         _of("sustained_updates_per_s"), lambda _: 10_000, True, "/s", 0),
    Goal("the same, against Socket.IO on Node", "groups-8-closed-8",
         _of("sustained_updates_per_s"), _of("sustained_updates_per_s", target="socketio"), True, "/s", 0),
    Goal("CPU time per delivery, against Socket.IO on Node", "groups-8-closed-8",
         _of("cpu_us_per_delivery"), _of("cpu_us_per_delivery", target="socketio"), False, "µs", 1),
    Goal("deliveries, against the raw broadcast", "groups-8-closed-8", _share, lambda _: 80, True, "%", 0),
    Goal("durable updates, one unanswered each, against Socket.IO on Node", "groups-8-closed-1",
         _of("sustained_updates_per_s"), _of("sustained_updates_per_s", target="socketio"), True, "/s", 0),
    Goal("delivery at 500 updates/s, p50", "groups-8-open-500", _of("delivery_ms", "p50"), lambda _: 5, False, "ms", 1),
    Goal("delivery at 500 updates/s, p99", "groups-8-open-500", _of("delivery_ms", "p99"), lambda _: 20, False, "ms", 1),
    Goal("CPU time per delivery at 500 updates/s", "groups-8-open-500",
         _of("cpu_us_per_delivery"), lambda _: 150, False, "µs", 0),
    Goal("memory of the edge per idle connection", "connections-5000",
         lambda each: _of("bytes_per_connection_of", "edge")(each) / 1_000, lambda _: 20, False, "KB", 1),
]  # fmt: skip


def judged(documents: Mapping[str, Mapping[str, Any]]) -> Iterable[tuple[Goal, float, float, bool]]:
    """Each goal whose figures were measured, with ours, the limit, and whether it is met."""
    for goal in GOALS:
        document = documents.get(goal.scenario)
        if document is None:
            continue
        summaries = {target["name"]: target["summary"] for target in document["targets"]}
        try:
            figure, limit = goal.figure(summaries), goal.limit(summaries)
        except KeyError:  # the other one was left out, or there was nothing to measure
            continue
        yield goal, figure, limit, figure >= limit if goal.at_least else figure <= limit
