"""Noticing that this process did not run for a while: stopped by a signal, a debugger or a hypervisor, or out of processor.

A process that was stopped is worse than a dead one: it wakes with old work in its hands and in its sockets' buffers. Whoever
asked for that has given up, has perhaps repeated it elsewhere, and has gone on; doing it now could undo what came after. So
after a stop of more than a call's deadline, what is asked for is refused until the buffers have been read. Callers who are
still there ask again. (M. Kleppmann, "How to do distributed locking", 2016, tells what a paused process does.)
"""

import asyncio
import time
from collections.abc import Callable

from runtime import logs
from runtime.grpc_client import CALL_DEADLINE

log = logs.get(__name__)

BEAT = 0.25
"""Seconds between two signs of life."""

LONGEST_STOP = CALL_DEADLINE
"""Seconds without one after which nothing that was asked for before can still be wanted."""

READING = 0.5
"""Seconds after a stop in which requests may still be old ones: reading what waited in the sockets takes some turns."""


class Pulse:
    """Kept up by `run`. `skipped` is one comparison: it may be asked for every message."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._beat_at = clock()
        self._reading_until = 0.0

    def skipped(self, now: float) -> bool:
        """Whether what is read now may have waited since before a stop. `now` by the monotonic clock."""
        # Of the first turn after a stop, requests may come before `run` does: hence the first comparison.
        return now - self._beat_at > LONGEST_STOP or now < self._reading_until

    async def run(self) -> None:
        """Beats until cancelled."""
        self._beat_at = self._clock()
        while True:
            await asyncio.sleep(BEAT)
            now = self._clock()
            if now - self._beat_at > LONGEST_STOP:
                self._reading_until = now + READING
                log.warning("this process was stopped for a while", seconds=round(now - self._beat_at, 1))
            self._beat_at = now
