"""The systems that are measured side by side: ours, the yardstick, and what people would pick instead.

Each is started on free ports with an empty database, and stopped. What peers need is installed on demand into `.peers/`,
from the pinned lists in their folders; one that can't be had is left out, with the reason.
"""

import asyncio
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import jwt

from bench.dialects import Bubble, Centrifugo, Dialect, SocketIo
from bench.processes import Program, free_port
from bench.system import SECRET, System

ROOT = Path(__file__).parents[1]
_SOURCES = ROOT / "bench" / "peers"
_INSTALLED = ROOT / ".peers"
_INSTALL_WITHIN = 600.0
_CENTRIFUGO = "github.com/centrifugal/centrifugo/v6@v6.9.1"


_Recipe = Callable[[Path], list[tuple[list[str], dict[str, str]]]]
"""Commands, each with additions to the environment, to be run in the place where something is installed."""


class NotAvailable(Exception):
    """A peer can't be measured here; the message says why."""


def make_token(user: str, group: str) -> str:
    """A token that all of them take: each looks at what it needs."""
    claims = {"sub": user, "group": group, "channels": [group], "exp": int(time.time()) + 3_600}
    return jwt.encode(claims, SECRET, algorithm="HS256")


class Target:
    """A system under measurement. `start`, then `urls` and `pids`; `stop` in any case."""

    name = ""
    title = ""
    note = ""
    """How it is set up, for the table."""
    durable = True
    """What it acknowledges is on disk."""
    is_peer = True
    most_rounds = 99
    """How often it is measured at most."""
    connects_differently = True
    """From the others in the table, so that it is measured with connections alone, too."""
    why_ahead = ""
    """What its lead rests on, in figures in which it has one."""
    dialect: Dialect = Dialect()

    def __init__(self) -> None:
        self.urls: list[str] = []
        self._programs: list[tuple[str, Program]] = []

    async def install(self) -> None:
        """Makes sure that it can be started. Raises NotAvailable."""

    async def start(self, directory: Path) -> None:
        """Starts it with its data in an empty directory. Raises RuntimeError or NotAvailable."""
        raise NotImplementedError

    async def stop(self) -> None:
        """Ends all its processes."""
        for _, program in reversed(self._programs):
            await program.stop()
        self._programs.clear()
        self.urls.clear()

    def check(self) -> None:
        """Raises RuntimeError when one of its processes has ended."""
        for _, program in self._programs:
            program.check()

    def pids(self) -> list[tuple[str, int]]:
        """Its processes, each with its part in the system."""
        return [(part, program.pid) for part, program in self._programs]

    async def _run(
        self,
        part: str,
        command: Sequence[str | Path],
        directory: Path,
        environment: Mapping[str, str],
        *,
        port: int = 0,
    ) -> int:
        port = port or free_port()
        log = directory / f"{part}-{len(self._programs)}.log"
        program = Program(
            [str(word).replace("{port}", str(port)) for word in command],
            port,
            {"SECRET": SECRET, "PORT": str(port), **environment},
            log,
        )
        self._programs.append((part, program))
        await program.start(directory)
        return port

    async def _redis(self, directory: Path) -> dict[str, str]:
        # By default Redis cuts a subscriber that is 32 MB behind, and what it had not read is lost; here it may wait.
        command = ["redis-server", "--bind", "127.0.0.1", "--port", "{port}", "--save", "", "--appendonly", "no",
                   "--client-output-buffer-limit", "pubsub 0 0 0"]  # fmt: skip
        port = await self._run("redis", command, directory, {})
        return {"REDIS_URL": f"redis://127.0.0.1:{port}/0"}


class Ours(Target):
    """Bubble Timer."""

    name = "bubble"
    title = "Bubble Timer"
    note = "an edge and three services, SQLite"
    is_peer = False
    dialect = Bubble()

    def __init__(self, edges: int = 1, replicas: Mapping[str, int] | None = None) -> None:
        super().__init__()
        self._edges = edges
        self._replicas = replicas
        self._system: System | None = None

    async def start(self, directory: Path) -> None:
        self._system = System(directory, self._replicas, BUBBLE_DRAIN_SECONDS="1")
        await self._system.__aenter__()
        self.urls = [(await self._system.edge(f"edge-{number}")).url for number in range(self._edges)]

    async def stop(self) -> None:
        if self._system is not None:
            await self._system.__aexit__()
            self._system = None
        self.urls.clear()

    def pids(self) -> list[tuple[str, int]]:
        return [(process.name, process.pid) for process in self._system.processes] if self._system else []


