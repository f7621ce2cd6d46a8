"""Families that share timers, each person with clients of all kinds."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from playwright.async_api import Browser

from tests.soak.device import DAY, Device, Habits, Stored
from tests.soak.laptop import Laptop
from tests.soak.okhttp import OkHttp
from tests.soak.page import Page
from tests.soak.phone import Phone
from tests.soak.rest import RestUser
from tests.soak.watch import Watch
from tests.system.client import Client, token

PHONES = (("pixel", "/prod/"), ("tablet", "/"), ("pixel", "/ws"), ("pixel", "/ws"))
"""Of an owner (two), a member and a guest: each looks elsewhere for its socket."""


@dataclass(frozen=True)
class Place:
    """Where a system runs, and what there is to use it with."""

    port: int
    directory: Path
    """For files that clients need."""
    okhttp: bool = False
    """Whether there are JVMs with the example client, which is built."""
    browser: Browser | None = None


class Family:
    """An owner and a member, who have everything; the owner has a second phone. A guest has a phone only."""

    def __init__(self, place: Place, name: str, utc_offset: int) -> None:
        self.habits = habits = Habits(name, utc_offset)
        users = (habits.owner, habits.owner, habits.member, habits.guest)
        self.phones = [
            Phone(place.port, user, habits, device=device, path=path)
            for user, (device, path) in zip(users, PHONES, strict=True)
        ]
        self.laptops = [Laptop(place.port, user, habits) for user in (habits.owner, habits.member, habits.guest)]
        self.devices: list[Device] = [*self.phones, *self.laptops]
        for user in (habits.owner, habits.member):
            self.devices += _others(place, user, habits)
        self._port = place.port
        self.timers: set[str] = set()
        """Ids of what was stored when its screens were looked at last."""
        self._connections = AsyncExitStack()

    async def enter(self) -> None:
        """Everybody connects."""
        for device in self.devices:
            await self._connections.enter_async_context(device)

    async def leave(self) -> None:
        """Everybody goes."""
        await self._connections.aclose()

    async def live(self, until: float) -> None:
        """Everybody uses their timers, until a moment by the monotonic clock."""
        async with asyncio.TaskGroup() as group:
            for device in self.devices:
                group.create_task(self._use(device, until))

    async def _use(self, device: Device, until: float) -> None:
        while time.monotonic() < until:
            await asyncio.sleep(self.habits.pause())
            try:
                await device.use()
            except Exception as error:  # one that fails is told, and hides nothing of what becomes of the others
                device.surprises.append(f"{device.name} gave up: {error!r}")
                return

    async def differences(self) -> list[str]:
        """What any screen shows otherwise than it is stored. Nothing: then all show the same."""
        found = []
        self.timers.clear()
        for user in dict.fromkeys(device.user for device in self.devices):
            try:
                stored = await self._stored(user)
                self.timers |= stored.keys()
                for device in self.devices:
                    if device.user == user:
                        found += await device.differences(stored)
            except Exception as error:
                found.append(f"nobody knows what {user}'s clients show: {error!r}")
        return found

    async def _stored(self, user: str) -> Stored:
        """What the server tells somebody who comes anew. None of those who are judged may hear it."""
        async with Client(self._port, user, "judge", token=token(user, lifetime=DAY)) as judge:
            return {timer["id"]: timer for timer in judge.snapshot["timers"]}


def _others(place: Place, user: str, habits: Habits) -> Iterator[Device]:
    yield RestUser(place.port, user, habits)
    yield Watch(place.port, user, habits, place.directory)
    if place.okhttp:
        yield OkHttp(place.port, user, habits, place.directory)
    if place.browser is not None:
        yield Page(place.port, user, habits, place.browser)
