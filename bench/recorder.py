"""What a connection does while it is measured: as little as can be. What came is only kept, and looked at afterwards.

The load generator shares the machine with what it measures, so a delivery costs it a read of the socket, a time stamp and
two appends, shared by all that came in one piece. Senders of a closed loop look for one thing more: how many acknowledgements
there are, by counting a mark in the bytes.
"""

import asyncio
import itertools
import re
import time
from collections.abc import Sequence

from bench.dialects import Dialect
from bench.verify import Delivery, Reply, Sent
from cli.raw_socket import frames, pong_frame, text_frame

_FIN_AND_OPCODE_PING = 0x89
_RETRY_AFTER = re.compile(rb'"retryAfter":([\d.]+)')
_RECENT = 50  # chunks, in which a last state is nearly always
_REFUSAL = 300  # bytes in which a refusal has that
_now = time.perf_counter


class Recorder(asyncio.Protocol):
    """Takes a connection over from a client while it is measured."""

    def __init__(
        self, dialect: Dialect, timers: Sequence[str], transport: asyncio.Transport, numbers: "itertools.count[int]"
    ) -> None:
        self.lost = False
        """The connection ended while it was measured."""
        self.sent: list[Sent] = []
        self._dialect = dialect
        self._timers = [(timer.encode(), dialect.update(timer)) for timer in timers]
        self._turn = 0
        self._transport = transport
        self._numbers = numbers
        self._chunks: list[bytes] = []
        self._times: list[float] = []

    def data_received(self, data: bytes) -> None:
        self._times.append(_now())
        self._chunks.append(data)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.lost = True

    def send(self, dues: Sequence[float]) -> None:
        """Sends an update for each of these times, of one timer after the other; none when the connection is lost."""
        if self.lost:
            return
        parts = []
        for due in dues:
            timer, template = self._timers[self._turn]
            self._turn = (self._turn + 1) % len(self._timers)
            number = next(self._numbers)
            self.sent.append(Sent(number, timer, due))
            parts.append(template % (number, number))
        self._transport.write(b"".join(parts))

    @property
    def last_heard(self) -> float:
        """When the last bytes came; 0 when none did."""
        return self._times[-1] if self._times else 0.0

    # --- Afterwards ---------------------------------------------------------------------------------------------------

    def last_acknowledged(self) -> list[int]:
        """The number of the last acknowledged update of each timer that has one."""
        acknowledged = {reply.number for reply in self.replies()}
        lasts = {sent.timer: sent.number for sent in self.sent if sent.number in acknowledged}
        return list(lasts.values())

    def has(self, number: int) -> bool:
        """Was the device told the state that this update made?"""
        name = b'"n%d"' % number
        return b"".join(self._chunks[-_RECENT:]).rfind(name) >= 0 or b"".join(self._chunks).rfind(name) >= 0

    def pongs(self) -> bytes:
        """Frames that answer all pings that came; to be sent when the measurement is over."""
        everything = b"".join(self._chunks)
        answers = []
        if bytes((_FIN_AND_OPCODE_PING,)) in everything:  # or a length, or nothing of the sort
            answers = [
                pong_frame(everything[start:end])
                for first_byte, start, end in frames(everything)
                if first_byte == _FIN_AND_OPCODE_PING
            ]
        if self._dialect.ping_pattern:
            pings = self._dialect.ping_pattern.findall(everything)
            answers += [text_frame(self._dialect.pings[ping].encode()) for ping in pings]
        return b"".join(answers)

    def replies(self) -> list[Reply]:
        """All acknowledgements, in order. Where there are no versions, the number is taken for one."""
        found = self._found(self._dialect.replies)
        if self._dialect.reply_is_version_first:
            return [Reply(int(number), int(version), at) for (version, number), at in found]
        return [Reply(int(number), int(version or number), at) for (number, version), at in found]

    def deliveries(self) -> list[Delivery]:
        """All states that the device was told, in order."""
        found = self._found(self._dialect.deliveries)
        return [Delivery(timer, int(version), int(number), at) for (timer, number, version), at in found]

    def refused(self) -> int:
        """How many errors there were."""
        return len(self._found(self._dialect.refusals))

    def _found(self, pattern: re.Pattern[bytes]) -> list[tuple[tuple[bytes, ...], float]]:
        """Groups of each match, and when its last byte had come."""
        found = []
        ends, times = itertools.accumulate(map(len, self._chunks)), iter(self._times)
        end_of_chunk, at = 0, 0.0
        for match in pattern.finditer(b"".join(self._chunks)):
            while end_of_chunk < match.end():
                end_of_chunk, at = next(ends), next(times)
            found.append((match.groups(), at))
        return found


class ClosedLoop(Recorder):
    """Keeps a window of unanswered updates."""

    def __init__(
        self, dialect: Dialect, timers: Sequence[str], transport: asyncio.Transport, numbers: "itertools.count[int]"
    ) -> None:
        super().__init__(dialect, timers, transport, numbers)
        self.running = False
        self.outstanding = 0
        self._mark = dialect.mark
        self._error = dialect.error
        self._seam = b""

    def start(self, window: int) -> None:
        """Fills the window and keeps it full until `running` is set to False."""
        self.running = True
        self.outstanding = window
        self.send([_now()] * window)

    def data_received(self, data: bytes) -> None:
        now = _now()
        self._times.append(now)
        self._chunks.append(data)
        mark = self._mark
        reach = len(mark) - 1
        # A mark may be cut in two by the borders of what is read; neither part of the seam can hold a whole one.
        answered = data.count(mark) + (self._seam + data[:reach]).count(mark)
        self._seam = data[-reach:] if len(data) >= reach else (self._seam + data)[-reach:]
        if self._error in data:  # a rare one that is cut in two leaves the window smaller by one
            self._refused(data)
        if answered:
            if self.running:
                self.send([now] * answered)
            else:
                self.outstanding -= answered

    def _refused(self, data: bytes) -> None:
        """Goes on after the time that the system asks for, as a client that obeys."""
        for refusal in self._dialect.refusals.finditer(data):
            wait = _RETRY_AFTER.search(data, refusal.start(), refusal.start() + _REFUSAL)
            asyncio.get_running_loop().call_later(float(wait.group(1)) if wait else 1.0, self._go_on)

    def _go_on(self) -> None:
        if self.running:
            self.send([_now()])
        else:
            self.outstanding -= 1
