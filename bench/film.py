"""Animated SVGs of terminals: from the bytes that a program wrote, to frames, to a film. Pure."""

import itertools
from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

from rich.ansi import AnsiDecoder
from rich.cells import cell_len
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import TerminalTheme

HOME = "\x1b[H"
"""What `bubble watch` begins each frame with."""

_CELL_WIDTH = 8.4
_CELL_HEIGHT = 19.0
_PADDING = 14.0
_TITLE_HEIGHT = 30.0
_GAP = 16.0
_EIGHTHS = "▏▎▍▌▋▊▉█"  # drawn as rectangles: fonts leave gaps between them
_THEME = TerminalTheme(
    (13, 17, 23),
    (201, 209, 217),
    [
        (72, 79, 88),
        (248, 113, 113),
        (74, 222, 128),
        (250, 204, 21),
        (96, 165, 250),
        (192, 132, 252),
        (34, 211, 238),
        (201, 209, 217),
    ],
)


class Run(NamedTuple):
    """Text of one style. Colours are `#rrggbb`, the background empty when it is that of the terminal."""

    text: str
    colour: str
    background: str
    bold: bool
    dim: bool


Row = tuple[Run, ...]


class Frame(NamedTuple):
    """A picture, and when it was shown, in seconds."""

    at: float
    rows: tuple[Row, ...]


class Pane(NamedTuple):
    """One terminal."""

    title: str
    columns: int
    height: int
    frames: Sequence[Frame]


def read_frames(written: Iterable[tuple[float, bytes]], begin: float) -> list[Frame]:
    """The frames in what was written when: each is complete when the next begins. Equal ones in a row are one."""
    text = ""
    times: list[tuple[int, float]] = []  # what is written from a position on came at a time
    for at, data in written:
        times.append((len(text), at))
        text += data.decode(errors="replace")
    console = Console(color_system="truecolor", width=500, force_terminal=True)
    frames: list[Frame] = []
    position = 0
    for part in text.split(HOME)[1:]:
        position = text.index(part, position)
        at = max(time for start, time in times if start <= position) - begin
        if not part.startswith("\x1b[?25"):
            rows = tuple(_read_row(line, console) for line in part.split("\x1b[?")[0].split("\r\n"))
            if not frames or frames[-1].rows != rows:
                frames.append(Frame(at, rows))
    return frames


def thinned(frames: Sequence[Frame], step: float) -> list[Frame]:
    """At most one frame in `step` seconds: the last of each."""
    return [list(group)[-1] for _, group in itertools.groupby(frames, key=lambda frame: int(frame.at / step))]


def draw(panes: Sequence[Pane], seconds: float, *, label: str) -> str:
    """An SVG that shows the panes beside each other for so many seconds, over and over. A row is in it once for each thing it
    ever shows, and is visible when it shows that. Where nothing is animated, the last picture is seen.
    """
    widths = [pane.columns * _CELL_WIDTH + 2 * _PADDING for pane in panes]
    height = max(pane.height for pane in panes) * _CELL_HEIGHT + 2 * _PADDING + _TITLE_HEIGHT
    total = sum(widths) + _GAP * (len(panes) - 1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total:.0f} {height:.0f}" role="img" aria-label="{escape(label)}">',
        (
            "<style>text{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;white-space:pre}"
            ".b{font-weight:700}.d{opacity:.6}</style>"
        ),
    ]
    left = 0.0
    for pane, width in zip(panes, widths, strict=True):
        parts.append(f'<g transform="translate({left:.1f} 0)">{_draw_pane(pane, width, height, seconds)}</g>')
        left += width + _GAP
    return "\n".join([*parts, "</svg>", ""])


