"""A timer's times as the published app writes and reads them, with java.time. Pure: no I/O, no clock of its own.

It reads local dates and times, and only such: a zone ends its parsing, as do weeks in a duration. What it wrote itself comes back
exactly as it was, by whichever way.
"""

import re

from edge.local_time import parse_local, to_local, with_offset
from proto.event.v1 import event_pb2
from proto.timer.v1 import timer_pb2
from runtime.iso8601 import parse_instant

_WEEKS = re.compile("([+-]?P)([+-]?[0-9]+)W(?:([+-]?[0-9]+)D)?(.*)", re.ASCII | re.IGNORECASE)
_ZONED = re.compile(r".*(?:Z|[+-][0-9]{2}:[0-9]{2})", re.ASCII)


def java_duration(duration: str) -> str:
    """A duration as java.time.Duration reads it: that knows no weeks, and everything else that we take."""
    match = _WEEKS.fullmatch(duration) if "W" in duration or "w" in duration else None
    if match is None:
        return duration
    start, weeks, days, rest = match.groups()
    return f"{start}{int(weeks) * 7 + int(days or 0)}D{rest}"


def is_local(end: str) -> bool:
    """Whether an end is a local date and time, not an instant. Raises ValueError when it is neither."""
    zoned = _ZONED.fullmatch(end) is not None
    try:
        (parse_instant if zoned else parse_local)(end)
    except ValueError as error:
        raise ValueError("not an ISO-8601 date and time") from error
    return not zoned


def set_local_end(update: timer_pb2.Update, end: str, offset: int | None, default_offset: int) -> None:
    """Writes a local end into an update: its text, and the instant that is for others. Offsets are minutes ahead of UTC, as all
    here; `offset` None: that of whoever wrote it is not known, and taken to be the default.
    """
    update.local_end.text = end
    if offset is not None:
        update.local_end.utc_offset_minutes = offset
    update.end_time = with_offset(end, default_offset if offset is None else offset)


def shown_end(timer: event_pb2.Timer, offset: int | None, default_offset: int) -> str:
    """When a running timer ends, by the clock of a reader with this offset.

    A local end stays as it was written, unless both offsets are known and differ: then it is the same moment. What has no local
    end is shown by the reader's clock, or by the default.
    """
    if timer.HasField("local_end"):
        written = timer.local_end
        known = written.HasField("utc_offset_minutes")
        if offset is None or not known or written.utc_offset_minutes == offset:
            return written.text
    return to_local(timer.end_time, default_offset if offset is None else offset)
