"""Structured logs: one JSON object a line, or coloured text for a person who looks at a terminal in development mode.

Every line has the fields of `REQUIRED` and may have those of `OPTIONAL`, and no others (docs/operations.md explains them).
A line that is written within a call or a traced operation names the messages it is about (`trace_id`, `trace_ids`).
Lines of libraries that use the standard `logging` take the same way, as do uncaught exceptions and warnings.

Levels: *error*: somebody must look, this is a fault of ours or of the installation. *warning*: a dependency or a client
misbehaves, and the system copes. *info*: the life of a process and of its connections to other processes. *debug*: single
clients and their connections.

An outage does not flood anything: of one event, a process writes `BURST` warnings (or errors) at once and one per `REFILL`
seconds after that; the next one says how many were left out. Tokens and payloads are never passed to a logger; what a
library may say of them is taken out here.
"""

import logging
import re
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from types import TracebackType
from typing import TypeAlias

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

REQUIRED: Mapping[str, type] = {"timestamp": str, "level": str, "service": str, "module": str, "event": str}
"""Fields of every line, with the type of their JSON value."""

OPTIONAL: Mapping[str, type] = {
    # what it is about
    "trace_id": str,
    "trace_ids": list,
    "user_id": str,
    "device_id": str,
    "connection_id": str,
    "edge_id": str,
    "timer_id": str,
    "event_id": str,
    "method": str,
    "replica": str,
    "location": str,
    "path": str,
    "dependency": str,
    # what happened
    "error": str,
    "exception": str,
    "reason": str,
    "code": str,
    "details": str,
    "step": str,
    "seconds": float,
    "close_code": int,
    "status": int,
    # how much
    "count": int,
    "attempt": int,
    "queue": int,
    "dropped": int,
    "failed": int,
    "suppressed": int,
    # where it listens
    "host": str,
    "port": int,
    # what starts
    "version": str,
    "build": str,
    "store": str,
}
"""Fields that a line may have."""

LEVELS = ("debug", "info", "warning", "error", "critical")

BURST = 3
"""Lines of one event that are written at once."""

REFILL = 10.0
"""Seconds until one more may be."""

LONGEST = 500
"""Characters of a text in a line; of a traceback, `LONGEST_TRACEBACK`."""

LONGEST_TRACEBACK = 8_000

MOST_TRACES = 8
"""Trace ids that a line about a whole batch names."""

_MOST_EVENTS = 1_000  # events whose repetitions are counted; ours are some fifty, those of libraries are unknown

TraceSource: TypeAlias = Callable[[], Iterable[str]]
"""Gives the trace contexts (`traceparent`) of the messages that are being worked on. Asked when a line is written."""

_traces: ContextVar[TraceSource | None] = ContextVar("traces", default=None)

# Three parts of base64 with dots between them, of which the first is a JSON object: a JSON web token.
_TOKEN = re.compile(r"\beyJ[\w-]{5,}(?:\.[\w-]*){0,2}")
_NAMED = re.compile(r"((?:token|authorization)[\"']?\s*[=:]\s*[\"']?|bearer\s+)(?!\[)[^\s&\"']+", re.IGNORECASE)
_PASSWORD = re.compile(r"(?<=://)[^/@\s]+@")