def _draw_pane(pane: Pane, width: float, height: float, seconds: float) -> str:
    parts = [
        f'<rect width="{width:.1f}" height="{height:.0f}" rx="9" fill="{_hex(_THEME.background_color)}" stroke="#30363d"/>',
        *(
            f'<circle cx="{20 + 16 * number}" cy="16" r="5" fill="{colour}"/>'
            for number, colour in enumerate(("#ff5f57", "#febc2e", "#28c840"))
        ),
        f'<text x="{width / 2:.1f}" y="20" text-anchor="middle" fill="#8b949e">{escape(pane.title)}</text>',
    ]
    for number in range(pane.height):
        shown: dict[Row, list[float]] = {}
        previous: Row | None = None
        for frame in pane.frames:
            row = frame.rows[number] if number < len(frame.rows) else ()
            if row != previous:
                if previous is not None:
                    shown[previous].append(frame.at)
                shown.setdefault(row, []).append(frame.at)
                previous = row
        y = _TITLE_HEIGHT + _PADDING + number * _CELL_HEIGHT
        for row, changes in shown.items():
            drawing = _draw_row(row)
            if drawing:
                parts.append(
                    f'<g transform="translate({_PADDING:.0f} {y:.1f})"{_visibility(changes, seconds, last=row == previous)}'
                    f"{drawing}</g>"
                )
    return "".join(parts)


def _visibility(changes: Sequence[float], seconds: float, *, last: bool) -> str:
    """`changes`: when it appears, disappears, appears, ..."""
    if len(changes) == 1 and changes[0] <= 0:
        return ">"
    times = [min(max(at / seconds, 0.0), 1.0) for at in changes]
    values = ["hidden", *itertools.islice(itertools.cycle(("visible", "hidden")), len(times))]
    keys = [0.0, *times]
    if times[0] == 0:
        values, keys = values[1:], keys[1:]
    return (
        f' visibility="{"visible" if last else "hidden"}"><animate attributeName="visibility" calcMode="discrete" '
        f'dur="{seconds:.2f}s" repeatCount="indefinite" values="{";".join(values)}" '
        f'keyTimes="{";".join(f"{key:.4f}" for key in keys)}"/>'
    )


def _draw_row(row: Row) -> str:
    parts = []
    x = 0
    for run in row:
        width = cell_len(run.text)
        if run.background:
            parts.append(_rect(x, width, run.background))
        if run.text.strip() and all(char in _EIGHTHS for char in run.text):
            eighths = sum(_EIGHTHS.index(char) + 1 for char in run.text)
            parts.append(_rect(x, eighths / 8, run.colour, dim=run.dim))
        elif run.text.strip():
            start = x + width - cell_len(run.text.lstrip())
            classes = " ".join(name for name, on in (("b", run.bold), ("d", run.dim)) if on)
            stripped = run.text.strip()
            parts.append(
                f'<text x="{start * _CELL_WIDTH:.1f}" y="14" fill="{run.colour}" textLength="{cell_len(stripped) * _CELL_WIDTH:.1f}"'
                + (f' class="{classes}"' if classes else "")
                + f">{escape(stripped)}</text>"
            )
        x += width
    return "".join(parts)


def _rect(x: float, width: float, colour: str, *, dim: bool = False) -> str:
    return (
        f'<rect x="{x * _CELL_WIDTH:.1f}" y="3" width="{width * _CELL_WIDTH:.1f}" height="13" fill="{colour}"'
        + (' class="d"' if dim else "")
        + "/>"
    )


def _read_row(line: str, console: Console) -> Row:
    runs: list[Run] = []
    for text in AnsiDecoder().decode(line):
        for segment in text.render(console):
            if segment.text.strip("\n"):
                runs += [_run(segment.text, segment.style or Style())]
    while runs and not runs[-1].text.strip() and not runs[-1].background:
        runs.pop()
    return tuple(runs)


def _run(text: str, style: Style) -> Run:
    colour = style.color.get_truecolor(_THEME) if style.color else _THEME.foreground_color
    has_background = style.bgcolor is not None and not style.bgcolor.is_default
    background = _hex(style.bgcolor.get_truecolor(_THEME)) if has_background and style.bgcolor else ""
    return Run(text, _hex(colour), background, bool(style.bold), bool(style.dim))


def _hex(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
