"""Everybody who uses a system while it is measured: connects, shares, is let loose, and is asked afterwards what it saw."""

import asyncio
import gc
import itertools
import json
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bench.client import Client
from bench.dialects import FIRST_NUMBER, Bubble, Dialect, Member
from bench.pace import Schedule, Ticker
from bench.recorder import ClosedLoop, Recorder
from bench.scenarios import Crowd, Load
from bench.verify import History

_AT_ONCE = 100  # devices that connect, or share, at the same time
_CONNECT_WITHIN = 60.0  # seconds, of one device
_ASK_AT_ONCE = 4  # requests of one sender, while all share their timers
_SHARE_WITHIN = 120.0  # seconds, of one sender
_SETTLE_WITHIN = 20.0  # seconds after the end of a load in which everything must be answered and delivered
_BREATH = 0.002
"""Seconds between two looks at the sockets in a closed loop. What comes in a breath is read in one piece, so a delivery costs the
generator a third of what it would, and the machine is left to the system. Latencies below that are for open loops."""
_QUIET = 0.3  # seconds without a byte to anybody, after which all is delivered


class Phone(Client):
    """One device, while nothing is measured."""

    def __init__(self, url: str, dialect: Dialect, member: Member, group: int, timers: Sequence[str]) -> None:
        super().__init__(url, member.user, member.token, device=member.device)
        self.member = member
        self.group = group
        self.timers = timers
        self.asked = 0.0
        self.answered = 0.0
        """When the connection was asked for, and could be used."""
        self.turned_away = 0
        self._place = url
        self._dialect = dialect
        self._asked = itertools.count()
        self._asking: dict[str, dict[str, Any]] = {}
        self._to_ask: list[dict[str, Any]] = []
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def again(self) -> "Phone":
        """The same device, not connected yet."""
        return Phone(self._place, self._dialect, self.member, self.group, self.timers)

    def path(self) -> str:
        return self._dialect.path(self.member)

    def on_open(self) -> None:
        if self._dialect.opening:
            self.send(self._dialect.opening % self.member.token)

    def makes_ready(self, payload: bytes) -> bool:
        if not payload.startswith(self._dialect.ready):
            return False
        self.answered = time.perf_counter()
        return True

    def on_text(self, payload: bytes) -> None:
        if len(payload) <= 2 and (answer := self._dialect.pings.get(payload)):
            self.send(answer)
        elif self._asking and payload.startswith(b'{"status":'):
            self._answered(json.loads(payload))

    def _answered(self, reply: dict[str, Any]) -> None:
        asked = self._asking.pop(reply.get("messageId", ""))
        if reply["status"] == "processed":
            self._ask_next()
        elif reply["code"] == 503:
            asyncio.get_running_loop().call_later(reply["retryAfter"], self._ask, asked)
        elif not self._done.done():
            self._done.set_exception(RuntimeError(f"refused: {reply}"))

    def _ask_next(self) -> None:
        if self._to_ask:
            self._ask(self._to_ask.pop())
        elif not self._asking and not self._done.done():
            self._done.set_result(None)

    def _ask(self, request: dict[str, Any]) -> None:
        number = str(next(self._asked))
        self._asking[number] = request
        self.send(json.dumps({**request, "messageId": number}))

    async def arrive(self) -> None:
        """Connects, and again when the system has no room just now (503). Raises OSError or TimeoutError."""
        self.asked = time.perf_counter()
        async with asyncio.timeout(_CONNECT_WITHIN):
            while True:
                try:
                    await self.connect()
                    await self.ready
                except ConnectionError as error:
                    if " 503 " not in str(error):
                        raise
                else:
                    return
                self.turned_away += 1
                await asyncio.sleep(random.uniform(0.5, 1.5))
                self.start_anew()

    async def ask(self, requests: Iterable[dict[str, Any]]) -> None:
        """Sends requests of ours, some at a time, and again those that come too fast; returns when all are done."""
        self._to_ask = list(requests)[::-1]
        self._done = asyncio.get_running_loop().create_future()
        for _ in range(_ASK_AT_ONCE):
            self._ask_next()
        await asyncio.wait_for(self._done, _SHARE_WITHIN)


