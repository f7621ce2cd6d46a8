"""`runtime/telemetry.py`, against the SDK's own exporter in memory."""

from typing import NamedTuple

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from runtime import logs, semconv
from runtime.recorder import Recorder
from runtime.telemetry import (
    MOST_LINKS,
    NO_SPAN,
    Telemetry,
    configure,
    is_sampled,
    unrecorded,
    well_formed,
)

CLIENT_TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CLIENT_SPAN = "00f067aa0ba902b7"
CLIENT = f"00-{CLIENT_TRACE}-{CLIENT_SPAN}-01"


class Recording(NamedTuple):
    """Telemetry and what it has recorded."""

    telemetry: Telemetry
    exporter: InMemorySpanExporter

    def named(self, name: str) -> list[ReadableSpan]:
        """The finished spans of a name, in the order in which they ended."""
        return [span for span in self.exporter.get_finished_spans() if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        """The only finished span of a name."""
        (span,) = self.named(name)
        return span


@pytest.fixture
def recording() -> Recording:
    exporter = InMemorySpanExporter()
    return Recording(Telemetry(Recorder(SimpleSpanProcessor(exporter))), exporter)


def trace_of(traceparent: str) -> str:
    return traceparent.split("-")[1]


def ids(span: ReadableSpan) -> tuple[str, str]:
    """The trace and span ids as a traceparent writes them."""
    context = span.get_span_context()
    assert context is not None
    return f"{context.trace_id:032x}", f"{context.span_id:016x}"


def parent_of(span: ReadableSpan) -> str | None:
    return f"{span.parent.span_id:016x}" if span.parent else None


def test_without_an_endpoint_every_span_is_inert() -> None:
    telemetry = configure("edge", "")
    assert not telemetry.enabled
    with telemetry.begin(semconv.WS_RECEIVE, client_parent=CLIENT, attributes={"a": 1}) as span:
        span.set({"b": "c"})
        span.fail("x")
        span.end()
        assert span.traceparent == ""
    assert telemetry.begin(semconv.WS_RECEIVE) is NO_SPAN
    assert telemetry.span(semconv.TIMER_WRITE, CLIENT) is NO_SPAN
    assert telemetry.batch_span(semconv.OUTBOX_DELIVER, [CLIENT]) is NO_SPAN
    telemetry.shutdown()


def test_without_an_endpoint_a_batch_passes_on_what_its_items_brought() -> None:
    telemetry = Telemetry()
    with telemetry.spans(semconv.TIMER_WRITE, [CLIENT, ""]) as spans:
        assert spans.parents([CLIENT, ""]) == [CLIENT, ""]
        assert spans[1] is NO_SPAN


def test_a_message_begins_a_trace_of_its_own(recording: Recording) -> None:
    with recording.telemetry.begin(semconv.WS_RECEIVE, attributes={"bubble.action": "stop"}) as span:
        inside = span.traceparent
    recorded = recording.one("ws.receive")
    assert tuple(inside.split("-")[1:3]) == ids(recorded)
    assert recorded.parent is None
    assert dict(recorded.attributes or {}) == {"bubble.action": "stop", **semconv.WS_RECEIVE.constants}
    assert recorded.kind is semconv.WS_RECEIVE.kind


def test_a_message_with_a_traceparent_continues_the_clients_trace(recording: Recording) -> None:
    recording.telemetry.begin(semconv.WS_RECEIVE, client_parent=CLIENT).end()
    recorded = recording.one("ws.receive")
    assert ids(recorded)[0] == CLIENT_TRACE
    assert parent_of(recorded) == CLIENT_SPAN


@pytest.mark.parametrize("parent", ["garbage", "00-0-0-01", f"00-{'0' * 32}-{CLIENT_SPAN}-01", "ff" + CLIENT[2:]])
def test_a_malformed_traceparent_is_ignored(recording: Recording, parent: str) -> None:
    recording.telemetry.begin(semconv.WS_RECEIVE, client_parent=parent).end()
    recorded = recording.one("ws.receive")
    assert recorded.parent is None


@pytest.mark.parametrize("parent", ["", CLIENT[:-1] + "0", "00-f-f-00"])
def test_what_is_not_to_be_recorded_costs_nothing_further(recording: Recording, parent: str) -> None:
    def describe(_index: int) -> semconv.Attributes:
        raise AssertionError("attributes of what nobody will see")

    telemetry = recording.telemetry
    assert telemetry.span(semconv.TIMER_WRITE, parent) is NO_SPAN
    assert telemetry.batch_span(semconv.STORE_LOAD, [parent, ""]) is NO_SPAN
    with telemetry.spans(semconv.TIMER_WRITE, [parent, parent], describe) as spans:
        assert not spans
        assert spans[0] is NO_SPAN
        assert spans.parents([parent, parent]) == [parent, parent]
    assert not recording.exporter.get_finished_spans()


def test_the_context_of_what_is_not_recorded_names_it() -> None:
    first, second = unrecorded(), unrecorded()
    assert first != second
    assert trace_of(first) != trace_of(second)
    for context in (first, second):
        assert well_formed(context) == context
        assert not is_sampled(context)
    assert unrecorded(CLIENT) == CLIENT[:-2] + "00"


def test_only_the_lowest_bit_of_the_flags_says_that_a_trace_is_recorded() -> None:
    flags = {f"{number:02x}": is_sampled(CLIENT[:-2] + f"{number:02x}") for number in range(256)}
    assert flags == {f"{number:02x}": number % 2 == 1 for number in range(256)}


@pytest.mark.parametrize(
    "value", [None, 1, "", "garbage", CLIENT.upper(), CLIENT + "-x", f"00-{'0' * 32}-{CLIENT_SPAN}-01",
              f"00-{CLIENT_TRACE}-{'0' * 16}-01", "ff" + CLIENT[2:]]
)  # fmt: skip
def test_what_is_no_traceparent_is_none(value: object) -> None:
    assert well_formed(value) == ""


def test_a_message_that_is_recorded_in_hindsight_keeps_the_trace_id_it_was_named_by(recording: Recording) -> None:
    context = unrecorded()
    recording.telemetry.begin(semconv.WS_RECEIVE, client_parent=context, started_ns=1_000).end()
    recording.telemetry.begin(semconv.WS_RECEIVE).end()
    recorded, other = recording.exporter.get_finished_spans()
    assert ids(recorded)[0] == trace_of(context) != ids(other)[0]
    assert recorded.parent is None
    assert recorded.start_time == 1_000


def test_an_item_that_is_not_traced_gets_no_span_while_its_neighbour_does(recording: Recording) -> None:
    with recording.telemetry.spans(semconv.TIMER_WRITE, ["", CLIENT]) as spans:
        untraced, traced = spans.parents(["", CLIENT])
    assert untraced == ""
    assert trace_of(traced) == CLIENT_TRACE
    assert parent_of(recording.one("timer.write")) == CLIENT_SPAN


def test_each_item_of_a_batch_goes_on_within_its_own_trace(recording: Recording) -> None:
    begun = [recording.telemetry.begin(semconv.WS_RECEIVE) for _ in range(3)]
    parents = [span.traceparent for span in begun]
    with recording.telemetry.spans(semconv.TIMER_WRITE, parents) as spans:
        inside = spans.parents(parents)
    assert [trace_of(each) for each in inside] == [trace_of(each) for each in parents]
    assert [parent_of(span) for span in recording.named("timer.write")] == [each.split("-")[2] for each in parents]


def test_a_batch_of_one_continues_its_items_trace(recording: Recording) -> None:
    with recording.telemetry.batch_span(semconv.OUTBOX_DELIVER, [CLIENT]) as span:
        assert trace_of(span.traceparent) == CLIENT_TRACE
    recorded = recording.one("outbox.deliver")
    assert parent_of(recorded) == CLIENT_SPAN
    assert not recorded.links
    assert dict(recorded.attributes or {}) == semconv.OUTBOX_DELIVER.constants


def test_a_batch_with_one_traced_item_continues_that_ones_trace(recording: Recording) -> None:
    recording.telemetry.batch_span(semconv.OUTBOX_DELIVER, ["", CLIENT, ""]).end()
    recorded = recording.one("outbox.deliver")
    assert parent_of(recorded) == CLIENT_SPAN
    assert (recorded.attributes or {})["messaging.batch.message_count"] == 3


def test_a_batch_of_many_has_a_trace_of_its_own_with_links_to_its_items(recording: Recording) -> None:
    parents = [recording.telemetry.begin(semconv.WS_RECEIVE).traceparent for _ in range(3)]
    recording.telemetry.batch_span(semconv.OUTBOX_DELIVER, [*parents, ""]).end()
    recorded = recording.one("outbox.deliver")
    assert recorded.parent is None
    assert ids(recorded)[0] not in {trace_of(parent) for parent in parents}
    linked = [(f"{link.context.trace_id:032x}", f"{link.context.span_id:016x}") for link in recorded.links]
    assert linked == [tuple(parent.split("-")[1:3]) for parent in parents]
    assert (recorded.attributes or {})["messaging.batch.message_count"] == 4


def test_a_batch_of_very_many_has_a_bounded_number_of_links(recording: Recording) -> None:
    parents = [recording.telemetry.begin(semconv.WS_RECEIVE).traceparent for _ in range(MOST_LINKS + 1)]
    recording.telemetry.batch_span(semconv.OUTBOX_DELIVER, parents).end()
    assert len(recording.one("outbox.deliver").links) == MOST_LINKS


def test_a_link_points_to_a_span_of_another_trace(recording: Recording) -> None:
    with recording.telemetry.begin(semconv.WS_RECEIVE) as span:
        span.link(CLIENT)
        span.link("garbage")
    (link,) = recording.one("ws.receive").links
    assert (f"{link.context.trace_id:032x}", f"{link.context.span_id:016x}") == (CLIENT_TRACE, CLIENT_SPAN)


def test_a_batch_without_traced_items_has_no_span(recording: Recording) -> None:
    assert recording.telemetry.batch_span(semconv.OUTBOX_DELIVER, ["", ""]) is NO_SPAN
    assert recording.telemetry.batch_span(semconv.OUTBOX_DELIVER, []) is NO_SPAN


def test_an_exception_marks_the_span_as_failed_and_goes_on(recording: Recording) -> None:
    with pytest.raises(LookupError), recording.telemetry.span(semconv.STORE_LOAD, CLIENT):
        raise LookupError("secret detail")
    recorded = recording.one("store.load")
    assert recorded.status.status_code is StatusCode.ERROR
    assert recorded.status.description == "LookupError"


def test_an_exception_marks_every_span_of_a_group_as_failed(recording: Recording) -> None:
    with pytest.raises(LookupError), recording.telemetry.spans(semconv.TIMER_WRITE, [CLIENT, CLIENT]):
        raise LookupError
    assert [span.status.status_code for span in recording.named("timer.write")] == [StatusCode.ERROR] * 2


def test_a_failure_has_a_kind_and_a_reason(recording: Recording) -> None:
    with recording.telemetry.begin(semconv.WS_RECEIVE) as span:
        span.fail("409", "The timer has another version")
    recorded = recording.one("ws.receive")
    assert recorded.status.description == "The timer has another version"
    assert (recorded.attributes or {})["error.type"] == "409"


def test_lines_that_are_written_within_a_span_name_its_trace(recording: Recording) -> None:
    def traces() -> object:
        return logs._add_traces(None, "info", {"event": "x"})

    assert traces() == {"event": "x"}
    with recording.telemetry.begin(semconv.WS_RECEIVE) as outer:
        with recording.telemetry.span(semconv.TIMER_WRITE, CLIENT):
            assert traces() == {"event": "x", "trace_id": CLIENT_TRACE}
        assert traces() == {"event": "x", "trace_id": trace_of(outer.traceparent)}
    parents = [CLIENT, outer.traceparent, "", CLIENT]
    with recording.telemetry.spans(semconv.TIMER_WRITE, parents):
        assert traces() == {"event": "x", "trace_ids": [CLIENT_TRACE, trace_of(outer.traceparent)]}
    assert traces() == {"event": "x"}


def test_a_span_may_be_ended_twice(recording: Recording) -> None:
    with recording.telemetry.begin(semconv.WS_RECEIVE) as span:
        span.end()
    recording.one("ws.receive")


def test_what_is_current_elsewhere_is_not_the_parent(recording: Recording) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    with provider.get_tracer("other").start_as_current_span("somebody else's"):
        recording.telemetry.begin(semconv.WS_RECEIVE).end()
        recording.telemetry.batch_span(semconv.OUTBOX_DELIVER, [CLIENT, CLIENT]).end()
    provider.shutdown()
    assert recording.one("ws.receive").parent is None
    assert recording.one("outbox.deliver").parent is None
