"""A whole system whose parts can be killed, stopped, and cut off from each other, one wire at a time."""

import asyncio
import os
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import aiohttp

from tests.faults.database import Database, MongoDatabase, SqliteDatabase
from tests.faults.link import Link
from tests.system.cluster import MODULES, READY_WITHIN, SECRET, Process

KINDS = tuple(MODULES)
"""The kinds of processes, in the order in which they start."""

USES = {"connection": (), "sharing": ("connection",), "timer": ("sharing", "connection")} | {
    "edge": ("timer", "sharing", "connection")
}


class System:
    """Processes by name (`edge-0`, `timer-1`), and the links between any two of them.

    `replicas` of each kind run; `spares` more of each have their place in all addresses and are not started. A link is
    named by its two ends, such as `("edge-0", "timer-1")`, `("timer-1", "database")` or `("phones", "edge-0")`.
    """

    def __init__(self, directory: Path, environment: Mapping[str, str], *, replicas: int = 1, spares: int = 0) -> None:
        self.data = directory / "data"
        self.clock = str(Path(__file__).parent / "clock")
        """A folder for PYTHONPATH: a process that is started with it has a wrong clock."""
        self._directory = directory
        self._replicas = replicas
        self._mongodb_uri = environment.get("MONGODB_URI", "")
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("BUBBLE_", "OTEL_"))},
            "BUBBLE_DATA_DIR": str(self.data),
            "BUBBLE_JWT_SECRET": SECRET,
            "BUBBLE_MESSAGES_PER_SECOND": "0",
            "BUBBLE_DRAIN_SECONDS": "4",
            **environment,
        }
        self._names = {kind: [f"{kind}-{number}" for number in range(replicas + spares)] for kind in KINDS}
        self._stack = AsyncExitStack()
        self.processes: dict[str, Process] = {}
        self.links: dict[tuple[str, str], Link] = {}
        self.database: Database
        if self._mongodb_uri:
            self.database = MongoDatabase(self._mongodb_uri, environment["BUBBLE_MONGODB_DATABASE"])
        else:
            self.database = SqliteDatabase(self.data)

    async def __aenter__(self) -> Self:
        for kind in KINDS:
            for name in self._names[kind]:
                for used in USES[kind]:
                    for other in self._names[used]:
                        await self._link(name, other)
                if self._mongodb_uri and kind != "edge":
                    link = await self._link(name, "database")
                    link.target = urlsplit(self._mongodb_uri).port or 27017
        for name in self._names["edge"]:
            await self._link("phones", name)
        try:
            for kind in KINDS:
                for number, name in enumerate(self._names[kind]):
                    self.processes[name] = Process(kind, self._settings(name, kind), self._directory / f"{name}.log")
                    if number < self._replicas:
                        await self.start(name)
            await self.wait_until_ready()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        for process in self.processes.values():
            if process.pid is not None:
                await process.kill()
        await self._stack.aclose()
        self.database.close()

    async def start(self, name: str, **more: str) -> None:
        """Starts a process, with `more` settings for this run only."""
        process = self.processes[name]
        await process.start(**more)
        for (_, provider), link in self.links.items():
            if provider == name:
                link.target = process.port

    def running(self, kind: str) -> list[str]:
        """The names of the processes of a kind that run."""
        return [name for name in self._names[kind] if name in self.processes and self.processes[name].pid is not None]

    def spare(self, kind: str) -> str:
        """A process of a kind that does not run."""
        return next(name for name in self._names[kind] if self.processes[name].pid is None)

    def edge_ports(self) -> list[int]:
        """Where phones reach the edges that run."""
        return [self.links["phones", name].port for name in self.running("edge")]

    async def wait_until_ready(self) -> None:
        """Returns when every edge that runs takes connections."""
        deadline = time.monotonic() + READY_WITHIN
        async with aiohttp.ClientSession() as http:
            for name in self.running("edge"):
                while not await _is_ready(http, self.processes[name].port):
                    if time.monotonic() > deadline:
                        raise RuntimeError(f"{name} is not ready:\n{self.logs()}")
                    await asyncio.sleep(0.05)

    def logs(self) -> str:
        """The end of every log."""
        return "\n".join(
            f"--- {name}\n{process.log_text()[-2_000:]}" for name, process in self.processes.items() if process.port
        )

    def crashes(self) -> list[str]:
        """Log lines of things that must not happen, whatever is broken around a process."""
        return [
            f"{name}: {line}"
            for name, process in self.processes.items()
            if process.port
            for line in process.lines()
            if line.get("level") in ("error", "critical")
        ]

    async def _link(self, user: str, used: str) -> Link:
        link = await self._stack.enter_async_context(Link())
        self.links[user, used] = link
        return link

    def _settings(self, name: str, kind: str) -> dict[str, str]:
        addresses = {
            f"BUBBLE_{used.upper()}_ADDRESS": ",".join(
                f"127.0.0.1:{self.links[name, other].port}" for other in self._names[used]
            )
            for used in USES[kind]
        }
        if (name, "database") in self.links:
            addresses["MONGODB_URI"] = f"mongodb://127.0.0.1:{self.links[name, 'database'].port}/"
        return self._environment | addresses


async def _is_ready(http: aiohttp.ClientSession, port: int) -> bool:
    try:
        async with http.get(f"http://127.0.0.1:{port}/readyz", timeout=aiohttp.ClientTimeout(2)) as response:
            return response.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False
