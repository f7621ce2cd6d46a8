"""`runtime/metrics.py`: the histogram for the hot path, and what every process measures."""

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client import Histogram as TheirHistogram

from edge import metrics as edge_metrics
from runtime import metrics
from runtime.clock import now_us
from runtime.event_id import event_id
from runtime.metrics import LAG, LATENCIES, Histogram
from tests.unit import virtual_time

values = st.one_of(st.floats(0, 20), st.sampled_from(LATENCIES))


@pytest.fixture
def histogram() -> Iterator[Histogram]:
    made = Histogram("test_seconds", "Of a test", ["kind"], buckets=LATENCIES)
    yield made
    REGISTRY.unregister(made)


@given(st.lists(values))
def test_it_is_exposed_as_prometheus_client_exposes_its_own(observed: list[float]) -> None:
    ours = Histogram("test_equal_seconds", "Of a test", ["kind"], buckets=LATENCIES)
    REGISTRY.unregister(ours)
    theirs = TheirHistogram("test_equal_seconds", "Of a test", ["kind"], buckets=LATENCIES, registry=None)
    for value in observed:
        ours.labels("a").observe(value)
        theirs.labels("a").observe(value)
    pages = []
    for each in (ours, theirs):
        registry = CollectorRegistry()
        registry.register(each)
        pages.append(sorted(generate_latest(registry).decode().splitlines()))
    if not observed:
        theirs.labels("a")
        ours.labels("a")
    assert pages[0] == pages[1]


def test_one_without_labels_is_there_from_the_beginning() -> None:
    made = Histogram("test_plain_seconds", "Of a test", buckets=(1.0,))
    REGISTRY.unregister(made)
    (family,) = made.collect()
    assert {sample.name: sample.value for sample in family.samples} == {
        "test_plain_seconds_bucket": 0.0,
        "test_plain_seconds_count": 0.0,
        "test_plain_seconds_sum": 0.0,
    }
    made.observe(0.5)
    assert made.labels().count == 1


def test_the_same_labels_are_the_same_series(histogram: Histogram) -> None:
    assert histogram.labels("a") is histogram.labels("a")
    assert histogram.labels("a") is not histogram.labels("b")


@pytest.mark.parametrize("labels", [(), ("a", "b")])
def test_a_wrong_number_of_labels_is_a_mistake(histogram: Histogram, labels: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="test_seconds has the labels"):
        histogram.labels(*labels)


def test_two_of_one_name_are_a_mistake(histogram: Histogram) -> None:
    with pytest.raises(ValueError, match="Duplicated"):
        Histogram("test_seconds", "Of a test", buckets=LATENCIES)


def test_a_change_from_the_future_counts_as_new_and_tells_that_clocks_differ() -> None:
    stage, skewed = edge_metrics.WRITTEN, edge_metrics.CLOCK_SKEW._value.get()
    count, total = stage.count, stage.sum
    edge_metrics.written(5_000_000, at_us=2_000_000)
    assert (stage.count - count, stage.sum - total) == (1, 0.0)
    assert edge_metrics.CLOCK_SKEW._value.get() == skewed + 1
    edge_metrics.written(2_000_000, at_us=5_000_000)
    assert (stage.count - count, stage.sum - total) == (2, 3.0)
    assert edge_metrics.CLOCK_SKEW._value.get() == skewed + 1


def test_an_ack_tells_how_long_ago_its_state_was_made() -> None:
    acked = edge_metrics.ACKED
    count, total = acked.count, acked.sum
    edge_metrics.acknowledged(event_id("tea", now_us() - 2_000_000))
    assert acked.count == count + 1
    assert acked.sum - total == pytest.approx(2.0, abs=0.5)


@pytest.mark.parametrize("name", [None, "", "m1", "1.2", event_id("tea", 1), event_id("tea", 2**53), "f" * 128 + ".0"])
def test_an_ack_of_no_state_of_the_last_minute_counts_for_nothing(name: str | None) -> None:
    count = edge_metrics.ACKED.count
    edge_metrics.acknowledged(name)
    assert edge_metrics.ACKED.count == count


def test_the_lag_of_the_loop_is_what_it_was_late() -> None:
    lag = LAG.labels()

    async def story() -> None:
        watching = asyncio.create_task(metrics.watch_loop(virtual_time.now))
        await asyncio.sleep(10.5 * metrics.LAG_INTERVAL)
        assert lag.count - counted == 10
        assert lag.sum == pytest.approx(total)
        late = iter([5.0, 5.65 + metrics.LAG_INTERVAL])  # 0.65 s later than asked for
        watching.cancel()
        watching = asyncio.create_task(metrics.watch_loop(lambda: next(late)))
        await asyncio.sleep(1.5 * metrics.LAG_INTERVAL)
        watching.cancel()
        assert lag.sum - total == pytest.approx(0.65)
        await asyncio.gather(watching, return_exceptions=True)

    counted, total = lag.count, lag.sum
    virtual_time.run(story())
