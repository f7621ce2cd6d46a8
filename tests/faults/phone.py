"""A client that does what docs/protocol.md asks of one: comes back with jitter, syncs, and repeats what was not answered."""

import asyncio
import contextlib
import itertools
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlencode

import websockets
from websockets.asyncio.client import ClientConnection

from tests.faults.referee import Operation, Referee
from tests.system.client import Message, token

ANSWER_PATIENCE = 7.0
"""Seconds after which a phone that got no answer takes its connection for dead. More than the system takes to refuse."""

LONGEST_BACKOFF = 1.5
"""Seconds. A real client waits up to 30 s; here it would only make rounds longer."""

_HANDSHAKE_PATIENCE = 4.0
_TRY_AGAIN = frozenset((429, 503))


class Shown(NamedTuple):
    """A timer as a phone shows it."""

    version: int
    share_version: int
    name: str
    remaining: str
    members: frozenset[str]


@dataclass
class _Request:
    frame: Message
    answer: asyncio.Future[Message]
    sent_at: float = 0.0
    repeats: bool = True


class Phone:
    """One device of one user. `resumes`: it keeps what it has over reconnects, and syncs; else it starts anew each time."""

    def __init__(
        self, user: str, device: str, ports: Callable[[], list[int]], referee: Referee, *, resumes: bool
    ) -> None:
        self.user = user
        self.name = f"{user}/{device}"
        self.view: dict[str, Shown] = {}
        self.connected_at = 0.0
        """By the monotonic clock, when the present connection had its snapshot; 0: it has none."""
        self.reconnects = 0
        self._device = device
        self._ports = ports
        self._referee = referee
        self._resumes = resumes
        self._token = token(user, lifetime=86_400)
        self._numbers = itertools.count(1)
        self._requests: dict[str, _Request] = {}
        self._socket: ClientConnection | None = None
        self._greeted = False

    async def run(self) -> None:
        """Stays connected until cancelled."""
        failures = 0
        while True:
            since = time.monotonic()
            with contextlib.suppress(OSError, websockets.WebSocketException, TimeoutError, EOFError):
                await self._connection()
            self._socket, self._greeted, self.connected_at = None, False, 0.0
            failures = 1 if time.monotonic() - since > 5 else failures + 1
            self.reconnects += 1
            await asyncio.sleep(random.uniform(0, min(LONGEST_BACKOFF, 0.25 * 2**failures)))

    async def ask(self, **frame: Any) -> Message:
        """Sends a request, again and again until it is answered with something else than 429 or 503; returns the answer."""
        message_id = f"{self._device}-{next(self._numbers)}"
        request = _Request(frame | {"messageId": message_id}, asyncio.get_running_loop().create_future())
        self._requests[message_id] = request
        try:
            while True:
                await self._send(request)
                answer = await request.answer
                if answer.get("code") not in _TRY_AGAIN:
                    return answer
                request.answer = asyncio.get_running_loop().create_future()
                request.sent_at = 0.0
                await asyncio.sleep(answer["retryAfter"] * random.uniform(0.5, 1.0))
        finally:
            del self._requests[message_id]

    async def do(self, kind: str, timer_id: str, value: str = "", **frame: Any) -> Message:
        """A command that is reported to the referee."""
        operation = self._referee.began(self.user, kind, timer_id, value, time.monotonic())
        answer = await self.ask(**frame)
        self._report(operation, answer)
        return answer

    async def abandon(self, timer_id: str, **frame: Any) -> None:
        """Sends a command once and cuts the connection, before the answer or after it."""
        operation = self._referee.began(self.user, "abandon", timer_id, "", time.monotonic())
        message_id = f"{self._device}-{next(self._numbers)}"
        request = _Request(frame | {"messageId": message_id}, asyncio.get_running_loop().create_future(), repeats=False)
        self._requests[message_id] = request
        await self._send(request)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(random.uniform(0, 0.05)):
                await asyncio.shield(request.answer)
        del self._requests[message_id]
        if request.answer.done() and request.answer.result().get("code") not in _TRY_AGAIN:
            self._report(operation, request.answer.result())
        else:
            self._referee.gave_up(operation)
            self.drop()

    def drop(self) -> None:
        """Cuts the connection without a word."""
        if self._socket is not None:
            self._socket.transport.abort()

    def silent_for(self, now: float) -> float:
        """Seconds for which the oldest request on this connection has had no answer."""
        waiting = [each.sent_at for each in self._requests.values() if each.sent_at and not each.answer.done()]
        return now - min(waiting, default=now)

    # --- one connection -------------------------------------------------------------------------------------------------

    async def _connection(self) -> None:
        ports = self._ports()
        if not ports:
            return
        query = {"token": self._token, "deviceId": self._device} | ({"resume": "1"} if self.view else {})
        if not self._resumes:
            self.view.clear()
            query.pop("resume", None)
        socket = await websockets.connect(
            f"ws://127.0.0.1:{random.choice(ports)}/ws?{urlencode(query)}",
            compression=None,
            ping_interval=None,
            open_timeout=_HANDSHAKE_PATIENCE,
            close_timeout=0.2,
            max_size=None,
        )
        self._socket = socket
        for request in self._requests.values():
            request.sent_at = 0.0
        opened_at = time.monotonic()
        watch = asyncio.create_task(self._watch(socket, opened_at))
        try:
            async for text in socket:
                await self._receive(json.loads(text))
        finally:
            watch.cancel()
            socket.transport.abort()

    async def _watch(self, socket: ClientConnection, opened_at: float) -> None:
        """Takes the connection for dead when nothing is answered, as a phone does that pings."""
        while True:
            await asyncio.sleep(0.5)
            now = time.monotonic()
            ungreeted = now - opened_at if not self.connected_at else 0.0
            if max(self.silent_for(now), ungreeted) > ANSWER_PATIENCE:
                socket.transport.abort()
                return

    async def _send(self, request: _Request) -> None:
        if self._socket is not None and self._greeted:
            request.sent_at = time.monotonic()
            with contextlib.suppress(websockets.ConnectionClosed):
                await self._socket.send(json.dumps(request.frame))

    async def _receive(self, message: Message) -> None:
        match message.get("type"):
            case "connected":
                await self._connected()
            case "snapshot":
                for timer in message["timers"]:
                    self._show(timer)
                for timer_id in message["gone"]:
                    self.view.pop(timer_id, None)
                if not self.connected_at:
                    self.connected_at = time.monotonic()
            case "timer" if message["action"] == "update":
                self._show(message["timer"])
            case "timer":
                self._stopped(message["timerId"], message["version"])
            case "share" if message["action"] == "add":
                self._show(message["timer"])
            case "share":
                self.view.pop(message["timerId"], None)
                # The delivery's name has the audience's version in it. No client needs that; a referee does.
                share_version = int(message["messageId"].split(".")[1], 16)
                self._referee.dismissed(self.name, message["timerId"], share_version)
        if "status" in message and message.get("messageId") in self._requests:
            request = self._requests[message["messageId"]]
            if not request.answer.done():
                self._take_answer(request.frame, message)
                request.answer.set_result(message)

    async def _connected(self) -> None:
        if self._resumes and self.view:
            await self._sync()
        self._greeted = True
        for request in list(self._requests.values()):
            if request.repeats and not request.answer.done():
                await self._send(request)

    async def _sync(self) -> None:
        assert self._socket is not None
        await self._socket.send(
            json.dumps(
                {
                    "type": "sync",
                    "versions": {timer_id: shown.version for timer_id, shown in self.view.items()},
                    "shareVersions": {timer_id: shown.share_version for timer_id, shown in self.view.items()},
                }
            )
        )

    def _show(self, timer: Message) -> None:
        """A state that was delivered: it must never be older than what came before."""
        self._referee.saw(
            self.name,
            self.user,
            timer["id"],
            timer["version"],
            timer["shareVersion"],
            timer["name"],
            time.monotonic(),
        )
        self._take(timer)

    def _take(self, timer: Message) -> None:
        """Takes a state over by the rule for clients."""
        timer_id = timer["id"]
        old = self.view.get(timer_id) or Shown(0, 0, "", "", frozenset())
        version, name, remaining = old.version, old.name, old.remaining
        if timer["version"] >= version:
            version, name, remaining = timer["version"], timer["name"], timer.get("remainingDuration", "")
        share_version, members = old.share_version, old.members
        if timer["shareVersion"] >= share_version:
            share_version, members = timer["shareVersion"], frozenset(timer["sharedWith"])
        self.view[timer_id] = Shown(version, share_version, name, remaining, members)

    def _stopped(self, timer_id: str, version: int) -> None:
        shown = self.view.get(timer_id)
        if shown is None or shown.version <= version:
            self.view.pop(timer_id, None)

    # --- answers --------------------------------------------------------------------------------------------------------

    def _take_answer(self, frame: Message, answer: Message) -> None:
        """What a phone knows from the answer to its own command."""
        if answer["status"] != "processed" or "version" not in answer:
            return
        timer_id, version = answer["timerId"], answer["version"]
        shown = self.view.get(timer_id)
        if "timer" in answer:
            self._take(answer["timer"])  # an answer may be overtaken by a delivery: that is why there is a rule
        elif frame["type"] == "share":
            if shown is not None and answer["shareVersion"] >= shown.share_version:
                self.view[timer_id] = shown._replace(
                    share_version=answer["shareVersion"], members=frozenset(answer["sharedWith"])
                )
        elif frame["action"] == "stop":
            self._stopped(timer_id, version)
        elif shown is None or version > shown.version:
            fields = frame["timer"]
            old = shown or Shown(0, 0, "", "", frozenset())
            self.view[timer_id] = old._replace(
                version=version, name=fields["name"], remaining=fields.get("remainingDuration", old.remaining)
            )
        self._referee.knows(self.name, timer_id, version)

    def _report(self, operation: Operation, answer: Message) -> None:
        if answer["status"] == "processed":
            share = operation.kind in ("add", "remove")
            self._referee.acknowledged(operation, answer["shareVersion" if share else "version"], time.monotonic())
        else:
            self._referee.refused(operation)
