"""What a trial found."""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from tests.soak.people import Family

_SHOWN = 10
"""Lines of each kind of fault that are printed."""


class Report(NamedTuple):
    """How it went."""

    seconds: float
    changes: Counter[str]
    """By kind of client."""
    refusals: Counter[str]
    """What came too late, by kind of client."""
    devices: Counter[str]
    """How many there were of each kind."""
    frames: Counter[str]
    """What the phones of the app read, by type."""
    voluntary_reconnects: int
    sent_away: int
    crossed_frames: int
    forced_reconnects: list[str]
    dropped_frames: int
    unreadable_frames: list[str]
    surprises: list[str]
    timers: int
    """So many there were at the end."""
    differences: list[str]
    crashes: list[str]

    @property
    def is_well(self) -> bool:
        """Whether all is as it must be."""
        return not (
            self.forced_reconnects
            or self.dropped_frames
            or self.unreadable_frames
            or self.surprises
            or self.differences
            or self.crashes
        )

    @property
    def progress(self) -> str:
        """A line, for who waits."""
        return (
            f"{self.seconds:.0f} s, {self.changes.total()} changes, forced reconnects {len(self.forced_reconnects)}, "
            f"dropped frames {self.dropped_frames}, unreadable frames {len(self.unreadable_frames)}"
        )

    def __str__(self) -> str:
        lines = [
            f"{self.seconds:.0f} s, {self.changes.total()} changes by {_counts(self.changes)}",
            f"came too late (stopped, renamed or taken away just before): {_counts(self.refusals)}",
            f"clients: {_counts(self.devices)}",
            f"read by the phones of the app: {_counts(self.frames)}",
            f"phones that left a socket open and came again on purpose: {self.voluntary_reconnects}",
            f"frames that had crossed a change of the phone's own, which replaced them: {self.crossed_frames}",
            f"clients of the first dialect that were told to come again (1013): {self.sent_away}",
            f"forced reconnects {len(self.forced_reconnects)}, dropped frames {self.dropped_frames}",
            f"unreadable frames {len(self.unreadable_frames)}, surprises {len(self.surprises)}",
            f"timers at the end {self.timers}, differences between screens {len(self.differences)}",
            f"errors in the log {len(self.crashes)}",
        ]
        for faults in (self.forced_reconnects, self.unreadable_frames, self.surprises, self.differences, self.crashes):
            lines += faults[:_SHOWN]
        return "\n".join(lines)


def report(people: Iterable[Family], seconds: float, differences: list[str], crashes: list[str]) -> Report:
    """Of families that are still there."""
    families = list(people)
    devices = [device for family in families for device in family.devices]
    phones = [phone for family in families for phone in family.phones]
    return Report(
        seconds=seconds,
        changes=sum((family.habits.changes for family in families), Counter()),
        refusals=sum((family.habits.refusals for family in families), Counter()),
        devices=Counter(device.kind for device in devices),
        frames=Counter(str(m.get("type", m.get("status"))) for phone in phones for m in phone.app.received),
        voluntary_reconnects=sum(phone.voluntary_reconnects for phone in phones),
        sent_away=sum(laptop.sent_away for family in families for laptop in family.laptops),
        crossed_frames=sum(phone.app.counts.crossed for phone in phones),
        forced_reconnects=_all(device.forced_reconnects() for device in devices),
        dropped_frames=sum(device.dropped_frames() for device in devices),
        unreadable_frames=_all(device.unreadable for device in devices),
        surprises=_all(device.surprises for device in devices),
        timers=sum(len(family.timers) for family in families),
        differences=differences,
        crashes=crashes,
    )


def _all(lists: Iterable[list[str]]) -> list[str]:
    return [each for some in lists for each in some]


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counter.most_common()) or "nobody"
