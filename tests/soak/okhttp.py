"""The OkHttp example client in a JVM of its own, and somebody who types."""

from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.android.example import Example
from tests.soak.device import COMMAND_WITHIN, DAY, MOST_TIMERS, Device, Habits, Stored, unlike

_LIVING = ["CONNECTING", "CONNECTED"]


class OkHttp(Device):
    """See `Device`."""

    kind = "OkHttp"

    def __init__(self, port: int, user: str, habits: Habits, directory: Path) -> None:
        super().__init__(user, habits)
        self._example = Example(port, user, directory, token_lifetime=DAY)

    async def __aenter__(self) -> Self:
        await self._example.__aenter__()
        await self._example.wait_for(lambda: self._example.states == _LIVING, COMMAND_WITHIN)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._example.__aexit__(exc_type, exc, traceback)

    async def use(self) -> None:
        habits, timers = self.habits, self._example.timers
        if self.is_owner and len(timers) < MOST_TIMERS and habits.chance(0.2):
            await self._type(f"new {habits.new_id()} {habits.length()} {habits.new_name('Made with OkHttp')}")
        elif timers:
            await self._type(self._command(habits.choose(*timers)))

    def _command(self, timer_id: str) -> str:
        habits = self.habits
        action = habits.choose("start", "pause", "resume", "extend", "extend", "rename", "share", "unshare", "stop")
        if action == "stop" and not habits.chance(0.3):
            action = "start"
        match action:
            case "extend":
                return f"extend {timer_id} PT{habits.seconds()}S"
            case "rename":
                return f"new {timer_id} {habits.length()} {habits.new_name()}"
            case "share" | "unshare":
                return f"{action} {timer_id} {habits.other()}"
        return f"{action} {timer_id}"

    async def _type(self, command: str) -> None:
        self.did()
        lines, place = self._example.lines, len(self._example.lines)
        await self._example.type(command)

        def answer() -> dict[str, Any] | None:
            return next((line for line in lines[place:] if line.get("command") == command), None)

        line = await self._example.wait_for(answer, COMMAND_WITHIN)
        if line["event"] == "failed":
            self.refused(line.get("code"), line)

    async def differences(self, stored: Stored) -> list[str]:
        return unlike(self.name, self._example.timers, stored)

    def forced_reconnects(self) -> list[str]:
        states = self._example.states
        return [] if states == _LIVING else [f"{self.name} went through {states}"]
