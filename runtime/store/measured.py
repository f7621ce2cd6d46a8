"""What every store has beside its contract: measured operations, and a check that knows whether writes succeed."""

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from runtime.errors import Unavailable
from runtime.metrics import LATENCIES, Histogram

OPERATIONS = Histogram(
    "bubble_store_seconds",
    "How long operations of the store took, waits for their turn included, by outcome (ok or failed)",
    ["operation", "outcome"],
    buckets=LATENCIES,
)


class MeasuredStore:
    """Base of the stores. `writes` names those methods of a subclass that change something."""

    _refuses_writes = False

    def __init_subclass__(cls, *, writes: Collection[str] = (), **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        for name, method in list(vars(cls).items()):
            if not name.startswith("_") and asyncio.iscoroutinefunction(method):
                setattr(cls, name, _measured(name, method, is_write=name in writes))

    async def ping(self) -> None:
        """Returns when the database answers a read. Raises Unavailable."""
        raise NotImplementedError

    async def probe(self) -> None:
        """Returns when the database has taken a write that changes nothing. Raises Unavailable."""
        raise NotImplementedError

    async def check(self) -> None:
        """Returns when the database can be read and, as far as is known, written. Raises Unavailable.

        A full disk, or a cluster without a majority, can still be read. That shows when somebody's write fails; from then
        on a write of our own is tried with each check, until one succeeds, whoever's it is. So a healthy database is never
        written to for this.
        """
        await self.ping()
        if self._refuses_writes:
            await self.probe()
            self._refuses_writes = False


def _measured(name: str, method: Callable[..., Awaitable[Any]], *, is_write: bool) -> Callable[..., Awaitable[Any]]:
    ok, failed = OPERATIONS.labels(name, "ok"), OPERATIONS.labels(name, "failed")

    @functools.wraps(method)
    async def measured(self: MeasuredStore, *arguments: Any, **options: Any) -> Any:
        began = time.monotonic()
        try:
            result = await method(self, *arguments, **options)
        except Exception as error:
            failed.observe(time.monotonic() - began)
            if is_write and isinstance(error, Unavailable):
                self._refuses_writes = True
            raise
        ok.observe(time.monotonic() - began)
        if is_write:
            self._refuses_writes = False
        return result

    return measured
