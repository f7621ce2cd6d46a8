"""A client of the first dialect, which asks for everything before each of its changes."""

from datetime import timedelta
from types import TracebackType
from typing import Self

import websockets

from tests.soak.device import COMMAND_WITHIN, DAY, Device, Habits, Stored
from tests.system.app_client import format_duration
from tests.system.client import Client, Message, token

_COME_AGAIN = 1013
_FEW = 2  # timers, with which an owner makes another one


class Laptop(Device):
    """See `Device`. It comes back when it is told to (1013: a timer was taken away while a list waited)."""

    kind = "first dialect"

    def __init__(self, port: int, user: str, habits: Habits) -> None:
        super().__init__(user, habits)
        self._port = port
        self._client = self._new_client()
        self.sent_away = 0

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._client.__aexit__(exc_type, exc, traceback)

    def _new_client(self) -> Client:
        return Client(self._port, self.user, "laptop", token=token(self.user, lifetime=DAY))

    async def use(self) -> None:
        try:
            await self._change()
        except (AssertionError, websockets.ConnectionClosed):
            if self._client.socket.close_code != _COME_AGAIN:
                raise
            self.sent_away += 1
            self._client = self._new_client()
            await self._client.__aenter__()

    async def _change(self) -> None:
        snapshot = await self._client.expect_reply_within(COMMAND_WITHIN, type="sync", versions={})
        timers = snapshot["timers"]
        self._client.inbox.clear()
        if len(timers) < _FEW and self.is_owner:
            made = {
                "id": self.habits.new_id(),
                "name": self.habits.new_name("Made here"),
                "totalDuration": self.habits.length(),
            }
            request: Message = {"type": "timer", "action": "update", "timer": made}
        elif timers:
            request = self._request(self.habits.choose(*timers)["id"])
        else:
            return
        self.did()
        reply = await self._client.expect_reply_within(COMMAND_WITHIN, **request)
        if reply.get("status") != "processed":
            self.refused(reply.get("code"), reply)

    def _request(self, timer_id: str) -> Message:
        habits = self.habits
        action = habits.choose(
            "start", "pause", "resume", "extend", "extend", "rename", "rename", "add", "remove", "stop"
        )
        if action == "stop" and not habits.chance(0.3):
            action = "pause"
        match action:
            case "rename":
                return {"type": "timer", "action": "update", "timer": {"id": timer_id, "name": habits.new_name()}}
            case "add" | "remove":
                return {"type": "share", "action": action, "timerId": timer_id, "sharedWithUser": habits.other()}
            case "extend":
                by = format_duration(timedelta(seconds=habits.seconds()))
                return {"type": "timer", "action": action, "timerId": timer_id, "by": by}
        return {"type": "timer", "action": action, "timerId": timer_id}

    async def differences(self, stored: Stored) -> list[str]:
        heard = _versions_heard(self._client)
        return [
            f"{self.name} last heard of {timer_id} at {heard.get(timer_id)}, stored is {timer['version']}"
            for timer_id, timer in stored.items()
            if heard.get(timer_id) != timer["version"]
        ]


def _versions_heard(client: Client) -> dict[str, int]:
    """The latest version of each timer that a client was told, in answers and by what others did."""
    heard: dict[str, int] = {}
    for message in client.received:
        timers = message.get("timers", [message["timer"]] if "timer" in message else [])
        known = [(timer["id"], timer["version"]) for timer in timers]
        if "timerId" in message and "version" in message:
            known.append((message["timerId"], message["version"]))
        for timer_id, version in known:
            heard[timer_id] = max(heard.get(timer_id, 0), version)
    return heard
