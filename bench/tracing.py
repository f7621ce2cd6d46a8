"""What tracing costs: `python -m bench.tracing`.

Starts the system once per way of tracing (off, at a ratio of 0, at one of 1 %), each with its own ports and database, and
puts the load of `bench.load` on them in turns, round after round, so that what else the machine does meets all of them. All
three are there the whole time; the two that are not under load are idle. Spans go to a collector that throws them away.

Two ratios are printed, each the median over the rounds with the smallest and the largest: of acknowledged updates per
second, and of CPU time per update, of the four processes together. The second one is by far the steadier on a shared machine.
"""

import argparse
import asyncio
import json
import os
import secrets
import shutil
import signal
import socket
import statistics
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

MODULES = {
    "connection": "connection_service",
    "sharing": "sharing_service",
    "timer": "timer_service",
    "edge": "edge",
}

WAYS = {
    "off": {},
    "0": {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"},
    "1 %": {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01"},
    "all": {"OTEL_TRACES_SAMPLER": "parentbased_always_on"},
}

_UP_WITHIN = 30.0
_WARMUP = 1.0  # seconds of load before anything is measured
_TICKS = os.sysconf("SC_CLK_TCK")


class Sink(trace_service_pb2_grpc.TraceServiceServicer):
    """A collector that counts spans and forgets them."""

    def __init__(self) -> None:
        self.spans = 0

    async def Export(
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: Any
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        """Called by the exporters."""
        del context
        self.spans += sum(len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans)
        return trace_service_pb2.ExportTraceServiceResponse()


class System:
    """The four processes, traced in one way."""

    def __init__(self, way: str, directory: Path, sink_port: int, secret: str) -> None:
        self.way = way
        ports = dict(zip(MODULES, _free_ports(len(MODULES)), strict=True))
        self.url = f"ws://127.0.0.1:{ports['edge']}"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("BUBBLE_", "OTEL_"))}
        self._environment = {
            **inherited,
            "BUBBLE_DATA_DIR": str(directory),
            "BUBBLE_JWT_SECRET": secret,
            "BUBBLE_MESSAGES_PER_SECOND": "0",
            "BUBBLE_DRAIN_SECONDS": "2",
            **{f"BUBBLE_{name.upper()}_PORT": str(port) for name, port in ports.items()},
            **{f"BUBBLE_{name.upper()}_ADDRESS": f"127.0.0.1:{port}" for name, port in ports.items()},
            **({"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{sink_port}"} if way != "off" else {}),
            **WAYS[way],
        }
        self._log = directory.with_suffix(".log")
        self._processes: list[asyncio.subprocess.Process] = []

    async def start(self) -> None:
        """Returns when connections are taken."""
        with self._log.open("wb") as log:
            for module in MODULES.values():
                self._processes.append(
                    await asyncio.create_subprocess_exec(
                        sys.executable, "-m", module, env=self._environment, stdout=log, stderr=log
                    )
                )
        deadline = time.monotonic() + _UP_WITHIN
        while not await asyncio.to_thread(_is_ready, self.url.replace("ws", "http", 1)):
            if time.monotonic() > deadline:
                sys.exit(f"The system is not up: {self._log.read_text()[-2_000:]}")
            await asyncio.sleep(0.1)

    async def stop(self) -> None:
        """Ends it."""
        for process in reversed(self._processes):
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
                await process.wait()

    def cpu_seconds(self) -> float:
        """What its processes have used so far."""
        used = 0.0
        for process in self._processes:
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            used += (int(fields[11]) + int(fields[12])) / _TICKS
        return used


async def measure(system: System, secret: str, options: argparse.Namespace) -> tuple[float, float]:
    """Acknowledged updates per second, and microseconds of CPU time of the system per update."""
    load = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.load", "--url", system.url, "--secret", secret,
        "--groups", str(options.groups), "--size", str(options.size), "--window", str(options.window),
        "--seconds", str(options.seconds), "--warmup", str(_WARMUP),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert load.stderr is not None  # noqa: S101  # for mypy
    while b" devices in " not in await load.stderr.readline():  # then it begins
        pass
    await asyncio.sleep(_WARMUP)
    started, before = time.monotonic(), system.cpu_seconds()
    await asyncio.sleep(options.seconds)
    cpu = (system.cpu_seconds() - before) / (time.monotonic() - started)
    output, _ = await load.communicate()
    if load.returncode:
        sys.exit(f"The load on {system.way!r} lost something: {output.decode()}")
    rate = float(json.loads(output)["acknowledged_per_second"])
    return rate, cpu / rate * 1e6


async def run(options: argparse.Namespace) -> None:
    """All rounds; prints one line per round and way, and the ratios."""
    sink = Sink()
    server = grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(sink, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    secret = secrets.token_urlsafe(48)
    directory = Path(tempfile.mkdtemp(prefix="bench-tracing-"))
    systems = [System(way, directory / f"way-{number}", port, secret) for number, way in enumerate(options.ways)]
    rates: dict[str, list[float]] = {way: [] for way in options.ways}
    costs: dict[str, list[float]] = {way: [] for way in options.ways}
    try:
        for system in systems:
            await system.start()
        for number in range(options.rounds + 1):
            order = systems[number % len(systems) :] + systems[: number % len(systems)]
            for system in order:
                rate, cost = await measure(system, secret, options)
                print(f"round {number}  {system.way:>4}  {rate:7.0f} updates/s  {cost:6.1f} us/update", flush=True)
                if number:  # the first one warms up
                    rates[system.way].append(rate)
                    costs[system.way].append(cost)
    finally:
        for system in systems:
            await system.stop()
        await server.stop(0)
        shutil.rmtree(directory, ignore_errors=True)
    baseline = options.ways[0]
    print(f"{sink.spans} spans arrived. Against {baseline!r}, median [least, most] of {options.rounds} rounds:")
    for way in options.ways[1:]:
        print(
            f"  {way:>4}: updates/s {_ratios(rates[way], rates[baseline])}, "
            f"CPU time per update {_ratios(costs[way], costs[baseline])}"
        )


def _ratios(values: Sequence[float], baseline: Sequence[float]) -> str:
    ratios = sorted(value / base for value, base in zip(values, baseline, strict=True))
    return f"x {statistics.median(ratios):.3f} [{ratios[0]:.3f}, {ratios[-1]:.3f}]"


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=2):
            return True
    except (urllib.error.URLError, OSError):
        return False


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=["off", "0", "1 %"], help="the first is 1")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--groups", type=int, default=8)
    parser.add_argument("--size", type=int, default=8, help="people in a group")
    parser.add_argument("--window", type=int, default=8, help="unanswered updates of a person")
    parser.add_argument("--seconds", type=float, default=4)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
