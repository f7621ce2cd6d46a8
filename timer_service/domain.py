"""The rules of timers: pure functions from a state and a command to a state. No I/O, no protobuf, no clock of their own."""

from collections.abc import Callable
from enum import StrEnum
from typing import TypeAlias

import msgspec

from runtime import iso8601, operations, text
from runtime.errors import Conflict, InvalidArgument, NotFound, Overloaded
from runtime.operations import Operation, Operations

STOP_GUARD_US = 5_000_000
"""After a stop, an update without a base version is refused for this long: it may have been under way when the stop
came. Longer than a message can be in flight (its deadline), shorter than a person needs to change their mind."""

TOMBSTONE_US = 7 * 24 * 3_600 * 1_000_000
"""A stopped timer is remembered this long: a phone that was off for a week learns of the stop."""

MAX_DURATION_US = 10 * 365 * 24 * 3_600 * 1_000_000
"""Ten years: of a duration that a client gives, and of what an extension leads to. An end may be further away."""


MAX_TAGS = 32
"""Tags of one timer."""

MAX_TAGS_BYTES = 2_048
"""Bytes (as UTF-8) of all tags of one timer together. Every other text of a timer is short, so this is what bounds the snapshot of
a user with the most timers that the default limits allow (`audiences.MAX_BYTES`)."""

MAX_UTC_OFFSET = 18 * 60
"""Minutes a device's clock may be ahead of UTC or behind it: what ISO-8601 and java.time can say."""


class State(StrEnum):
    """What a timer is doing."""

    IDLE = "idle"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"


class Origin(msgspec.Struct, frozen=True):
    """The device a change came from."""

    user_id: str
    device_id: str = ""
    connection_id: str = ""


class LocalEnd(msgspec.Struct, frozen=True, omit_defaults=True):
    """The end as a device without a zone wrote it, and its minutes ahead of UTC (None: not known)."""

    text: str
    utc_offset_minutes: int | None = None


class Timer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A timer's whole state, as it is stored. Texts of time are exactly what a client sent.

    Times ending in `_us` are microseconds since 1970. `purging`: the tombstone is being forgotten, here and in the sharing
    service, and nothing may bring the timer back before that is done. `pending_since_us` is the outbox: set by whoever saves a change,
    removed when its event was delivered.
    """

    timer_id: str
    owner: str
    name: str = ""
    total_duration: str | None = None
    end_time: str | None = None
    remaining_duration: str | None = None
    local_end: LocalEnd | None = None
    tags: tuple[str, ...] = ()
    state: State = State.IDLE
    version: int = 0
    stopped_by: str = ""
    stopped_at_us: int = 0
    purging: bool = False
    origin: Origin = Origin("")
    operations: Operations = ()
    traceparent: str = ""
    pending_since_us: int = 0


class Update(msgspec.Struct, frozen=True, kw_only=True):
    """Replaces the state; see the proto for what an absent field means."""

    name: str | None = None
    total_duration: str | None = None
    end_time: str | None = None
    remaining_duration: str | None = None
    local_end: LocalEnd | None = None
    tags: tuple[str, ...] | None = None


class Stop(msgspec.Struct, frozen=True):
    """Stops."""


class Start(msgspec.Struct, frozen=True):
    """Runs from the full length."""


class Pause(msgspec.Struct, frozen=True):
    """Keeps what is left."""


class Resume(msgspec.Struct, frozen=True):
    """Runs on."""


class Extend(msgspec.Struct, frozen=True):
    """Adds time."""

    by: str


Command: TypeAlias = Update | Stop | Start | Pause | Resume | Extend


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A command with its circumstances."""

    timer_id: str
    command: Command
    origin: Origin
    base_version: int | None = None
    operation_id: str = ""
    traceparent: str = ""


class Outcome(msgspec.Struct, frozen=True):
    """What a request led to. `timer` is to be saved unless it is the current one itself."""

    timer: Timer
    version: int
    base_version: int


