"""How people write and read durations and names. Pure. Times are in microseconds, as everywhere behind the command line."""

import re
import unicodedata

from runtime.iso8601 import parse_duration as parse_iso

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
WEEK = 7 * DAY

LONGEST = 3_650 * DAY
"""What the server takes (docs/protocol.md)."""

TENTHS_BELOW = 10 * SECOND
"""The last seconds of a countdown show tenths, where they are asked for."""

_UNITS = {
    "w": WEEK,
    "week": WEEK,
    "d": DAY,
    "day": DAY,
    "h": HOUR,
    "hr": HOUR,
    "hour": HOUR,
    "m": MINUTE,
    "min": MINUTE,
    "minute": MINUTE,
    "s": SECOND,
    "sec": SECOND,
    "second": SECOND,
}
_PART = re.compile(r"\s*(\d{1,9}(?:[.,]\d{1,6})?)\s*([a-z]+)\s*", re.ASCII)


def parse_duration(text: str) -> int:
    """`25m`, `1h30m`, `90 s`, `1.5h`, `2 days`, or ISO-8601's `PT25M`. Raises ValueError, with a sentence, for anything else,
    for zero, and for more than the server takes.
    """
    duration = _parse(text.strip().lower())
    if duration is None:
        unit = f" Which unit: {text}m, or {text}s?" if text.strip().isdecimal() else ""
        raise ValueError(f"“{printable(text)}” is no duration such as 25m, 1h30m, 90s or PT25M.{unit}")
    if duration <= 0:
        raise ValueError("A duration must be longer than nothing.")
    if duration > LONGEST:
        raise ValueError("A duration must not be longer than ten years.")
    return duration


def _parse(text: str) -> int | None:
    if text.startswith("p"):
        try:
            return parse_iso(text.upper())
        except ValueError:
            return None
    total, position = 0, 0
    smallest = LONGEST  # units go down, each at most once: 30m1h and 5m5m are rather slips of the hand
    while position < len(text):
        part = _PART.match(text, position)
        unit = _UNITS.get(part[2]) or _UNITS.get(part[2].removesuffix("s")) if part else None
        if part is None or unit is None or unit >= smallest:
            return None
        total += round(float(part[1].replace(",", ".")) * unit)
        smallest, position = unit, part.end()
    return total if text else None


def clock(left: int, *, tenths: bool = False) -> str:
    """Time left as a clock shows it: `0:09`, `12:00`, `1:02:03`, `2d 01:02:03`. Rounded up, so that 0:00 means over; with
    `tenths`, the last seconds are `9.3`.
    """
    left = max(left, 0)
    if tenths and 0 < left < TENTHS_BELOW:
        whole, tenth = divmod(-(-left // (SECOND // 10)), 10)
        return f"{whole}.{tenth}"
    minutes, seconds = divmod(-(-left // SECOND), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d {hours:02}:{minutes:02}:{seconds:02}"
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def span(duration: int) -> str:
    """A span of time in words, by its two largest units: `1 h 30 min`, `45 s`."""
    rest = max(round(duration / SECOND), 0) * SECOND
    words = []
    for unit, name in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min"), (SECOND, "s")):
        count, rest = divmod(rest, unit)
        if count:
            words.append(f"{count} {name}")
    return " ".join(words[:2]) or "0 s"


def printable(text: str) -> str:
    """A text of somebody else's as it may go to a terminal: without control characters, which could command it, and without
    those that turn the direction of text. The server lets none through; this does not rely on it.
    """
    return "".join("\ufffd" if unicodedata.category(char) in _UNSAFE and char != _JOINER else char for char in text)


_UNSAFE = ("Cc", "Cf", "Cs", "Zl", "Zp")
_JOINER = "\u200d"  # holds emoji together


def hue(user: str) -> int:
    """The colour of a user, 0 to 359 degrees: the same here and on the page (FNV-1a, by code points)."""
    value = 0x811C9DC5
    for char in user:
        value = ((value ^ ord(char)) * 0x01000193) & 0xFFFFFFFF
    return value % 360
