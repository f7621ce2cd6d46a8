"""Structured logs: one JSON object a line, or coloured text for a person in development mode.

Lines carry `service`, whatever is bound with `structlog.contextvars`, and, within a traced operation, `trace_id`. Lines of
libraries that use the standard `logging` take the same way. Tokens and payloads are never passed to a logger.
"""

import logging
import sys
import time

import structlog
from structlog.types import EventDict, Processor, WrappedLogger


def configure(service: str, *, level: str = "info", readable: bool = False) -> None:
    """Sets up logging for this process. Call it once, before anything logs."""

    def add_service(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["service"] = service
        return event

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_service,
    ]
    # Tracebacks without local variables: those may hold tokens.
    renderers: list[Processor] = (
        [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), pad_event_to=40, exception_formatter=structlog.dev.plain_traceback
            )
        ]
        if readable
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # These tell of every connection and command; their warnings are what matters to us.
    for noisy in ("aiohttp.access", "asyncio", "pymongo"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def get(name: str) -> structlog.stdlib.BoundLogger:
    """A logger whose lines carry the name of the module they come from."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name, module=name)
    return logger


class Sparing:
    """Warnings that may come thousands of times a second, when everything is too much already: each kind is written once
    in `interval` seconds, with how often it had come since.
    """

    def __init__(self, logger: structlog.stdlib.BoundLogger, interval: float = 1.0) -> None:
        self._logger = logger
        self._interval = interval
        self._written_at: dict[str, float] = {}
        self._times: dict[str, int] = {}

    def warning(self, event: str, **fields: object) -> None:
        """Writes it, or counts it. `event` is one of few, written in the code; `fields` are those of the one written."""
        times = self._times[event] = self._times.get(event, 0) + 1
        now = time.monotonic()
        if now - self._written_at.get(event, float("-inf")) >= self._interval:
            self._written_at[event] = now
            self._times[event] = 0
            self._logger.warning(event, times=times, **fields)
