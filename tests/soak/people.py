"""Families that share timers, each with phones of the published app beside clients of the first dialect."""

import asyncio
import random
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import websockets

from tests.system.app_client import AppClient, AppTimer, format_duration, parse_duration, parse_local
from tests.system.client import Client, Message, token

MOST_TIMERS = 5
"""Timers of one family: few, so that its members meet on them."""

_DAY = 86_400.0
_COME_AGAIN = 1013
_ROUNDING = timedelta(milliseconds=1)


@dataclass(frozen=True)
class Shown:
    """A timer as one screen has it, in words that both dialects have."""

    name: str
    owner: str
    members: frozenset[str]
    total: timedelta | None
    remaining: timedelta | None
    end: datetime | None

    def is_as(self, other: "Shown") -> bool:
        """Whether both show the same; ends may differ by what the digits of a client do not tell."""
        if (self.end is None) != (other.end is None):
            return False
        same_end = self.end is None or other.end is None or abs(self.end - other.end) <= _ROUNDING
        mine = (self.name, self.owner, self.members, self.total, self.remaining)
        return same_end and mine == (other.name, other.owner, other.members, other.total, other.remaining)


def shown_by_app(timer: AppTimer, utc_offset: int) -> Shown:
    """A timer on a phone, whose clock is so many minutes ahead of UTC."""
    end = None
    if timer.end is not None:
        end = (parse_local(timer.end) - timedelta(minutes=utc_offset)).replace(tzinfo=UTC)
    return Shown(
        timer.name,
        timer.user_id,
        timer.shared_with - {timer.user_id},
        parse_duration(timer.total) if timer.total else None,
        parse_duration(timer.remaining) if timer.remaining else None,
        end,
    )


def shown_by_first(timer: Message) -> Shown:
    """The same from a message of the first dialect. A timer that was not started has all of its time left."""
    end, total = timer.get("endTime"), timer.get("totalDuration")
    remaining = None if end else timer.get("remainingDuration") or total
    return Shown(
        timer["name"],
        timer["userId"],
        frozenset(timer["sharedWith"]),
        parse_duration(total) if total else None,
        parse_duration(remaining) if remaining else None,
        datetime.fromisoformat(end).astimezone(UTC) if end else None,
    )


