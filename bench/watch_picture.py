"""The film of `bubble watch`: `python -m bench.watch_picture > docs/watch.svg`.

A real system is started, and two real `bubble watch` run in terminals of their own, while real commands change timers and
the edge is killed and started again. What the two wrote is what the film shows, at the times at which they wrote it.
"""

import asyncio
import fcntl
import os
import pty
import signal
import struct
import sys
import tempfile
import termios
import time
from pathlib import Path

from bench.film import Pane, draw, read_frames, thinned
from bench.system import Process, System

_ROWS = 14
_STEP = 0.125
"""Seconds between two frames of the film at least: it is to stay small."""

_TAIL = 2.0
"""Seconds that the last picture is shown."""


class Watcher:
    """`bubble watch` of one user, in a terminal."""

    def __init__(self, user: str, url: str, columns: int) -> None:
        self.user = user
        self.columns = columns
        self.written: list[tuple[float, bytes]] = []
        self._url = url
        self._master = -1
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Starts it; what it writes is recorded with its time."""
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, self.columns, 0, 0))
        environment = {
            name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")
        }
        self._process = await asyncio.create_subprocess_exec(
            *command("watch", self.user, self._url),
            env=environment | {"TERM": "xterm-256color", "COLORTERM": "truecolor"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        asyncio.get_running_loop().add_reader(self._master, self._read)

    async def shows(self, text: str) -> None:
        """Returns when it has written this after the call."""
        seen = len(self.written)
        async with asyncio.timeout(30):
            while text not in b"".join(data for _, data in self.written[seen:]).decode(errors="replace"):
                await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """Ends it."""
        asyncio.get_running_loop().remove_reader(self._master)
        if self._process is not None:
            self._process.terminate()
            await self._process.wait()
        os.close(self._master)

    def _read(self) -> None:
        try:
            data = os.read(self._master, 65_536)
        except OSError:
            asyncio.get_running_loop().remove_reader(self._master)
            return
        self.written.append((time.monotonic(), data))


def command(name: str, user: str, url: str, *arguments: str) -> list[str]:
    """A `bubble` command as one types it."""
    return [sys.executable, "-m", "cli", name, *arguments, "--user", user, "--url", url]


async def bubble(url: str, user: str, name: str, *arguments: str) -> None:
    """Runs a command of a user to its end."""
    process = await asyncio.create_subprocess_exec(
        *command(name, user, url, *arguments), stdout=asyncio.subprocess.DEVNULL
    )
    if await process.wait():
        raise RuntimeError(f"{name} {arguments} failed")


async def play(url: str, edge: Process, watchers: list[Watcher]) -> None:
    """What the film tells."""
    await bubble(url, "alice", "start", "Tea", "40s", "--share", "bob")
    await asyncio.sleep(1.2)
    await bubble(url, "bob", "start", "Bread in the oven", "45m", "--share", "alice")
    await asyncio.sleep(1.2)
    await bubble(url, "bob", "start", "Eggs", "9s", "--share", "alice")
    await asyncio.sleep(1.2)
    await bubble(url, "bob", "pause", "Tea")
    await asyncio.sleep(1.2)
    await bubble(url, "alice", "extend", "Bread", "10m")
    await asyncio.sleep(0.6)
    edge.signal(signal.SIGKILL)
    await edge.wait()
    await asyncio.sleep(0.6)
    back = asyncio.gather(*(watcher.shows("connected again") for watcher in watchers))
    await edge.start()
    await back
    await asyncio.sleep(0.8)
    await bubble(url, "bob", "resume", "Tea")
    await asyncio.sleep(1.5)
    await bubble(url, "alice", "stop", "Bread")
    await asyncio.sleep(1.5)


async def main() -> None:
    """Plays it, and prints the film."""
    with tempfile.TemporaryDirectory() as directory:
        async with System(Path(directory), BUBBLE_DEV="1") as system:
            edge = await system.edge("edge")
            url = f"http://127.0.0.1:{edge.port}"
            watchers = [Watcher("alice", url, 68), Watcher("bob", url, 42)]
            for watcher in watchers:
                await watcher.start()
                await watcher.shows("live")
            begin = time.monotonic()
            await play(url, edge, watchers)
            for watcher in watchers:
                await watcher.stop()
    panes = []
    for watcher in watchers:
        frames = read_frames(watcher.written, begin)
        first = [frame for frame in frames if frame.at <= 0][-1:]  # what is seen when the film begins
        rest = thinned([frame for frame in frames if frame.at > 0], _STEP)
        frames = [first[0]._replace(at=0.0), *rest] if first else rest
        panes.append(Pane(f"bubble watch  —  {watcher.user}", watcher.columns, _ROWS, frames))
    seconds = max(pane.frames[-1].at for pane in panes) + _TAIL
    label = "Two terminals with bubble watch: the same timers of alice and bob, live, also after the server was killed"
    print(draw(panes, seconds, label=label), end="")


if __name__ == "__main__":
    asyncio.run(main())