def validate(request: Request) -> None:
    """Checks everything that needs no stored state. Raises InvalidArgument, naming the field as clients spell it."""
    text.check_id("timerId", request.timer_id)
    text.check_id("userId", request.origin.user_id)
    text.check_id("deviceId", request.origin.device_id, shortest=0)
    _check_text("operationId", request.operation_id, longest=operations.MAX_ID)
    command = request.command
    if isinstance(command, Update):
        if command.name is not None:
            _check_text("name", command.name, longest=text.MAX_NAME)
        if command.total_duration is not None:
            _check_duration("totalDuration", command.total_duration)
        if command.remaining_duration is not None:
            _check_duration("remainingDuration", command.remaining_duration)
        if command.end_time is not None:
            _parse("endTime", command.end_time, iso8601.parse_instant)
        if command.local_end is not None:
            _check_local_end(command.local_end)
        if command.tags is not None:
            _check_tags(command.tags)
    elif isinstance(command, Extend) and _check_duration("by", command.by) <= 0:
        raise InvalidArgument("by must be above zero", field="by")


def apply(current: Timer | None, request: Request, owner: str, now_us: int) -> Outcome:
    """Applies a valid request to a timer.

    `owner` is who owns the timer according to the sharing service. The version of a changed timer is
    `max(now_us, current version + 1)`. Requests that change nothing give the current timer back, as do repeated ones, with
    the version and base version of their first time. Raises NotFound, Conflict, InvalidArgument.
    """
    base_version = current.version if current else 0
    if current is not None:
        repeated = operations.find(current.operations, request.operation_id)
        if repeated is not None:
            return Outcome(current, repeated.version, repeated.base_version)
    if request.base_version is not None and request.base_version != base_version:
        raise Conflict("The timer has another version", field="baseVersion")
    changed = _changed(current, request, owner, now_us)
    if changed is current:
        return Outcome(changed, base_version, base_version)
    version = max(now_us, base_version + 1)
    remembered = current.operations if current else ()
    if request.operation_id:
        writer = operations.writer(request.origin.user_id, request.origin.device_id)
        operation = Operation(request.operation_id, version, base_version, writer)
        remembered = operations.remember(remembered, operation)
    timer = msgspec.structs.replace(
        changed,
        owner=owner,
        version=version,
        origin=request.origin,
        operations=remembered,
        traceparent=request.traceparent,
        pending_since_us=now_us,
    )
    return Outcome(timer, version, base_version)


def _changed(current: Timer | None, request: Request, owner: str, now_us: int) -> Timer:
    command = request.command
    if isinstance(command, Update):
        return _updated(current, request, command, owner, now_us)
    if current is None:
        raise NotFound("There is no such timer", field="timerId")
    if isinstance(command, Stop):
        if current.state is State.STOPPED:
            return current
        return msgspec.structs.replace(
            current, state=State.STOPPED, stopped_by=request.origin.user_id, stopped_at_us=now_us
        )
    if current.state is State.STOPPED:
        raise NotFound("The timer is stopped", field="timerId")
    if isinstance(command, Start):
        running = current.state is State.RUNNING and left_us(current, now_us) > 0
        return current if running else _run(current, _total_us(current), now_us)
    if isinstance(command, Pause):
        if current.state is not State.RUNNING:
            return current
        left = iso8601.format_duration(left_us(current, now_us))
        return msgspec.structs.replace(
            current, state=State.PAUSED, end_time=None, local_end=None, remaining_duration=left
        )
    if isinstance(command, Resume):
        return current if current.state is State.RUNNING else _run(current, left_us(current, now_us), now_us)
    return _extended(current, command, now_us)


def _updated(current: Timer | None, request: Request, update: Update, owner: str, now_us: int) -> Timer:
    if current is None:
        current = Timer(timer_id=request.timer_id, owner=owner)
    elif current.state is State.STOPPED:
        # Clocks of two replicas differ: a stop that lies in the future by more than the guard says nothing.
        if request.base_version is None and abs(now_us - current.stopped_at_us) < STOP_GUARD_US:
            raise Conflict("The timer was stopped a moment ago", field="timerId")
        if current.purging:
            raise Overloaded("The stopped timer is just being forgotten")
        if current.owner != owner:  # the id is new to this one, who is to see nothing of its former life
            current = Timer(timer_id=current.timer_id, owner=owner, version=current.version)
        else:
            current = msgspec.structs.replace(current, end_time=None, local_end=None, remaining_duration=None)
    end_time, remaining_duration, local_end = current.end_time, current.remaining_duration, current.local_end
    if update.end_time is not None or update.remaining_duration is not None:
        end_time, remaining_duration = update.end_time, update.remaining_duration
        local_end = update.local_end if end_time is not None else None
        if local_end is not None and _is_as_told(local_end, current.local_end):
            end_time, local_end = current.end_time, current.local_end
    if end_time is not None:
        state = State.RUNNING
    else:
        state = State.PAUSED if remaining_duration is not None else State.IDLE
    return Timer(
        timer_id=current.timer_id,
        owner=owner,
        name=current.name if update.name is None else update.name,
        total_duration=current.total_duration if update.total_duration is None else update.total_duration,
        end_time=end_time,
        remaining_duration=remaining_duration,
        local_end=local_end,
        tags=current.tags if update.tags is None else update.tags,
        state=state,
        version=current.version,
    )


