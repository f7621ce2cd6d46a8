"""People who go on using the system while parts of it are replaced: they reconnect and repeat, as the protocol tells clients to."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import websockets

from tests.system.client import Client, Message

_PAUSE = 0.05  # seconds between two updates of one writer
_REPLY_WITHIN = 8.0  # more than the edge takes to give up on a call
_BACKOFF = 0.2
_BEGUN_WITHIN = 60.0  # seconds in which everybody is at work: the machine has just started a dozen containers


_GONE = (OSError, TimeoutError, AssertionError, websockets.WebSocketException)
"""What a client meets whose connection is lost, or whose handshake is refused."""


class Person:
    """Somebody with one device who comes back whenever the connection ends, until `leave`."""

    def __init__(self, port: int, user: str, device: str, timer_id: str) -> None:
        self.connects = 0
        self._port = port
        self._user = user
        self._device = device
        self._timer_id = timer_id
        self._client: Client | None = None
        self._leaving = False

    async def run(self) -> None:
        """Stays connected and busy."""
        while not self._leaving:
            try:
                async with Client(self._port, self._user, self._device) as client:
                    self.connects += 1
                    self._client = client
                    await self._use(client)
            except _GONE:
                await asyncio.sleep(0 if self._leaving else _BACKOFF)

    async def leave(self) -> None:
        """Ends `run`, soon."""
        self._leaving = True
        if self._client is not None:
            await self._client.socket.close()

    async def _use(self, client: Client) -> None:
        raise NotImplementedError


class Writer(Person):
    """Renames one timer again and again. Every update is repeated under its `messageId` until it is acknowledged."""

    def __init__(self, port: int, user: str, timer_id: str) -> None:
        super().__init__(port, user, "laptop", timer_id)
        self.acknowledged = 0
        self.sendings = 0
        self.refusals: list[Message] = []
        self.longest_wait = 0.0
        """Seconds from the first sending of an update to its acknowledgement, of the one that took longest."""
        self._first_sent_at = 0.0
        self._finish = asyncio.Event()

    async def finish(self) -> None:
        """Returns when the update under way is acknowledged; none follows it."""
        self._finish.set()
        async with asyncio.timeout(60):
            while self._first_sent_at:
                await asyncio.sleep(0.01)

    async def _use(self, client: Client) -> None:
        while self._first_sent_at or not self._finish.is_set():
            self._first_sent_at = self._first_sent_at or time.monotonic()
            if await self._update(client):
                self.longest_wait = max(self.longest_wait, time.monotonic() - self._first_sent_at)
                self.acknowledged += 1
                self._first_sent_at = 0.0
                await asyncio.sleep(_PAUSE)
            else:
                await asyncio.sleep(_BACKOFF)
        await client.closed(within=3_600)

    async def _update(self, client: Client) -> bool:
        self.sendings += 1
        name = f"n{self.acknowledged + 1}"
        reply = await client.expect_reply_within(
            _REPLY_WITHIN,
            type="timer",
            action="update",
            messageId=name,
            timer={"id": self._timer_id, "name": name},
        )
        if reply.get("status") != "processed":
            self.refusals.append(reply)
        return reply.get("status") == "processed"


class Reader(Person):
    """Watches that timer from another user's phone."""

    def __init__(self, port: int, user: str, timer_id: str) -> None:
        super().__init__(port, user, "phone", timer_id)
        self.name = ""

    async def _use(self, client: Client) -> None:
        for timer in client.snapshot["timers"]:
            if timer["id"] == self._timer_id:
                self.name = timer["name"]
        while True:
            self.name = (await client.update(self._timer_id, within=3_600))["name"]


class Load:
    """Pairs of a writer and a reader."""

    def __init__(self, pairs: list[tuple[Writer, Reader]]) -> None:
        self.pairs = pairs

    async def caught_up(self, within: float) -> None:
        """Ends the writing; returns when every reader has the last state that was acknowledged. Fails when one has not, and
        when a writer was refused for anything but a part of the system that is away or has too much to do.
        """
        for writer, _ in self.pairs:
            await writer.finish()
        assert {refusal["code"] for writer, _ in self.pairs for refusal in writer.refusals} <= {503}
        deadline = time.monotonic() + within
        while behind := [
            (f"n{writer.acknowledged}", reader.name)
            for writer, reader in self.pairs
            if reader.name != f"n{writer.acknowledged}"
        ]:
            assert time.monotonic() < deadline, f"written and read: {behind}"
            await asyncio.sleep(0.05)

    def report(self) -> str:
        """What it saw, in one line."""
        writers = [writer for writer, _ in self.pairs]
        return (
            f"{sum(writer.acknowledged for writer in writers)} updates acknowledged to {len(writers)} writers, "
            f"{sum(writer.sendings - writer.acknowledged for writer in writers)} repeated "
            f"({sum(len(writer.refusals) for writer in writers)} after an error), "
            f"{sum(writer.connects for writer in writers)} connects, "
            f"longest wait for one {max(writer.longest_wait for writer in writers):.1f} s"
        )


async def _share_a_timer(port: int, alice: str, bob: str, timer_id: str) -> None:
    deadline = time.monotonic() + _BEGUN_WITHIN
    while True:
        try:
            async with Client(port, alice, "laptop") as client:
                await client.done(
                    type="timer", action="update", timer={"id": timer_id, "name": "n0", "totalDuration": "PT5M"}
                )
                await client.done(type="share", action="add", timerId=timer_id, sharedWithUser=bob)
        except _GONE:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(_BACKOFF)
        else:
            return


@asynccontextmanager
async def under_load(port: int, prefix: str, pairs: int = 6) -> AsyncIterator[Load]:
    """Runs pairs of people for the length of the context. They are at work when it begins."""
    made = []
    for number in range(pairs):
        alice, bob, timer_id = (f"{prefix}-{name}-{number}" for name in ("alice", "bob", "timer"))
        await _share_a_timer(port, alice, bob, timer_id)
        made.append((Writer(port, alice, timer_id), Reader(port, bob, timer_id)))
    tasks = [asyncio.create_task(someone.run()) for pair in made for someone in pair]
    try:
        deadline = time.monotonic() + _BEGUN_WITHIN
        while not all(writer.acknowledged and reader.connects for writer, reader in made):
            assert time.monotonic() < deadline, "the load does not begin"
            await asyncio.sleep(0.05)
        yield Load(made)
    finally:
        await asyncio.gather(*(someone.leave() for pair in made for someone in pair), return_exceptions=True)
        _, stuck = await asyncio.wait(tasks, timeout=15)
        for task in stuck:
            task.cancel()
        await asyncio.gather(*tasks)
