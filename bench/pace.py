"""An open loop's pace: what is due when, whether or not anything before it was answered."""

import asyncio
import ctypes
import os
import struct
import time
from collections.abc import Callable, Iterator

_MONOTONIC, _NONBLOCK_CLOEXEC, _ABSOLUTE = 1, 0o2004000, 1  # <time.h>, <sys/timerfd.h>


class Schedule:
    """Intended times at a fixed rate. Pure.

    The intended time of number n is `start + n / rate`, whatever happened before: after a stall all that became due meanwhile
    is due at once, each with the time at which it was meant. Latencies counted from there have what a stall cost everybody who
    would have come during it (no "coordinated omission", G. Tene).
    """

    def __init__(self, rate: float, start: float) -> None:
        self._rate = rate
        self._start = start
        self._next = 0

    def due(self, now: float) -> Iterator[float]:
        """The intended times that have come by now and were not given out yet."""
        while (at := self._start + self._next / self._rate) <= now:
            self._next += 1
            yield at


class Ticker:
    """Calls back at a fixed rate, on time to some 0.1 ms; asyncio's timers are only good for whole milliseconds.

    A timerfd: Linux only, and not in the standard library before Python 3.13. `close` ends it.
    """

    def __init__(self, rate: float, start: float, callback: Callable[[], None]) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.timerfd_create(_MONOTONIC, _NONBLOCK_CLOEXEC)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "no timerfd")
        self._callback = callback
        interval, first = 1 / rate, max(start, time.monotonic())
        specification = struct.pack("qqqq", *_split(interval), *_split(first))
        if libc.timerfd_settime(self._descriptor, _ABSOLUTE, specification, None):
            raise OSError(ctypes.get_errno(), "no timer")
        asyncio.get_running_loop().add_reader(self._descriptor, self._expired)

    def _expired(self) -> None:
        os.read(self._descriptor, 8)  # how often; the schedule knows better
        self._callback()

    def close(self) -> None:
        """No more calls."""
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)


def _split(seconds: float) -> tuple[int, int]:
    nanoseconds = round(seconds * 1e9)
    return nanoseconds // 1_000_000_000, nanoseconds % 1_000_000_000
