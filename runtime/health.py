"""Whether a process can do its work, and why not.

What a process depends on is of two kinds. What it *needs* is its own: without its database a replica can do nothing, and
another one may do better, so it is not ready. What it *uses* is another service, the same for all replicas: when that is
away, taking every replica of every service in front of it out of service as well would help nobody, hide where the fault
is, and make the way back longer. Such a process stays ready and says that it is degraded.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import Gauge

from runtime import logs
from runtime.errors import Unavailable, brief

log = logs.get(__name__)

Check = Callable[[], Awaitable[None]]
"""Returns when what it checks is fine, raises when it is not."""

CHECK_INTERVAL = 1.0
"""Seconds between two checks of what a process needs."""

USES_INTERVAL = 3.0
"""Seconds between two checks of what it uses. Those are calls: every second they would be half of an idle system's work,
and nothing but what people are told depends on them."""

CHECK_PATIENCE = 0.8
"""Seconds one check may take: with the interval, nothing is believed to be fine for two seconds after it was."""

_STARTING = 5.0  # seconds after its start in which a process does not warn of what has never been there

READY = Gauge("bubble_ready", "Whether the process does its work (1), or not, or not yet, or no more (0)")
DEPENDENCY = Gauge(
    "bubble_dependency_up", "Whether the last check of what the process depends on went well", ["dependency"]
)


class Health:
    """The state of one process. Names of dependencies are those of the metric's label."""

    def __init__(
        self,
        *,
        needs: Mapping[str, Check],
        uses: Mapping[str, Check] | None = None,
        uses_interval: float = USES_INTERVAL,
    ) -> None:
        self._needs = needs
        self._uses = uses or {}
        self._uses_interval = uses_interval
        self._uses_due = 0.0
        self._faults: dict[str, str] = {}
        self._seen: set[str] = set()
        self._checked = False
        self.draining = False
        self._started_at = time.monotonic()
        READY.set(0)

    @property
    def not_ready(self) -> str | None:
        """Why the process does not do its work, or None."""
        if self.draining:
            return "draining"
        if not self._checked:
            return "starting"
        return "; ".join(f"{name}: {fault}" for name, fault in self._faults.items() if name in self._needs) or None

    @property
    def degraded(self) -> dict[str, str]:
        """What is wrong with what the process uses: it works as far as it can without."""
        return {name: fault for name, fault in self._faults.items() if name not in self._needs}

    def drain(self) -> None:
        """The process is about to end: not ready from now on."""
        self.draining = True
        READY.set(0)
        log.info("draining")

    async def check(self) -> None:
        """Checks everything that is due, side by side. Raises Unavailable, with the reason, when the process is not ready."""
        checks = {**self._needs}
        if time.monotonic() >= self._uses_due:
            self._uses_due = time.monotonic() + self._uses_interval
            checks |= self._uses
        faults = await asyncio.gather(*(_fault(check) for check in checks.values()))
        for name, fault in zip(checks, faults, strict=True):
            self._note(name, fault)
        self._checked = True
        reason = self.not_ready
        READY.set(reason is None)
        if reason is not None:
            raise Unavailable(reason)

    async def watch(self) -> None:
        """Checks again and again, until cancelled: for a process without a gRPC server, which would do it."""
        while True:
            with suppress(Unavailable):  # told where it is asked for
                await self.check()
            await asyncio.sleep(CHECK_INTERVAL)

    def _note(self, name: str, fault: str | None) -> None:
        DEPENDENCY.labels(name).set(fault is None)
        before = self._faults.pop(name, None)
        if fault is None:
            if before is not None and name in self._seen:
                log.info("dependency is back", dependency=name)
            self._seen.add(name)
            return
        self._faults[name] = fault
        starting = name not in self._seen and time.monotonic() - self._started_at < _STARTING
        if not starting:
            if before is None or name not in self._seen:
                log.warning("dependency is away", dependency=name, reason=fault)
            self._seen.add(name)


def service_check(channel: grpc.aio.Channel) -> Check:
    """Asks a service, through the channel that its callers use, whether it serves. Costs one small call."""
    stub = health_pb2_grpc.HealthStub(channel)

    async def check() -> None:
        try:
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=CHECK_PATIENCE * 0.9)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:  # the channel waits for the service to come
                raise Unavailable("no answer") from error
            raise
        if answer.status != health_pb2.HealthCheckResponse.SERVING:
            name = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
            raise Unavailable(f"answers {name}")

    return check


async def _fault(check: Check) -> str | None:
    try:
        async with asyncio.timeout(CHECK_PATIENCE):
            await check()
    except TimeoutError:
        return f"no answer within {CHECK_PATIENCE:g} s"
    except Exception as error:  # whatever the check met, it is a fault
        return brief(error)
    return None
