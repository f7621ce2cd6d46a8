"""What commands print."""

import io

import pytest
from rich.console import Console

from cli.human import MINUTE, SECOND
from cli.output import described, described_stopped, table, what_it_does
from cli.timers import Timer
from runtime.iso8601 import format_instant

NOW = 1_764_000_000_000_000

TIMERS = [
    Timer(id="aaaaaaaa-1", user_id="alice", name="Ein langer Name für einen Tee", total_duration="PT5M", version=1),
    Timer(
        id="bbbbbbbb-2",
        user_id="somebody-with-a-long-name",
        name="Eggs",
        total_duration="PT5M",
        end_time=format_instant(NOW + 61 * MINUTE),
        shared_with=("bob", "carol", "dave"),
    ),
]


@pytest.mark.parametrize("width", [26, 34, 44, 52, 64, 80, 120])
def test_a_table_fits_its_terminal_and_never_shortens_times_and_ids(width: int) -> None:
    console = Console(file=io.StringIO(), width=width)
    console.print(table(TIMERS, NOW, width))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert max(len(line) for line in lines) <= width
    assert len(lines) == 4
    assert "1:01:00" in lines[2]
    assert "5:00" in lines[3]
    assert ("bbbbbbbb" in lines[2]) == (width >= 34)
    assert "Eggs" in lines[2]
    assert ("carol" in lines[2]) == (width >= 64)


def test_a_timer_is_described_as_the_protocol_has_it_and_as_it_is_now() -> None:
    wire = described(TIMERS[1], NOW + SECOND // 2)
    assert wire["userId"] == "somebody-with-a-long-name"
    assert wire["sharedWith"] == ["bob", "carol", "dave"]
    assert (wire["state"], wire["leftSeconds"]) == ("running", 3_659.5)
    assert "remainingDuration" not in wire


def test_a_timer_that_was_stopped_is_not_described_as_running_with_time_left() -> None:
    wire = described_stopped(TIMERS[1])
    assert wire["state"] == "stopped"
    assert "leftSeconds" not in wire
    assert (wire["name"], wire["sharedWith"]) == ("Eggs", ["bob", "carol", "dave"])


def test_what_a_timer_does_is_a_sentence() -> None:
    assert what_it_does(TIMERS[1], NOW) == "“Eggs” is running: 1:01:00 left."
    assert what_it_does(TIMERS[1], NOW + 2 * 61 * MINUTE) == "“Eggs” is over."
    assert what_it_does(TIMERS[0], NOW) == "“Ein langer Name für einen Tee” is ready: 5:00."
