"""`bubble watch`: live timers, on a screen, as lines of text, or as lines of JSON."""

import asyncio
import contextlib
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec
from rich.console import Console, Group
from rich.live import Live

from cli import human, screen
from cli.access import Access
from cli.client import Client, Link
from cli.clock import local_now
from cli.conversation import Changed, Connected, Gone, Happening, Shared, Stopped, Unshared, UpToDate
from cli.news import quoted, sentence
from cli.output import described, described_stopped, wire_time
from cli.timers import State, Timer

NEWS_KEPT = 50
"""Lines of news that are kept for a screen that grows."""


class Ringer:
    """Notices timers that run out while somebody looks. Pure."""

    def __init__(self) -> None:
        self._running: set[str] = set()

    def tick(self, timers: Iterable[Timer], now: int) -> list[Timer]:
        """Those that were running at the last call and are over now."""
        over = []
        running = set()
        for timer in timers:
            state = timer.state(now)
            if state is State.RUNNING:
                running.add(timer.id)
            elif state is State.FINISHED and timer.id in self._running and timer.end_time is not None:
                over.append(timer)
        self._running = running
        return over

    @staticmethod
    def next_end(timers: Iterable[Timer], now: int) -> int | None:
        """Microseconds until the next one runs out."""
        return min((timer.left(now) for timer in timers if timer.state(now) is State.RUNNING), default=None)


async def watch(access: Access, console: Console, *, as_json: bool, bell: bool, seconds: float | None) -> None:
    """Shows what happens until Ctrl-C, for so many seconds, or until the connection is lost for good (raises Problem)."""
    view: _Json | _Lines | _Screen
    if as_json:
        view = _Json()
    elif console.is_terminal and not console.is_dumb_terminal:
        view = _Screen(access, console, bell=bell)
    else:
        view = _Lines()
    client = Client(access, lasting=True, on_happening=view.happened, on_link=view.link_changed)
    view.client = client
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds), client:
            with view.shown():
                running = asyncio.create_task(view.run())
                staying = asyncio.create_task(client.forever())
                try:
                    await asyncio.wait([running, staying], return_when=asyncio.FIRST_COMPLETED)
                    for task in (staying, running):
                        if task.done():
                            task.result()
                finally:
                    for task in (running, staying):
                        task.cancel()
                    await asyncio.gather(running, staying, return_exceptions=True)


