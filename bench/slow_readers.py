"""What slow readers cost the others: `python -m bench.slow_readers`. Starts a system of its own. Linux only.

Groups of people share their timers with each other and update them at a fixed rate, whatever comes back (an open loop, so
that a stall of the system is not hidden: latency is counted from when an update was to be sent). Between phases with only
them there are phases with hundreds of others in the same groups, a quarter each of

- stalled: reads nothing more,
- trickling: reads a byte a second,
- vanished: its kernel drops every packet that comes, so nothing is acknowledged, and no FIN is sent,
- flooding: reads nothing, but goes on asking (its answers pile up over the bound).
"""

import argparse
import asyncio
import ctypes
import itertools
import json
import socket
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import uvloop

from bench.client import Client, make_token, text_field
from bench.system import SECRET, Process, System

KINDS = ("stalled", "trickling", "vanished", "flooding")

_SIZE = 8  # people in a group
_WINDOW = 4 * 1024  # bytes that the kernel receives for a slow reader
_FLOOD_EVERY = 0.25  # seconds between two requests of a flooding client
_FLOOD = json.dumps({"type": "ping", "timestamp": "x" * 15_000})
_SO_ATTACH_FILTER = 26  # <asm-generic/socket.h>


class Healthy(Client):
    """Somebody who reads at once, and notes how long each delivery took."""

    def __init__(self, url: str, user: str) -> None:
        super().__init__(url, user, make_token(url, SECRET, user))
        self.timer_id = f"t-{user}"
        self.latencies: list[float] = []
        self._shares_due = 0
        self._answered = asyncio.Event()
        self._refused: set[str] = set()
        self._seen: dict[bytes, bytes] = {}

    def update(self, intended: float) -> None:
        """Sends an update that was to be sent at that moment."""
        self.send(
            f'{{"type":"timer","action":"update","timer":{{"id":"{self.timer_id}","name":"{intended:.6f}",'
            '"totalDuration":"PT25M","endTime":"2030-01-01T00:00:00.000Z"}}'
        )

    async def share(self, action: str, users: Sequence[str]) -> None:
        """Shares the timer with others ("add") or ends that ("remove"); returns when it is done."""
        due = set(users)
        while due:
            self._shares_due = len(due)
            self._answered.clear()
            for user in due:
                self.send(
                    f'{{"type":"share","action":"{action}","timerId":"{self.timer_id}","sharedWithUser":"{user}",'
                    f'"messageId":"s-{user}"}}'
                )
            await self._answered.wait()
            due, self._refused = self._refused, set()
            if due:
                await asyncio.sleep(1)  # a busy machine: the system said 503

    def on_text(self, payload: bytes) -> None:
        if payload.startswith(b'{"type":"timer"'):
            timer_id, name = text_field(payload, b"id"), text_field(payload, b"name")
            if self._seen.get(timer_id) != name:  # a change of the audience brings the same state again
                self._seen[timer_id] = name
                self.latencies.append(time.perf_counter() - float(name))
        elif b'"messageId":"s-' in payload and payload.startswith(b'{"status"'):
            if payload.startswith(b'{"status":"error"'):
                self._refused.add(text_field(payload, b"messageId").decode().removeprefix("s-"))
            self._shares_due -= 1
            if not self._shares_due:
                self._answered.set()

    def on_closed(self, exc: Exception | None) -> None:
        if not self.closing:
            print(f"a healthy client was closed: {self.close_code} {exc}", file=sys.stderr)


class Slow(Client):
    """Somebody who is slow in one of the ways of `KINDS`, or not at all."""

    def __init__(self, url: str, user: str, kind: str) -> None:
        super().__init__(url, user, make_token(url, SECRET, user))
        self.kind = kind
        self.connection_id = ""
        self.slow_since = 0.0
        self._socket = socket.socket()
        self._task: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _WINDOW)
        self._socket.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(self._socket, (self._url.hostname, self._url.port))
        await loop.create_connection(lambda: self, sock=self._socket)

    def on_text(self, payload: bytes) -> None:
        if not self.connection_id:
            self.connection_id = json.loads(payload)["connectionId"]

    def become_slow(self) -> None:
        """From now on."""
        self.slow_since = time.time()
        if self.kind == "reading" or self.transport is None:
            return
        self.transport.pause_reading()
        if self.kind == "vanished":
            _drop_packets(self._socket)
        elif self.kind == "trickling":
            self._task = asyncio.create_task(self._trickle())
        elif self.kind == "flooding":
            self._task = asyncio.create_task(self._flood())

    def leave(self) -> None:
        """Ends the connection."""
        if self._task is not None:
            self._task.cancel()
        self.closing = True
        if self.transport is not None:
            self.transport.abort()

    async def _trickle(self) -> None:
        while True:
            await asyncio.sleep(1)
            try:
                if not self._socket.recv(1):
                    return
            except BlockingIOError:
                pass
            except OSError:
                return

    async def _flood(self) -> None:
        while self.transport is not None and not self.transport.is_closing():
            if not self.transport.get_write_buffer_size():
                self.send(_FLOOD)
            await asyncio.sleep(_FLOOD_EVERY)