def _is_as_told(local_end: LocalEnd, current: LocalEnd | None) -> bool:
    """Whether an end is the one that is stored, told again by somebody of whom it is not known how far they are ahead of UTC: then
    its instant is only a guess, and the one that is stored is the better one.
    """
    return current is not None and local_end.utc_offset_minutes is None and local_end.text == current.text


def _extended(current: Timer, command: Extend, now_us: int) -> Timer:
    by = iso8601.parse_duration(command.by)
    if current.state is State.RUNNING:
        return _run(current, _within_limits(left_us(current, now_us) + by), now_us)
    if current.state is State.PAUSED:
        left = _within_limits(left_us(current, now_us) + by)
        return msgspec.structs.replace(current, remaining_duration=iso8601.format_duration(left))
    total = _within_limits(_total_us(current) + by)
    return msgspec.structs.replace(current, total_duration=iso8601.format_duration(total))


def purging(tombstone: Timer) -> Timer:
    """A tombstone that is about to be forgotten: a version of its own, so that whoever works on the old one loses."""
    return msgspec.structs.replace(tombstone, purging=True, version=tombstone.version + 1, pending_since_us=0)


def left_us(timer: Timer, now_us: int) -> int:
    """What is left of a timer that is not stopped, in microseconds, at least zero."""
    if timer.end_time is not None:
        return max(iso8601.parse_instant(timer.end_time) - now_us, 0)
    if timer.remaining_duration is not None:
        return max(iso8601.parse_duration(timer.remaining_duration), 0)
    return _total_us(timer)


def _total_us(timer: Timer) -> int:
    if timer.total_duration is None:
        raise InvalidArgument("The timer has no total duration to run for", field="totalDuration")
    return max(iso8601.parse_duration(timer.total_duration), 0)


def _run(timer: Timer, left: int, now_us: int) -> Timer:
    # Not within the limits of an extension: what a pause keeps of an end that is far away may be more, and runs on.
    try:
        end_time = iso8601.format_instant(now_us + left)
    except ValueError as error:
        raise InvalidArgument("The timer would run beyond the year 9999") from error
    return msgspec.structs.replace(
        timer, state=State.RUNNING, end_time=end_time, local_end=None, remaining_duration=None
    )


def _within_limits(duration_us: int) -> int:
    if duration_us > MAX_DURATION_US:
        raise InvalidArgument("The timer would run for more than ten years", field="by")
    return duration_us


def _check_local_end(local_end: LocalEnd) -> None:
    _check_text("endTime", local_end.text, longest=text.MAX_TIME_TEXT)
    if abs(local_end.utc_offset_minutes or 0) > MAX_UTC_OFFSET:
        raise InvalidArgument("The device's offset from UTC is not possible", field="endTime")


def _check_tags(tags: tuple[str, ...]) -> None:
    if len(tags) > MAX_TAGS:
        raise InvalidArgument(f"tags must be at most {MAX_TAGS}", field="tags")
    for tag in tags:
        _check_text("tags", tag, longest=text.MAX_NAME)
    if sum(len(tag.encode()) for tag in tags) > MAX_TAGS_BYTES:
        raise InvalidArgument(f"tags must have at most {MAX_TAGS_BYTES} bytes together", field="tags")


def _check_text(field: str, value: str, *, longest: int) -> None:
    problem = text.problem_with(value, longest=longest)
    if problem:
        raise InvalidArgument(f"{field} {problem}", field=field)


def _check_duration(field: str, value: str) -> int:
    duration_us = _parse(field, value, iso8601.parse_duration)
    if abs(duration_us) > MAX_DURATION_US:
        raise InvalidArgument(f"{field} must not be longer than ten years", field=field)
    return duration_us


def _parse(field: str, value: str, parse: Callable[[str], int]) -> int:
    _check_text(field, value, longest=text.MAX_TIME_TEXT)
    try:
        return parse(value)
    except ValueError as error:
        raise InvalidArgument(f"{field} is {error}", field=field) from error
