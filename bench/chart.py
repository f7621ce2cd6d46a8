"""The plot of docs/performance.md: bars as SVG. Pure."""

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

WIDTH = 1_000
_NAMES = 275  # where the bars begin
_ROW = 24
_PANEL = 46  # above the bars of a panel
_RIGHT = 150  # room for the figures

_STYLE = """<style>
text { font-family: system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1c2333; font-size: 13px }
.panel { fill: #f5f7fb; stroke: #d5dbe8 }
.title { font-size: 15px; font-weight: 600 }
.small { font-size: 11.5px; fill: #55607a }
.end { text-anchor: end }
.ours { fill: #4a52e0 }
.theirs { fill: #9aa4c4 }
.memory { fill: #d5dbe8; stroke: #9aa4c4; stroke-dasharray: 3 2 }
.spread { stroke: #1c2333; stroke-width: 1.5 }
</style>"""

_PANELS: list[tuple[str, str, Callable[[Mapping[str, Any]], Any], int, bool]] = [
    # scenario, what, where it is, digits, on a logarithmic scale
    ("groups-8-closed-8", "updates/s acknowledged and delivered, 8 unanswered each: more is better", lambda s: s["sustained_updates_per_s"], 0, False),
    ("groups-8-closed-8", "µs of CPU per delivery at that load: less is better", lambda s: s["cpu_us_per_delivery"], 1, False),
    ("groups-8-open-500", "ms to delivery at 500 updates/s, p50: less is better (logarithmic)", lambda s: s["delivery_ms"]["p50"], 1, True),
    ("groups-8-open-500", "the same, p99", lambda s: s["delivery_ms"]["p99"], 1, True),
    ("groups-8-open-500", "µs of CPU per delivery at 500 updates/s: less is better", lambda s: s["cpu_us_per_delivery"], 0, False),
]  # fmt: skip


def draw(documents: Mapping[str, Mapping[str, Any]]) -> str:
    """The panels of the scenarios that were measured, below each other; empty when there is none of them."""
    lines: list[str] = []
    y = 20
    for scenario, what, find, digits, logarithmic in _PANELS:
        if scenario not in documents:
            continue
        targets = documents[scenario]["targets"]
        bars = []
        for target in targets:
            try:
                bars.append((target, find(target["summary"])))
            except KeyError:  # it had none
                continue
        lines += _panel(y, what, bars, digits, logarithmic=logarithmic)
        y += _PANEL + _ROW * len(bars) + 14
    if not lines:
        return ""
    height = y + 16
    note = "50 groups of 8. Dashed: keeps nothing on disk. Lines: least and most of the rounds."
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="title">',
            '<title id="title">Bubble Timer beside other systems: throughput, CPU time and latency</title>',
            _STYLE,
            f'<rect class="panel" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="12"/>',
            *lines,
            f'<text class="small" x="24" y="{y + 2}">{escape(note)}</text>',
            "</svg>",
            "",
        ]
    )


def _panel(
    y: int, what: str, bars: Sequence[tuple[Mapping[str, Any], Mapping[str, float]]], digits: int, *, logarithmic: bool
) -> list[str]:
    lines = [f'<text class="title" x="24" y="{y + 20}">{escape(what)}</text>']
    most = max(value["most"] for _, value in bars)
    least = min(value["least"] for _, value in bars)
    scale = _Scale(least / 2 if logarithmic else 0.0, most, logarithmic=logarithmic)
    for number, (target, value) in enumerate(bars):
        top = y + _PANEL - 12 + _ROW * number
        kind = "ours" if target["name"] == "bubble" else "theirs" if target["durable"] else "memory"
        end = scale.at(value["median"])
        low, high = scale.at(value["least"]), scale.at(value["most"])
        lines += [
            f'<text class="end" x="{_NAMES - 12}" y="{top + 13}">{escape(target["title"])}</text>',
            f'<rect class="{kind}" x="{_NAMES}" y="{top + 1}" width="{max(end - _NAMES, 1):.1f}" height="16" rx="2"/>',
            f'<path class="spread" d="M{low:.1f} {top + 9} H{high:.1f}"/>',
            f'<text class="small" x="{max(end, high) + 8:.1f}" y="{top + 13}">{value["median"]:,.{digits}f}</text>',
        ]
    return lines


class _Scale:
    """From a value to where it is on the plot."""

    def __init__(self, least: float, most: float, *, logarithmic: bool) -> None:
        self._logarithmic = logarithmic
        self._least, self._most = self._to(least), self._to(most)

    def at(self, value: float) -> float:
        share = (self._to(value) - self._least) / max(self._most - self._least, 1e-9)
        return _NAMES + share * (WIDTH - _NAMES - _RIGHT)

    def _to(self, value: float) -> float:
        return math.log10(max(value, 1e-3)) if self._logarithmic else value
