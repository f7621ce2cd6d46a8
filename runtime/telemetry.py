"""Tracing: spans whose context travels in the items of a batch, not in the headers of a call.

A call between the services carries many people's messages, so the context of a trace is a field of each item, a W3C
`traceparent`. Its sampled flag says whether the trace is recorded; when it is not, the context still names the message in
logs and in error replies. Who decides that is the edge (`edge/tracing.py`); everything here follows the flag, and does
nothing for items without it: the check in the hot path is one look at the last character.

Spans exist only per message: one that lived as long as a stream would not show up before the stream's end. What they are
called and what they carry is in `semconv`. Without an OTLP endpoint nothing of the SDK is loaded and every span is the same
inert object.
"""

import itertools
import os
import re
import secrets
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import Token
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from runtime import logs
from runtime.semconv import BATCH_COUNT, DB_BATCH_SIZE, Attributes, SpanType
from runtime.version import VERSION

if TYPE_CHECKING:
    from runtime.recorder import Recorder

MOST_LINKS = 128
"""Links of one span: as many as a batch has items."""

FLUSH_WITHIN = 3.0
"""Seconds that the last spans may take at a process's end; what is left then is lost, and counted in the log."""


class Span(Protocol):
    """Something that takes time. Ends once, by `end` or at the end of a `with`."""

    traceparent: str
    """The context for what happens within it; empty when it is not recorded."""

    @property
    def recorded(self) -> bool:
        """Whether anybody will see it. When it is False, nothing needs to be worked out for its attributes."""

    def set(self, attributes: Attributes) -> None:
        """Adds attributes."""

    def event(self, name: str) -> None:
        """Marks a moment within it."""

    def link(self, traceparent: str) -> None:
        """Points to a span of another trace, or of a client's; what is malformed is ignored."""

    def fail(self, kind: str, reason: str = "") -> None:
        """Marks it as failed. `kind` is one of few words (`error.type`), `reason` a sentence."""

    def end(self) -> None:
        """Ends it. Idempotent."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...


class _NoSpan:
    traceparent = ""
    recorded = False

    def set(self, attributes: Attributes) -> None:
        pass

    def event(self, name: str) -> None:
        pass

    def link(self, traceparent: str) -> None:
        pass

    def fail(self, kind: str, reason: str = "") -> None:
        pass

    def end(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        pass


NO_SPAN: Span = _NoSpan()


class SpanGroup(AbstractContextManager["SpanGroup"]):
    """The spans of those items of one batch that are recorded, by the item's place in it. False when there are none."""

    def __init__(self, spans: Mapping[int, Span]) -> None:
        self._spans = spans
        self._token: Token[logs.TraceSource | None] | None = None

    def __bool__(self) -> bool:
        return bool(self._spans)

    def recorded(self) -> Iterable[tuple[int, Span]]:
        """The places in the batch of the items that are recorded, and their spans. Few, as a rule, beside what is not."""
        return self._spans.items()

    def parents(self, otherwise: Sequence[str]) -> Sequence[str]:
        """Each item's context within its span; what it brought, for those without one."""
        if not self._spans:
            return otherwise
        parents = list(otherwise)
        for index, span in self._spans.items():
            parents[index] = span.traceparent
        return parents

    def __getitem__(self, index: int) -> Span:
        return self._spans.get(index, NO_SPAN)

    def __enter__(self) -> Self:
        if self._spans:
            self._token = logs.bind_traces(lambda: [span.traceparent for span in self._spans.values()])
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        if self._token is not None:
            logs.unbind_traces(self._token)
        for span in self._spans.values():
            span.__exit__(exc_type, exc, traceback)


_NO_SPANS = SpanGroup({})


