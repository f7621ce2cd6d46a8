"""ISO-8601 durations and dates as the clients' platforms write them, to and from microseconds.

Accepted durations are those that `java.time.Duration` reads (days to seconds, each with its own sign, in either case) and weeks.
Years and months have no fixed length and are refused. Accepted dates are those of `java.time` and of JavaScript's
`Date.toISOString`: extended format, seconds optional, up to nine digits of a fraction; without a zone they mean UTC.
"""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

_WHOLE = (
    "([+-]?0*[0-9]{1,9})"  # so no part of what is taken is beyond what java.time counts with, whatever the whole is
)
_DURATION = re.compile(
    r"([+-])?P(?=[0-9T+-])"
    f"(?:{_WHOLE}W)?(?:{_WHOLE}D)?"
    r"(?:T(?=[0-9+-])"
    f"(?:{_WHOLE}H)?(?:{_WHOLE}M)?"
    r"(?:([+-])?(0*[0-9]{1,12})(?:[.,]([0-9]{0,9}))?S)?"
    r")?",
    re.ASCII | re.IGNORECASE,
)
_INSTANT = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,9}))?)?"
    r"(Z|[+-](?:(?:0[0-9]|1[0-7]):[0-5][0-9]|18:00))?",  # java.time takes no offset beyond
    re.ASCII,
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_SECOND_US = 1_000_000


@lru_cache(4_096)  # people use few of them
def parse_duration(text: str) -> int:
    """Microseconds (digits below them are dropped). Raises ValueError when the text is no duration."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError("not an ISO-8601 duration")
    sign, weeks, days, hours, minutes, second_sign, seconds, fraction = match.groups()
    second_us = int(seconds or 0) * _SECOND_US + int((fraction or "").ljust(6, "0")[:6])
    whole = int(weeks or 0) * 604_800 + int(days or 0) * 86_400 + int(hours or 0) * 3_600 + int(minutes or 0) * 60
    total = whole * _SECOND_US + (-second_us if second_sign == "-" else second_us)
    return -total if sign == "-" else total


def parse_instant(text: str) -> int:
    """Microseconds since 1970. Raises ValueError when the text is no date and time."""
    match = _INSTANT.fullmatch(text)
    if match is None:
        raise ValueError("not an ISO-8601 date and time")
    minute, seconds, fraction, zone = match.groups()
    try:
        when = datetime.fromisoformat(f"{minute}:{seconds or '00'}.{(fraction or '').ljust(6, '0')[:6]}{zone or 'Z'}")
    except ValueError as error:  # its words are for programmers
        raise ValueError("not a possible date and time") from error
    return (when - _EPOCH) // _MICROSECOND


def format_duration(microseconds: int) -> str:
    """The shortest text of a duration of zero or more, such as `PT1H2M3.5S`."""
    seconds, fraction = divmod(max(microseconds, 0), _SECOND_US)
    hours, seconds = divmod(seconds, 3_600)
    minutes, seconds = divmod(seconds, 60)
    text = "PT" + (f"{hours}H" if hours else "") + (f"{minutes}M" if minutes else "")
    if seconds or fraction or text == "PT":
        text += f"{seconds}.{fraction:06d}".rstrip("0").rstrip(".") + "S" if fraction else f"{seconds}S"
    return text


def format_instant(microseconds: int) -> str:
    """A date and time in UTC with three digits of a fraction (six when they matter), such as `2026-01-02T03:04:05.678Z`.

    Raises ValueError outside the years 1 to 9999.
    """
    try:
        when = _EPOCH + timedelta(microseconds=microseconds)
    except OverflowError as error:
        raise ValueError("outside the years 1 to 9999") from error
    precision = "microseconds" if microseconds % 1_000 else "milliseconds"
    return when.isoformat(timespec=precision).replace("+00:00", "Z")
