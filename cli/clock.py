"""The server's clock, as seen from here. Pure: the local time is an argument.

NTP's on-wire protocol (RFC 5905, section 8): four timestamps of one exchange give the offset between two clocks, and half
of the round trip bounds its error. Of the last few exchanges the one with the least error counts (section 10, the clock
filter); an older one is worth less, since clocks drift.

Local times are seconds of a clock that never goes back and is not set by anybody, so that setting this machine's clock
changes no countdown. Server times are microseconds since 1970.
"""

import time
from typing import NamedTuple

SAMPLES_KEPT = 8

DRIFT = 100e-6
"""Seconds per second by which two clocks may run apart: somewhat more than what quartz does (RFC 5905 takes 15e-6)."""


class Sample(NamedTuple):
    """One exchange. The error is bounded by half of the round trip, the time the server took excepted."""

    offset: float
    """Microseconds: server time minus local time."""
    error: float
    """Microseconds, when it was taken."""
    at: float
    """Local seconds."""

    def error_at(self, local: float) -> float:
        """Its error later on, in microseconds."""
        return self.error + max(local - self.at, 0.0) * DRIFT * 1e6


class ServerClock:
    """What the server's clock shows."""

    def __init__(self) -> None:
        self._samples: list[Sample] = []

    @property
    def samples(self) -> int:
        """How many exchanges there have been that count yet, at most `SAMPLES_KEPT`."""
        return len(self._samples)

    def take(self, *, sent: float, server_received: int, server_sent: int, received: float) -> None:
        """An exchange: `sent` and `received` by the local clock, the other two by the server's. Without the time at which
        the server received, give the time at which it sent: then the error includes what it took to answer.
        """
        round_trip = max((received - sent) * 1e6 - (server_sent - server_received), 0.0)
        offset = ((server_received - sent * 1e6) + (server_sent - received * 1e6)) / 2
        sample = Sample(offset, round_trip / 2, received)
        # Where two samples can't both be right, a clock was set, or this machine slept: the newer one is.
        kept = [
            other
            for other in self._samples
            if abs(other.offset - offset) <= other.error_at(received) + sample.error + 1_000
        ]
        self._samples = [*kept, sample][-SAMPLES_KEPT:]

    def now(self, local: float) -> int:
        """The server's time, in microseconds since 1970; before any exchange, that of this machine."""
        best = self._best(local)
        return round(local * 1e6 + best.offset) if best else time.time_ns() // 1_000

    def error(self, local: float) -> float | None:
        """Microseconds by which `now` may be wrong at most; None before any exchange."""
        best = self._best(local)
        return best.error_at(local) if best else None

    def _best(self, local: float) -> Sample | None:
        return min(self._samples, key=lambda sample: sample.error_at(local), default=None)


def local_now() -> float:
    """Seconds by a clock that is never set; on Linux one that goes on while the machine sleeps."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()
