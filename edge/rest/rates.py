"""How much one user may ask by REST: as much as by a socket. Pure: no I/O."""

from collections import OrderedDict

from edge.limits import TokenBucket

MAX_REMEMBERED = 20_000
"""Users whose rate is remembered, some 200 bytes each; the one that asked longest ago is forgotten first."""


class UserRates:
    """The rates of all users of this edge. A rate of 0 means no limit."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def wait(self, user_id: str, now: float) -> float:
        """Seconds to wait before asking again; 0 when the request is welcome. `now` by a clock that never goes back."""
        if not self._rate:
            return 0.0
        bucket = self._buckets.get(user_id)
        if bucket is None:
            bucket = self._buckets[user_id] = TokenBucket(self._rate, self._burst, now)
            if len(self._buckets) > MAX_REMEMBERED:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(user_id)
        return 0.0 if bucket.take(now) else bucket.wait()

    def charge(self, user_id: str, more: int) -> None:
        """A request that was welcome turns out to be worth several."""
        bucket = self._buckets.get(user_id)
        if bucket is not None:
            bucket.owe(more)
