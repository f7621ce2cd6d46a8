"""The screen of `bubble watch`: lines of text for a moment and a size. Pure; `watch.py` shows them."""

import colorsys
import math
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from rich.cells import cell_len, set_cell_size
from rich.style import Style
from rich.text import Text

from cli import human
from cli.timers import State, Timer, in_order

WIDE = 64
"""Columns from which on everything of a timer fits into one line."""

NARROW = 24
"""Columns below which there is no room for more than names and times."""

NEWS_LINES = 5
"""Lines of news at the bottom, when there is room."""

FRAMES_PER_SECOND = 20
"""The most that is drawn. Usually it is less: only when something looks different."""

_MIN_STEP = human.SECOND // FRAMES_PER_SECOND
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_TRACK = "#2b2f38"
_MARKS = {State.RUNNING: "●", State.PAUSED: "‖", State.READY: "○", State.FINISHED: "■"}
_FRESH = human.MINUTE  # for so long after its end a timer is shown as one that has just run out
_TIME_WIDTH = 8
_MAX_NAME = 24
_MAX_PEOPLE = 28


class News(msgspec.Struct, frozen=True):
    """A line of news: the local time of day, what happened, and whose colour it has (may be empty)."""

    at: str
    text: str
    user: str = ""


class Scene(msgspec.Struct, frozen=True):
    """What is to be seen. `now` by the server's clock; `link` says how the connection is, `well` whether that is fine."""

    title: str
    link: str
    well: bool
    timers: Sequence[Timer]
    news: Sequence[News]
    now: int


class Layout(NamedTuple):
    """Columns of the parts of a timer's line. They follow what is to be shown, so that bars get all the room there is."""

    width: int
    name: int
    people: int

    @property
    def bar(self) -> int:
        """Cells of a bar."""
        if self.width >= WIDE:
            return max(self.width - self.name - self.people - _TIME_WIDTH - 7, 8)
        return max(self.width - 2, 1)