class RawAiohttp(Target):
    """What a broadcast costs in Python at least, if nothing is kept and nobody asked."""

    name = "raw"
    title = "raw aiohttp broadcast"
    note = "one process on uvloop, one `send_str` per delivery, nothing stored, nobody asked who may see what"
    durable = False
    is_peer = False

    async def start(self, directory: Path) -> None:
        port = await self._run("server", [sys.executable, _SOURCES / "raw_aiohttp" / "server.py"], directory, {})
        self.urls = [f"ws://127.0.0.1:{port}"]


class SocketIoNode(Target):
    """Socket.IO in one process, with its own adapter."""

    name = "socketio"
    title = "Socket.IO on Node"
    note = (
        "one process, rooms, better-sqlite3 in the same thread, committing together what one turn of the event loop brought; "
        "a token's claim says who is in which room"
    )
    why_ahead = (
        "one process does everything, so an update crosses no process border, where ours crosses three; V8 compiles what "
        "Python interprets. It keeps no outbox, has no limits per device, and a second process needs Redis, with which "
        "it costs what that line of the tables says."
    )
    dialect = SocketIo()
    _processes = 1
    _with_redis = False
    _environment: ClassVar[Mapping[str, str]] = {}

    async def install(self) -> None:
        _need("node", "Node.js")
        _need("npm", "npm")
        if self._with_redis:
            _need("redis-server", "Debian's package redis-server")
        await _install("socketio_node", ["package.json", "package-lock.json"], _npm)

    async def start(self, directory: Path) -> None:
        place = _INSTALLED / "socketio_node"
        shutil.copy(_SOURCES / "socketio_node" / "server.mjs", place)  # where its modules are
        shared = await self._redis(directory) if self._with_redis else {}
        for number in range(self._processes):
            environment = {
                **shared,
                **self._environment,
                "DATABASE": str(directory / f"timers-{number}.sqlite"),
                "NODE_ENV": "production",
            }
            port = await self._run("server", ["node", place / "server.mjs"], directory, environment)
            self.urls.append(f"ws://127.0.0.1:{port}")


class SocketIoNodeSimple(SocketIoNode):
    """Socket.IO as most would write it: each update is committed alone."""

    name = "socketio-simple"
    title = "Socket.IO on Node, a commit each"
    connects_differently = False
    note = "the same, each update in a transaction of its own, as most would write it"
    why_ahead = ""  # what is said of the one above
    _environment: ClassVar[Mapping[str, str]] = {"COMMIT_EACH": "1"}


class SocketIoNodeRedis(SocketIoNode):
    """Socket.IO in two processes."""

    name = "socketio-redis"
    title = "Socket.IO on Node, Redis adapter"
    note = "the same as the first in two processes with a SQLite file each, and Redis between them"
    why_ahead = (
        "no call to other services before the acknowledgement, and none after it but one publish; V8. What Redis' pub/sub "
        "loses when a link breaks stays lost."
    )
    _processes = 2
    _with_redis = True


class _OnUvicorn(Target):
    folder = ""
    most_rounds = 2  # they are far behind, and take long to deliver what they have acknowledged
    note = "two processes on uvicorn with uvloop, a SQLite file each with commits in groups, and Redis between them"
    why_ahead = "one hop through Redis where ours has three calls, each of which is dear when it carries one update."

    async def install(self) -> None:
        _need("redis-server", "Debian's package redis-server")
        await _install(self.folder, ["requirements.txt"], _pip)

    async def start(self, directory: Path) -> None:
        shared = await self._redis(directory)
        source, place = _SOURCES / self.folder, _INSTALLED / self.folder
        command: list[str | Path] = [
            place / "venv" / "bin" / "python", "-m", "uvicorn", "server:application", "--app-dir", source,
            "--host", "127.0.0.1", "--port", "{port}", "--loop", "uvloop", "--log-level", "warning", "--backlog", "4096",
        ]  # fmt: skip
        for number in range(2):
            environment = {
                **shared,
                "PYTHONPATH": str(_SOURCES),
                "DATABASE": str(directory / f"timers-{number}.sqlite"),
            }
            port = await self._run("server", command, directory, environment)
            self.urls.append(f"ws://127.0.0.1:{port}")


