"""A picture of one trace: `python -m bench.trace_picture > docs/trace.svg`, on a system that runs with Jaeger.

Alice starts a timer that Bob sees, and Bob's phone acknowledges it. Jaeger is asked for the trace of that, and it is drawn as
it was: nothing in the picture is made up. With the id of a trace as argument, that one is drawn.
"""

import argparse
import asyncio
import json
import secrets
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import jwt

from bench.waterfall import draw, spans_of

_WITHIN = 30.0  # seconds a trace may take to come to Jaeger; processes send their spans every five seconds
_SETTLED = 6.0  # seconds in which no further span may come

Message = dict[str, Any]


class Phone:
    """One connection."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket

    async def send(self, **message: Any) -> None:
        """Sends a message."""
        await self._socket.send_json(message)

    async def receive(self, wanted: Callable[[Message], bool]) -> Message:
        """The next message that is wanted; others are dropped."""
        async with asyncio.timeout(10):
            while True:
                message: Message = await self._socket.receive_json()
                if wanted(message):
                    return message

    async def do(self, **message: Any) -> Message:
        """Sends a request and returns its reply. Raises RuntimeError when it is refused."""
        message_id = secrets.token_hex(4)
        await self.send(messageId=message_id, **message)
        reply = await self.receive(lambda each: each.get("messageId") == message_id)
        if reply.get("status") != "processed":
            raise RuntimeError(f"refused: {reply}")
        return reply


async def play(http: aiohttp.ClientSession, options: argparse.Namespace) -> str:
    """Starts a timer from one phone to another; returns the id of its trace."""
    suffix = secrets.token_hex(3)
    alice, bob, tea = f"alice-{suffix}", f"bob-{suffix}", f"tea-{suffix}"
    async with AsyncExitStack() as stack:
        phone, other = [await _phone(stack, http, options, user) for user in (alice, bob)]
        await phone.do(type="timer", action="update", timer={"id": tea, "name": "Tea", "totalDuration": "PT5M"})
        await phone.do(type="share", action="add", timerId=tea, sharedWithUser=bob)
        await other.receive(lambda message: message.get("type") == "share")
        for action in ("start", "pause") * options.warm_up:
            await phone.do(type="timer", action=action, timerId=tea)
            await other.receive(lambda message: message.get("type") == "timer")
        trace_id = secrets.token_hex(16)
        await phone.do(
            type="timer", action="start", timerId=tea, traceparent=f"00-{trace_id}-{secrets.token_hex(8)}-01"
        )
        delivery = await other.receive(lambda message: message.get("type") == "timer")
        await other.send(type="ack", messageId=delivery["messageId"])
        await phone.do(type="share", action="remove", timerId=tea, sharedWithUser=bob)
    return trace_id


async def _phone(stack: AsyncExitStack, http: aiohttp.ClientSession, options: argparse.Namespace, user: str) -> Phone:
    parameters = {"token": await _token(http, options, user), "deviceId": "phone"}
    return Phone(await stack.enter_async_context(http.ws_connect(f"{options.url}/ws", params=parameters)))


async def _token(http: aiohttp.ClientSession, options: argparse.Namespace, user: str) -> str:
    if options.secret:
        return jwt.encode({"sub": user, "exp": time.time() + 600}, options.secret, algorithm="HS256")
    async with http.post(f"{options.url}/dev/token", json={"user": user}) as response:
        response.raise_for_status()
        return str((await response.json())["token"])


async def fetch(http: aiohttp.ClientSession, jaeger: str, trace_id: str) -> Message:
    """A trace from Jaeger, when no further span of it has come for a while. Raises TimeoutError."""
    count, since = 0, time.monotonic()
    async with asyncio.timeout(_WITHIN):
        while True:
            async with http.get(f"{jaeger}/api/traces/{trace_id}") as response:
                trace: Message = (await response.json())["data"][0] if response.ok else {"spans": []}
            if len(trace["spans"]) != count:
                count, since = len(trace["spans"]), time.monotonic()
            if count and time.monotonic() - since > _SETTLED:
                return trace
            await asyncio.sleep(0.5)


async def run(options: argparse.Namespace) -> str:
    """The picture."""
    async with aiohttp.ClientSession() as http:
        trace_id = options.trace_id or await play(http, options)
        trace = await fetch(http, options.jaeger, trace_id)
    if options.json:
        return json.dumps(trace)
    return draw(spans_of(trace), options.title)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("trace_id", nargs="?", default="", help="a trace that Jaeger has; without it, one is made")
    parser.add_argument("--url", default="http://127.0.0.1:8080", help="the edge")
    parser.add_argument("--jaeger", default="http://127.0.0.1:16686", help="Jaeger's query API")
    parser.add_argument("--secret", default="", help="token secret; without it, development tokens are asked for")
    parser.add_argument("--title", default="Alice presses start, Bob's phone shows it", help="what stands above it")
    parser.add_argument("--warm-up", type=int, default=5, help="starts before the one that is drawn")
    parser.add_argument("--json", action="store_true", help="print what Jaeger has instead")
    sys.stdout.write(asyncio.run(run(parser.parse_args())))


if __name__ == "__main__":
    main()
