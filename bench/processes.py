"""What processes use, and programs that are started to be measured. Linux only."""

import asyncio
import os
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_START_WITHIN = 30.0
_STOP_WITHIN = 10.0


def cpu_seconds(pid: int) -> float:
    """CPU time of a process up to now: to the nanosecond where the kernel keeps that, else to 10 ms."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
    except FileNotFoundError:  # the kernel has none, or a thread has just ended
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _CLOCK_TICKS


def resident_bytes(pid: int) -> int:
    """Memory of a process that is in RAM now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Program:
    """A program that listens on a port."""

    def __init__(self, command: Sequence[str | Path], port: int, environment: Mapping[str, str], log: Path) -> None:
        self._command = command
        self.port = port
        self._environment = environment
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Its process, which has been started."""
        if self._process is None:
            raise RuntimeError("not started")
        return self._process.pid

    async def start(self, directory: Path) -> None:
        """Starts it; returns when it listens. Raises RuntimeError with the end of its log."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *map(str, self._command),
                env={**os.environ, **self._environment},
                cwd=directory,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_WITHIN
        while time.monotonic() < deadline and self._process.returncode is None:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return
        raise RuntimeError(f"{self._command[0]} did not start: {self._log.read_text()[-2_000:]}")

    def check(self) -> None:
        """Raises RuntimeError with the end of its log when it has ended by itself."""
        if self._process is not None and self._process.returncode is not None:
            raise RuntimeError(f"{self._command[0]} has ended: {self._log.read_text()[-1_000:]}")

    async def stop(self) -> None:
        """Ends it, if it still runs."""
        if self._process is None or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), _STOP_WITHIN)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
