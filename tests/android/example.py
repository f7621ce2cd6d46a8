"""The OkHttp example client: built once, and run as a process."""

import asyncio
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from tests.docs.pages import ROOT
from tests.system.client import WITHIN, token

PROJECT = ROOT / "examples/android"
JAR = PROJECT / "target/bubble-timer-example.jar"

_NO_PACKAGES = ("Could not transfer", "Could not find artifact", "in offline mode", "was not found in")
_BUILD_WITHIN = 540.0  # seconds; the first time, Maven fetches what it needs

Line = dict[str, Any]


def build() -> None:
    """Builds the example with its unit tests. Skips where it can't be built; a build that fails is a failure."""
    if shutil.which("mvn") is None or shutil.which("javac") is None:
        pytest.skip("the Android example needs a JDK and Maven")
    with _one_at_a_time():
        if JAR.exists() and JAR.stat().st_mtime > _last_change():
            return
        built = subprocess.run(
            ["mvn", "-B", "-q", "package"],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=_BUILD_WITHIN,
            check=False,
        )
        output = built.stdout + built.stderr
        if built.returncode and any(each in output for each in _NO_PACKAGES):
            pytest.skip("the Android example needs packages that Maven can't get here")
        assert built.returncode == 0, output[-8_000:]


def _last_change() -> float:
    sources = [PROJECT / "pom.xml", *(path for path in (PROJECT / "src").rglob("*"))]
    return max(path.stat().st_mtime for path in sources)


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    with (Path(tempfile.gettempdir()) / f"bubble-timer-example-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Example:
    """The example client as a process. Use as a context manager."""

    def __init__(
        self, port: int, user: str, directory: Path, *, device: str = "okhttp", token_lifetime: float = 600
    ) -> None:
        self._port = port
        self._user = user
        self._device = device
        self._token_file = directory / f"{user}-{device}.token"
        self.give_token(token_lifetime)
        self.lines: list[Line] = []
        self._arrived = asyncio.Condition()
        self._process: asyncio.subprocess.Process
        self._reader: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *("java", "-jar", str(JAR), "--json", "--url", f"ws://127.0.0.1:{self._port}/ws"),
            *("--token-file", str(self._token_file), "--device", self._device),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.terminate()
        await asyncio.wait_for(self._process.wait(), WITHIN)
        await self._reader

    def give_token(self, lifetime: float) -> None:
        """The token that it finds when it looks for one, good for so many seconds."""
        self._token_file.write_text(token(self._user, lifetime=lifetime))

    async def type(self, command: str) -> None:
        """Types a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(command.encode() + b"\n")
        await self._process.stdin.drain()

    async def do(self, command: str, within: float = WITHIN) -> Line:
        """Types a command, which must be done; returns the server's reply."""
        await self.type(command)
        line = await self.wait_for(lambda: self.answer_to(command), within)
        assert line["event"] == "done", line
        reply: Line = line["reply"]
        return reply

    def answer_to(self, command: str) -> Line | None:
        """What it said of a command last."""
        return next((line for line in reversed(self.lines) if line.get("command") == command), None)

    @property
    def states(self) -> list[str]:
        """The states of its connection until now."""
        return [line["state"] for line in self.lines if line["event"] == "state"]

    @property
    def timers(self) -> dict[str, Line]:
        """What it shows, by timer id."""
        shown: list[Line] = next((line["timers"] for line in reversed(self.lines) if line["event"] == "timers"), [])
        return {timer["id"]: timer for timer in shown}

    async def wait_for(self, condition: Callable[[], Any], within: float = WITHIN) -> Any:
        """What a condition on its output is, as soon as that is true."""
        async with self._arrived:
            try:
                async with asyncio.timeout(within):
                    return await self._arrived.wait_for(condition)
            except TimeoutError:
                raise AssertionError(f"it did not come to pass: {self.lines[-10:]}") from None

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            async with self._arrived:
                self.lines.append(json.loads(line))
                self._arrived.notify_all()
