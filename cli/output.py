"""What commands print: JSON for programs, sentences and tables for people."""

import os
import sys
from typing import Any, Literal

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from cli import human, screen
from cli.errors import Problem
from cli.news import quoted
from cli.timers import State, Timer, distinct_prefix, in_order
from runtime.iso8601 import format_instant


class Terminal(Console):
    """rich's, but that a reader who has enough (such as `head`) is no fault: rich would exit with 1."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def wire_time(now: int) -> str:
    """A moment as the protocol writes it, to the millisecond."""
    return format_instant(now - now % 1_000)


def described(timer: Timer, now: int) -> dict[str, Any]:
    """A timer as the protocol has it, and what it does at this moment: `state`, `leftSeconds`."""
    left = round(timer.left(now) / human.SECOND, 3)
    return {**_fields(timer), "state": str(timer.state(now)), "leftSeconds": left}


def described_stopped(timer: Timer) -> dict[str, Any]:
    """A timer as it was last before it was stopped: nothing is left of it, though its fields say what was."""
    return {**_fields(timer), "state": "stopped"}


def _fields(timer: Timer) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(timer)
    return {**fields, "name": timer.name, "sharedWith": list(timer.shared_with)}


def print_json(value: Any) -> None:
    """One JSON document, indented for who reads it."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value)).decode() + "\n")
    sys.stdout.flush()


def print_problem(problem: Problem, *, as_json: bool) -> None:
    """A problem, on the standard error: a sentence and what to do; or one JSON object."""
    if as_json:
        told = {"error": problem.message, "hint": problem.hint, "exitCode": int(problem.code)}
        print(msgspec.json.encode(told).decode(), file=sys.stderr)
        return
    console = Terminal(stderr=True, highlight=False, soft_wrap=True)
    console.print(f"[bold red]Error:[/] {escape(human.printable(problem.message))}")
    if problem.hint:
        console.print(f"[dim]Hint:[/]  {escape(human.printable(problem.hint))}")


def print_note(text: str) -> None:
    """A word beside the result, on the standard error: it does not get into pipes and files."""
    Terminal(stderr=True, highlight=False, soft_wrap=True).print(Text(text, style="dim"))


def nobody_reads() -> None:
    """The reader of our output is gone, such as `head`: what is still in buffers goes nowhere, without a complaint."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def what_it_does(timer: Timer, now: int) -> str:
    """One sentence about a timer."""
    left = human.clock(timer.left(now))
    match timer.state(now):
        case State.RUNNING:
            return f"{quoted(timer)} is running: {left} left."
        case State.PAUSED:
            return f"{quoted(timer)} is paused: {left} left."
        case State.FINISHED:
            return f"{quoted(timer)} is over."
        case State.READY:
            return f"{quoted(timer)} is ready: {left}."


def table(timers: list[Timer], now: int, width: int) -> Table:
    """All timers, in the order of the screen. On a narrow one columns are left out, and names shortened; times never."""
    columns: dict[str, list[Text]] = {"name": [], "left": [], "": [], "owner": [], "shared with": [], "id": []}
    for timer in in_order(timers, now):
        state = timer.state(now)
        style = {State.RUNNING: "green", State.FINISHED: "red"}.get(state, "dim")
        columns["name"].append(Text(timer.title))
        columns["left"].append(Text(human.clock(timer.left(now))))
        columns[""].append(Text(str(state), style=style))
        columns["owner"].append(Text(timer.owner, style=screen.colour(timer.user_id)))
        columns["shared with"].append(Text(", ".join(timer.members)))
        columns["id"].append(Text(distinct_prefix(timer.id, timers), style="dim"))
    for name, needs in _NEEDED.items():
        if width < needs:
            del columns[name]
    result = Table(header_style="bold", box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    widths = {name: max(len(name), *(cell.cell_len for cell in cells)) for name, cells in columns.items()}
    for name, at_least in _SHORTENED.items():
        if name in columns:
            excess = max(sum(widths.values()) + 2 * len(widths) - width, 0)  # two columns between two
            widths[name] = min(max(widths[name] - excess, at_least), widths[name])
    for name, column_width in widths.items():
        justify: Literal["left", "right"] = "right" if name == "left" else "left"
        result.add_column(name, overflow="ellipsis", no_wrap=True, justify=justify, width=column_width)
    for row in zip(*columns.values(), strict=True):
        result.add_row(*row)
    return result


_SHORTENED = {"shared with": 11, "name": 12, "owner": 5}  # in this order, to so many columns
_NEEDED = {"shared with": 64, "owner": 52, "": 44, "id": 34}  # columns that a terminal must have for them
