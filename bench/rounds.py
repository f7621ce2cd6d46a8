"""How the programs that measure in rounds run."""

import asyncio
import resource
import signal
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import uvloop

Result = TypeVar("Result")
Item = TypeVar("Item")


def rotated(items: Sequence[Item], number: int) -> list[Item]:
    """The order of a round: each begins with another one, so that what the machine does besides meets all of them."""
    turn = number % max(len(items), 1)
    return [*items[turn:], *items[:turn]]


def run(program: Coroutine[Any, Any, Result]) -> Result:
    """Runs a program on uvloop, with as many open files as it may have. SIGTERM cancels it, as Ctrl-C does."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_cancelled_by_sigterm(program))


async def _cancelled_by_sigterm(program: Coroutine[Any, Any, Result]) -> Result:
    this = asyncio.current_task()
    assert this is not None  # noqa: S101  # for mypy
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    return await program