def layout(timers: Sequence[Timer], width: int) -> Layout:
    """For these timers, on a screen of that width."""
    names = max((cell_len(timer.title) for timer in timers), default=0)
    people = max((_people(timer, width).cell_len for timer in timers), default=0)
    return Layout(width, min(names, _MAX_NAME, width // 4), min(people, _MAX_PEOPLE, width // 4))


def draw(scene: Scene, width: int, height: int) -> list[Text]:
    """At most `height` lines, none wider than `width`. Timers come before news, but for the last line of it."""
    head = [_header(scene, width), Text()]
    room = max(height - len(head), 0)
    least_news = min(len(scene.news), 1 if room > 4 else 0)
    timers = _timers(scene, layout(scene.timers, width), room - least_news)
    news = _news(scene.news, width, most=min(NEWS_LINES, room - len(timers)))
    lines = [*head, *timers, *news][:height]
    for line in lines:
        line.truncate(width)  # for terminals that are too narrow for anything
    return lines


def next_change(timers: Sequence[Timer], now: int, width: int) -> int:
    """Microseconds until something looks different by itself: a digit, or an eighth of a cell of a bar. Bounded by the rate of
    frames and by a second. Two screens that do the same show each second at the same moment.
    """
    soonest = human.SECOND
    steps = layout(timers, width).bar * 8
    for timer in timers:
        left, state = timer.left(now), timer.state(now)
        if state is State.FINISHED:
            over = timer.over_for(now)
            if over is not None:
                soonest = min(soonest, human.SECOND - over % human.SECOND)
        elif state is State.RUNNING:
            digit = human.SECOND // 10 if left <= human.TENTHS_BELOW else human.SECOND
            soonest = min(soonest, left % digit or digit)
            if timer.total:
                shown = -(-min(left, timer.total) * steps // timer.total)
                soonest = min(soonest, left - (shown - 1) * timer.total // steps)
    return max(soonest, _MIN_STEP)


def colour(user: str) -> str:
    """A user's colour: the same hue as on the page."""
    red, green, blue = colorsys.hls_to_rgb(human.hue(user) / 360, 0.62, 0.7)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


def bar(fraction: float, cells: int, style: str, *, dim: bool = False) -> Text:
    """A bar that is `fraction` full, exact to an eighth of a cell. Rounded up: what runs is never shown as over."""
    eighths = math.ceil(min(max(fraction, 0.0), 1.0) * cells * 8 - 1e-9)
    full, part = divmod(eighths, 8)
    filled = "█" * full + (_EIGHTHS[part] if part else "")
    text = Text(filled, Style(color=style, bgcolor=_TRACK, dim=dim))
    text.append(" " * (cells - len(filled)), Style(bgcolor=_TRACK))
    return text


def _header(scene: Scene, width: int) -> Text:
    mark, style = ("●", "green") if scene.well else ("○", "yellow")
    right = f"{mark} {scene.link}"
    if cell_len(right) > width - 2:
        return Text(_fit(right, width), style=style)
    left_width = width - cell_len(right) - 1
    left = scene.title if cell_len(scene.title) <= left_width else _fit(scene.title, left_width)
    text = Text(set_cell_size(left, left_width + 1), style="bold")
    return text.append(right, style=style)


def _timers(scene: Scene, columns: Layout, room: int) -> list[Text]:
    if not scene.timers:
        return [Text(_fit("No timers. Try: bubble start Tea 5m", columns.width), style="dim"), Text()][:room]
    whole = [_block(timer, columns, scene.now) for timer in in_order(scene.timers, scene.now)]
    # Rather all timers without their people, or without their bars, than some of them with everything.
    blocks = whole
    for lines_each in (3, 2, 1):
        blocks = [block[:lines_each] for block in whole]
        if sum(len(block) for block in blocks) < room:
            break
    lines: list[Text] = []
    for number, block in enumerate(blocks):
        rest = len(blocks) - number
        needed = len(block) + (1 if rest > 1 else 0)  # a line that says how many are left out
        if len(lines) + needed > room:
            return [*lines, Text(_fit(f"  … and {rest} more", columns.width), style="dim")][:room]
        lines += block
    return [*lines, Text()][:room]


def _block(timer: Timer, columns: Layout, now: int) -> list[Text]:
    state, width = timer.state(now), columns.width
    over = timer.over_for(now)
    rings = over is not None and over < _FRESH
    hue = colour(timer.user_id)
    name_style = "bold red" if rings else "bold" if state is State.RUNNING else "dim" if over is not None else ""
    time = _time(timer, state, now)
    time_style = "bold red" if rings else "" if state is State.RUNNING else "dim"
    mark = Text(_MARKS[state] + " ", style="bold red" if rings else hue)
    a_bar = bar(timer.fraction(now), columns.bar, hue, dim=state is not State.RUNNING)
    if width >= WIDE:
        name = _padded(Text(_fit(timer.title, columns.name), style=name_style), columns.name)
        people = _people(timer, columns.people)
        return [Text.assemble(mark, name, "  ", a_bar, " ", (time.rjust(_TIME_WIDTH), time_style), "  ", people)]
    name = Text(_fit(timer.title, max(width - cell_len(time) - 3, 1)), style=name_style)
    first = Text.assemble(mark, _padded(name, width - cell_len(time) - 2), (time, time_style))
    if width < NARROW:
        return [first]
    return [first, Text.assemble("  ", a_bar), Text.assemble("  ", _people(timer, width - 2))]


def _time(timer: Timer, state: State, now: int) -> str:
    over = timer.over_for(now)
    if over is None:
        left = timer.left(now)
        if left >= human.DAY:  # nobody counts its seconds, and they don't fit
            return f"{left // human.DAY}d {left % human.DAY // human.HOUR:02}h"
        return human.clock(left, tenths=state is State.RUNNING)
    if over >= human.DAY:
        return f"+{over // human.DAY} d"
    # Rounded down: the end is second 0, and each second after it counts when it is full.
    return "+" + human.clock(over - over % human.SECOND)


def _people(timer: Timer, width: int) -> Text:
    text = Text(timer.owner, style=colour(timer.user_id))
    if timer.shared_with:
        text.append(" → ", style="dim")
    for number, member in enumerate(timer.shared_with):
        text.append(", " if number else "", style="dim").append(human.printable(member), style=colour(member))
    text.truncate(max(width, 1), overflow="ellipsis")
    return text


def _news(news: Sequence[News], width: int, most: int) -> list[Text]:
    shown = [] if most <= 0 else news[-most:]
    lines = []
    for item in shown:
        line = Text.assemble((item.at + "  ", "dim"), (item.text, colour(item.user) if item.user else "dim"))
        line.truncate(width, overflow="ellipsis")
        lines.append(line)
    return lines


def _fit(text: str, width: int) -> str:
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, max(width - 1, 0)).rstrip() + "…" if width > 0 else ""


def _padded(text: Text, width: int) -> Text:
    text.append(" " * max(width - text.cell_len, 0))
    return text
