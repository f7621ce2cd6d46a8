"""Which texts may be ids and names: one rule for the edge and for the services behind it."""

import re

from runtime.errors import InvalidArgument

MAX_ID = 128
"""Bytes (as UTF-8) of a user's, device's or timer's id; characters of a message's, which is kept nowhere. Three times a UUID;
keeps every index key small, and lists of members."""

MAX_NAME = 256
"""Characters in a timer's name. More than any screen shows."""

MAX_TIME_TEXT = 64
"""Characters in a date or duration. The longest useful one has 35."""

# Controls (C0, DEL, C1), line and paragraph separators, lone surrogates, the byte order mark, and everything that turns
# the direction of text around: with those, one name can be made to look like another (Unicode TR 36, "bidirectional
# text spoofing").
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")


def problem_with(text: str, *, longest: int, shortest: int = 0) -> str | None:
    """What is wrong with a text, as the rest of a sentence that begins with its name, or None. `longest` in characters."""
    if len(text) < shortest:
        return "must not be empty"
    if len(text) > longest:
        return f"must have at most {longest} characters"
    # isprintable is a fast, strict first look; what it refuses may still be fine (spaces, joiners in emoji).
    if not text.isprintable() and _FORBIDDEN.search(text):
        return "must not contain control or direction-changing characters"
    return None


def problem_with_id(text: str, *, shortest: int = 1) -> str | None:
    """The same for an id."""
    problem = problem_with(text, longest=MAX_ID, shortest=shortest)
    if problem is None and not text.isascii() and len(text.encode()) > MAX_ID:
        return f"must have at most {MAX_ID} bytes"
    return problem


def check_id(field: str, value: str, *, shortest: int = 1) -> str:
    """An id as it is. Raises InvalidArgument, naming the field, when it is none."""
    problem = problem_with_id(value, shortest=shortest)
    if problem is not None:
        raise InvalidArgument(f"{field} {problem}", field=field)
    return value
