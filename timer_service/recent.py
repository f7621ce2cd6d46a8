"""The timers that this process saved last, so that a busy one need not be read before each write.

What is kept here may be out of date: another replica may have saved the timer since. So it is good for one thing only, to be
changed and saved by compare-and-set, which fails when it was out of date. Whatever else would follow from it (a refusal, "nothing
to do", "done before") is found out anew from the store. This is optimistic concurrency control (Kung and Robinson, 1981) with
the read phase left out.
"""

from collections.abc import Collection

from timer_service.domain import Timer

MAX_RECENT = 8_192
"""Timers that are kept. A busy one with its remembered operations has some 3 KB, 12 at most."""


class Recent:
    """The last saved states, the least recently saved forgotten first."""

    def __init__(self, most: int = MAX_RECENT) -> None:
        self._most = most
        self._timers: dict[str, Timer] = {}

    def __len__(self) -> int:
        return len(self._timers)

    def find(self, timer_ids: Collection[str]) -> dict[str, Timer]:
        """Those of the timers that are kept, by id."""
        timers = self._timers
        return {timer_id: timers[timer_id] for timer_id in timer_ids if timer_id in timers}

    def saved(self, timer: Timer) -> None:
        """A state that is in the store now (or was a moment ago)."""
        self._timers.pop(timer.timer_id, None)
        self._timers[timer.timer_id] = timer
        if len(self._timers) > self._most:
            del self._timers[next(iter(self._timers))]

    def forget(self, timer_id: str) -> None:
        """What is kept of a timer is out of date."""
        self._timers.pop(timer_id, None)
