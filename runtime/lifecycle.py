"""How every process starts and ends: uvloop, signals, background work, exit codes."""

import asyncio
import gc
import resource
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import uvloop
from pydantic import ValidationError

from runtime import logs, metrics, telemetry
from runtime.errors import brief
from runtime.settings import ProcessSettings, ServiceSettings, describe
from runtime.telemetry import Telemetry
from runtime.version import VERSION

log = logs.get(__name__)

GC_THRESHOLD = 50_000
"""Container objects that may come into being beyond those that went, before the collector looks for cycles among them. Messages
are made and dropped by the thousand without cycles; with the default of 700 the looking took a tenth of an edge's time."""

Settings = TypeVar("Settings", bound=ProcessSettings)

Main = Callable[[Settings, Telemetry, asyncio.Event], Awaitable[None]]
"""A process's main function: returns soon after the event is set (SIGTERM or SIGINT), all its contexts closed."""


def run(service: str, settings_class: type[Settings], main: Main[Settings]) -> None:
    """Runs one process to its end, and exits: 0 after a signal, 1 when something failed, 2 for wrong settings."""
    try:
        settings = settings_class()
    except ValidationError as error:
        logs.configure(service)
        log.error("wrong settings", error=describe(error))
        sys.exit(2)
    _take_all_file_descriptors()
    logs.configure(service, level=settings.log_level, readable=settings.dev)
    store = settings.store if isinstance(settings, ServiceSettings) else ""
    metrics.describe_process(service, build=settings.build, store=store)
    log.info("starting", version=VERSION, build=settings.build, store=store)
    tracing = telemetry.configure(service, settings.otlp_endpoint, queue_size=settings.span_queue)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_until_signal(settings, tracing, main))
    except OSError as error:
        log.error("failed", error=brief(error))
        sys.exit(1)
    except Exception:
        log.exception("failed")
        sys.exit(1)
    finally:
        tracing.shutdown()
    log.info("stopped")


def _take_all_file_descriptors() -> None:
    """Raises the soft limit of open files to the hard one: each connection is one, and many hosts start with 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # some systems name a hard limit that they do not grant
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _until_signal(settings: Settings, tracing: Telemetry, main: Main[Settings]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    # What was imported stays: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    async with background(metrics.watch_loop()):
        await main(settings, tracing, stop)


@asynccontextmanager
async def background(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Runs coroutines beside the body and cancels them when it ends.

    When one of them fails, the body is cancelled and the failure is raised from here: a process that has lost a part of
    itself ends and is started anew, rather than going on half alive.
    """
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(coroutine, name=getattr(coroutine, "__qualname__", None)) for coroutine in work]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


async def forever(interval: float, step: Callable[[], Awaitable[None]]) -> None:
    """Calls `step` again and again, `interval` seconds after the last call ended. What it raises is logged, not fatal:
    this is for upkeep that must go on when a dependency comes back.
    """
    while True:
        try:
            await step()
        except Exception as error:
            log.warning("upkeep failed", step=getattr(step, "__qualname__", repr(step)), error=brief(error))
        await asyncio.sleep(interval)
