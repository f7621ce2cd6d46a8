"""How fast calls are, and what follows for the size of the next one and for who may still wait. Pure: the time is an
argument, in seconds by a clock that never goes back.

A queue with a bound in items is too long whenever the other side is slow: what waits is late, then useless, and its sender
sends it again. So the bound is one of time, as in CoDel (Nichols and Jacobson, "Controlling Queue Delay", ACM Queue 2012;
RFC 8289), in the form of B. Maurer ("Fail at Scale", ACM Queue 2015): a queue that was empty a moment ago is a burst, or a
restart of the other side, and may wait long; one that has stood for longer is overload, where waiting helps nobody, and may
wait only shortly. Theirs drops what has waited too long when its turn comes; ours knows how many calls are ahead of an item
and how long one takes, and refuses it before it waits at all.
"""

LONGEST_CALL = 1.5
"""Seconds one call should take at most: well below its deadline (5 s). Slower ones get smaller calls; otherwise every call of a
slow store would end with its deadline, its work done and thrown away. Not much below, either: where a call takes long
however small it is, smaller ones only do less."""

BURST_WAIT = 2.5
"""Seconds an item may have to wait in a queue that was empty so many seconds ago. Half of a call's deadline, and longer than
a restart takes."""

STANDING_WAIT = 1.0
"""Seconds an item may have to wait in a queue that has been standing for longer than that."""

CALM = 10.0
"""Seconds without a refusal before an empty queue means anything: under overload, queues this short run empty now and then,
and letting a burst in each time would make everybody late."""

_LEAST_SHARE = 8
"""Calls do not become smaller than this part of the largest: many small ones would cost more than they save."""


class Pace:
    """Of one lane, which has one call under way at a time. `largest`: items of a call at most."""

    __slots__ = (
        "_begun_at", "_call_seconds", "_emptied_at", "_largest", "_last_seconds", "_least", "_refused_at", "size",
    )  # fmt: skip

    def __init__(self, largest: int) -> None:
        self.size = largest
        """Items the next call may have."""
        self._largest = largest
        self._least = max(largest // _LEAST_SHARE, 1)
        self._last_seconds = self._call_seconds = 0.0
        self._begun_at: float | None = None
        self._emptied_at = float("-inf")
        self._refused_at = float("-inf")

    def begins(self, now: float) -> None:
        """A call begins."""
        self._begun_at = now

    def empty(self, now: float) -> None:
        """Nothing waits."""
        if now - self._refused_at > CALM:
            self._emptied_at = now

    def ends(self, items: int, now: float) -> None:
        """The call with so many items is over, well or not."""
        if self._begun_at is None:
            return
        last, self._begun_at = now - self._begun_at, None
        # One slow call is a hiccup, or a restart of the other side; two in a row are its pace.
        seconds = self._call_seconds = min(last, self._last_seconds)
        self._last_seconds = last
        if seconds > LONGEST_CALL:
            self.size = max(min(self.size, int(items * LONGEST_CALL / seconds)), self._least)
        elif items >= self.size and seconds < LONGEST_CALL / 2:
            self.size = min(self.size * 2, self._largest)

    def refuses(self, waiting: int, now: float) -> bool:
        """Whether one more item, behind so many that wait, would come too late. What fits into the next call never does."""
        calls_ahead = waiting // self.size
        if not calls_ahead:
            return False
        late = 0.0 if self._begun_at is None else max(now - self._begun_at - self._call_seconds, 0.0)
        patience = BURST_WAIT if now - self._emptied_at <= BURST_WAIT else STANDING_WAIT
        if late + calls_ahead * self._call_seconds <= patience:
            return False
        self._refused_at = now
        return True
