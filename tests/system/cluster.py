"""The whole system as real processes on free ports, for tests."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

SECRET = "a secret for tests only, of more than 32 bytes"
READY_WITHIN = 20.0
MODULES = {
    "connection": "connection_service",
    "sharing": "sharing_service",
    "timer": "timer_service",
    "edge": "edge",
}


class Process:
    """One process of the system, with its log."""

    def __init__(self, kind: str, environment: Mapping[str, str], log: Path) -> None:
        self.kind = kind
        self._environment = dict(environment)
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self.port = 0
        self.metrics_port = 0

    @property
    def pid(self) -> int | None:
        """The id of the process, while it runs."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if self._process is not None and running else None

    async def start(self, **more: str) -> None:
        """Starts it, on the port it had before if any; returns when it listens. `more`: settings of this run only."""
        position = self._log.stat().st_size if self._log.exists() else 0
        prefix = f"BUBBLE_{self.kind.upper()}"
        ports = {f"{prefix}_PORT": str(self.port), f"{prefix}_METRICS_PORT": str(self.metrics_port)}
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                MODULES[self.kind],
                env=self._environment | more | ports,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + READY_WITHIN
        event = "listening" if self.kind == "edge" else "serving"
        while time.monotonic() < deadline and self._process.returncode is None:
            for line in self.lines(position):
                if line.get("event") == "metrics":
                    self.metrics_port = line["port"]
                if line.get("event") == event:
                    self.port = line["port"]
                    if self.kind == "edge":
                        self.metrics_port = self.port
                    return
            await asyncio.sleep(0.02)
        raise RuntimeError(f"{self.kind} did not start:\n{self.log_text()[-4_000:]}")

    async def run_once(self, environment: Mapping[str, str]) -> int:
        """Runs a second one beside it, with other settings, which is to end by itself; returns its exit code."""
        prefix = f"BUBBLE_{self.kind.upper()}"
        with self._log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                MODULES[self.kind],
                env=self._environment | {f"{prefix}_PORT": "0", f"{prefix}_METRICS_PORT": "0", **environment},
                stdout=log,
                stderr=log,
            )
        return await asyncio.wait_for(process.wait(), READY_WITHIN)

    def lines(self, position: int = 0) -> list[dict[str, Any]]:
        """The whole lines of its log from a position on."""
        with self._log.open("rb") as log:
            log.seek(position)
            lines = log.read().split(b"\n")[:-1]
        found = []
        for line in lines:
            with suppress(msgspec.DecodeError):  # a kill or a full disk tears lines
                found.append(msgspec.json.decode(line, type=dict[str, Any]))
        return found

    def log_text(self) -> str:
        """All that it wrote."""
        return self._log.read_text()

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal, if it still runs."""
        if self._process is not None and self.pid is not None:
            self._process.send_signal(number)

    async def wait(self, within: float = 15.0) -> int:
        """Its exit code, when it has ended."""
        assert self._process is not None
        return await asyncio.wait_for(self._process.wait(), within)

    async def kill(self) -> None:
        """Ends it with SIGKILL."""
        self.signal(signal.SIGKILL)
        await self.wait()

    async def stop(self) -> int:
        """Ends it with SIGTERM; returns the exit code."""
        self.signal(signal.SIGTERM)
        try:
            return await self.wait()
        except TimeoutError:
            await self.kill()
            raise


class Cluster:
    """Edge, timer, sharing and connection."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self._directory = directory
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("BUBBLE_", "OTEL_"))},
            "BUBBLE_DATA_DIR": str(directory / "data"),
            "BUBBLE_JWT_SECRET": SECRET,
            "BUBBLE_DRAIN_SECONDS": "4",
            **environment,
        }
        self.processes: dict[str, Process] = {}

    @property
    def edge_port(self) -> int:
        """Where the edge listens."""
        return self.processes["edge"].port

    async def start(self) -> None:
        """Starts everything; returns when connections are taken."""
        for name in MODULES:
            await self._start(name, name)
        await self.wait_until_ready()

    async def start_another_edge(self) -> int:
        """Starts one more edge; returns its port when it takes connections."""
        await self._start("another edge", "edge")
        port = self.processes["another edge"].port
        await self.wait_until_ready(port)
        return port

    async def _start(self, name: str, kind: str) -> None:
        addresses = {
            f"BUBBLE_{other.upper()}_ADDRESS": f"127.0.0.1:{self.processes[other].port}"
            for other in MODULES
            if other in self.processes
        }
        self.processes[name] = Process(kind, self._environment | addresses, self._directory / f"{name}.log")
        await self.processes[name].start()

    async def wait_until_ready(self, port: int = 0) -> None:
        """Returns when the edge takes connections; another edge than the first by its port."""
        deadline = time.monotonic() + READY_WITHIN
        async with aiohttp.ClientSession() as http:
            while time.monotonic() < deadline:
                async with http.get(f"http://127.0.0.1:{port or self.edge_port}/readyz") as response:
                    if response.status == 200:
                        return
                await asyncio.sleep(0.05)
        raise RuntimeError(f"the edge is not ready:\n{self.logs()}")

    async def stop(self) -> dict[str, int]:
        """Stops everything that runs, the edge first; returns the exit codes."""
        codes = {}
        for name in reversed(list(self.processes)):
            codes[name] = await self.processes[name].stop()
        return codes

    def logs(self) -> str:
        """The end of every log."""
        return "\n".join(f"--- {name}\n{process.log_text()[-3_000:]}" for name, process in self.processes.items())

    def crashes(self) -> list[str]:
        """Log lines of things that must not happen in a healthy run."""
        return [
            str(line)
            for process in self.processes.values()
            for line in process.lines()
            if line.get("level") in ("error", "critical")
        ]
