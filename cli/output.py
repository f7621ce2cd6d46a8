"""What commands print: JSON for programs, sentences and tables for people."""

import os
import sys
from typing import Any

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

_NARROW = 60  # columns below which a table of timers has the most important ones only


def wire_time(now: int) -> str:
    """A moment as the protocol writes it, to the millisecond."""
    return format_instant(now - now % 1_000)


def described(timer: Timer, now: int) -> dict[str, Any]:
    """A timer as the protocol has it, and what it does at this moment: `state`, `leftSeconds`."""
    fields: dict[str, Any] = msgspec.to_builtins(timer)
    return {
        **fields,
        "name": timer.name,
        "sharedWith": list(timer.shared_with),
        "state": str(timer.state(now)),
        "leftSeconds": round(timer.left(now) / human.SECOND, 3),
    }


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
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(f"[bold red]Error:[/] {escape(human.printable(problem.message))}")
    if problem.hint:
        console.print(f"[dim]Hint:[/]  {escape(human.printable(problem.hint))}")


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
    """All timers, in the order of the screen."""
    wide = width >= _NARROW
    result = Table(header_style="bold", box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    result.add_column("name", overflow="ellipsis", no_wrap=True)
    result.add_column("left", justify="right", no_wrap=True)
    result.add_column("", no_wrap=True)
    result.add_column("owner", overflow="ellipsis", no_wrap=True)
    if wide:
        result.add_column("shared with", overflow="ellipsis", no_wrap=True)
    result.add_column("id", no_wrap=True, min_width=8)
    for timer in in_order(timers, now):
        state = timer.state(now)
        style = {State.RUNNING: "green", State.FINISHED: "red"}.get(state, "dim")
        cells = [
            Text(timer.title),
            Text(human.clock(timer.left(now))),
            Text(str(state), style=style),
            Text(timer.owner, style=screen.colour(timer.user_id)),
        ]
        if wide:
            cells.append(Text(", ".join(timer.members)))
        result.add_row(*cells, Text(distinct_prefix(timer.id, timers), style="dim"))
    return result