@dataclass
class Window:
    """What was seen of a system during a load."""

    start: float
    end: float
    """Between these (monotonic clock) it was measured."""
    recorders: list[list[tuple[Phone, Recorder]]]
    """Of each group, with what came from before the warm-up to the end."""
    first: int
    """The number before those of this load's updates."""
    lost_connections: int
    """Before it and during it."""

    async def histories(self) -> AsyncIterator[list[History]]:
        """What each group's devices sent and saw. Between two groups the loop runs: other connections want their pongs."""
        for group in self.recorders:
            await asyncio.sleep(0)
            yield [_history(phone, recorder, self.first) for phone, recorder in group]


class Gathering:
    """All devices of a crowd, connected to one system."""

    def __init__(
        self,
        crowd: Crowd,
        dialect: Dialect,
        urls: Sequence[str],
        token: Callable[[str, str], str],
        *,
        prepared: bool = False,
    ) -> None:
        """`prepared`: their timers and shares are stored already."""
        self._dialect = dialect
        self._prepared = prepared
        places = itertools.cycle(urls)
        self._groups = [
            [
                Phone(next(places), dialect, Member(user, device, token(user, f"g{group}")), group, timers)
                for user, device, timers in seats
            ]
            for group, seats in enumerate(crowd.seats())
        ]
        self.phones = [phone for group in self._groups for phone in group]
        self._numbers = itertools.count(FIRST_NUMBER)

    async def arrive(self) -> None:
        """Everybody connects, and sees what they are to see. Raises OSError, TimeoutError or RuntimeError."""
        senders = [phone for phone in self.phones if phone.timers]
        await _together(senders, Phone.arrive)
        if isinstance(self._dialect, Bubble) and not self._prepared:
            await _together(senders, lambda phone: phone.ask(_create(phone.timers)))
            await _together(senders, lambda phone: phone.ask(_share(phone, self._groups[phone.group])))
        # Those who only look come when all is shared: else each share would be told to all who are there already.
        await _together([phone for phone in self.phones if not phone.timers], Phone.arrive)

    async def endure(self, load: Load, on_start: Callable[[], None], on_end: Callable[[], None]) -> Window:
        """Does what the load says; calls back when what is measured begins and ends. Returns when all has settled."""
        lost = await self._come_back()
        first = next(self._numbers)
        kind = Recorder if load.rate else ClosedLoop
        recorders: dict[Phone, Recorder] = {}
        for phone in self.phones:
            assert phone.transport is not None  # noqa: S101  # for mypy: it has arrived
            recorders[phone] = (kind if phone.timers else Recorder)(
                self._dialect, phone.timers, phone.transport, self._numbers
            )
            phone.transport.set_protocol(recorders[phone])
        with _undisturbed():
            stop = self._pace(recorders, load) if load.rate else self._windows(recorders, load)
            await asyncio.sleep(load.warmup)
            start = time.perf_counter()
            on_start()
            await asyncio.sleep(load.seconds)
            end = time.perf_counter()
            on_end()
            stop()
            await self._settle(recorders)
        for phone, recorder in recorders.items():
            if phone.transport is not None and not recorder.lost:
                phone.transport.set_protocol(phone)
                phone.transport.write(recorder.pongs())
        lost += sum(recorder.lost for recorder in recorders.values())
        return Window(
            start, end, [[(phone, recorders[phone]) for phone in group] for group in self._groups], first, lost
        )

    async def _come_back(self) -> int:
        """Connects those again that were cut; how many that were."""
        lost = 0
        for group in self._groups:
            for place, phone in enumerate(group):
                if phone.transport is None or phone.transport.is_closing():
                    lost += 1
                    group[place] = phone.again()
                    await group[place].arrive()
        self.phones = [phone for group in self._groups for phone in group]
        return lost

    def _windows(self, recorders: dict[Phone, Recorder], load: Load) -> Callable[[], None]:
        senders = [recorder for recorder in recorders.values() if isinstance(recorder, ClosedLoop)]
        for sender in senders:
            sender.start(load.window)

        loop = asyncio.get_running_loop()
        breathing = True

        def breathe() -> None:
            time.sleep(_BREATH)  # of the whole loop, that is the point
            if breathing:
                loop.call_soon(breathe)

        def stop() -> None:
            nonlocal breathing
            breathing = False
            for sender in senders:
                sender.running = False

        breathe()
        return stop

    def _pace(self, recorders: dict[Phone, Recorder], load: Load) -> Callable[[], None]:
        senders = [recorder for phone, recorder in recorders.items() if phone.timers]
        random.Random(1).shuffle(senders)  # neighbours are not of one group
        turns = itertools.cycle(senders)
        begin = time.perf_counter() + 0.01
        schedule = Schedule(load.rate, begin)

        def send_what_is_due() -> None:
            for due in schedule.due(time.perf_counter()):
                next(turns).send([due])

        return Ticker(load.rate, begin, send_what_is_due).close

    async def _settle(self, recorders: Mapping[Phone, Recorder]) -> None:
        deadline = time.perf_counter() + _SETTLE_WITHIN
        while time.perf_counter() < deadline:
            await asyncio.sleep(_QUIET / 3)
            last = max(recorder.last_heard for recorder in recorders.values())
            if time.perf_counter() - last < _QUIET or any(
                recorder.outstanding for recorder in recorders.values() if isinstance(recorder, ClosedLoop)
            ):
                continue
            # Silence is not yet the end: what ours could not deliver at once comes again after some seconds.
            if all(_has_all([recorders[phone] for phone in group]) for group in self._groups):
                return

    @property
    def gone(self) -> int:
        """How many devices are not connected any more."""
        return sum(phone.transport is None or phone.transport.is_closing() for phone in self.phones)

    def leave(self) -> None:
        """Closes all connections."""
        for phone in self.phones:
            phone.close()


