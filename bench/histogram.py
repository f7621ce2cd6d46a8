"""A histogram of durations with buckets of constant relative width, as HdrHistogram has (G. Tene). Pure."""

from collections import Counter
from collections.abc import Iterable

_BITS = 7  # a bucket is 1/128 of its value wide, or less: 0.8 %
_LEAST = 1e-6  # seconds; durations are kept in whole microseconds


class Histogram:
    """Durations in seconds: how many there were of each, to within 0.8 %, however many and however long."""

    def __init__(self, durations: Iterable[float] = ()) -> None:
        self._counts: Counter[int] = Counter()
        self.longest = 0.0
        self.record(durations)

    def record(self, durations: Iterable[float]) -> None:
        """Adds durations. One below zero is a fault of whoever measured: ValueError."""
        for duration in durations:
            if duration < 0:
                raise ValueError(f"a duration of {duration} s")
            self.longest = max(self.longest, duration)
            self._counts[_bucket(round(duration / _LEAST))] += 1

    def add(self, other: "Histogram") -> None:
        """Adds all that another one has."""
        self._counts.update(other._counts)  # noqa: SLF001  # of its own class
        self.longest = max(self.longest, other.longest)

    def __len__(self) -> int:
        return self._counts.total()

    def percentile(self, percent: float) -> float | None:
        """The least duration that at least so many percent do not exceed, in seconds, at the upper end of its bucket.

        None when there are no durations. 100 is the longest one, exactly.
        """
        if percent >= 100 and self._counts:
            return self.longest
        due = percent * len(self) / 100
        passed = 0
        for bucket in sorted(self._counts):
            passed += self._counts[bucket]
            if passed >= due:
                return min(_end(bucket) * _LEAST, self.longest)
        return None


def _bucket(microseconds: int) -> int:
    # The exponent, then the leading bits. Below 2 ** (_BITS + 1) each value has a bucket of its own.
    shift = max(microseconds.bit_length() - _BITS - 1, 0)
    return (shift << (_BITS + 1)) + (microseconds >> shift)


def _end(bucket: int) -> int:
    shift, leading = bucket >> (_BITS + 1), bucket & ((1 << (_BITS + 1)) - 1)
    return ((leading + 1) << shift) - 1
