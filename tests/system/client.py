"""A WebSocket client for tests, independent of the system's code: what a phone or a browser would see."""

import asyncio
import itertools
import json
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

import jwt
import websockets
from websockets.asyncio.client import ClientConnection

from tests.system.cluster import SECRET

Message = dict[str, Any]

WITHIN = 5.0
"""Seconds in which what is expected must come. Generous: the machine may be busy."""


def token(user: str, *, lifetime: float = 600, secret: str = SECRET, **claims: object) -> str:
    """A token as an identity provider would make it."""
    return jwt.encode({"sub": user, "exp": time.time() + lifetime, **claims}, secret, algorithm="HS256")


class Client:
    """One connection. Use as a context manager; `connected` and `snapshot` are the first two frames."""

    def __init__(self, port: int, user: str, device: str | None = None, **options: Any) -> None:
        self.user = user
        self.connected: Message = {}
        self.snapshot: Message = {}
        self.inbox: list[Message] = []
        self.received: list[Message] = []
        self._port = port
        self._device = device
        self._options = options
        self._ids = itertools.count(1)
        self._arrived = asyncio.Condition()
        self._reader: asyncio.Task[None] | None = None
        self.socket: ClientConnection

    async def __aenter__(self) -> Self:
        query = {"token": self._options.pop("token", None) or token(self.user)}
        if self._device is not None:
            query["deviceId"] = self._device
        resume = self._options.pop("resume", False)
        if resume:
            query["resume"] = "1"
        url = f"ws://127.0.0.1:{self._port}/ws?{urlencode(query)}"
        self.socket = await websockets.connect(url, compression=None, ping_interval=None, **self._options)
        self._reader = asyncio.create_task(self._read())
        self.connected = await self.expect(lambda message: message.get("type") == "connected")
        if not resume:
            self.snapshot = await self.expect(lambda message: message.get("type") == "snapshot")
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.socket.close()
        if self._reader is not None:
            await self._reader

    async def send(self, **message: Any) -> None:
        """Sends a message."""
        await self.socket.send(json.dumps(message))

    async def ask(self, **message: Any) -> Message:
        """Sends a message with a fresh id and returns its reply."""
        return await self.expect_reply_within(WITHIN, **message)

    async def expect_reply_within(self, within: float, **message: Any) -> Message:
        """`ask`, for a system that has to recover first."""
        message_id = message.setdefault("messageId", f"m{next(self._ids)}")
        await self.send(**message)
        return await self.expect(lambda reply: reply.get("messageId") == message_id, within)

    async def done(self, **message: Any) -> Message:
        """The same for a message that must be accepted."""
        reply = await self.ask(**message)
        assert reply.get("status") == "processed", reply
        return reply

    async def expect(self, wanted: Callable[[Message], bool], within: float = WITHIN) -> Message:
        """The first message that is wanted, now or soon; it is taken out of the inbox."""
        async with self._arrived:
            async with asyncio.timeout(within):
                while True:
                    for index, message in enumerate(self.inbox):
                        if wanted(message):
                            return self.inbox.pop(index)
                    if self._reader is not None and self._reader.done():
                        raise AssertionError(f"closed {self.socket.close_code}; inbox: {self.inbox}")
                    try:
                        await self._arrived.wait()
                    except asyncio.CancelledError:
                        print(f"{self.user} waited in vain; inbox: {self.inbox}")
                        raise

    async def update(self, timer_id: str, within: float = WITHIN) -> Message:
        """The next update of a timer: its `timer`."""
        message = await self.expect(
            lambda m: m.get("type") == "timer" and m["action"] == "update" and m["timer"]["id"] == timer_id, within
        )
        timer: Message = message["timer"]
        return timer

    async def nothing_came(self) -> None:
        """Fails when the inbox holds anything, after everything that was under way for this connection has come."""
        await self.ask(type="ping")
        assert self.inbox == []

    async def closed(self, within: float = WITHIN) -> int | None:
        """The close code, when the connection has ended."""
        assert self._reader is not None
        await asyncio.wait_for(asyncio.shield(self._reader), within)
        return self.socket.close_code

    async def expect_end_or_error(self) -> None:
        """Returns when the server has refused something or closed the connection."""
        async with self._arrived:
            async with asyncio.timeout(WITHIN):
                await self._arrived.wait_for(
                    lambda: (
                        any(message.get("status") == "error" for message in self.inbox)
                        or (self._reader is not None and self._reader.done())
                        or self.socket.close_code is not None
                    )
                )

    async def _read(self) -> None:
        try:
            async for text in self.socket:
                message = json.loads(text)
                async with self._arrived:
                    self.inbox.append(message)
                    self.received.append(message)
                    self._arrived.notify_all()
        except websockets.ConnectionClosed:
            pass
        finally:
            async with self._arrived:
                self._arrived.notify_all()


async def eventually(condition: Callable[[], Any], within: float = WITHIN) -> None:
    """Returns when the condition holds; fails when it does not in time."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        await asyncio.sleep(0.01)
