"""`bubble` as a person runs it: a process of its own, in a terminal if need be."""

import asyncio
import fcntl
import json
import os
import pty
import signal
import struct
import sys
import termios
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

WITHIN = 20.0
"""Seconds in which a command must end, or show what is expected. Generous: the machine may be busy."""

ROOT = Path(__file__).parents[2]


class Result(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """What it printed with --json."""
        return json.loads(self.out)


class Shell:
    """Runs commands against one system. `home` has the configuration file; nothing else of this machine's counts."""

    def __init__(self, home: Path, environment: Mapping[str, str]) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("BUBBLE_", "OTEL_"))}
        self.environment = {
            **inherited,
            "XDG_CONFIG_HOME": str(home),
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "120",
            **environment,
        }

    async def run(self, *arguments: str, **environment: str) -> Result:
        """One command to its end. Whatever it says, a traceback is never part of it."""
        process = await self.start(*arguments, **environment)
        out, err = await asyncio.wait_for(process.communicate(), WITHIN)
        assert process.returncode is not None
        result = Result(process.returncode, out.decode(), err.decode())
        assert "Traceback" not in result.err + result.out, result.err
        return result

    async def done(self, *arguments: str, **environment: str) -> Result:
        """The same for a command that must succeed."""
        result = await self.run(*arguments, **environment)
        assert result.code == 0, result
        return result

    async def start(self, *arguments: str, **environment: str) -> asyncio.subprocess.Process:
        """One command that goes on."""
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "cli",
            *arguments,
            env=self.environment | environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )


class Lines:
    """The JSON lines of a `bubble watch --json` that runs. Use as a context manager."""

    def __init__(self, shell: Shell, *arguments: str) -> None:
        self._shell = shell
        self._arguments = arguments
        self.process: asyncio.subprocess.Process
        self.seen: list[dict[str, Any]] = []

    async def __aenter__(self) -> Self:
        self.process = await self._shell.start("watch", "--json", *self._arguments)
        await self.expect("snapshot")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGINT)
        await asyncio.wait_for(self.process.communicate(), WITHIN)

    async def expect(self, *events: str, wanted: Callable[[dict[str, Any]], bool] = lambda _: True) -> dict[str, Any]:
        """The next line of one of these events that is wanted; lines before it are dropped."""
        assert self.process.stdout is not None
        async with asyncio.timeout(WITHIN):
            while True:
                line = await self.process.stdout.readline()
                if not line:
                    _, err = await self.process.communicate()
                    raise AssertionError(f"it ended with {self.process.returncode}: {err.decode()}; seen: {self.seen}")
                happened: dict[str, Any] = json.loads(line)
                self.seen.append(happened)
                if happened["event"] in events and wanted(happened):
                    return happened


class Terminal:
    """A command in a terminal of its own. Use as a context manager."""

    def __init__(self, shell: Shell, *arguments: str, columns: int = 100, rows: int = 30) -> None:
        self._shell = shell
        self._arguments = arguments
        self._size = struct.pack("HHHH", rows, columns, 0, 0)
        self._master = -1
        self.process: asyncio.subprocess.Process
        self.text = ""

    async def __aenter__(self) -> Self:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, self._size)
        environment = {name: value for name, value in self._shell.environment.items() if name != "COLUMNS"}
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "cli",
            *self._arguments,
            env=environment | {"TERM": "xterm-256color"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        os.set_blocking(self._master, False)
        asyncio.get_running_loop().add_reader(self._master, self._read)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        asyncio.get_running_loop().remove_reader(self._master)
        os.close(self._master)

    async def shows(self, text: str) -> None:
        """Returns when this has been shown since the last call that returned."""
        async with asyncio.timeout(WITHIN):
            while text not in self.text:
                assert self.process.returncode is None, self.text
                await asyncio.sleep(0.02)
        self.text = self.text.partition(text)[2]

    async def ends(self) -> int:
        """Its exit code."""
        return await asyncio.wait_for(self.process.wait(), WITHIN)

    def _read(self) -> None:
        try:
            self.text += os.read(self._master, 65_536).decode(errors="replace")
        except OSError:  # the other end is closed
            asyncio.get_running_loop().remove_reader(self._master)
