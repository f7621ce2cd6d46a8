"""The way of finished spans to the collector: a bounded queue, and a count of those that never arrive.

Spans are dropped rather than memory or a person's time being spent on them, but never silently: what was dropped for want
of room, and what a collector did not take, is in the log. Only loaded when tracing is on.
"""

import logging
import threading
import time
from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from runtime import logs

log = logs.get(__name__)

EXPORT_TIMEOUT = 2
"""Seconds the collector may take for one batch."""

_MOST_IN_BATCH = 512


class Export:
    """The processor of one process, and its end."""

    def __init__(self, endpoint: str, queue_size: int) -> None:
        # It tells of every failed attempt; how many spans were lost is told here.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self._exporter = _CountingExporter(OTLPSpanExporter(endpoint=endpoint, timeout=EXPORT_TIMEOUT))
        self.processor = _CountingProcessor(self._exporter, queue_size)

    def shut_down(self, within: float) -> None:
        """Sends what is left, for so many seconds at most."""
        self._exporter.deadline = time.monotonic() + within
        self.processor.shutdown()  # type: ignore[no-untyped-call]
        lost = self.processor.dropped + self._exporter.failed
        if lost:
            log.warning("spans lost", dropped=self.processor.dropped, failed=self._exporter.failed)


class _CountingExporter(SpanExporter):
    """Sends batches, one at a time, and counts what it could not send."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self.taken = 0
        self.failed = 0
        self.deadline = float("inf")

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.taken += len(spans)
        try:
            if time.monotonic() < self.deadline and self._exporter.export(spans) is SpanExportResult.SUCCESS:
                return SpanExportResult.SUCCESS
            error = "the collector did not take them"
        except Exception as fault:  # whatever it is, the process goes on without these spans
            error = repr(fault)
        self.failed += len(spans)
        log.warning("spans not sent", count=len(spans), error=error)
        return SpanExportResult.FAILURE

    def shutdown(self) -> None:
        self._exporter.shutdown()


class _CountingProcessor(BatchSpanProcessor):
    """The SDK's, which drops the oldest span when its queue is full, with a count of those.

    What has ended and was neither taken by the exporter nor dropped is in the queue; the two counters tell without a look
    inside. They may be a batch apart for a moment, while one is on its way, so a few too many may be counted under load.
    """

    def __init__(self, exporter: _CountingExporter, queue_size: int) -> None:
        self._counts = exporter
        self._size = queue_size
        self._ended = 0
        self._counting = threading.Lock()
        self.dropped = 0
        super().__init__(exporter, max_queue_size=queue_size, max_export_batch_size=min(_MOST_IN_BATCH, queue_size))

    def on_end(self, span: ReadableSpan) -> None:
        with self._counting:
            self._ended += 1
            full = self._ended - self._counts.taken - self.dropped > self._size
            self.dropped += full
        if full:
            log.warning("span dropped, the queue is full", queue=self._size, dropped=self.dropped)
        super().on_end(span)
