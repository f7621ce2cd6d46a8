"""A trace as a picture: Jaeger's JSON to SVG. Pure."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

WIDTH = 1_000
ROW = 26  # pixels of height per span
_LEFT = 300  # where time begins
_RIGHT = 90  # room for the last duration
_TOP = 92  # above the first span
_BOTTOM = 20  # below the last one, and a line for each moment
_LINE = 17

_COLOURS = {
    "edge": ("#4a52e0", "#e9ecff"),
    "timer": ("#b4540a", "#fdebdc"),
    "sharing": ("#0f7a4d", "#dcf5e8"),
    "connection": ("#a3217a", "#fbe3f3"),
}
_OTHER = ("#55607a", "#eef1f8")

_MOMENTS = {"ws.receive": "the sender has its reply", "ws.deliver": "the other phone has acknowledged"}
"""What a person notices, by the span at whose end it happens."""

_STEPS = (1, 2, 5)  # a ruler's marks are one of these times a power of ten apart


class Span(NamedTuple):
    """A span of one trace. Times in microseconds; `start` from the start of the first span."""

    span_id: str
    parent_id: str
    service: str
    name: str
    start: int
    duration: int
    depth: int = 0


def spans_of(trace: Mapping[str, Any]) -> list[Span]:
    """The spans of a trace as Jaeger's query API gives it, each below its parent, children in the order of their starts.

    A span whose parent is not there (a client's own span, say) stands at the top.
    """
    services = {key: str(process["serviceName"]) for key, process in trace["processes"].items()}
    earliest = min(span["startTime"] for span in trace["spans"])
    ids = {span["spanID"] for span in trace["spans"]}
    children: dict[str, list[Span]] = defaultdict(list)
    for span in trace["spans"]:
        parents = [each["spanID"] for each in span.get("references", []) if each["refType"] == "CHILD_OF"]
        parent_id = next((each for each in parents if each in ids), "")
        children[parent_id].append(
            Span(
                span["spanID"],
                parent_id,
                services[span["processID"]],
                span["operationName"],
                span["startTime"] - earliest,
                span["duration"],
            )
        )
    return _below("", children, 0)


def _below(parent_id: str, children: Mapping[str, list[Span]], depth: int) -> list[Span]:
    found = []
    for span in sorted(children.get(parent_id, ()), key=lambda span: (span.start, span.name)):
        found += [span._replace(depth=depth), *_below(span.span_id, children, depth + 1)]
    return found


def draw(spans: Sequence[Span], title: str) -> str:
    """The spans from top to bottom, time from left to right, as an SVG document."""
    total = max(span.start + span.duration for span in spans)
    scale = (WIDTH - _LEFT - _RIGHT) / max(total, 1)
    floor = _TOP + ROW * len(spans)
    rows = {span.span_id: row for row, span in enumerate(spans)}
    moments = sorted((span.start + span.duration, span) for span in spans if span.name in _MOMENTS)
    height = floor + _LINE * len(moments) + _BOTTOM
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="title">',
        f'<title id="title">{escape(title)}</title>',
        _STYLE,
        f'<rect class="panel" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="12"/>',
        f'<text class="title" x="24" y="34">{escape(title)}</text>',
        *_legend(spans),
        *_ruler(total, scale, floor),
    ]
    for number, (time, span) in enumerate(moments):
        lines += _moment(span, time, scale, _TOP + ROW * rows[span.span_id], floor + _LINE * number)
    for row, span in enumerate(spans):
        lines += _bar(span, _TOP + ROW * row, _TOP + ROW * rows.get(span.parent_id, row), scale)
    return "\n".join([*lines, "</svg>", ""])


_STYLE = """<style>
text { font-family: system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1c2333; font-size: 13px }
.panel { fill: #f5f7fb; stroke: #d5dbe8 }
.title { font-size: 16px; font-weight: 600 }
.small { font-size: 11.5px; fill: #55607a }
.mid { text-anchor: middle }
.end { text-anchor: end }
.rule { stroke: #d5dbe8 }
.tree { fill: none; stroke: #b9c2d6 }
.moment { stroke: #1c2333; stroke-dasharray: 2 3 }
</style>"""


def _legend(spans: Sequence[Span]) -> list[str]:
    lines = []
    x = 24
    for service in dict.fromkeys(span.service for span in spans):
        dark, light = _COLOURS.get(service, _OTHER)
        lines.append(f'<rect x="{x}" y="47" width="12" height="12" rx="3" fill="{light}" stroke="{dark}"/>')
        lines.append(f'<text class="small" x="{x + 18}" y="57">{escape(service)}</text>')
        x += 34 + 7 * len(service)
    return lines


def _ruler(total: int, scale: float, floor: int) -> list[str]:
    step = next(each * 10**power for power in range(12) for each in _STEPS if each * 10**power * 6 >= total)
    lines = []
    for time in range(0, total + 1, step):
        x = _LEFT + time * scale
        lines.append(f'<line class="rule" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 10}" y2="{floor}"/>')
        lines.append(f'<text class="small mid" x="{x:.1f}" y="{_TOP - 16}">{_duration(time)}</text>')
    return lines


def _bar(span: Span, y: int, parent_y: int, scale: float) -> list[str]:
    dark, light = _COLOURS.get(span.service, _OTHER)
    name_x = 24 + 16 * span.depth
    x, width = _LEFT + span.start * scale, max(span.duration * scale, 1.5)
    branch = f'<path class="tree" d="M{name_x - 9} {parent_y + 17} V{y + 8} h6"/>' if span.depth else ""
    return [
        branch + f'<text x="{name_x}" y="{y + 12}">{escape(span.name)}</text>',
        f'<text class="small end" x="{_LEFT - 14}" y="{y + 12}">{escape(span.service)}</text>',
        f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="15" rx="3" fill="{light}" stroke="{dark}"/>',
        f'<text class="small" x="{x + width + 6:.1f}" y="{y + 12}">{_duration(span.duration)}</text>',
    ]


def _moment(span: Span, time: int, scale: float, y: int, floor: int) -> list[str]:
    x = _LEFT + time * scale
    label = f"{_MOMENTS[span.name]}: {_duration(time)}"
    return [
        f'<line class="moment" x1="{x:.1f}" x2="{x:.1f}" y1="{y + 15}" y2="{floor + 12}"/>',
        f'<text class="small end" x="{x - 6:.1f}" y="{floor + 14}">{label}</text>',
    ]


def _duration(microseconds: int) -> str:
    if microseconds < 1_000:
        return f"{microseconds} µs" if microseconds else "0"
    if microseconds < 1_000_000:
        return f"{microseconds / 1_000:.1f}".removesuffix(".0") + " ms"
    return f"{microseconds / 1_000_000:.2f} s"
