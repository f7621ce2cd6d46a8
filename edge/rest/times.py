"""Timers between REST's shape and the services'. Pure: no I/O.

The published app reads local times without a zone, and only such: a text with a zone ends its parsing. A text that came without
one is given as it came.
"""

import re
from zoneinfo import ZoneInfo

from msgspec import UNSET, UnsetType

from edge.local_time import offset_of, to_local
from edge.rest.shapes import Timer, TimerChange
from proto.event.v1 import event_pb2
from proto.timer.v1 import timer_pb2

_ZONED = re.compile(r".*(?:Z|[+-][0-9]{2}:[0-9]{2})", re.ASCII)


def shape(view: event_pb2.TimerView, zone: ZoneInfo | int, now_us: int) -> Timer:
    """A timer for somebody whose clock is in a zone (or so many minutes ahead of UTC)."""
    timer, audience = view.timer, view.audience
    total = timer.total_duration if timer.HasField("total_duration") else UNSET
    end: str | UnsetType = UNSET
    remaining: str | UnsetType = UNSET
    # One of the two, or the app shows a running timer as a paused one; with neither, one that can't be started.
    if timer.HasField("end_time"):
        end = _end(timer, zone, now_us)
    elif timer.HasField("remaining_duration"):
        remaining = timer.remaining_duration
    else:
        remaining = total
    return Timer(
        id=timer.timer_id,
        userId=audience.owner_id,
        name=timer.name,
        totalDuration=total,
        endTime=end,
        remainingDuration=remaining,
        sharedWith=[audience.owner_id, *audience.member_ids],  # as the app has it: with the owner
    )


def update(change: TimerChange) -> timer_pb2.Update:
    """The command that a sent timer is."""
    end = change.timerEnd if change.timerEnd is not None else change.endTime
    return timer_pb2.Update(
        name=change.name,
        total_duration=change.totalDuration,
        end_time=end,
        remaining_duration=change.remainingDuration if end is None else None,
    )


def _end(timer: event_pb2.Timer, zone: ZoneInfo | int, now_us: int) -> str:
    if timer.HasField("local_end"):
        return timer.local_end.text
    if _ZONED.fullmatch(timer.end_time) is None:
        return timer.end_time
    return to_local(timer.end_time, offset_of(zone, now_us))
