"""All sessions of this edge: finding them, writing to them once per turn of the loop, and ending those that must end."""

import asyncio
import random
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from edge.close_codes import CloseCode
from edge.outlet import Outlet

if TYPE_CHECKING:
    from edge.session import Session

_POLL_CONGESTED = 0.05  # seconds between two looks at sockets that took no more bytes
_STRAGGLERS = 4.5  # seconds that sessions may take to end, after the last was told to
_SWEEP = 1.0  # seconds between two looks at every session
_SWEPT_AT_ONCE = 250


class Sessions:
    """The sessions by connection id, and what is done for all of them."""

    def __init__(self) -> None:
        self._by_id: dict[str, Session] = {}
        self._all: set[Session] = set()
        self._dirty: list[Outlet] = []
        self._congested: set[Outlet] = set()

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> "Iterator[Session]":
        return iter(list(self._all))

    @property
    def congested(self) -> int:
        """How many sockets take no more bytes."""
        return len(self._congested)

    def get(self, connection_id: str) -> "Session | None":
        """The session of a connection, while it is open."""
        return self._by_id.get(connection_id)

    def named(self, connection_ids: Iterable[str]) -> "list[Session]":
        """The sessions of those of the connections that are open."""
        by_id = self._by_id
        return [by_id[connection_id] for connection_id in connection_ids if connection_id in by_id]

    def add(self, session: "Session") -> None:
        """A new session; it has no connection id yet."""
        self._all.add(session)

    def name(self, session: "Session") -> None:
        """The session has its connection id."""
        self._by_id[session.connection_id] = session

    def remove(self, session: "Session") -> None:
        """The session is over."""
        self._all.discard(session)
        self._congested.discard(session.outlet)
        self._by_id.pop(session.connection_id, None)

    def supersede(self, connection_ids: Iterable[str]) -> None:
        """The devices of these connections have opened others, at other edges. Unknown ids are fine."""
        for session in self.named(connection_ids):
            session.supersede()

    def write_soon(self, outlet: Outlet) -> None:
        """Something was put into an outlet: it is written at the end of this turn of the loop."""
        if not self._dirty:
            asyncio.get_running_loop().call_soon(self._write_dirty)
        self._dirty.append(outlet)

    async def run(self) -> None:
        """Keeps all sessions going, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._poll_congested())
            group.create_task(self._sweep_forever())

    async def drain(self, seconds: float) -> None:
        """Tells every client to reconnect at a random moment within so many seconds, and closes it then.

        The moments are one in each of as many equal parts as there are sessions, so that no crowd comes together by chance.
        """
        sessions = list(self)
        random.shuffle(sessions)
        moments = [(place + random.random()) * seconds / len(sessions) for place in range(len(sessions))]
        for session, moment in zip(sessions, moments, strict=True):
            session.announce_restart(round(moment * 1_000))
        started = time.monotonic()
        for session, moment in zip(sessions, moments, strict=True):
            await asyncio.sleep(started + moment - time.monotonic())
            session.close_soon(CloseCode.RESTARTING)
        with suppress(TimeoutError):
            async with asyncio.timeout(_STRAGGLERS):
                while self._all:
                    await asyncio.sleep(0.02)

    def close_all(self, code: CloseCode) -> None:
        """Closes every session."""
        for session in self:
            session.lose(code)

    def _write_dirty(self) -> None:
        dirty, self._dirty = self._dirty, []
        for outlet in dirty:
            if not outlet.write():
                self._congested.add(outlet)

    async def _poll_congested(self) -> None:
        while True:
            await asyncio.sleep(_POLL_CONGESTED)
            for outlet in list(self._congested):
                if outlet.write():
                    self._congested.discard(outlet)

    async def _sweep_forever(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP)
            now, wall_clock = time.monotonic(), time.time()
            for number, session in enumerate(self):
                if number % _SWEPT_AT_ONCE == _SWEPT_AT_ONCE - 1:
                    await asyncio.sleep(0)  # deliveries do not wait for thousands of looks
                code = session.overdue(now, wall_clock)
                if code is not None:
                    session.close_soon(code)
                else:
                    session.ping_if_due(now)
                if session.traced is not None:
                    session.traced.give_up(now)
