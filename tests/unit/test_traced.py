"""`edge/traced.py`: what becomes of traced deliveries, against the SDK's exporter in memory."""

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from edge.traced import ACK_WITHIN, MOST_UNACKNOWLEDGED, TracedDeliveries, TracedState
from runtime import semconv
from runtime.recorder import Recorder
from runtime.telemetry import Telemetry

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


class Mailbox:
    """A connection's traced deliveries, and which timers wait."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.recorder = Recorder(SimpleSpanProcessor(self.exporter))
        self.waiting: set[str] = set()
        self.traced = TracedDeliveries(
            Telemetry(self.recorder), {semconv.USER_ID: "bob"}, lambda timer_id: timer_id in self.waiting
        )

    def put(self, version: int, timer_id: str = "tea") -> None:
        self.waiting.add(timer_id)
        self.traced.put(TracedState(timer_id, f"{version}.{timer_id}", PARENT, version, 7, 100))

    def write(self, *timer_ids: str) -> None:
        self.waiting -= set(timer_ids or self.waiting)
        self.traced.written()

    def ended(self) -> list[tuple[object, object]]:
        """The versions of the spans that have ended, in that order, with their outcomes."""
        return [
            (attributes[semconv.VERSION], attributes[semconv.OUTCOME])
            for span in self.spans()
            if (attributes := span.attributes)
        ]

    def spans(self) -> tuple[ReadableSpan, ...]:
        return self.exporter.get_finished_spans()


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


def test_a_delivery_lasts_from_the_write_to_the_ack(mailbox: Mailbox) -> None:
    mailbox.put(1)
    mailbox.write()
    assert mailbox.ended() == []
    mailbox.traced.acknowledged("1.tea", "")
    (span,) = mailbox.spans()
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == PARENT[36:52]
    assert span.status.status_code is StatusCode.UNSET
    attributes = dict(span.attributes or {})
    assert (
        attributes
        | {
            semconv.USER_ID: "bob",
            semconv.TIMER_ID: "tea",
            semconv.VERSION: 1,
            semconv.SHARE_VERSION: 7,
            semconv.MESSAGE_ID: "1.tea",
            semconv.MESSAGE_SIZE: 100,
            semconv.OUTCOME: semconv.OUTCOME_ACKED,
        }
        == attributes
    )
    assert len(mailbox.traced) == 0


def test_an_ack_of_something_else_or_for_the_second_time_changes_nothing(mailbox: Mailbox) -> None:
    mailbox.put(1)
    mailbox.traced.acknowledged("1.tea", "")  # not even written
    mailbox.write()
    mailbox.traced.acknowledged("2.tea", "")
    assert mailbox.ended() == []
    mailbox.traced.acknowledged("1.tea", "")
    mailbox.traced.acknowledged("1.tea", "")
    assert mailbox.ended() == [(1, "acked")]


def test_the_span_that_an_ack_comes_from_is_linked_to(mailbox: Mailbox) -> None:
    mailbox.put(1)
    mailbox.write()
    mailbox.traced.acknowledged("1.tea", f"00-{TRACE}-00000000000000ab-01")
    (span,) = mailbox.spans()
    assert [link.context.span_id for link in span.links] == [0xAB]


def test_a_state_that_gives_way_before_it_is_written_ends_as_replaced(mailbox: Mailbox) -> None:
    mailbox.put(1)
    mailbox.put(2)
    mailbox.write()
    mailbox.traced.acknowledged("2.tea", "")
    assert mailbox.ended() == [(1, "replaced"), (2, "acked")]
    assert not any(span.status.status_code is StatusCode.ERROR for span in mailbox.spans())
    mailbox.put(3)
    mailbox.traced.superseded("tea")  # by one that is not traced
    assert mailbox.ended()[2:] == [(3, "replaced")]


def test_a_state_that_is_taken_back_ends_as_withdrawn(mailbox: Mailbox) -> None:
    mailbox.put(1)
    mailbox.traced.withdrawn("tea")
    mailbox.traced.withdrawn("unknown")
    assert mailbox.ended() == [(1, "withdrawn")]


def test_only_what_was_written_is_waited_for(mailbox: Mailbox) -> None:
    mailbox.put(1, "tea")
    mailbox.put(2, "eggs")
    mailbox.write("eggs")
    mailbox.traced.give_up(float("inf"))
    assert mailbox.ended() == [(2, "no_ack")]
    mailbox.write("tea")
    mailbox.traced.acknowledged("1.tea", "")
    assert mailbox.ended() == [(2, "no_ack"), (1, "acked")]


def test_an_ack_that_does_not_come_in_time_is_given_up(mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.traced.time.monotonic", lambda: 100.0)
    mailbox.put(1)
    mailbox.write()
    mailbox.traced.give_up(100 + ACK_WITHIN)
    assert mailbox.ended() == []
    mailbox.traced.give_up(100.1 + ACK_WITHIN)
    (span,) = mailbox.spans()
    assert mailbox.ended() == [(1, "no_ack")]
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == "no ack came within 10 s"
    assert (span.attributes or {})["error.type"] == "no_ack"


def test_the_end_of_a_connection_ends_them_all(mailbox: Mailbox) -> None:
    mailbox.put(1, "tea")
    mailbox.write()
    mailbox.put(2, "eggs")
    mailbox.traced.close()
    assert sorted(mailbox.ended(), key=str) == [(1, "closed"), (2, "closed")]
    assert len(mailbox.traced) == 0
    mailbox.write()
    mailbox.traced.close()
    assert len(mailbox.spans()) == 2


def test_a_client_that_never_acks_costs_a_bounded_amount_of_memory(mailbox: Mailbox) -> None:
    for version in range(MOST_UNACKNOWLEDGED * 2):
        mailbox.put(version, f"t{version}")
        mailbox.write()
        assert len(mailbox.traced) <= MOST_UNACKNOWLEDGED
    assert mailbox.ended() == [(version, "forgotten") for version in range(MOST_UNACKNOWLEDGED)]


def test_so_does_one_that_reads_nothing(mailbox: Mailbox) -> None:
    for version in range(MOST_UNACKNOWLEDGED * 2):
        mailbox.put(version, f"t{version}")
        assert len(mailbox.traced) <= MOST_UNACKNOWLEDGED
    assert mailbox.ended() == [(version, "forgotten") for version in range(MOST_UNACKNOWLEDGED)]


def test_the_same_state_told_twice_is_two_deliveries(mailbox: Mailbox) -> None:
    mailbox.put(1)
    mailbox.write()
    mailbox.put(1)
    mailbox.write()
    mailbox.traced.acknowledged("1.tea", "")
    assert mailbox.ended() == [(1, "replaced"), (1, "acked")]
