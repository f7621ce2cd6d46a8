"""Reading JSON into a struct, with errors that tell a client's developer what is wrong, and where."""

import re
from collections.abc import Callable
from typing import TypeVar

import msgspec

from edge.codec.contract import DecodeError

_AT = re.compile(r" - at `\$\.?(.*)`$")

Message = TypeVar("Message")


def parse(decode: Callable[[bytes], Message], message: bytes, message_id: str | None) -> Message:
    """What the decoder makes of a message. Raises DecodeError."""
    try:
        return decode(message)
    except msgspec.ValidationError as error:
        problem = str(error)
        at = _AT.search(problem)
        field = at.group(1) if at else ""
        missing = re.search("missing required field `(.*?)`", problem)
        if missing:
            field = f"{field}.{missing.group(1)}" if field else missing.group(1)
            problem = f"{field} is missing"
        name = field.split("[")[0].split(".")[-1]
        raise DecodeError(400, _AT.sub("", problem), field=name, message_id=message_id) from error
    except msgspec.DecodeError as error:
        raise DecodeError(400, f"The message is not valid JSON: {error}", message_id=message_id) from error
    except RecursionError as error:
        raise DecodeError(400, "The message is nested too deeply", message_id=message_id) from error
