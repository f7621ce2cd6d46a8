"""The way out of one connection: its mailbox, and the socket that empties it."""

import asyncio
import time
from collections.abc import Callable

from edge import metrics
from edge.frames import PING, close_frame
from edge.mailbox import Mailbox

_WRITE_CHUNK = 64 * 1024  # bytes handed to a socket at once
_HIGH_WATER = 32 * 1024  # bytes a socket's own buffer may hold before it gets no more
_LINGER = 0.02  # seconds between two looks whether the last bytes have been taken


class Outlet:
    """Frames on their way to one socket. `write_soon` is called when there is something to `write`."""

    __slots__ = (
        "_backlog_bytes",
        "_dirty",
        "_mailbox",
        "_open",
        "_transport",
        "_write_soon",
        "on_relief",
        "over_since",
    )

    def __init__(
        self, transport: asyncio.Transport, *, backlog_bytes: int, write_soon: "Callable[[Outlet], None]"
    ) -> None:
        self._transport = transport
        self._backlog_bytes = backlog_bytes
        self._write_soon = write_soon
        self._mailbox = Mailbox()
        self._dirty = False
        self._open = True
        self.on_relief: Callable[[], None] = _nothing
        """Called when no more waits than may."""
        self.over_since: float | None = None
        """Since when, by the monotonic clock, more waits than may; None when it does not."""

    @property
    def backlog(self) -> int:
        """Bytes that wait."""
        return self._mailbox.size

    def send(self, frame: bytes) -> int:
        """Adds a frame that must not be left out; returns its place, for `waits`."""
        place = self._mailbox.put(frame)
        self._mark()
        return place

    def send_state(self, timer_id: str, frame: bytes) -> None:
        """Adds a timer's state; an older one that waits is not sent any more."""
        if self._mailbox.put_state(timer_id, frame):
            metrics.CONFLATED.inc()
        self._mark()

    def drop_state(self, timer_id: str) -> None:
        """Takes a timer's waiting state back."""
        self._mailbox.drop(timer_id)

    def waits(self, place: int | str) -> bool:
        """Whether the frame at a place, or the state of a timer, has not been written yet."""
        return place in self._mailbox

    def write(self) -> bool:
        """Writes what waits, as far as the socket takes it. False: something is left."""
        self._dirty = False
        if not self._open or self._transport.is_closing():
            return True
        if self._transport.get_write_buffer_size() <= _HIGH_WATER:
            frames = self._mailbox.take(_WRITE_CHUNK)
            if frames:
                self._transport.write(b"".join(frames))
        if self._mailbox.size <= self._backlog_bytes:
            self.over_since = None
            self.on_relief()
        elif self.over_since is None:
            self.over_since = time.monotonic()
        return not self._mailbox

    def ping(self) -> bool:
        """Sends a WebSocket ping. A socket that takes no bytes gets none, since it would only pile up: False."""
        if self._transport.is_closing() or self._transport.get_write_buffer_size():
            return False
        self._transport.write(PING)
        return True

    def goodbye(self, code: int, reason: str) -> None:
        """Writes what the socket still takes, and a close frame behind it."""
        self.write()
        if not self._transport.is_closing():
            self._transport.write(close_frame(code, reason))

    def clear(self) -> None:
        """Forgets all that waits."""
        self._mailbox.clear()

    async def drained(self) -> None:
        """Returns when the socket has taken everything that was written."""
        while self._transport.get_write_buffer_size():
            await asyncio.sleep(_LINGER)

    def shut(self) -> None:
        """Frees the socket at once, whatever its peer does: a polite close waits for ever for one that reads nothing."""
        self._open = False
        self._mailbox.clear()
        self._transport.abort()

    def _mark(self) -> None:
        if not self._dirty:
            self._dirty = True
            self._write_soon(self)


def _nothing() -> None:
    pass
