"""What an edge knows of the app's devices: which socket of each is the newest, and how their clocks go."""

import asyncio
from collections import OrderedDict
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeAlias

from runtime import logs

if TYPE_CHECKING:
    from edge.dialects.app_session import AppSession

log = logs.get(__name__)

MAX_REMEMBERED = 20_000
"""Devices of which something is remembered while they are away; some 300 bytes each."""

MAX_ENDING = 32
"""Superseded sockets of one user that are left open at once. A phone that connects every 5 s, as often as it can, leaves nine
within the time that silent ones are kept."""

Device: TypeAlias = tuple[str, str]
"""A user and what one of its devices is called."""


class Devices:
    """All devices that speak the app's dialect at this edge, and those that did."""

    def __init__(self) -> None:
        self._newest: dict[Device, AppSession] = {}
        self._ending: dict[str, dict[AppSession, None]] = {}
        self._offsets: OrderedDict[Device, int] = OrderedDict()
        self._left_at_us: OrderedDict[Device, int] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._newest)

    def enter(self, device: Device, session: "AppSession") -> "AppSession | None":
        """A new session of a device; returns the one that it takes the place of, if any."""
        previous = self._newest.get(device)
        self._newest[device] = session
        return previous

    def leave(self, device: Device, session: "AppSession") -> bool:
        """A session is over. Returns whether it was the newest of its device."""
        if self._newest.get(device) is not session:
            return False
        del self._newest[device]
        return True

    def begin_ending(self, session: "AppSession") -> "AppSession | None":
        """A superseded session is going to end some time. When its user has too many of those, returns the one that has been ending
        for longest, which is to end now.
        """
        ending = self._ending.setdefault(session.user_id, {})
        ending[session] = None
        if len(ending) <= MAX_ENDING:
            return None
        oldest = next(iter(ending))
        del ending[oldest]
        return oldest

    def ended(self, session: "AppSession") -> None:
        """A session that was ending has ended."""
        ending = self._ending.get(session.user_id, {})
        ending.pop(session, None)
        if not ending:
            self._ending.pop(session.user_id, None)

    def left(self, device: Device, at_us: int) -> None:
        """A device was told everything up to a moment."""
        _remember(self._left_at_us, device, at_us)

    def left_at_us(self, device: Device) -> int | None:
        """Up to when the device was told everything, if it was here."""
        return self._left_at_us.get(device)

    def finish(self, work: Coroutine[Any, Any, None]) -> None:
        """Does something for a device that it does not ask for twice, whether or not it stays connected."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("session crashed", exc_info=task.exception())

    def remember(self, device: Device, offset: int) -> None:
        """The device is so many minutes ahead of UTC."""
        _remember(self._offsets, device, offset)

    def offset(self, device: Device) -> int | None:
        """What was learned of a device's clock, if anything."""
        return self._offsets.get(device)


def _remember(memory: OrderedDict[Device, int], device: Device, value: int) -> None:
    memory[device] = value
    memory.move_to_end(device)
    if len(memory) > MAX_REMEMBERED:
        memory.popitem(last=False)