class Family:
    """An owner and a member, each with a phone and with a client of the first dialect; the owner has a second phone."""

    def __init__(self, port: int, name: str, utc_offset: int) -> None:
        owner, member = f"{name}-owner", f"{name}-member"
        self.utc_offset = utc_offset
        self.phones = [
            AppClient(port, user, device, path=path, utc_offset=utc_offset, token_lifetime=_DAY)
            for user, device, path in ((owner, "pixel", "/prod/"), (owner, "tablet", "/"), (member, "pixel", "/ws"))
        ]
        self.clients = [_laptop(port, user) for user in (owner, member)]
        self.laptops_sent_away = 0
        self._port = port
        self.owner, self.member = owner, member
        self.changes = 0
        self.refusals = 0
        self.voluntary_reconnects = 0
        self._connections = AsyncExitStack()
        self._random = random.Random(name)
        self._number = 0

    async def enter(self) -> None:
        """Everybody connects; the phones' clocks become known as in life, by a timer that is started."""
        everybody: list[AppClient | Client] = [*self.phones, *self.clients]
        for each in everybody:
            await self._connections.enter_async_context(each)
        for phone in self.phones:
            await phone.snapshot()
            timer = phone.make("Clock")
            timer.shared_with = frozenset((phone.user,))
            await phone.tell(timer)
            await phone.settled()
            await phone.start(timer.id)
            await phone.settled()
            await phone.stop(timer.id)
            await phone.settled()

    async def leave(self) -> None:
        """Everybody goes."""
        await self._connections.aclose()

    async def live(self, until: float) -> None:
        """Everybody uses their timers, until a moment by the monotonic clock."""
        async with asyncio.TaskGroup() as group:
            for phone in self.phones:
                group.create_task(self._use_phone(phone, until))
            for number in range(len(self.clients)):
                group.create_task(self._use_laptop(number, until))

    async def _use_phone(self, phone: AppClient, until: float) -> None:
        choose = self._random
        while time.monotonic() < until:
            await asyncio.sleep(choose.expovariate(1 / 2.0))
            action = choose.choice(("make", "start", "start", "pause", "pause", "rename", "share", "stop", "again"))
            self.changes += 1
            if action == "make" and phone.user == self.owner and len(phone.timers) < MOST_TIMERS:
                timer = phone.make(f"Timer {self._next()}", choose.choice(("PT5M", "PT1H", "PT25M30S")))
                await phone.share(timer.id, *choose.choice(((), (self.member,), (self.member,))))
            elif action == "again" and choose.random() < 0.05:
                self.voluntary_reconnects += 1
                await phone.leave_socket_open_and_reconnect()
            elif phone.timers:
                timer_id = choose.choice(list(phone.timers))
                await self._change(phone, action, timer_id)

    async def _change(self, phone: AppClient, action: str, timer_id: str) -> None:
        if phone.is_too_soon(timer_id):
            return  # the app would send an old state: it throws its own changes away, too
        match action:
            case "start":
                await phone.start(timer_id)
            case "pause":
                await phone.pause(timer_id)
            case "rename":
                await phone.rename(timer_id, f"Name {self._next()}")
            case "share" if phone.user == self.owner:
                await phone.share(timer_id, *self._random.choice(((), (self.member,), (self.member,))))
            case "stop" if self._random.random() < 0.3:
                await phone.stop(timer_id)

    async def _use_laptop(self, number: int, until: float) -> None:
        """A client of the first dialect comes back when it is told to (1013: a timer was taken away while a list waited)."""
        while time.monotonic() < until:
            try:
                await self._use_client(self.clients[number], until)
            except (AssertionError, websockets.ConnectionClosed):
                if self.clients[number].socket.close_code != _COME_AGAIN:
                    raise
                self.laptops_sent_away += 1
                self.clients[number] = _laptop(self._port, self.clients[number].user)
                await self._connections.enter_async_context(self.clients[number])

    async def _use_client(self, client: Client, until: float) -> None:
        choose = self._random
        while time.monotonic() < until:
            await asyncio.sleep(choose.expovariate(1 / 2.0))
            timers = (await client.expect_reply_within(30, type="sync", versions={})).get("timers", [])
            client.inbox.clear()
            self.changes += 1
            if len(timers) < 2 and client.user == self.owner:
                request: Message = {
                    "type": "timer",
                    "action": "update",
                    "timer": {"id": f"{self.owner}-{self._next()}", "name": "Made here", "totalDuration": "PT10M"},
                }
            elif timers:
                request = self._request(choose.choice(timers))
            else:
                continue
            reply = await client.expect_reply_within(30, **request)
            if reply.get("status") != "processed":
                self.refusals += 1  # it was stopped or taken away a moment ago

    def _request(self, timer: Message) -> Message:
        timer_id, choose = timer["id"], self._random
        action = choose.choice(
            ("start", "pause", "resume", "extend", "extend", "rename", "burst", "add", "remove", "stop")
        )
        match action:
            case "rename" | "burst":
                return {"type": "timer", "action": "update", "timer": {"id": timer_id, "name": f"Name {self._next()}"}}
            case "add" | "remove":
                return {"type": "share", "action": action, "timerId": timer_id, "sharedWithUser": self.member}
            case "stop" if choose.random() > 0.3:
                action = "pause"
        request: dict[str, Any] = {"type": "timer", "action": action, "timerId": timer_id}
        return request | (
            {"by": format_duration(timedelta(seconds=choose.randint(1, 90)))} if action == "extend" else {}
        )

    def _next(self) -> int:
        self._number += 1
        return self._number

    # --- what they end on -----------------------------------------------------------------------------------------------

    async def differences(self) -> list[str]:
        """What any screen shows otherwise than it is stored."""
        found = []
        for client in self.clients:
            snapshot = await client.expect_reply_within(30, type="sync", versions={})
            stored = {timer["id"]: timer for timer in snapshot["timers"]}
            versions = {timer_id: timer["version"] for timer_id, timer in stored.items()}
            heard = _versions_heard(client)
            found += [
                f"{client.user}'s laptop last heard of {timer_id} at {heard.get(timer_id)}, stored is {version}"
                for timer_id, version in versions.items()
                if heard.get(timer_id) != version
            ]
            for phone in self.phones:
                if phone.user == client.user:
                    found += self._differences_of(phone, stored)
        return found

    def _differences_of(self, phone: AppClient, stored: dict[str, Message]) -> list[str]:
        found = []
        for timer_id in stored.keys() | phone.timers.keys():
            there, here = stored.get(timer_id), phone.timers.get(timer_id)
            if there is None or here is None or not shown_by_app(here, self.utc_offset).is_as(shown_by_first(there)):
                found.append(f"{phone.user}'s {phone.device}: {here}, stored is {there}")
        return found


def _laptop(port: int, user: str) -> Client:
    return Client(port, user, "laptop", token=token(user, lifetime=_DAY))


def _versions_heard(client: Client) -> dict[str, int]:
    """The latest version of each timer that a client was told, in answers to its own commands and by what others did."""
    heard: dict[str, int] = {}
    for message in client.received:
        if message.get("type") == "snapshot" and "messageId" in message:
            continue  # the answers to `sync`, which it is compared with
        timers = message.get("timers", [message["timer"]] if "timer" in message else [])
        known = [(timer["id"], timer["version"]) for timer in timers]
        if "timerId" in message and "version" in message:
            known.append((message["timerId"], message["version"]))
        for timer_id, version in known:
            heard[timer_id] = max(heard.get(timer_id, 0), version)
    return heard