def _has_all(group: Sequence[Recorder]) -> bool:
    """Has each device of a group the last acknowledged state of all the others' timers?"""
    lasts = [(recorder, recorder.last_acknowledged()) for recorder in group]
    return all(
        reader is writer or reader.has(number) for writer, numbers in lasts for number in numbers for reader in group
    )


def _history(phone: Phone, recorder: Recorder, first: int) -> History:
    # What is of an earlier load, and told once more, is older than all that this one has sent.
    deliveries = [delivery for delivery in recorder.deliveries() if delivery.number > first]
    return History(phone.member.device, recorder.sent, recorder.replies(), deliveries, recorder.refused())


def _create(timers: Iterable[str]) -> Iterable[dict[str, Any]]:
    for timer in timers:
        yield {
            "type": "timer",
            "action": "update",
            "timer": {"id": timer, "name": "new", "totalDuration": "PT25M"},
        }


def _share(owner: Phone, group: Iterable[Phone]) -> Iterable[dict[str, Any]]:
    others = dict.fromkeys(phone.user for phone in group if phone.user != owner.user)
    for user, timer in itertools.product(others, owner.timers):
        yield {"type": "share", "action": "add", "timerId": timer, "sharedWithUser": user}


async def _together(phones: Iterable[Phone], work: Callable[[Phone], Awaitable[None]]) -> None:
    limit = asyncio.Semaphore(_AT_ONCE)

    async def limited(phone: Phone) -> None:
        async with limit:
            await work(phone)

    async with asyncio.TaskGroup() as group:
        for phone in phones:
            group.create_task(limited(phone))


@contextmanager
def _undisturbed() -> Iterator[None]:
    # What is recorded has no cycles; looking for them, again and again, would take more time than recording.
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
