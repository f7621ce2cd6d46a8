"""A cheap WebSocket client for many connections: thousands fit into one process beside the system they load.

Raw frames, no masking worth its name, no copies beyond one. `bubble load` and the programs of `bench/` subclass `RawSocket`
and say in `on_text` what they look for. For a person's connection there is `client.py`.
"""

import asyncio
import ssl
import struct
from collections.abc import Iterator
from urllib.parse import quote, urlsplit

_NO_MASK = b"\x00\x00\x00\x00"  # a client must mask; with a key of zeros the bytes stay as they are


class RawSocket(asyncio.Protocol):
    """One connection of one device of one person.

    `await connect()`, then `send`; `on_text` is called with each text message, `on_closed` once when the connection has
    ended. `ready` is set with the first snapshot, or gets the ConnectionError that came before.
    """

    def __init__(self, url: str, user: str, token: str, *, device: str = "d", resume: bool = False) -> None:
        """`url`: `ws(s)://host[:port]`, with the path before `/ws` if there is one."""
        self.user = user
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.close_code: int | None = None
        """The code of the server's close frame; None when there was none (yet)."""
        self.closing = False
        """We closed the connection ourselves."""
        self.bytes_received = 0
        self.transport: asyncio.Transport | None = None
        self._url = urlsplit(url)
        self._token = token
        self._device = device
        self._resume = resume
        self._buffer = b""
        self._fragments: list[bytes] = []
        self._open = False

    def start_anew(self) -> None:
        """Forgets a connection that has ended, so that `connect` may be called again."""
        self.ready = asyncio.get_running_loop().create_future()
        self.transport, self.close_code = None, None
        self._buffer, self._open = b"", False
        self._fragments.clear()

    async def connect(self) -> None:
        """Opens the connection and asks for the WebSocket; wait for `ready` then. Raises OSError."""
        secure = self._url.scheme in ("wss", "https")
        host, port = self._url.hostname or "127.0.0.1", self._url.port or (443 if secure else 80)
        context = ssl.create_default_context() if secure else None
        await asyncio.get_running_loop().create_connection(lambda: self, host, port, ssl=context)

    def path(self) -> str:
        """What is asked for at the handshake."""
        resume = "&resume=1" if self._resume else ""
        return f"{self._url.path.rstrip('/')}/ws?deviceId={quote(f'{self._device}-{self.user}')}{resume}"

    def on_open(self) -> None:
        """The server has agreed to be a WebSocket."""

    def on_text(self, payload: bytes) -> None:
        """A text message has come."""

    def makes_ready(self, payload: bytes) -> bool:
        """Is this the message after which the connection can be used?"""
        return payload.startswith(b'{"type":"snapshot"')

    def on_closed(self, exc: Exception | None) -> None:
        """The connection has ended."""

    def send(self, text: str) -> None:
        """Sends one text message. Nothing happens when there is no connection any more."""
        self._write(text_frame(text.encode()))

    def close(self) -> None:
        """Ends the connection."""
        self.closing = True
        if self.transport is not None:
            self.transport.close()

    # --- asyncio.Protocol ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # uvloop's has no common ancestor
        self._write(
            f"GET {self.path()} HTTP/1.1\r\nHost: {self._url.netloc}\r\n"
            f"Authorization: Bearer {self._token}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
        )

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ready.done():
            self.ready.set_exception(exc or ConnectionError("closed"))
            self.ready.exception()  # not everybody waits for it
        self.on_closed(exc)

    def data_received(self, data: bytes) -> None:
        self.bytes_received += len(data)
        self._buffer += data
        if not self._open:
            head, separator, rest = self._buffer.partition(b"\r\n\r\n")
            if not separator:
                return
            if b" 101 " not in head.split(b"\r\n", 1)[0]:
                if not self.ready.done():
                    self.ready.set_exception(ConnectionError(head.decode()))
                return
            self._open = True
            self._buffer = rest
            self.on_open()
        position = 0
        for first_byte, start, end in frames(self._buffer):
            self._frame(first_byte, self._buffer[start:end])
            position = end
        self._buffer = self._buffer[position:]

    def _frame(self, first_byte: int, payload: bytes) -> None:
        opcode = first_byte & 0x0F
        if opcode <= 1:
            if not first_byte & 0x80:  # there are more fragments of this message
                self._fragments.append(payload)
                return
            if self._fragments:
                payload = b"".join((*self._fragments, payload))
                self._fragments.clear()
            self.on_text(payload)
            if not self.ready.done() and self.makes_ready(payload):
                self.ready.set_result(None)
        elif opcode == 9:
            self._write(pong_frame(payload))
        elif opcode == 8:
            self.close_code = int.from_bytes(payload[:2], "big")
            self._write(b"\x88" + bytes((0x80 | len(payload),)) + _NO_MASK + payload)

    def _write(self, data: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)


def text_frame(payload: bytes) -> bytes:
    """A text message of at most 65,535 bytes as a client sends it."""
    length = len(payload)
    head = struct.pack("!BB", 0x81, 0x80 | length) if length < 126 else struct.pack("!BBH", 0x81, 0xFE, length)
    return head + _NO_MASK + payload


def pong_frame(payload: bytes) -> bytes:
    """The answer to a WebSocket ping with this payload."""
    return b"\x8a" + bytes((0x80 | len(payload),)) + _NO_MASK + payload


def frames(buffer: bytes) -> Iterator[tuple[int, int, int]]:
    """First byte, and start and end of the payload, of each frame from a server that is whole."""
    position, available = 0, len(buffer)
    while available - position >= 2:
        length, start = buffer[position + 1] & 0x7F, position + 2
        if length == 126:
            if available - position < 4:
                return
            length = buffer[start] << 8 | buffer[start + 1]
            start += 2
        elif length == 127:
            if available - position < 10:
                return
            length = int.from_bytes(buffer[start : start + 8], "big")
            start += 8
        if start + length > available:
            return
        yield buffer[position], start, start + length
        position = start + length
