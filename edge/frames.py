"""WebSocket frames as bytes (RFC 6455, section 5.2), as a server sends them: unmasked, never compressed.

An event is framed once and the same bytes are written to every connection that gets it; that costs a quarter of sending
it through each connection's WebSocket object.
"""

from struct import Struct

MAX_FRAGMENT = 32 * 1024
"""Bytes of payload in one frame of a long message."""

PING = b"\x89\x00"

_SHORT = Struct("!BB").pack
_MEDIUM = Struct("!BBH").pack
_LONG = Struct("!BBQ").pack
_CODE = Struct("!H").pack
_FIN = 0x80
_CONTINUATION, _TEXT, _CLOSE = 0x0, 0x1, 0x8  # opcodes


def close_frame(code: int, reason: str) -> bytes:
    """The last frame (section 5.5.1). `reason` has at most 123 bytes as UTF-8."""
    payload = _CODE(code) + reason.encode()
    return _SHORT(_FIN | _CLOSE, len(payload)) + payload


def text_frame(payload: bytes) -> bytes:
    """A whole text message. `payload` is UTF-8."""
    return _frame(_FIN | _TEXT, payload)


def fragments(frame: bytes) -> list[bytes]:
    """The message of a `text_frame` in frames of at most `MAX_FRAGMENT` (section 5.4). Pings and close frames may be
    written between these, but no other message.
    """
    if len(frame) <= MAX_FRAGMENT:
        return [frame]
    start = {126: 4, 127: 10}[frame[1]]
    parts = [frame[at : at + MAX_FRAGMENT] for at in range(start, len(frame), MAX_FRAGMENT)]
    last = len(parts) - 1
    return [
        _frame((_TEXT if number == 0 else _CONTINUATION) | (_FIN if number == last else 0), part)
        for number, part in enumerate(parts)
    ]


def _frame(first_byte: int, payload: bytes) -> bytes:
    length = len(payload)
    if length < 126:
        return _SHORT(first_byte, length) + payload
    if length < 65_536:
        return _MEDIUM(first_byte, 126, length) + payload
    return _LONG(first_byte, 127, length) + payload
