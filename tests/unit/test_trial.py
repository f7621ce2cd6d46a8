"""What the trial (`tests/soak/`) takes for the same and for different: it must be able to fail."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.soak.device import unlike
from tests.soak.page import is_as
from tests.soak.report import Report
from tests.soak.shown import Shown, by_app, by_first, by_rest
from tests.system.app_client import AppTimer

NOW = datetime(2026, 11, 24, 8, 0, 0, tzinfo=UTC)
RUNNING = Shown("Tea", "alice", frozenset({"bob"}), timedelta(minutes=5), None, NOW + timedelta(seconds=150))
PAUSED = replace(RUNNING, end=None, remaining=timedelta(seconds=149.5))

CARD = {
    "at": NOW.timestamp(), "name": "Tea", "state": "running", "clock": "2:30", "left": 0.5, "people": "alice, bob",
    "waiting": "",
}  # fmt: skip
PAUSED_CARD = CARD | {"state": "paused", "left": 0.498}


@pytest.mark.parametrize(
    "other",
    [
        {"name": "Coffee"},
        {"owner": "carol"},
        {"members": frozenset()},
        {"total": timedelta(minutes=6)},
        {"end": NOW + timedelta(seconds=150.002)},
        {"end": None, "remaining": timedelta(seconds=150)},
    ],
)
def test_screens_differ_when_anything_does(other: dict[str, Any]) -> None:
    assert RUNNING.is_as(replace(RUNNING, end=NOW + timedelta(seconds=150.0005)))
    assert not RUNNING.is_as(replace(RUNNING, **other))


def test_the_same_timer_reads_the_same_in_every_dialect() -> None:
    app = AppTimer("tea", "alice", "Tea", "PT5M", None, "2026-11-24T09:02:30", frozenset({"alice", "bob"}))
    first = {"userId": "alice", "name": "Tea", "totalDuration": "PT5M", "endTime": "2026-11-24T08:02:30Z"}
    rest = {"id": "tea", **first, "endTime": "2026-11-24T09:02:30", "sharedWith": ["alice", "bob"]}
    assert by_app(app, 60) == by_first(first | {"sharedWith": ["bob"]}) == by_rest(rest, 60) == RUNNING
    assert by_app(app, 0) != RUNNING


def test_a_card_of_the_page_is_its_timer() -> None:
    assert is_as(CARD, RUNNING)
    assert is_as(PAUSED_CARD, PAUSED)
    over = CARD | {"state": "finished", "clock": "Done", "left": 0}
    assert is_as(over, replace(RUNNING, end=NOW - timedelta(hours=1)))
    assert not is_as(over, RUNNING)


@pytest.mark.parametrize(
    "other",
    [
        {"clock": "2:29"},
        {"clock": "1:02:30"},
        {"left": 0.52},
        {"people": "alice"},
        {"people": "alice, bob, carol"},
        {"waiting": "Not sent yet"},
    ],
)
def test_a_card_that_shows_something_else_is_found(other: dict[str, Any]) -> None:
    assert not is_as(CARD | other, RUNNING)
    assert not is_as(PAUSED_CARD | other, PAUSED)


def test_running_is_not_paused() -> None:
    assert not is_as(CARD, PAUSED)
    assert not is_as(PAUSED_CARD, RUNNING)


def test_what_is_missing_too_much_or_otherwise_is_told() -> None:
    stored = {"tea": {"version": 2}, "eggs": {"version": 1}}
    assert unlike("bob", dict(stored), stored) == []
    assert len(unlike("bob", {"tea": {"version": 1}, "rice": {"version": 1}}, stored)) == 3


@pytest.mark.parametrize(
    "fault",
    [
        {"forced_reconnects": ["bob's app: the connection ended"]},
        {"dropped_frames": 1},
        {"unreadable_frames": ["bob's app: no local time"]},
        {"surprises": ["bob's REST: 500"]},
        {"differences": ["bob's page shows nothing"]},
        {"crashes": ["error"]},
    ],
)
def test_any_fault_fails_the_trial_and_is_in_the_report(fault: dict[str, Any]) -> None:
    nothing: Counter[str] = Counter()
    well = Report(1.0, nothing, nothing, nothing, nothing, 0, 0, 0, [], 0, [], [], 3, [], [])
    assert well.is_well
    bad = well._replace(**fault)
    assert not bad.is_well
    assert str(bad) != str(well)
