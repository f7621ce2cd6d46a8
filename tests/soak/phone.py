"""The published app on a phone, its parser and its watchdog included, and a user who never rests."""

from types import TracebackType
from typing import Self

from tests.soak.device import DAY, MOST_TIMERS, Device, Habits, Stored
from tests.soak.shown import by_app, by_first
from tests.system.app_client import AppClient


class Phone(Device):
    """See `Device`."""

    kind = "app"

    def __init__(self, port: int, user: str, habits: Habits, *, device: str, path: str) -> None:
        super().__init__(user, habits)
        self.app = AppClient(port, user, device, path=path, utc_offset=habits.utc_offset, token_lifetime=DAY)
        self.unreadable = self.app.counts.unreadable
        self.voluntary_reconnects = 0

    @property
    def name(self) -> str:
        return f"{super().name} on a {self.app.device}"

    async def __aenter__(self) -> Self:
        """Its clock becomes known as in life, by a timer that is started."""
        app = self.app
        await app.__aenter__()
        await app.snapshot()
        timer = app.make("Clock")
        await app.tell(timer)
        await app.settled()
        await app.start(timer.id)
        await app.settled()
        await app.stop(timer.id)
        await app.settled()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.app.__aexit__(exc_type, exc, traceback)

    async def use(self) -> None:
        app, habits = self.app, self.habits
        action = habits.choose("make", "start", "start", "pause", "pause", "rename", "share", "stop", "again")
        if action == "make":
            if self.is_owner and len(app.timers) < MOST_TIMERS:
                timer = app.make(habits.new_name("Made by app"), habits.length(), timer_id=habits.new_id())
                await app.share(timer.id, *habits.members())
                self.did()
        elif action == "again":
            if habits.chance(0.05):
                self.voluntary_reconnects += 1
                await app.leave_socket_open_and_reconnect()
        elif app.timers:
            await self._change(action, habits.choose(*app.timers))

    async def _change(self, action: str, timer_id: str) -> None:
        app, habits = self.app, self.habits
        if app.is_too_soon(timer_id):
            return  # the app would send an old state: it throws its own changes away, too
        match action:
            case "start":
                await app.start(timer_id)
            case "pause":
                await app.pause(timer_id)
            case "rename":
                await app.rename(timer_id, habits.new_name())
            case "share":  # a member's set means nothing, and the app lets members choose one
                await app.share(timer_id, *habits.members())
            case "stop" if habits.chance(0.3):
                await app.stop(timer_id)
            case _:
                return
        self.did()

    async def differences(self, stored: Stored) -> list[str]:
        found = []
        for timer_id in stored.keys() | self.app.timers.keys():
            there, here = stored.get(timer_id), self.app.timers.get(timer_id)
            if there is None or here is None or not by_app(here, self.habits.utc_offset).is_as(by_first(there)):
                found.append(f"{self.name} shows {here}, stored is {there}")
        return found

    def forced_reconnects(self) -> list[str]:
        return [f"{self.name}: {reason}" for reason in self.app.counts.reasons]

    def dropped_frames(self) -> int:
        return self.app.counts.thrown_away
