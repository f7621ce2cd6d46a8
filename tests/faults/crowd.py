"""People with phones who write, share, and watch: the workload of the fault tests."""

import asyncio
import itertools
import random
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from tests.faults.database import Stored
from tests.faults.phone import Phone
from tests.faults.referee import ABANDONED_UNIT, UNIT, Referee

WRITERS = ("ann", "ben", "cem", "dora")
"""They share the boards and counters, and write all of them."""

GUEST = "gus"
"""Added to and removed from the albums all the time."""

STRANGER = "eve"
"""Shares nothing with anybody, and must never see anything."""

BOARDS, COUNTERS, ALBUMS, LIVES = 3, 2, 2, 2

_THINKS = (0.05, 0.4)  # seconds between two commands of one person


class Crowd:
    """Everybody, in one run. Names carry `suffix`, so that runs do not meet in one database.

    Boards are written as wholes by all writers, counters are extended by all, albums are written by their owner, who adds and
    removes the guest between writes, and lives are made and stopped again and again by their owner.
    """

    def __init__(self, ports: Callable[[], list[int]], suffix: str, seed: int) -> None:
        self.referee = Referee()
        self._random = random.Random(seed)
        self._suffix = suffix
        self._labels = itertools.count(1)
        self._writing = asyncio.Event()
        self._idle = 0
        self._tasks: list[asyncio.Task[None]] = []
        writers = [self._user(name) for name in WRITERS]
        guest, stranger = self._user(GUEST), self._user(STRANGER)

        def phone(user: str, device: str, *, resumes: bool) -> Phone:
            return Phone(user, device, ports, self.referee, resumes=resumes)

        self._writers = [phone(user, "phone", resumes=True) for user in writers]
        self._hasty = phone(writers[0], "hasty", resumes=False)
        self._watchers = [
            phone(writers[0], "tablet", resumes=False),
            phone(writers[1], "tablet", resumes=True),
            phone(guest, "phone", resumes=True),
            phone(guest, "tablet", resumes=False),
            phone(stranger, "phone", resumes=True),
        ]
        self.phones = [*self._writers, self._hasty, *self._watchers]
        self._boards = [self._id(f"board{number}") for number in range(BOARDS)]
        self._counters = [self._id(f"counter{number}") for number in range(COUNTERS)]
        self._albums = [(self._id(f"album{number}"), self._writers[number]) for number in range(ALBUMS)]
        self._lives = [(self._id(f"life{number}"), self._writers[number + 2]) for number in range(LIVES)]

    async def __aenter__(self) -> Self:
        """Connects everybody, makes the timers, shares them, and starts the writers, who wait for `write`."""
        self._tasks = [asyncio.create_task(phone.run(), name=phone.name) for phone in self.phones]
        await self.everybody_connected(30)
        await asyncio.gather(*(self._make(timer_id, self._writers[0]) for timer_id in self._boards + self._counters))
        await asyncio.gather(*(self._make(timer_id, owner, members=1) for timer_id, owner in self._albums))
        scripts = [self._scribble(phone) for phone in self._writers]
        scripts += [self._keep_album(timer_id, owner) for timer_id, owner in self._albums]
        scripts += [self._live(timer_id, owner) for timer_id, owner in self._lives]
        scripts += [self._hurry()]
        self._workers = len(scripts)
        self._tasks += [asyncio.create_task(script) for script in scripts]
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def write(self) -> None:
        """Everybody writes from now on."""
        self._writing.set()

    async def finish(self, within: float) -> None:
        """Nobody begins anything new; returns when all that was begun is answered. Raises TimeoutError: it is not."""
        self._writing.clear()
        async with asyncio.timeout(within):
            while self._idle < self._workers:
                self._check_tasks()
                await asyncio.sleep(0.02)

    async def everybody_connected(self, within: float) -> float:
        """Returns when all have their snapshot: the moment of the last. Raises TimeoutError."""
        async with asyncio.timeout(within):
            while not all(phone.connected_at for phone in self.phones):
                self._check_tasks()
                await asyncio.sleep(0.02)
        return max(phone.connected_at for phone in self.phones)

    def stale(self, stored: Mapping[str, Stored]) -> list[str]:
        """What phones show that is not what is stored, as sentences."""
        found = []
        for phone in self.phones:
            expected = {
                timer_id: timer
                for timer_id, timer in stored.items()
                if timer.state != "stopped" and (phone.user == timer.owner or phone.user in timer.members)
            }
            found += [f"{phone.name} shows {timer_id} no longer there" for timer_id in phone.view.keys() - expected]
            for timer_id, timer in expected.items():
                shown = phone.view.get(timer_id)
                if shown is None:
                    found.append(f"{phone.name} does not show {timer_id}")
                elif (shown.version, shown.name, shown.remaining, shown.members) != (
                    timer.version, timer.name, timer.remaining, timer.members,
                ):  # fmt: skip
                    found.append(f"{phone.name} shows {timer_id} as {shown}, stored is {timer}")
        return found

    def mine(self, stored: Mapping[str, Stored]) -> dict[str, Stored]:
        """Those of the stored timers that are this crowd's."""
        return {timer_id: timer for timer_id, timer in stored.items() if timer_id.endswith(self._suffix)}

    def _check_tasks(self) -> None:
        for task in self._tasks:
            if task.done() and not task.cancelled():
                task.result()
                raise AssertionError(f"{task.get_name()} ended")

    # --- what people do -------------------------------------------------------------------------------------------------

    async def _make(self, timer_id: str, owner: Phone, *, members: int = len(WRITERS) - 1) -> None:
        await self._put(owner, "create", timer_id, remainingDuration="PT0S")
        for other in [phone for phone in self._writers if phone is not owner][:members]:
            await self._share(owner, "add", timer_id, other.user)

    async def _scribble(self, phone: Phone) -> None:
        """Writes boards and extends counters."""
        while True:
            await self._pause()
            if self._random.random() < 0.5:
                await self._put(phone, "update", self._random.choice(self._boards))
            else:
                timer_id = self._random.choice(self._counters)
                await phone.do("extend", timer_id, type="timer", action="extend", timerId=timer_id, by=f"PT{UNIT}S")

    async def _hurry(self) -> None:
        """Extends counters and is gone before the answer."""
        while True:
            await self._pause()
            await asyncio.sleep(self._random.uniform(0.5, 2.0))
            timer_id = self._random.choice(self._counters)
            await self._hasty.abandon(
                timer_id, type="timer", action="extend", timerId=timer_id, by=f"PT{ABANDONED_UNIT}S"
            )

    async def _keep_album(self, timer_id: str, owner: Phone) -> None:
        """Writes between letting the guest in and out: what is written while the guest is out is not for them."""
        guest = self._user(GUEST)
        for action in itertools.cycle(("add", "remove")):
            await self._pause()
            await self._put(owner, "update", timer_id)
            await self._share(owner, action, timer_id, guest)

    async def _live(self, timer_id: str, owner: Phone) -> None:
        """Makes a timer and stops it, again and again, each based on the version before."""
        version = 0
        while True:
            await self._pause()
            made = await self._put(owner, "create", timer_id, baseVersion=version)
            stopped = await owner.do(
                "stop", timer_id, type="timer", action="stop", timerId=timer_id, baseVersion=made["version"]
            )
            assert stopped["status"] == "processed", stopped
            version = stopped["version"]

    async def _put(self, phone: Phone, kind: str, timer_id: str, **fields: Any) -> dict[str, Any]:
        name = f"{kind} {next(self._labels)} by {phone.user}"
        more = {"baseVersion": fields.pop("baseVersion")} if "baseVersion" in fields else {}
        timer = {"id": timer_id, "name": name} | fields
        answer = await phone.do(kind, timer_id, name, type="timer", action="update", timer=timer, **more)
        assert answer["status"] == "processed", answer
        return answer

    async def _share(self, owner: Phone, action: str, timer_id: str, user: str) -> None:
        answer = await owner.do(
            action, timer_id, user, type="share", action=action, timerId=timer_id, sharedWithUser=user
        )
        assert answer["status"] == "processed", answer

    async def _pause(self) -> None:
        if not self._writing.is_set():
            self._idle += 1
            await self._writing.wait()
            self._idle -= 1
        await asyncio.sleep(self._random.uniform(*_THINKS))

    def _user(self, name: str) -> str:
        return f"{name}{self._suffix}"

    def _id(self, name: str) -> str:
        return f"{name}{self._suffix}"