def configure(service: str, *, level: str = "info", readable: bool = False) -> None:
    """Sets up logging for this process. Call it once, before anything logs. `readable` counts on terminals only."""

    def add_service(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["service"] = service
        return event

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_service,
        _add_traces,
    ]
    # Tracebacks without local variables: those may hold tokens.
    renderers: list[Processor] = (
        [structlog.dev.ConsoleRenderer(colors=True, pad_event_to=40, exception_formatter=structlog.dev.plain_traceback)]
        if readable and sys.stderr.isatty()
        else [structlog.processors.format_exc_info, _to_schema, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            Limiter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_ForeignLimiter())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _add_module],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # These tell of every connection and command; their warnings are what matters to us.
    for noisy in ("aiohttp.access", "asyncio", "pymongo", "grpc", "concurrent"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    _log_what_python_prints()


def get(name: str) -> structlog.stdlib.BoundLogger:
    """A logger whose lines carry the name of the module they come from."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name, module=name)
    return logger


def about(traceparent: str) -> dict[str, str]:
    """The field that names the message a line is about, for one that is written outside of its trace."""
    return {"trace_id": traceparent[3:35]} if traceparent else {}


def bind_traces(source: TraceSource) -> "Token[TraceSource | None]":
    """From here on, lines written in this context are about these messages, until `unbind_traces`."""
    return _traces.set(source)


@contextmanager
def traces(traceparents: Iterable[str]) -> Iterator[None]:
    """Lines written within are about these messages. For the rare path: binding costs little, but not nothing."""
    kept = list(traceparents)
    token = bind_traces(lambda: kept)
    try:
        yield
    finally:
        unbind_traces(token)


def unbind_traces(token: "Token[TraceSource | None]") -> None:
    """What was before `bind_traces` counts again."""
    _traces.reset(token)


class Limiter:
    """Keeps a process from repeating itself: a token bucket per event, for warnings and errors. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._events: dict[tuple[str, ...], _Repetitions] = {}

    def __call__(self, _logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        """As a processor of structlog."""
        if method in ("debug", "info"):
            return event
        # A crash is not left out for the many warnings of the same event, nor one kind of crash for another.
        left_out = self.left_out(
            str(event.get("module", "")), str(event["event"]), method, _crash(event.get("exc_info"))
        )
        if left_out is None:
            raise structlog.DropEvent
        if left_out:
            event["suppressed"] = left_out
        return event

    def left_out(self, *event: str) -> int | None:
        """How many lines like this one were left out since the last; None: leave this one out, too."""
        now = self._clock()
        with self._lock:
            repetitions = self._events.get(event)
            if repetitions is None:
                if len(self._events) >= _MOST_EVENTS:
                    self._events.clear()  # forgetting lets a few more lines through, which is harmless
                repetitions = self._events[event] = _Repetitions(now)
            return repetitions.left_out(now)


class _Repetitions:
    __slots__ = ("_suppressed", "_tokens", "_updated_at")

    def __init__(self, now: float) -> None:
        self._tokens = float(BURST)
        self._updated_at = now
        self._suppressed = 0

    def left_out(self, now: float) -> int | None:
        self._tokens = min(BURST, self._tokens + (now - self._updated_at) / REFILL)
        self._updated_at = now
        if self._tokens < 1:
            self._suppressed += 1
            return None
        self._tokens -= 1
        suppressed, self._suppressed = self._suppressed, 0
        return suppressed


class _ForeignLimiter(logging.Filter):
    """The same for lines of libraries, by logger and template: their texts are rarely twice the same."""

    def __init__(self) -> None:
        super().__init__()
        self._limiter = Limiter()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING or isinstance(record.msg, dict):  # a dict: ours, limited already
            return True
        left_out = self._limiter.left_out(record.name, str(record.msg)[:LONGEST], record.levelname)
        record.suppressed = left_out
        return left_out is not None


def _crash(exc_info: object) -> str:
    """The kind of exception in a line, if any."""
    if exc_info is True:
        exc_info = sys.exc_info()[0]
    elif isinstance(exc_info, tuple):
        exc_info = exc_info[0]
    elif isinstance(exc_info, BaseException):
        exc_info = type(exc_info)
    return exc_info.__name__ if isinstance(exc_info, type) else ""


def _add_module(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """For lines of libraries: where they come from."""
    record: logging.LogRecord = event["_record"]
    event["module"] = record.name
    suppressed = getattr(record, "suppressed", 0)
    if suppressed:
        event["suppressed"] = suppressed
    return event


def _add_traces(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """The messages that a line is about, unless it says so itself."""
    source = _traces.get()
    if source is None or "trace_id" in event:
        return event
    ids = list(dict.fromkeys(traceparent[3:35] for traceparent in source() if traceparent))
    if len(ids) == 1:
        event["trace_id"] = ids[0]
    elif ids:
        event["trace_ids"] = ids[:MOST_TRACES]
    return event


def _to_schema(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Only fields that are documented, with values of their types, without secrets, of a bounded length."""
    line: EventDict = {}
    for field, kind in (*REQUIRED.items(), *OPTIONAL.items()):
        value = event.get(field)
        if value is None:
            continue
        if kind is not str:
            line[field] = value
        elif field == "exception":
            line[field] = without_secrets(str(value))[-LONGEST_TRACEBACK:]  # its end says what it was
        else:
            line[field] = without_secrets(str(value))[:LONGEST]
    return line


def without_secrets(text: str) -> str:
    """A text without what looks like a token, or a password in an address."""
    text = _TOKEN.sub("[token]", text)
    text = _NAMED.sub(r"\1[secret]", text)
    return _PASSWORD.sub("[secret]@", text)


def _log_what_python_prints() -> None:
    """Python prints some things by itself, as plain text. They go into the log instead."""
    log = get(__name__)

    def uncaught(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        log.critical("uncaught exception", exc_info=(kind, error, traceback))

    def uncaught_in_thread(arguments: threading.ExceptHookArgs) -> None:
        error = arguments.exc_value
        if error is not None:
            log.error("uncaught exception in a thread", exc_info=error)

    def unraisable(arguments: "sys.UnraisableHookArgs") -> None:
        log.error("exception that could not be raised", exc_info=arguments.exc_value)

    def warned(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
        log.warning("python warning", error=f"{category.__name__}: {message}")

    sys.excepthook = uncaught
    threading.excepthook = uncaught_in_thread
    sys.unraisablehook = unraisable
    warnings.showwarning = warned
