"""Timers between REST's shape and the services'. Pure: no I/O."""

from msgspec import UNSET, UnsetType

from edge.errors import ClientError
from edge.java_time import is_local, java_duration, set_local_end, shown_end
from edge.local_time import offset_from_running
from edge.rest.shapes import Timer, TimerChange
from proto.event.v1 import event_pb2
from proto.timer.v1 import timer_pb2
from runtime.iso8601 import parse_duration


def shape(view: event_pb2.TimerView, offset: int | None, default_offset: int) -> Timer:
    """A timer for somebody whose clock is so many minutes ahead of UTC; None: that is not known."""
    timer, audience = view.timer, view.audience
    total = java_duration(timer.total_duration) if timer.HasField("total_duration") else UNSET
    end: str | UnsetType = UNSET
    remaining: str | UnsetType = UNSET
    # One of the two, or the app shows a running timer as a paused one; with neither, one that can't be started.
    if timer.HasField("end_time"):
        end = shown_end(timer, offset, default_offset)
    elif timer.HasField("remaining_duration"):
        remaining = java_duration(timer.remaining_duration)
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


def update(change: TimerChange, offset: int | None, default_offset: int) -> timer_pb2.Update:
    """The command that a sent timer is. Raises ClientError when its end is none."""
    command = timer_pb2.Update(name=change.name, total_duration=change.totalDuration)
    end = _end(change)
    if end is None:
        if change.remainingDuration is not None:
            command.remaining_duration = change.remainingDuration
    elif _is_local(change, end):
        set_local_end(command, end, offset, default_offset)
    else:
        command.end_time = end
    return command


def guessed_offset(change: TimerChange, now_us: int) -> int | None:
    """The offset of whoever makes this timer, which runs already, if that tells it."""
    end = _end(change)
    if end is None or change.totalDuration is None or not _is_local(change, end):
        return None
    try:
        return offset_from_running(end, parse_duration(change.totalDuration), now_us)
    except ValueError:
        return None  # the service says so


def _end(change: TimerChange) -> str | None:
    return change.endTime if change.timerEnd is None else change.timerEnd


def _is_local(change: TimerChange, end: str) -> bool:
    try:
        return is_local(end)
    except ValueError as error:
        field = "endTime" if change.timerEnd is None else "timerEnd"
        raise ClientError(400, f"{field} is {error}", field=field) from error
