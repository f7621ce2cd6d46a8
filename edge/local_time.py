"""Between instants and the local times of devices that do not say in which zone they are. Pure: no I/O, no clock of its own.

An offset is a number of minutes ahead of UTC (negative: behind it). A device computes with its local time as if its offset
never changed, so the offset of *now* is the one that counts, also for an end on the other side of a change to summer time.
"""

import re
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

STEP = 15
"""Minutes: all offsets in use are multiples of this."""

EARLIEST, LATEST = -12 * 60, 14 * 60
"""The offsets there are, in minutes. What lies outside is a wrong clock."""

_MINUTE_US = 60_000_000
_LOCAL = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-9]{2})((?::[0-9]{2}(?:\.[0-9]{1,9})?)?)", re.ASCII
)
_INSTANT = re.compile(_LOCAL.pattern + "(Z|[+-][0-9]{2}:[0-9]{2})?", re.ASCII)
_OFFSET = re.compile("(?:UTC|GMT)?([+ -])([0-9]{1,2}):?([0-9]{2})?", re.ASCII)
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  # local times have no zone, which is what this is about


def parse_local(text: str) -> int:
    """Microseconds from 1970-01-01T00:00 of the same clock to a local date and time. Raises ValueError when it is none."""
    match = _LOCAL.fullmatch(text)
    if match is None:
        raise ValueError("not a local date and time")
    minute, rest = match.groups()
    seconds, _, fraction = (rest or ":00").removeprefix(":").partition(".")
    try:
        when = datetime.fromisoformat(f"{minute}:{seconds}.{fraction.ljust(6, '0')[:6]}")
    except ValueError as error:  # its words are for programmers
        raise ValueError("not a possible date and time") from error
    return (when - _EPOCH) // timedelta(microseconds=1)


def with_offset(local: str, offset: int) -> str:
    """A local date and time as the instant it means on a clock with this offset; its digits stay as they are."""
    if offset == 0:
        return f"{local}Z"
    hours, minutes = divmod(abs(offset), 60)
    return f"{local}{'-' if offset < 0 else '+'}{hours:02d}:{minutes:02d}"


def to_local(instant: str, offset: int) -> str:
    """An instant (an ISO-8601 text; UTC when it has no zone) on a clock with this offset: a text without a zone, that every
    parser of local times takes. Seconds and what is below them stay as they are. Outside the years 1 to 9999 it stays whole
    as it is, but for the zone. Raises ValueError when it is no date and time.
    """
    match = _INSTANT.fullmatch(instant)
    if match is None:
        raise ValueError("not an ISO-8601 date and time")
    minute, rest, zone = match.groups()
    shift = offset - _minutes(zone)
    if not shift:
        return f"{minute}{rest}"
    try:
        moved = datetime.fromisoformat(minute) + timedelta(minutes=shift)
    except OverflowError:
        return f"{minute}{rest}"
    return f"{moved.isoformat(timespec='minutes')}{rest}"


def offset_from_resuming(end: str, remaining_us: int, now_us: int) -> int | None:
    """The offset of a device that has just started a timer with a known remaining time and says when it ends: end - now -
    remaining, rounded to `STEP`, which takes up what the message was under way and a clock that is some minutes wrong.

    None when there is no such offset. A clock that is wrong by more passes for another zone, and since the device shows what
    is left by that same clock, that is what it needs. Raises ValueError when `end` is no local date and time.
    """
    return _plausible(_rounded(parse_local(end) - now_us - remaining_us))


def offset_from_running(end: str, total_us: int, now_us: int) -> int | None:
    """A guess for a device that shows a running timer of its own, which was started somewhat earlier: what is left is
    between nothing and the total. A whole hour when there is one in that range, else the only multiple of `STEP`; None when
    that does not tell. Raises ValueError when `end` is no local date and time.
    """
    latest = parse_local(end) - now_us
    earliest = latest - total_us
    slack = 2 * _MINUTE_US
    for step in (60, STEP):
        first = -((slack - earliest) // (step * _MINUTE_US)) * step
        last = (latest + slack) // (step * _MINUTE_US) * step
        if first == last:
            return _plausible(first)
        if first < last:
            return None
    return None


def zone_from(text: str) -> ZoneInfo | int | None:
    """What a client calls its zone: a name such as `Europe/Berlin`, or an offset such as `+02:00`, `-0330`, `Z` or `UTC+2`
    (in a query, a plus may have become a space). None when it is neither.
    """
    if text.upper() in ("Z", "UTC", "GMT"):
        return 0
    match = _OFFSET.fullmatch(text)
    if match is not None:
        sign, hours, minutes = match.groups()
        offset = int(hours) * 60 + int(minutes or 0)
        return _plausible(-offset if sign == "-" else offset)
    if len(text) > 64:  # longer than every name, and file names have a limit
        return None
    try:
        return ZoneInfo(text)
    except (KeyError, ValueError, OSError):  # unknown; malformed; a folder of the zones' database
        return None


def offset_of(zone: ZoneInfo | int, now_us: int) -> int:
    """The offset of a zone at a moment, in whole minutes."""
    if isinstance(zone, int):
        return zone
    ahead = datetime.fromtimestamp(now_us / 1_000_000, zone).utcoffset() or timedelta()
    return round(ahead.total_seconds() / 60)


def _rounded(difference_us: int) -> int:
    step_us = STEP * _MINUTE_US
    return (difference_us + step_us // 2) // step_us * STEP


def _plausible(offset: int) -> int | None:
    return offset if EARLIEST <= offset <= LATEST else None


def _minutes(zone: str | None) -> int:
    if zone is None or zone == "Z":
        return 0
    minutes = int(zone[1:3]) * 60 + int(zone[4:6])
    return -minutes if zone[0] == "-" else minutes
