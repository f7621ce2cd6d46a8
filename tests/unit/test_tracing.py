"""`edge/tracing.py`: which messages are traced."""

from typing import Any

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import ValidationError

from edge.config import EdgeSettings
from edge.errors import ClientError
from edge.tracing import ASKED_PER_SECOND, ERRORS_PER_SECOND, Tracing
from runtime import semconv
from runtime.recorder import Recorder
from runtime.telemetry import Telemetry, is_sampled, trace_id, well_formed

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
ASKS = f"00-{TRACE}-00f067aa0ba902b7-01"
LEAVES_IT = f"00-{TRACE}-00f067aa0ba902b7-00"
REFUSAL = ClientError(404, "There is no such timer")


class Parts:
    """Makes `Tracing` with a recording telemetry, from the environment."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.exporter = InMemorySpanExporter()
        self.recorder = Recorder(SimpleSpanProcessor(self.exporter))

    def make(self, *, enabled: bool = True, **environment: str) -> Tracing:
        for name, value in {"BUBBLE_DEV": "1", **environment}.items():
            self._monkeypatch.setenv(name, value)
        return Tracing(Telemetry(self.recorder) if enabled else Telemetry(), EdgeSettings())


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Parts:
    return Parts(monkeypatch)


@pytest.mark.parametrize(
    ("sampler", "ratio", "plain", "asked"),
    [
        ("always_on", "1", True, True),
        ("always_off", "1", False, False),
        ("traceidratio", "0", False, False),
        ("traceidratio", "1", True, True),
        ("parentbased_always_on", "0", True, True),
        ("parentbased_always_off", "1", False, True),
        ("parentbased_traceidratio", "0", False, True),
        ("parentbased_traceidratio", "1", True, True),
    ],
)
def test_the_sampler_decides_and_clients_may_ask_where_its_name_says_so(
    parts: Parts, sampler: str, ratio: str, plain: bool, asked: bool
) -> None:
    tracing = parts.make(OTEL_TRACES_SAMPLER=sampler, OTEL_TRACES_SAMPLER_ARG=ratio)
    assert [tracing.wants(parent) for parent in ("", LEAVES_IT, ASKS)] == [plain, plain, asked]


def test_without_a_collector_nothing_is_traced_whoever_asks(parts: Parts) -> None:
    tracing = parts.make(enabled=False, BUBBLE_TRACE_USERS="alice")
    assert not tracing.wants(ASKS)
    assert not tracing.follows("alice", "phone")


def test_a_ratio_takes_about_that_part(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    draws = iter(number / 1_000 for number in range(1_000))
    monkeypatch.setattr("edge.tracing.random.random", lambda: next(draws))
    tracing = parts.make(OTEL_TRACES_SAMPLER="traceidratio", OTEL_TRACES_SAMPLER_ARG="0.01")
    assert sum(tracing.wants("") for _ in range(1_000)) == 10


def test_clients_that_ask_get_a_bounded_number_of_traces_together(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("edge.tracing.time.monotonic", lambda: now)
    tracing = parts.make(OTEL_TRACES_SAMPLER="parentbased_always_off")
    at_once = sum(tracing.wants(ASKS) for _ in range(10_000))
    assert at_once == ASKED_PER_SECOND * 4
    now += 1
    assert sum(tracing.wants(ASKS) for _ in range(10_000)) == ASKED_PER_SECOND


def test_named_users_and_devices_are_followed(parts: Parts) -> None:
    tracing = parts.make(BUBBLE_TRACE_USERS="alice, bob ,", BUBBLE_TRACE_DEVICES="pixel")
    assert tracing.follows("alice", "any")
    assert tracing.follows("bob", "any")
    assert tracing.follows("carol", "pixel")
    assert not tracing.follows("carol", "")
    assert not tracing.follows("", "tablet")


@pytest.mark.parametrize("name", ["jaeger_remote", "sometimes"])
def test_a_sampler_that_is_not_known_is_a_wrong_setting(parts: Parts, name: str) -> None:
    with pytest.raises(ValidationError, match="OTEL_TRACES_SAMPLER"):
        parts.make(OTEL_TRACES_SAMPLER=name)


def refuse(tracing: Tracing, traceparent: str) -> str:
    return tracing.refused(semconv.WS_RECEIVE, REFUSAL, traceparent, lambda: {semconv.USER_ID: "alice"}, waited=0.5)


@pytest.mark.parametrize("traceparent", ["", LEAVES_IT])
def test_a_refusal_is_recorded_in_hindsight_with_its_whole_duration(parts: Parts, traceparent: str) -> None:
    told = refuse(parts.make(OTEL_TRACES_SAMPLER="always_off"), traceparent)
    (span,) = parts.exporter.get_finished_spans()
    context: Any = span.get_span_context()
    assert trace_id(told) == f"{context.trace_id:032x}"
    assert not traceparent or trace_id(told) == TRACE
    assert span.end_time is not None
    assert span.start_time is not None
    assert 0.5e9 <= span.end_time - span.start_time < 5e9
    assert span.status.description == REFUSAL.message
    assert dict(span.attributes or {}) == {
        **semconv.WS_RECEIVE.constants, "user.id": "alice", "error.type": "404", "bubble.trace.partial": True
    }  # fmt: skip


def test_a_flood_of_refusals_is_recorded_in_part_but_each_is_named(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.tracing.time.monotonic", lambda: 100.0)
    tracing = parts.make(OTEL_TRACES_SAMPLER="always_off")
    told = [refuse(tracing, "") for _ in range(1_000)]
    assert len(parts.exporter.get_finished_spans()) == ERRORS_PER_SECOND * 4
    assert len({trace_id(each) for each in told}) == 1_000
    assert all(well_formed(each) for each in told)


def test_without_a_collector_a_refusal_is_named_all_the_same(parts: Parts) -> None:
    tracing = parts.make(enabled=False)
    assert refuse(tracing, LEAVES_IT) == LEAVES_IT
    assert well_formed(refuse(tracing, ""))
    assert not is_sampled(refuse(tracing, ""))