def _drop_packets(sock: socket.socket) -> None:
    """A socket filter (classic BPF) of one instruction: "keep 0 bytes of every packet"."""
    instruction = ctypes.create_string_buffer(b"\x06\x00\x00\x00\x00\x00\x00\x00", 8)
    program = ctypes.c_uint16.__mul__(4)(1)  # sock_fprog: the length, padded to eight bytes
    sock.setsockopt(
        socket.SOL_SOCKET, _SO_ATTACH_FILTER, bytes(program) + bytes(ctypes.c_void_p(ctypes.addressof(instruction)))
    )


class Phase:
    """Some seconds of the fixed rate."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.latencies: list[float] = []
        self.resident = 0
        self.cpu = 0.0

    def percentile(self, share: float) -> float:
        """The latency in seconds that so large a share of the deliveries did not exceed."""
        ordered = sorted(self.latencies)
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)]

    def row(self) -> str:
        """As a row of the table."""
        p50, p99, most = (self.percentile(share) * 1_000 for share in (0.5, 0.99, 1))
        return (
            f"{self.name:<24} {len(self.latencies):>10,} {p50:>8.1f} {p99:>8.1f} {most:>8.0f} "
            f"{self.resident / 1e6:>9.1f} {self.cpu:>8.0%}"
        )


async def _run_phase(
    name: str, groups: Sequence[Sequence[Healthy]], rate: float, seconds: float, edge: Process
) -> Phase:
    phase = Phase(name)
    everybody = [person for group in groups for person in group]
    for person in everybody:
        person.latencies = phase.latencies
    # One after the other through all groups, not group by group.
    turns = itertools.cycle([group[member] for member in range(_SIZE) for group in groups])
    started = time.perf_counter()
    cpu = edge.usage().cpu
    for number in range(round(rate * seconds)):
        intended = started + number / rate
        wait = intended - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        next(turns).update(intended)
        if number % 100 == 0:
            phase.resident = max(phase.resident, edge.usage().resident)
    phase.cpu = (edge.usage().cpu - cpu) / (time.perf_counter() - started)
    await asyncio.sleep(1)
    return phase


async def _arrive(people: Sequence[Slow], groups: Sequence[Sequence[Healthy]]) -> None:
    for number, person in enumerate(people):
        await person.connect()
        if number % 20 == 19:
            await asyncio.gather(*(each.ready for each in people[number - 19 : number + 1]))
    await asyncio.gather(*(each.ready for each in people))
    await _share("add", people, groups)


async def _share(action: str, people: Sequence[Slow], groups: Sequence[Sequence[Healthy]]) -> None:
    async def all_of(group: Sequence[Healthy], members: Sequence[Slow]) -> None:
        for healthy in group:  # one after the other: this is no test of overload
            await healthy.share(action, [person.user for person in members])

    await asyncio.gather(*(all_of(group, people[index :: len(groups)]) for index, group in enumerate(groups)))
    await asyncio.sleep(2)  # everybody is told of it


def _closings(edge: Process, people: Sequence[Slow]) -> dict[tuple[str, int], list[dict[str, Any]]]:
    """What the edge's log says of how it closed them, by kind and code."""
    by_id = {person.connection_id: person for person in people}
    closings: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for line in edge.lines():
        person = by_id.get(line.get("connection_id", ""))
        if line.get("event") == "closing" and person is not None:
            at = datetime.fromisoformat(line["timestamp"]).timestamp()
            closings[person.kind, line["close_code"]].append({**line, "after": at - person.slow_since})
    return closings


