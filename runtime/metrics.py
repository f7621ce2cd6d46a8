"""Metrics for Prometheus: the two ways to measure that prometheus_client does not have, and what every process tells.

Metrics are declared at import, beside the code that they measure, and live in prometheus_client's registry, as that library
means it. docs/operations.md lists all of them; a test holds the list against the code. Labels are never taken from users,
devices, timers or anything else that clients choose: each label has a few values.
"""

import asyncio
import platform
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate

from prometheus_client import REGISTRY, Gauge, disable_created_metrics
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from runtime.version import VERSION

# When each series began: as many lines again, which nobody asks for.
disable_created_metrics()  # type: ignore[no-untyped-call]

LATENCIES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds. From a commit on a fast disk to twice the deadline of a call."""

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024)
"""Items of a batch."""

LAG_INTERVAL = 0.5
"""Seconds between two looks at how late the event loop is: hundreds in five minutes, and nearly nothing of an idle CPU."""


class Series:
    """One histogram with its labels bound: what the hot path holds."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Counts one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        """How many values were counted."""
        return sum(self.counts)


class Histogram(Collector):
    """A histogram for one thread, the event loop's: without locks and with a search instead of a walk through the buckets,
    one observation costs a quarter of prometheus_client's. At tens of thousands a second that is the difference between
    noticed and not.
    """

    def __init__(self, name: str, text: str, labels: Sequence[str] = (), *, buckets: Sequence[float]) -> None:
        self._name = name
        self._text = text
        self._labels = labels
        self._buckets = buckets
        self._series: dict[tuple[str, ...], Series] = {}
        if not labels:
            self.labels()
        REGISTRY.register(self)

    def labels(self, *values: str) -> Series:
        """The series with these values of the labels, in their order. Keep it where it is used often."""
        series = self._series.get(values)
        if series is None:
            if len(values) != len(self._labels):
                raise ValueError(f"{self._name} has the labels {self._labels}")
            series = self._series[values] = Series(self._buckets)
        return series

    def observe(self, value: float) -> None:
        """Counts one value, where there are no labels."""
        self.labels().observe(value)

    def collect(self) -> Iterable[HistogramMetricFamily]:
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        bounds = [*(str(float(bound)) for bound in self._buckets), "+Inf"]
        for values, series in self._series.items():
            family.add_metric(
                values, list(zip(bounds, map(float, accumulate(series.counts)), strict=True)), sum_value=series.sum
            )
        yield family


CONVERGENCE = Histogram(
    "bubble_convergence_seconds",
    "From the commit of a change: until every edge concerned has taken it over (stage taken_over, one per change, by one "
    "process's clock), until an edge has written it to the last of its connections that takes bytes (written, one per "
    "change and edge), until a device says that it shows it (acked, one per ack)",
    ["stage"],
    buckets=LATENCIES,
)

BUILD = Gauge(
    "bubble_build_info",
    "What runs here: always 1",
    ["service", "version", "build", "store", "python"],
)

LAG = Histogram(
    "bubble_event_loop_lag_seconds",
    "How much later than asked for the event loop got round to something",
    buckets=LATENCIES,
)


def describe_process(service: str, *, build: str, store: str) -> None:
    """Tells what runs here. `build` and `store` may be empty."""
    BUILD.labels(service, VERSION, build, store, platform.python_version()).set(1)


async def watch_loop(clock: Callable[[], float] = time.monotonic) -> None:
    """Measures how late the event loop is, until cancelled."""
    lag = LAG.labels()
    while True:
        asked_at = clock()
        await asyncio.sleep(LAG_INTERVAL)
        lag.observe(max(clock() - asked_at - LAG_INTERVAL, 0.0))
