"""`runtime/span_export.py`: that nothing is lost in silence."""

import threading
import time
from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from runtime.span_export import _CountingExporter, _CountingProcessor

QUEUE = 20


class Gate(SpanExporter):
    """A collector that takes nothing before it is told to."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.asked = threading.Event()
        self.taken = 0
        self.result = SpanExportResult.SUCCESS
        self.error: Exception | None = None

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.asked.set()
        assert self.open.wait(10)
        if self.error is not None:
            raise self.error
        self.taken += len(spans)
        return self.result


class Parts:
    """A processor with its exporter, and a source of spans."""

    def __init__(self, gate: Gate) -> None:
        self.exporter = _CountingExporter(gate)
        self.processor = _CountingProcessor(self.exporter, QUEUE)
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(self.processor)
        self._tracer = provider.get_tracer("test")

    def end(self, count: int) -> None:
        for _ in range(count):
            self._tracer.start_span("x").end()


def test_a_full_queue_drops_and_counts_and_all_others_arrive() -> None:
    gate = Gate()
    parts = Parts(gate)
    parts.end(QUEUE)
    assert gate.asked.wait(10)  # a whole batch is on its way, and the queue is empty
    parts.end(QUEUE + 7)
    assert parts.processor.dropped == 7
    gate.open.set()
    parts.processor.shutdown()  # type: ignore[no-untyped-call]
    assert gate.taken == QUEUE * 2
    assert parts.exporter.failed == 0


def test_what_the_collector_does_not_take_is_counted() -> None:
    for result, error in ((SpanExportResult.FAILURE, None), (SpanExportResult.SUCCESS, ValueError("x"))):
        gate = Gate()
        gate.result, gate.error = result, error
        gate.open.set()
        parts = Parts(gate)
        parts.end(5)
        parts.processor.shutdown()  # type: ignore[no-untyped-call]
        assert (parts.exporter.failed, parts.processor.dropped) == (5, 0)


def test_after_the_deadline_nothing_more_is_tried() -> None:
    gate = Gate()
    parts = Parts(gate)
    parts.end(5)
    parts.exporter.deadline = time.monotonic()
    parts.processor.shutdown()  # type: ignore[no-untyped-call]
    assert not gate.asked.is_set()
    assert parts.exporter.failed == 5