class Telemetry:
    """Makes the spans of one process."""

    def __init__(self, recorder: "Recorder | None" = None, shut_down: Callable[[float], None] | None = None) -> None:
        self._recorder = recorder
        self._shut_down = shut_down

    @property
    def enabled(self) -> bool:
        """Whether any span can be recorded. When it is False, no work needs to be done for tracing."""
        return self._recorder is not None

    def begin(
        self, kind: SpanType, *, client_parent: str = "", attributes: Attributes | None = None, started_ns: int = 0
    ) -> Span:
        """The first span of a message in this system. That it is to be recorded has been decided.

        `client_parent` is the client's own `traceparent`, or one of `unrecorded` whose message is to be recorded after all;
        one that is malformed is ignored. `started_ns`: when it began, in nanoseconds since 1970, if not now.
        """
        if self._recorder is None:
            return NO_SPAN
        named = int(client_parent[3:35], 16) if client_parent[3:19] == _prefix else 0
        parent = "" if named else client_parent
        return self._recorder.start(kind, parent, attributes, trace_id=named, started_ns=started_ns)

    def span(self, kind: SpanType, parent: str, attributes: Attributes | None = None, *, started_ns: int = 0) -> Span:
        """A span within the trace of one item; inert when that is not recorded."""
        if self._recorder is None or not is_sampled(parent):
            return NO_SPAN
        return self._recorder.start(kind, parent, attributes, started_ns=started_ns)

    def spans(
        self, kind: SpanType, parents: Sequence[str], describe: Callable[[int], Attributes] | None = None
    ) -> SpanGroup:
        """One span per item of a batch that is recorded, each within its item's trace, all ended together.

        `describe` gives the attributes of the item at an index; it is asked for items that are recorded only.
        """
        recorder = self._recorder
        if recorder is None:
            return _NO_SPANS
        recorded = [index for index, parent in enumerate(parents) if is_sampled(parent)]
        if not recorded:
            return _NO_SPANS
        return SpanGroup(
            {index: recorder.start(kind, parents[index], describe(index) if describe else None) for index in recorded}
        )

    def batch_span(self, kind: SpanType, parents: Sequence[str], attributes: Attributes | None = None) -> Span:
        """One span for work done once for a whole batch.

        When one item of the batch is recorded, its trace is continued. Of several none can be the parent: then the span
        starts a trace of its own, with a link to each.
        """
        if self._recorder is None:
            return NO_SPAN
        traced = [parent for parent in parents if is_sampled(parent)]
        if not traced:
            return NO_SPAN
        parent, links = (traced[0], ()) if len(traced) == 1 else ("", traced[:MOST_LINKS])
        span = self._recorder.start(kind, parent, attributes, links=links)
        if len(parents) > 1:
            span.set({DB_BATCH_SIZE if DB_BATCH_SIZE in kind.attributes else BATCH_COUNT: len(parents)})
        return span

    def shutdown(self, within: float = FLUSH_WITHIN) -> None:
        """Sends what is left. Blocks for so many seconds at most; call it last, when no loop is running."""
        if self._shut_down is not None:
            self._shut_down(within)


def configure(service: str, otlp_endpoint: str, *, queue_size: int = 8_192) -> Telemetry:
    """The telemetry of this process: off without an endpoint. `queue_size`: spans that may wait to be sent."""
    if not otlp_endpoint:
        return Telemetry()
    from opentelemetry.sdk.resources import Resource

    from runtime.recorder import Recorder
    from runtime.span_export import Export

    resource = Resource.create(
        {
            "service.name": service,
            "service.version": VERSION,
            "service.namespace": "bubble",
            "service.instance.id": f"{socket.gethostname()}-{os.getpid()}",
        }
    )
    export = Export(otlp_endpoint, queue_size)
    return Telemetry(Recorder(export.processor, resource), export.shut_down)


def is_sampled(traceparent: str) -> bool:
    """Whether the trace of this context is recorded: the lowest bit of its last hexadecimal digit."""
    return traceparent[-1:] in _ODD


def well_formed(value: object) -> str:
    """A W3C `traceparent` as it came from outside; empty for whatever is none."""
    return value if isinstance(value, str) and _FORM.fullmatch(value) else ""


def unrecorded(client_parent: str = "") -> str:
    """A context for a message that is not recorded: it continues the client's, if any, and names it in logs."""
    if client_parent:
        return f"{client_parent[:-2]}00"
    number = next(_numbers)
    return f"00-{_prefix}{number:016x}-{number:016x}-00"


def trace_id(traceparent: str) -> str:
    """The trace id in a context; empty when there is none."""
    return traceparent[3:35]


_FORM = re.compile("(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_ODD = frozenset("13579bdfBDF")
# Ids of what is not recorded need to be unique, not random: a counter behind a random half is a tenth of the work.
_prefix = secrets.token_hex(8)
_numbers = itertools.count(time.time_ns())