class _View:
    client: Client

    def __init__(self) -> None:
        self.ringer = Ringer()
        self.changed = asyncio.Event()

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        yield

    def happened(self, happening: Happening) -> None:
        raise NotImplementedError

    def link_changed(self, link: Link) -> None:
        raise NotImplementedError

    def rang(self, timer: Timer) -> None:
        raise NotImplementedError

    async def run(self) -> None:
        """Tells of each timer that runs out, when it does."""
        while True:
            timers, now = self.client.conversation.timers, self.client.now
            for timer in self.ringer.tick(timers, now):
                self.rang(timer)
            await self.wait(self.ringer.next_end(timers, now))

    async def wait(self, microseconds: int | None) -> None:
        """For so long, or until something changes."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if microseconds is None else microseconds / 1e6):
                await self.changed.wait()
        self.changed.clear()

    def sentence(self, happening: Happening) -> str:
        return sentence(happening, me=self.client.conversation.user_id, now=self.client.now)


class _Json(_View):
    """One object a line; docs/cli.md lists them."""

    def happened(self, happening: Happening) -> None:
        now = self.client.now
        match happening:
            case Connected(user_id, connection_id):
                self._print(happening.event, {"userId": user_id, "connectionId": connection_id})
            case UpToDate():
                timers = [described(timer, now) for timer in self.client.conversation.timers]
                self._print(happening.event, {"timers": timers})
            case Changed(change, by) | Shared(change, by):
                self._timer(happening, described(change.after, now), by)
            case Stopped(timer, by):
                self._timer(happening, described_stopped(timer), by)
            case Unshared(timer) | Gone(timer):
                self._timer(happening, described(timer, now), "")
        self.changed.set()

    def _timer(self, happening: Any, timer: dict[str, Any], by: str) -> None:
        more = {"by": by} if by else {}
        self._print(happening.event, {"timer": timer, **more, "text": self.sentence(happening)})

    def link_changed(self, link: Link) -> None:
        if not link.connected and link.retry_at is not None:
            wait = max(link.retry_at - local_now(), 0)
            self._print("disconnected", {"reason": link.why, "retryInSeconds": round(wait, 3)})

    def rang(self, timer: Timer) -> None:
        self._print("finished", {"timer": described(timer, self.client.now)})

    def _print(self, event: str, fields: dict[str, Any]) -> None:
        line = msgspec.json.encode({"event": event, "serverTime": wire_time(self.client.now), **fields})
        sys.stdout.write(line.decode() + "\n")
        sys.stdout.flush()


class _Lines(_View):
    """What happened, a sentence a line, for a file or a pipe."""

    def happened(self, happening: Happening) -> None:
        if isinstance(happening, Connected):
            self._print(f"connected to {self.client.access.host} as {human.printable(happening.user_id)}")
        elif isinstance(happening, UpToDate):
            count = len(self.client.conversation.timers)
            self._print(f"{count} timer{'' if count == 1 else 's'}")
        elif text := self.sentence(happening):
            self._print(text)
        self.changed.set()

    def link_changed(self, link: Link) -> None:
        if not link.connected and link.retry_at is not None:
            self._print(f"disconnected: {link.why}")

    def rang(self, timer: Timer) -> None:
        self._print(f"{quoted(timer)} is over")

    def _print(self, text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


class _Screen(_View):
    """The whole terminal, drawn when something looks different."""

    def __init__(self, access: Access, console: Console, *, bell: bool) -> None:
        super().__init__()
        self._access = access
        self._console = console
        self._bell = bell
        self._news: deque[screen.News] = deque(maxlen=NEWS_KEPT)
        self._link = Link(connected=True)
        self._live = Live(console=console, screen=True, auto_refresh=False)
        self._settled = False

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        with self._live, _on_resize(loop, self.changed.set):
            yield

    def happened(self, happening: Happening) -> None:
        if isinstance(happening, UpToDate):
            self._settled = True
        elif self._settled and (text := self.sentence(happening)):
            self._tell(text, _actor(happening))
        self.changed.set()

    def link_changed(self, link: Link) -> None:
        if link.connected and not self._link.connected:
            self._tell("connected again", "")
        elif not link.connected and self._link.connected:
            self._tell(f"disconnected: {link.why}", "")
        self._link = link
        self.changed.set()

    def rang(self, timer: Timer) -> None:
        self._tell(f"{quoted(timer)} is over", timer.user_id)
        if self._bell:
            self._console.bell()

    async def run(self) -> None:
        while True:
            conversation, now = self.client.conversation, self.client.now
            for timer in self.ringer.tick(conversation.timers, now):
                self.rang(timer)
            timers = tuple(conversation.timers)
            width, height = self._console.size
            scene = screen.Scene(
                title=f"{human.printable(conversation.user_id)} at {self._access.host}",
                link=self._link_text(),
                well=self._link.connected,
                timers=timers,
                news=tuple(self._news),
                now=now,
            )
            self._live.update(Group(*screen.draw(scene, width, height)), refresh=True)
            await self.wait(screen.next_change(timers, self.client.now, width))

    def _link_text(self) -> str:
        if self._link.connected:
            error = self.client.conversation.clock.error(local_now())
            return "live" if error is None else f"live, clock ± {max(error / 1_000, 0.1):.1f} ms"
        if self._link.retry_at is None:
            return "connecting"
        wait = round(self._link.retry_at - local_now())
        return f"offline, next try in {wait} s" if wait > 0 else "connecting"

    def _tell(self, text: str, user: str) -> None:
        self._news.append(screen.News(time.strftime("%H:%M:%S"), text, user))


def _actor(happening: Happening) -> str:
    match happening:
        case Changed(change, by) | Shared(change, by):
            return by or change.after.user_id
        case Stopped(timer, by):
            return by or timer.user_id
        case Gone(timer):
            return timer.user_id
    return ""


@contextlib.contextmanager
def _on_resize(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> Iterator[None]:
    """Calls back when the terminal gets another size, where the platform tells."""
    number = getattr(signal, "SIGWINCH", None)
    if number is None:
        yield
        return
    loop.add_signal_handler(number, callback)
    try:
        yield
    finally:
        loop.remove_signal_handler(number)