async def run(options: argparse.Namespace) -> int:
    """One run; the exit code says whether the healthy ones noticed."""
    with tempfile.TemporaryDirectory(prefix="bubble-slow-readers-") as directory:
        settings = {"BUBBLE_LOG_LEVEL": "debug"}
        if options.ping_timeout:
            settings |= {
                "BUBBLE_PING_TIMEOUT": str(options.ping_timeout),
                "BUBBLE_PING_INTERVAL": str(options.ping_timeout / 2),
            }
        async with System(Path(directory), **settings) as system:
            edge = await system.edge("edge")
            groups = [
                [Healthy(edge.url, f"h{group}-{member}") for member in range(_SIZE)] for group in range(options.groups)
            ]
            for group in groups:
                for person in group:
                    await person.connect()
                await asyncio.gather(*(person.ready for person in group))
                for person in group:
                    person.update(0)
                for person in group:
                    await person.share("add", [other.user for other in group if other is not person])
            print(
                f"{'phase':<24} {'deliveries':>10} {'p50 ms':>8} {'p99 ms':>8} {'max ms':>8} {'edge MB':>9} {'edge CPU':>8}"
            )
            await _run_phase("warm-up", groups, options.rate, 5, edge)
            phases: list[Phase] = []
            outcomes = []
            for number in range(options.rounds):
                phases.append(await _run_phase("alone", groups, options.rate, options.alone, edge))
                print(phases[-1].row(), flush=True)
                kinds = ("reading",) if options.control else KINDS
                people = [
                    Slow(edge.url, f"s{number}-{index}", kinds[index // options.groups % len(kinds)])
                    for index in range(options.slow)
                ]
                await _arrive(people, groups)
                for slow in people:
                    slow.become_slow()
                label = f"with {options.slow} {'reading' if options.control else 'slow'}"
                phases.append(await _run_phase(label, groups, options.rate, options.seconds, edge))
                print(phases[-1].row(), flush=True)
                outcomes.append((people, _closings(edge, people)))
                for slow in people:
                    slow.leave()
                await _share("remove", people, groups)
            phases.append(await _run_phase("alone", groups, options.rate, options.alone, edge))
            print(phases[-1].row(), flush=True)
            for person in itertools.chain.from_iterable(groups):
                person.close()
            _print_outcomes(outcomes)
            return _verdict(phases)


def _print_outcomes(outcomes: Sequence[tuple[Sequence[Slow], dict[tuple[str, int], list[dict[str, Any]]]]]) -> None:
    print(
        f"\n{'kind':<12} {'people':>6} {'code':>6} {'closed':>7} {'s after it began: min':>22} {'median':>7} {'max':>6} {'s over the bound: max':>22}"
    )
    for kind in dict.fromkeys(person.kind for people, _ in outcomes for person in people):
        people = sum(person.kind == kind for everybody, _ in outcomes for person in everybody)
        codes = sorted({code for _, closings in outcomes for of_kind, code in closings if of_kind == kind})
        if not codes:
            print(f"{kind:<12} {people:>6} {'-':>6} {0:>7}")
        for code in codes:
            lines = [line for _, closings in outcomes for line in closings.get((kind, code), [])]
            after = sorted(line["after"] for line in lines)
            over = [line["seconds"] for line in lines if "seconds" in line]
            print(
                f"{kind:<12} {people:>6} {code:>6} {len(lines):>7} {after[0]:>22.1f} {statistics.median(after):>7.1f} "
                f"{after[-1]:>6.1f} {max(over, default=0):>22.1f}"
            )


def _verdict(phases: Sequence[Phase]) -> int:
    def p99(wanted: bool) -> float:
        return statistics.median(phase.percentile(0.99) for phase in phases if (phase.name == "alone") is wanted)

    ratio = p99(wanted=False) / p99(wanted=True)
    print(f"\np99 with the others / p99 alone (medians of the phases): {ratio:.2f}")
    return 0 if ratio <= 1.5 else 1


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--groups", type=int, default=25)
    parser.add_argument("--rate", type=float, default=300, help="updates per second of all together")
    parser.add_argument("--slow", type=int, default=500, help="slow readers")
    parser.add_argument("--rounds", type=int, default=3, help="phases with slow readers, and before each one without")
    parser.add_argument("--alone", type=float, default=15, help="seconds of a phase without slow readers")
    parser.add_argument("--seconds", type=float, default=30, help="seconds of a phase with slow readers")
    parser.add_argument("--ping-timeout", type=float, default=0, help="BUBBLE_PING_TIMEOUT; 0: as is")
    parser.add_argument("--control", action="store_true", help="the others are not slow: what just more people cost")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.exit(runner.run(run(parser.parse_args())))


if __name__ == "__main__":
    main()
