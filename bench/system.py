"""The whole system as real processes on free ports of this machine, for programs that also restart and watch it."""

import asyncio
import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

from bench.processes import cpu_seconds, resident_bytes

SECRET = "a secret for measurements, of more than 32 bytes"  # noqa: S105  # of a system that lives for a minute
_START_WITHIN = 30.0
_STOP_WITHIN = 30.0
DATA = "data"
"""Where in its directory a system keeps its databases: one that is filled beforehand is taken as it is."""

_SERVICES = {"connection": "connection_service", "sharing": "sharing_service", "timer": "timer_service"}


class Usage(NamedTuple):
    """What a process has used: seconds of CPU since its start, bytes of memory now."""

    cpu: float
    resident: int


class Process:
    """One process of the system."""

    def __init__(self, name: str, module: str, environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.port = 0
        self._module = module
        self._environment = environment
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Of the process, which has been started."""
        return self._started.pid

    @property
    def url(self) -> str:
        """Where an edge takes sockets."""
        return f"ws://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Starts it, on its old port if it had one; returns when it listens."""
        position = self._log.stat().st_size if self._log.exists() else 0
        prefix = f"BUBBLE_{self.name.upper()}"
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                self._module,
                env={**self._environment, f"{prefix}_PORT": str(self.port), f"{prefix}_METRICS_PORT": "0"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_WITHIN
        while time.monotonic() < deadline and self._process.returncode is None:
            for line in self.lines(position):
                if line.get("event") in ("listening", "serving"):
                    self.port = line["port"]
                    return
            await asyncio.sleep(0.02)
        raise RuntimeError(f"{self.name} did not start:\n{self._log.read_text()[-4_000:]}")

    async def ready(self) -> None:
        """Returns when an edge takes connections."""
        while not await asyncio.to_thread(_is_ready, f"http://127.0.0.1:{self.port}/readyz"):
            await asyncio.sleep(0.02)

    def lines(self, position: int = 0) -> list[dict[str, Any]]:
        """The whole lines of its log, from a position on."""
        with self._log.open("rb") as log:
            log.seek(position)
            return [json.loads(line) for line in log.read().split(b"\n")[:-1] if line.startswith(b"{")]

    def signal(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        self._started.send_signal(number)

    async def wait(self) -> int:
        """Its exit code, when it has ended."""
        return await asyncio.wait_for(self._started.wait(), _STOP_WITHIN)

    async def stop(self) -> None:
        """Ends it, if it still runs."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            await self.wait()

    @property
    def _started(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._process

    def usage(self) -> Usage:
        """See `Usage`. Linux only."""
        return Usage(cpu_seconds(self.pid), resident_bytes(self.pid))


class System:
    """Three services and as many edges as asked for. Use as a context manager.

    `replicas`: how many of a service, where that is not one. With SQLite, replicas of a service share a file.
    """

    def __init__(self, directory: Path, replicas: Mapping[str, int] | None = None, **environment: str) -> None:
        self._directory = directory
        self._replicas = replicas or {}
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("BUBBLE_", "OTEL_"))},
            "BUBBLE_DATA_DIR": str(directory / DATA),
            "BUBBLE_JWT_SECRET": SECRET,
            "BUBBLE_MESSAGES_PER_SECOND": "0",
            **environment,
        }
        self._addresses: dict[str, str] = {}
        self.processes: list[Process] = []

    async def __aenter__(self) -> Self:
        for name, module in _SERVICES.items():
            replicas = [
                await self._start(name, module, f"{name}-{number}") for number in range(self._replicas.get(name, 1))
            ]
            self._addresses[f"BUBBLE_{name.upper()}_ADDRESS"] = ",".join(
                f"127.0.0.1:{replica.port}" for replica in replicas
            )
        return self

    async def __aexit__(self, *_: object) -> None:
        for process in reversed(self.processes):
            await process.stop()

    async def edge(self, label: str, port: int = 0) -> Process:
        """Starts an edge, on any free port or on a given one; returns when it takes connections."""
        edge = await self._start("edge", "edge", label, port)
        await edge.ready()
        return edge

    async def _start(self, name: str, module: str, label: str, port: int = 0) -> Process:
        process = Process(name, module, self._environment | self._addresses, self._directory / f"{label}.log")
        process.port = port
        self.processes.append(process)
        await process.start()
        return process


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except (urllib.error.URLError, OSError):
        return False