class PythonSocketIo(_OnUvicorn):
    """python-socketio."""

    name = "python-socketio"
    title = "python-socketio, Redis"
    folder = "python_socketio"
    dialect = SocketIo()


class DjangoChannels(_OnUvicorn):
    """Django Channels."""

    name = "channels"
    title = "Django Channels, Redis"
    folder = "django_channels"


class CentrifugoInMemory(Target):
    """Centrifugo, which stores nothing here: it is shown beside the others."""

    name = "centrifugo"
    title = "Centrifugo, in memory"
    note = "one process in Go, nothing stored, no versions; a sender gets its own publication, too"
    why_ahead = (
        "compiled code in one process on all cores, nothing stored, no versions, and messages of a connection merged."
    )
    durable = False
    dialect = Centrifugo()

    async def install(self) -> None:
        await _install("centrifugo", ["config.json"], _go)

    async def start(self, directory: Path) -> None:
        command: list[str | Path] = [
            _INSTALLED / "centrifugo" / "bin" / "centrifugo", "--config", _SOURCES / "centrifugo" / "config.json",
            "--http_server.address", "127.0.0.1", "--http_server.port", "{port}",
        ]  # fmt: skip
        port = await self._run("server", command, directory, {"CENTRIFUGO_CLIENT_TOKEN_HMAC_SECRET_KEY": SECRET})
        self.urls = [f"ws://127.0.0.1:{port}"]


TARGETS: list[type[Target]] = [
    Ours,
    RawAiohttp,
    SocketIoNode,
    SocketIoNodeSimple,
    SocketIoNodeRedis,
    PythonSocketIo,
    DjangoChannels,
    CentrifugoInMemory,
]


def _need(program: str, what: str) -> None:
    if shutil.which(program) is None:
        raise NotAvailable(f"needs {what}")


async def _install(folder: str, lists: Sequence[str], how: _Recipe) -> None:
    """Installs what a peer's lists say, unless that is there already. Raises NotAvailable."""
    source, place = _SOURCES / folder, _INSTALLED / folder
    wanted = "".join((source / name).read_text() for name in lists) + _CENTRIFUGO
    mark = place / "installed"
    if mark.exists() and mark.read_text() == wanted:
        return
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    for name in lists:
        shutil.copy(source / name, place)
    print(f"installing {folder} ...", flush=True)
    for command, environment in how(place):
        await _command(command, place, environment)
    mark.write_text(wanted)


def _npm(place: Path) -> list[tuple[list[str], dict[str, str]]]:
    del place
    return [(["npm", "ci", "--no-audit", "--no-fund"], {})]


def _pip(place: Path) -> list[tuple[list[str], dict[str, str]]]:
    python = str(place / "venv" / "bin" / "python")
    return [
        ([sys.executable, "-m", "venv", "venv"], {}),
        ([python, "-m", "pip", "install", "--quiet", "--require-hashes", "-r", "requirements.txt"], {}),
    ]


def _go(place: Path) -> list[tuple[list[str], dict[str, str]]]:
    go = shutil.which("go") or "/usr/local/go/bin/go"
    if not Path(go).exists():
        raise NotAvailable("needs Go")
    return [([go, "install", _CENTRIFUGO], {"GOBIN": str(place / "bin")})]


async def _command(command: Sequence[str], place: Path, environment: Mapping[str, str]) -> None:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=place,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), _INSTALL_WITHIN)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise NotAvailable(f"`{' '.join(command)}` took more than {_INSTALL_WITHIN:.0f} s") from None
    if process.returncode:
        raise NotAvailable(f"`{' '.join(command)}` failed: {output.decode(errors='replace')[-500:]}")
