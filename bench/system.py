"""A system of one's own for programs that measure: four processes on free ports, ended with the program."""

import asyncio
import json
import os
import secrets
import signal
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

_MODULES = {
    "connection": "connection_service",
    "sharing": "sharing_service",
    "timer": "timer_service",
    "edge": "edge",
}
_UP_WITHIN = 60.0  # seconds
_PAGE = os.sysconf("SC_PAGE_SIZE")


class System:
    """Made by `running_system`."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self.directory = directory
        self.secret = secrets.token_hex(32)
        self.ports: dict[str, int] = {}
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("BUBBLE_", "OTEL_"))},
            "BUBBLE_DATA_DIR": str(directory / "data"),
            "BUBBLE_JWT_SECRET": self.secret,
            "BUBBLE_DRAIN_SECONDS": "3",
            "BUBBLE_MESSAGES_PER_SECOND": "0",  # what is measured is the system and not its limits of rates
            **environment,
        }

    @property
    def url(self) -> str:
        """The edge's address."""
        return f"ws://127.0.0.1:{self.ports['edge']}"

    async def start(self) -> None:
        """Starts everything; returns when connections are taken."""
        for name, module in _MODULES.items():
            addresses = {f"BUBBLE_{other.upper()}_ADDRESS": f"127.0.0.1:{port}" for other, port in self.ports.items()}
            with self._log(name).open("wb") as log:
                self._processes[name] = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    module,
                    env=self._environment | addresses | {f"BUBBLE_{name.upper()}_PORT": "0"},
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            self.ports[name] = await self._port_of(name)
        await self._until(lambda: asyncio.to_thread(self.is_ready), "the edge is not ready")

    async def stop(self) -> None:
        """Ends everything, the edge first."""
        for process in reversed(self._processes.values()):
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
                try:
                    await asyncio.wait_for(process.wait(), 10)
                except TimeoutError:
                    process.kill()
                    await process.wait()

    def is_ready(self) -> bool:
        """Whether the edge says so. Blocks for a second at most."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports['edge']}/readyz", timeout=1):
                return True
        except (urllib.error.URLError, OSError):
            return False

    def resident_bytes(self) -> dict[str, int]:
        """The memory of each process that lives (Linux only)."""
        found = {}
        for name, process in self._processes.items():
            try:
                found[name] = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * _PAGE
            except (OSError, IndexError):
                continue
        return found

    def cpu_seconds(self) -> dict[str, float]:
        """What each process that lives has used so far (Linux only)."""
        found = {}
        for name, process in self._processes.items():
            try:
                fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            found[name] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return found

    def complaints(self) -> dict[str, int]:
        """How often each warning or error is in the logs."""
        counts: Counter[str] = Counter()
        for name in self._processes:
            for line in self._lines(name):
                if line.get("level") not in ("debug", "info"):
                    counts[f"{name}: {line.get('event')}"] += 1
        return dict(counts.most_common())

    def _log(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    def _lines(self, name: str) -> list[dict[str, Any]]:
        lines = self._log(name).read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    async def _port_of(self, name: str) -> int:
        event = "listening" if name == "edge" else "serving"
        found: list[int] = []

        async def listens() -> bool:
            if self._processes[name].returncode is not None:
                raise RuntimeError(f"{name} ended: {self._log(name).read_text()[-2_000:]}")
            found.extend(line["port"] for line in self._lines(name) if line.get("event") == event)
            return bool(found)

        await self._until(listens, f"{name} did not start")
        return found[0]

    async def _until(self, condition: Any, otherwise: str) -> None:
        deadline = time.monotonic() + _UP_WITHIN
        while not await condition():
            if time.monotonic() > deadline:
                raise RuntimeError(otherwise)
            await asyncio.sleep(0.05)


@asynccontextmanager
async def running_system(**environment: str) -> AsyncIterator[System]:
    """A system with these settings, for the length of the context, with its data in a directory that goes with it."""
    with tempfile.TemporaryDirectory(prefix="bubble-bench-") as directory:
        system = System(Path(directory), environment)
        try:
            await system.start()
            yield system
        finally:
            await system.stop()
