"""WebSocket frames as bytes (RFC 6455, section 5.2), as a server sends them: unmasked, never compressed.

An event is framed once and the same bytes are written to every connection that gets it; that costs a quarter of sending
it through each connection's WebSocket object.
"""

from struct import Struct

PING = b"\x89\x00"

_SHORT = Struct("!BB").pack
_MEDIUM = Struct("!BBH").pack
_LONG = Struct("!BBQ").pack
_CODE = Struct("!H").pack
_TEXT = 0x81  # FIN and opcode 1
_CLOSE = 0x88  # FIN and opcode 8


def close_frame(code: int, reason: str) -> bytes:
    """The last frame (section 5.5.1). `reason` has at most 123 bytes as UTF-8."""
    payload = _CODE(code) + reason.encode()
    return _SHORT(_CLOSE, len(payload)) + payload


def text_frame(payload: bytes) -> bytes:
    """A whole text message. `payload` is UTF-8."""
    length = len(payload)
    if length < 126:
        return _SHORT(_TEXT, length) + payload
    if length < 65_536:
        return _MEDIUM(_TEXT, 126, length) + payload
    return _LONG(_TEXT, 127, length) + payload
