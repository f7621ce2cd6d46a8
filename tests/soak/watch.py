"""`bubble watch --json`, as a process of its own."""

import asyncio
import json
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.soak.device import COMMAND_WITHIN, DAY, Device, Habits, Stored, unlike
from tests.system.client import Message, eventually, token
from tests.system.shell import WITHIN, Shell

_OF_THIS_MOMENT = ("state", "leftSeconds")


class Watch(Device):
    """See `Device`. It only watches."""

    kind = "bubble watch"

    def __init__(self, port: int, user: str, habits: Habits, directory: Path) -> None:
        super().__init__(user, habits)
        environment = {"BUBBLE_URL": f"http://127.0.0.1:{port}", "BUBBLE_TOKEN": token(user, lifetime=DAY)}
        self._shell = Shell(directory, environment)
        self._timers: dict[str, Message] = {}
        self._is_up_to_date = False
        self._disconnects: list[str] = []
        self._process: asyncio.subprocess.Process
        self._reader: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        self._process = await self._shell.start("watch", "--json")
        self._reader = asyncio.create_task(self._read())
        await eventually(lambda: self._is_up_to_date, COMMAND_WITHIN)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process.returncode is None:
            self._process.terminate()  # whoever runs in the background hears no SIGINT
        await asyncio.wait_for(self._reader, WITHIN)
        await asyncio.wait_for(self._process.communicate(), WITHIN)

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            try:
                self._take(json.loads(line))
            except (ValueError, KeyError) as error:
                self.unreadable.append(f"{self.name} printed {line!r}: {error!r}")

    def _take(self, happened: dict[str, Any]) -> None:
        match happened["event"]:
            case "snapshot":
                self._timers = {timer["id"]: timer for timer in happened["timers"]}
                self._is_up_to_date = True
            case "timer" | "shared" | "finished":
                self._timers[happened["timer"]["id"]] = happened["timer"]
            case "stopped" | "unshared" | "gone":
                self._timers.pop(happened["timer"]["id"], None)
            case "disconnected":
                self._disconnects.append(f"{self.name}: {happened['reason']}")

    async def differences(self, stored: Stored) -> list[str]:
        if self._process.returncode is not None:
            return [f"{self.name} has ended"]
        shown = {
            timer_id: {name: value for name, value in timer.items() if name not in _OF_THIS_MOMENT}
            for timer_id, timer in self._timers.items()
        }
        return unlike(self.name, shown, stored)

    def forced_reconnects(self) -> list[str]:
        return self._disconnects
