"""The whole system in containers, as `docker compose` makes it, in a project of its own on free ports."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parents[2]

OURS = ("connection", "sharing", "timer", "edge")
"""What is built here, in the order in which it starts."""

_BUILD_WITHIN = 900.0
"""Seconds to pull and build everything for the first time."""

_WITHIN = 240.0
"""Seconds for anything else."""

_PORTS = (
    "BUBBLE_EDGE_PORT", "BUBBLE_TIMER_PORT", "BUBBLE_SHARING_PORT", "BUBBLE_CONNECTION_PORT", "JAEGER_PORT", "PROMETHEUS_PORT",
)  # fmt: skip


class Container(NamedTuple):
    """One container, as `docker inspect` told of it."""

    service: str
    facts: Mapping[str, Any]

    @property
    def id(self) -> str:
        """The engine's id."""
        return str(self.facts["Id"])

    @property
    def started_at(self) -> str:
        """When it was started the last time; such texts sort by time."""
        return str(self.facts["State"]["StartedAt"])

    @property
    def health(self) -> str | None:
        """What its health check says; None when it has none."""
        health = self.facts["State"].get("Health")
        return None if health is None else str(health["Status"])


class Stack:
    """One project of `docker compose`. Whoever makes it takes it `down`."""

    def __init__(self, **environment: str) -> None:
        self.project = f"bubble-test-{uuid.uuid4().hex[:8]}"
        self.ports = dict(zip(_PORTS, _free_ports(len(_PORTS)), strict=True))
        # Nothing of whoever runs the tests counts: neither their variables nor their .env file.
        outside = {name: value for name, value in os.environ.items() if not name.startswith(("BUBBLE_", "COMPOSE_"))}
        self._environment = (
            outside
            | {name: str(port) for name, port in self.ports.items()}
            | {"COMPOSE_PROJECT_NAME": self.project, "COMPOSE_ENV_FILES": os.devnull}
            | environment
        )

    def up(self, **replicas: int) -> None:
        """Brings everything up, with one replica of what is not named; returns when all of it is healthy."""
        scale = [argument for name, count in replicas.items() for argument in ("--scale", f"{name}={count}")]
        self.compose("up", "--detach", "--build", "--wait", *scale, within=_BUILD_WITHIN)

    def down(self) -> None:
        """Removes all that it made: containers, networks, volumes."""
        self.compose("--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "30")

    def compose(self, *arguments: str, within: float = _WITHIN) -> str:
        """What `docker compose` with these arguments prints."""
        return self.run("docker", "compose", *arguments, within=within)

    def run(self, *command: str, within: float = _WITHIN) -> str:
        """What a command prints, with this project as the one that `docker compose` is about. Fails when it fails."""
        done = subprocess.run(
            command, cwd=ROOT, env=self._environment, capture_output=True, text=True, timeout=within, check=False
        )
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-2_000:]}\n{done.stderr[-4_000:]}"
        return done.stdout

    def containers(self, *services: str) -> list[Container]:
        """All containers, or those of some services, stopped ones included."""
        ids = self.compose("ps", "--all", "--quiet", *services).split()
        if not ids:
            return []
        inspected = json.loads(self.run("docker", "inspect", *ids))
        return [Container(facts["Config"]["Labels"]["com.docker.compose.service"], facts) for facts in inspected]

    def kill(self, container: Container) -> None:
        """Kills a process of ours as a crash would. (After `docker kill` the engine would not start it again.)"""
        # The engine's init is process 1; it ends with its child.
        kill = "import os, signal; os.kill(int(open('/proc/1/task/1/children').read().split()[0]), signal.SIGKILL)"
        with contextlib.suppress(AssertionError):  # it may go down with what it kills
            self.run("docker", "exec", container.id, "python", "-c", kill)

    def leftovers(self) -> list[str]:
        """What there still is of this project."""
        mine = f"label=com.docker.compose.project={self.project}"
        return [
            *self.run("docker", "ps", "--all", "--quiet", "--filter", mine).split(),
            *self.run("docker", "volume", "ls", "--quiet", "--filter", mine).split(),
            *self.run("docker", "network", "ls", "--quiet", "--filter", mine).split(),
        ]


def require_docker() -> None:
    """Ends the run with a sentence when there is no Docker to run it with."""
    if shutil.which("docker") is None:
        pytest.exit("These tests need Docker with the compose plugin, and there is no `docker` here.", returncode=2)
    for command, problem in (
        (["docker", "info"], "the Docker engine does not answer"),
        (["docker", "compose", "version"], "`docker compose` is missing (version 2 of compose, a plugin of docker)"),
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            pytest.exit(f"These tests need Docker, but {problem}:\n{done.stderr.strip()}", returncode=2)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
