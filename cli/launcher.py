"""The whole system on one machine: four real processes on loopback, one log, one Ctrl-C.

Our own few lines rather than honcho, because honcho stops everything when one process dies, and here one may die (or be
killed, to see what happens): it is started again and the system catches up.
"""

import asyncio
import ctypes
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from pydantic import ValidationError

from connection_service.config import ConnectionSettings
from edge.auth import make_token
from edge.config import EdgeSettings
from edge.secret import signing_secret
from runtime.settings import describe
from sharing_service.config import SharingSettings
from timer_service.config import TimerSettings

_UP_WITHIN = 60.0
_RESTART_AFTER = 1.0
_PR_SET_PDEATHSIG = 1  # prctl(2)

_PORTS = {
    "connection": ("BUBBLE_CONNECTION_PORT", ConnectionSettings),
    "sharing": ("BUBBLE_SHARING_PORT", SharingSettings),
    "timer": ("BUBBLE_TIMER_PORT", TimerSettings),
}
_MODULES = {
    "connection": "connection_service",
    "sharing": "sharing_service",
    "timer": "timer_service",
    "edge": "edge",
}


async def run() -> int:
    """Runs all processes until SIGINT or SIGTERM; returns the exit code."""
    environment = {"BUBBLE_DEV": "1", "BUBBLE_DRAIN_SECONDS": "3", "BUBBLE_BUILD": _build(), **os.environ}
    os.environ.update(environment)
    try:
        listening = {name: (variable, "127.0.0.1", settings().port) for name, (variable, settings) in _PORTS.items()}
        edge = EdgeSettings()
    except ValidationError as error:
        print(f"wrong settings: {describe(error)}", file=sys.stderr)
        return 2
    listening["edge"] = ("BUBBLE_EDGE_PORT", edge.host, edge.port)
    refusal = _lock(edge.data_dir.absolute()) or _choose_ports(listening, environment)
    if refusal:
        print(refusal, file=sys.stderr)
        return 1
    for name, (variable, _) in _PORTS.items():
        environment.setdefault(f"BUBBLE_{name.upper()}_ADDRESS", f"127.0.0.1:{environment[variable]}")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    children = [_Child(name, module, environment) for name, module in _MODULES.items()]
    supervisors = [asyncio.create_task(child.supervise()) for child in children]
    greeting = asyncio.create_task(_greet(edge, f"http://{edge.host}:{environment['BUBBLE_EDGE_PORT']}"))
    await stop.wait()
    greeting.cancel()
    print("\nStopping ...", file=sys.stderr)
    for child in reversed(children):  # the edge first: it finishes what is under way through the others
        await child.stop(within=edge.drain_seconds + 2)
    await asyncio.gather(greeting, *supervisors, return_exceptions=True)
    return 0


class _Child:
    """One process, started again when it ends by itself."""

    def __init__(self, name: str, module: str, environment: Mapping[str, str]) -> None:
        self._name = name
        self._module = module
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False

    async def supervise(self) -> None:
        """Keeps the process up until `stop`."""
        while not self._stopping:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                self._module,
                env=self._environment,
                start_new_session=True,  # Ctrl-C is for us; we stop the others in order
                preexec_fn=_die_with_parent(),
            )
            code = await self._process.wait()
            if not self._stopping:
                print(f"{self._name} ended with {code}, starting it again", file=sys.stderr)
                await asyncio.sleep(_RESTART_AFTER)

    async def stop(self, within: float) -> None:
        """Asks the process to end, and makes it."""
        self._stopping = True
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), within)
        except TimeoutError:
            print(f"{self._name} does not end by itself, killing it", file=sys.stderr)
            process.kill()
            await process.wait()


async def _greet(edge: EdgeSettings, url: str) -> None:
    deadline = time.monotonic() + _UP_WITHIN
    while not await asyncio.to_thread(_is_ready, url):
        if time.monotonic() > deadline:
            print("The system is not up yet; the log says why.", file=sys.stderr)
            return
        await asyncio.sleep(0.1)
    lines = [f"Bubble Timer is up:  {url}/"]
    secret = signing_secret(edge)
    if edge.dev and secret:
        lines += [
            f"two people:          {url}/#user=alice and {url}/#user=bob, in two windows",
            f"development token:   {make_token('alice', secret, lifetime=12 * 3_600, settings=edge)}",
        ]
    print("\n" + "\n".join(lines) + "\n\nCtrl-C stops it.\n", flush=True)


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=2):
            return True
    except (urllib.error.URLError, OSError):
        return False


def _build() -> str:
    """What git calls the source that is run here; "" when it knows nothing of it."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603  # all ours
    except OSError:  # there is no git
        return ""


def _lock(directory: Path) -> str:
    """Makes this the only launcher on a data directory until it ends, however it does. Returns why it can't be, or ""."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        fcntl.flock(os.open(directory, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)  # kept open, and by no child
    except BlockingIOError:
        return f"Another `make run` uses {directory}: stop it, or set BUBBLE_DATA_DIR, and other ports, for a second system."
    except OSError as error:
        return f"{directory} can't be used: {error.strerror}. BUBBLE_DATA_DIR names another directory."
    return ""


def _choose_ports(listening: Mapping[str, tuple[str, str, int]], environment: dict[str, str]) -> str:
    """Puts the port of each process into the environment, a free one in the place of 0: the others must know it, and it must be
    the same after a restart. Returns why that can't be, or "".
    """
    with ExitStack() as probes:  # all are open until the last one is known, or a free one could be found twice
        for name, (variable, host, port) in listening.items():
            probe = probes.enter_context(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET))
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                return f"Port {port} ({name}) is taken: stop what listens there, or set {variable}."
            environment[variable] = str(probe.getsockname()[1])
    return ""


def _die_with_parent() -> Callable[[], None] | None:
    """On Linux, children get SIGTERM when this process is killed, so that none keeps a port."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
