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
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from bench.system import SECRET, System

WAYS = {
    "off": {},
    "0": {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"},
    "1 %": {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01"},
    "all": {"OTEL_TRACES_SAMPLER": "parentbased_always_on"},
}

_WARMUP = 1.0  # seconds of load before anything is measured


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


async def measure(system: System, way: str, options: argparse.Namespace) -> tuple[float, dict[str, float]]:
    """Acknowledged updates per second, and microseconds of CPU time per update of each process."""
    load = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.load", "--url", system.processes[-1].url, "--secret", SECRET,
        "--groups", str(options.groups), "--size", str(options.size), "--window", str(options.window),
        "--seconds", str(options.seconds), "--warmup", str(_WARMUP),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert load.stderr is not None  # noqa: S101  # for mypy
    while b" devices in " not in await load.stderr.readline():  # then it begins
        pass
    await asyncio.sleep(_WARMUP)
    started, before = time.monotonic(), _cpu_seconds(system)
    await asyncio.sleep(options.seconds)
    seconds, after = time.monotonic() - started, _cpu_seconds(system)
    output, _ = await load.communicate()
    if load.returncode:
        sys.exit(f"The load on {way!r} lost something: {output.decode()}")
    rate = float(json.loads(output)["acknowledged_per_second"])
    return rate, {name: (after[name] - before[name]) / seconds / rate * 1e6 for name in before}


async def run(options: argparse.Namespace) -> None:
    """All rounds; prints one line per round and way, and the ratios."""
    sink = Sink()
    server = grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(sink, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    directory = Path(tempfile.mkdtemp(prefix="bench-tracing-"))
    systems: list[tuple[str, System]] = []
    rates: dict[str, list[float]] = {way: [] for way in options.ways}
    costs: dict[str, list[float]] = {way: [] for way in options.ways}
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        stack.push_async_callback(server.stop, 0)
        for number, way in enumerate(options.ways):
            place = directory / f"way-{number}"
            place.mkdir()
            endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"} if way != "off" else {}
            system = await stack.enter_async_context(System(place, **endpoint, **WAYS[way]))
            await system.edge("edge")
            systems.append((way, system))
        for number in range(options.rounds + 1):
            order = systems[number % len(systems) :] + systems[: number % len(systems)]
            for way, system in order:
                rate, cost = await measure(system, way, options)
                total = sum(cost.values())
                parts = ", ".join(f"{name} {part:.1f}" for name, part in cost.items())
                print(f"round {number}  {way:>4}  {rate:7.0f} updates/s  {total:6.1f} us/update ({parts})", flush=True)
                if number:  # the first one warms up
                    rates[way].append(rate)
                    costs[way].append(total)
    baseline = options.ways[0]
    print(f"{sink.spans} spans arrived. Against {baseline!r}, median [least, most] of {options.rounds} rounds:")
    for way in options.ways[1:]:
        print(
            f"  {way:>4}: updates/s {_ratios(rates[way], rates[baseline])}, "
            f"CPU time per update {_ratios(costs[way], costs[baseline])}"
        )


def _cpu_seconds(system: System) -> dict[str, float]:
    return {process.name: process.usage().cpu for process in system.processes}


def _ratios(values: Sequence[float], baseline: Sequence[float]) -> str:
    ratios = sorted(value / base for value, base in zip(values, baseline, strict=True))
    return f"x {statistics.median(ratios):.3f} [{ratios[0]:.3f}, {ratios[-1]:.3f}]"


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
