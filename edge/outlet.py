"""The way out of one connection: its mailbox, and the socket that empties it."""

import asyncio
import time
from collections.abc import Callable

from edge import metrics
from edge.frames import PING, close_frame, fragments
from edge.mailbox import Mailbox

_WRITE_CHUNK = 32 * 1024  # bytes handed to a socket at once
_HIGH_WATER = 8 * 1024  # bytes a socket's own buffer may hold before it gets no more; what is there can't be taken back
_LINGER = 0.02  # seconds between two looks whether the last bytes have been taken


class Outlet:
    """Frames on their way to one socket. `write_soon` is called when there is something to `write`."""

    __slots__ = (
        "_accepting", "_backlog_bytes", "_dirty", "_mailbox", "_stuck", "_taken", "_taken_when_over", "_transport",
        "_write_soon", "_written", "on_relief", "on_written", "over_since", "took_at",
    )  # fmt: skip

    def __init__(
        self, transport: asyncio.Transport, *, backlog_bytes: int, write_soon: "Callable[[Outlet], None]"
    ) -> None:
        self._transport = transport
        self._backlog_bytes = backlog_bytes
        self._write_soon = write_soon
        self._mailbox = Mailbox()
        self._dirty = False
        self._accepting = True
        self._stuck = False
        self._written = self._taken = self._taken_when_over = 0
        self.on_relief: Callable[[], None] = _nothing
        """Called when no more waits than may."""
        self.on_written: Callable[[], None] | None = None
        """Called when some of what waited was written. None unless somebody wants to know, which is rare."""
        self.over_since: float | None = None
        """Since when, by the monotonic clock, more waits than may; None when it does not. It begins anew whenever as much
        as may wait has been taken: who makes progress through a large snapshot is not too slow."""
        self.took_at = float("-inf")
        """When, by the monotonic clock, a socket that had been full was last seen to take more: its peer was alive then."""

    @property
    def backlog(self) -> int:
        """Bytes that wait."""
        return self._mailbox.size

    @property
    def is_cut(self) -> bool:
        """Whether the socket takes nothing more, being closed by either side."""
        return self._transport.is_closing()

    def send(self, frame: bytes) -> int:
        """Adds a message that must not be left out, as one frame; returns its place, for `waits`. A long one is sent in
        fragments, which a ping or a goodbye need not wait for.
        """
        if not self._accepting:
            return 0
        for fragment in fragments(frame):
            place = self._mailbox.put(fragment)
        if not self._dirty:
            self._mark()
        return place

    def send_state(self, timer_id: str, frame: bytes) -> None:
        """Adds a timer's state; an older one that waits is not sent any more."""
        if self._accepting:
            if self._mailbox.put_state(timer_id, frame):
                metrics.CONFLATED.inc()
            if not self._dirty:
                self._mark()

    def drop_state(self, timer_id: str) -> None:
        """Takes a timer's waiting state back."""
        self._mailbox.drop(timer_id)

    def waits(self, place: int | str) -> bool:
        """Whether the message at a place, or the state of a timer, has not been written yet, or not all of it."""
        return place in self._mailbox

    def write(self) -> bool:
        """Writes what waits, as far as the socket takes it. False: it takes no more now; it is to be tried again later."""
        self._dirty = False
        if self.is_cut:
            self._relieve()
            return True
        buffered = self._transport.get_write_buffer_size()
        self._note_progress(buffered)
        if not self._stuck:
            frames = self._mailbox.take(_WRITE_CHUNK)
            if frames:
                self._put(b"".join(frames))
                if self.on_written is not None:
                    self.on_written()
            if self._mailbox.size:
                self._mark()  # the next turn of the loop shows whether the socket has taken this
        if self._mailbox.size + buffered <= self._backlog_bytes:
            self._relieve()
        elif self.over_since is None or self._taken - self._taken_when_over >= self._backlog_bytes:
            self.over_since = time.monotonic()
            self._taken_when_over = self._taken
        return self._dirty or (not self._mailbox.size and self.over_since is None)

    def ping(self) -> bool:
        """Sends a WebSocket ping. A socket that takes no bytes gets none, since it would only pile up: False."""
        if self.is_cut or self._transport.get_write_buffer_size() > _HIGH_WATER:
            return False
        self._put(PING)
        return True

    def goodbye(self, code: int, reason: str) -> None:
        """Writes what the socket still takes and a close frame behind it, and nothing from then on."""
        self.write()
        self.abandon()
        if not self.is_cut:
            self._put(close_frame(code, reason))

    def hang_up(self) -> None:
        """Writes what the socket still takes, and ends the connection behind it without a close frame."""
        self.write()
        self.abandon()
        self._transport.close()

    def abandon(self) -> None:
        """Forgets all that waits, and takes nothing more: the rest of a message may be missing from here on."""
        self._accepting = False
        self._mailbox.clear()

    async def drained(self) -> None:
        """Returns when the socket has taken everything that was written."""
        while self._transport.get_write_buffer_size():
            await asyncio.sleep(_LINGER)

    def shut(self) -> None:
        """Frees the socket at once, whatever its peer does: a polite close waits for ever for one that reads nothing."""
        self.abandon()
        self._transport.abort()

    def _note_progress(self, buffered: int) -> None:
        """`buffered`: bytes in the socket's own buffer, before it is given more."""
        taken = self._written - buffered
        if self._stuck and taken > self._taken:
            self.took_at = time.monotonic()
        self._taken = taken
        self._stuck = buffered > _HIGH_WATER

    def _relieve(self) -> None:
        self.over_since = None
        self.on_relief()

    def _put(self, data: bytes) -> None:
        self._written += len(data)
        self._transport.write(data)

    def _mark(self) -> None:
        self._dirty = True
        self._write_soon(self)


def _nothing() -> None:
    pass
