"""More than the system can take: `python -m bench.overload`.

Starts a system of its own, finds by a short closed loop what it can take, then sends twice as much for a minute, open loop:
each update at its intended time, whether or not earlier ones were answered (a closed loop would slow down with the system
and never overload it: "coordinated omission", G. Tene). Then it stops, and measures how long the system takes to be as
quick as before, and until every device has the last acknowledged state of every timer.

A device whose socket takes no more bytes does not send what is due: that is its own backlog, counted as held back. A
refused update is not repeated. Latencies are counted from the intended time.
"""

import argparse
import asyncio
import itertools
import json
import math
import os
import sqlite3
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import uvloop
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from bench.client import Client, make_token, text_field
from bench.system import SECRET, Process, System

_TICK = 0.004  # seconds between two looks at what is due
_HELD_BACK = 4 * 1024  # bytes that a socket did not take: the device sends nothing more meanwhile
_SETTLE_WITHIN = 60.0  # seconds after the end in which everything must be answered and delivered
_QUICK = 0.1  # seconds a probe may take, there and back and to another device
_ONSET = 10.0  # seconds after which the overload is no burst any more
_TAIL = 30  # samples, one a second, of which the slope of memory is taken


class Device(Client):
    """One device of one person, with timers of its own and those of its group."""

    def __init__(self, url: str, user: str, token: str, timers: int) -> None:
        super().__init__(url, user, token)
        self.timer_ids = [f"{user}-t{number}" for number in range(timers)]
        self.shares_due = 0
        self.window_open = False
        """Closed loop: each answer is followed by the next update."""
        self.due: dict[int, float] = {}
        """When each update that is not answered was to be sent, by its number."""
        self.held_back = 0
        self.sent = 0
        self.refusals: Counter[str] = Counter()
        self.lost_in_close: Counter[int | None] = Counter()
        self.accepted: list[tuple[float, float]] = []
        """When each accepted update was answered, and how long after its intended time that was."""
        self.refused: list[float] = []
        self.acknowledged: dict[str, int] = {}
        self.versions: dict[str, int] = {}
        """By timer: the newest version this device was told."""
        self.went_back = 0
        self.deliveries = 0
        self._numbers = itertools.count(1)

    def update(self, due: float) -> None:
        """Sends one update, of the next of its timers, unless the socket is full."""
        if self.transport is None or self.transport.get_write_buffer_size() > _HELD_BACK:
            self.held_back += 1
            return
        number = next(self._numbers)
        timer_id = self.timer_ids[number % len(self.timer_ids)]
        self.due[number] = due
        self.sent += 1
        self.send(
            f'{{"type":"timer","action":"update","messageId":"{number}","timer":{{"id":"{timer_id}","name":"n{number}",'
            '"totalDuration":"PT25M","endTime":"2030-01-01T00:00:00.000Z"}}'
        )

    def share_with(self, users: Sequence[str]) -> None:
        """Shares its timers; `shares_due` is zero when all replies are there."""
        for user, timer_id in itertools.product(users, self.timer_ids):
            self.shares_due += 1
            self.send(
                f'{{"type":"share","action":"add","timerId":"{timer_id}","sharedWithUser":"{user}","messageId":"s"}}'
            )

    def on_text(self, payload: bytes) -> None:
        if payload.startswith(b'{"status":"processed"'):
            self._processed(payload)
        elif payload.startswith((b'{"type":"timer"', b'{"type":"share"')):
            self.deliveries += 1
            timer_id, version = text_field(payload, b"id").decode(), _version(payload)
            if version < self.versions.get(timer_id, 0):
                self.went_back += 1
            self.versions[timer_id] = version
        elif payload.startswith(b'{"status":"error"'):
            self._refused(payload)

    def on_closed(self, exc: Exception | None) -> None:  # noqa: ARG002  # the code says more
        if not self.closing:
            self.lost_in_close[self.close_code] += len(self.due)
            self.due.clear()

    def _processed(self, payload: bytes) -> None:
        if payload.endswith(b'"messageId":"s"}'):
            self.shares_due -= 1
            return
        number = int(text_field(payload, b"messageId"))
        now = time.perf_counter()
        self.accepted.append((now, now - self.due.pop(number)))
        timer_id = self.timer_ids[number % len(self.timer_ids)]
        self.acknowledged[timer_id] = max(self.acknowledged.get(timer_id, 0), _version(payload))
        if self.window_open:
            self.update(now)

    def _refused(self, payload: bytes) -> None:
        refusal = json.loads(payload)
        kind = f"{refusal['code']} {'with' if refusal.get('retryAfter') else 'without'} retryAfter"
        self.refusals[kind] += 1
        if refusal.get("messageId") == "s":
            raise SystemExit(f"a share was refused: {refusal}")
        now = time.perf_counter()
        self.refused.append(now - self.due.pop(int(refusal["messageId"])))
        if self.window_open:  # as a client that obeys
            asyncio.get_running_loop().call_later(refusal.get("retryAfter", 1), self._go_on)

    def _go_on(self) -> None:
        if self.window_open:
            self.update(time.perf_counter())


class Groups:
    """Everybody: groups of people, each of whom shares all timers with the others of the group."""

    def __init__(self, url: str, secret: str, *, groups: int, size: int, timers: int) -> None:
        prefix = f"u{time.time_ns() % 10**9:x}"
        self._url = url
        self._secret = secret
        self.groups = [
            [
                Device(url, user, make_token(url, secret, user), timers)
                for user in (f"{prefix}-{group}-{member}" for member in range(size))
            ]
            for group in range(groups)
        ]
        self.devices = [device for group in self.groups for device in group]

    async def prepare(self, at_once: int) -> None:
        """Connects, makes the timers and shares them, a few devices at a time."""
        for some in _batched(self.devices, 100):
            await asyncio.gather(*(device.connect() for device in some))
            await asyncio.gather(*(device.ready for device in some))
        for some in _batched(self.devices, at_once):
            for device in some:
                for _ in device.timer_ids:
                    device.update(time.perf_counter())
            await _until(lambda: not self.unanswered, 300)
        for group in self.groups:
            for device in group:
                device.share_with([other.user for other in group if other is not device])
                await _until(lambda device=device: not device.shares_due, 300)  # type: ignore[misc]
        await _until(lambda: not self.missing(), _SETTLE_WITHIN)

    @property
    def unanswered(self) -> int:
        """Updates without an answer on connections that are open."""
        return sum(len(device.due) for device in self.devices)

    def missing(self) -> int:
        """How many devices lack the last acknowledged state of a timer of their group."""
        return sum(
            other.versions.get(timer_id, 0) < version
            for group in self.groups
            for device in group
            for timer_id, version in device.acknowledged.items()
            for other in group
            if other is not device
        )

    def disagreeing(self) -> int:
        """How many devices have another state of a timer than others of their group have."""
        count = 0
        for group in self.groups:
            for device in group:
                for timer_id in device.timer_ids:
                    versions = [other.versions.get(timer_id, 0) for other in group if other is not device]
                    count += sum(version != max(versions) for version in versions)
        return count

    async def closed_loop(self, window: int, warmup: float, seconds: float) -> float:
        """Updates per second that are accepted when each device has so many unanswered ones."""
        for device in self.devices:
            device.window_open = True
            for _ in range(window):
                device.update(time.perf_counter())
        await asyncio.sleep(warmup)
        started, before = time.perf_counter(), self.count_accepted()
        await asyncio.sleep(seconds)
        rate = (self.count_accepted() - before) / (time.perf_counter() - started)
        for device in self.devices:
            device.window_open = False
        await _until(lambda: not self.unanswered and not self.missing(), _SETTLE_WITHIN)
        return rate

    async def open_loop(self, rate: float, seconds: float) -> tuple[int, float]:
        """Sends so many updates per second, evenly, to the end. Returns how many were due, and how late this program was at
        worst: then the figures are its own fault.
        """
        started = time.perf_counter()
        total, number, latest = int(rate * seconds), 0, 0.0
        devices, count = self.devices, len(self.devices)
        while number < total:
            now = time.perf_counter()
            latest = max(latest, now - started - number / rate)
            due = min(total, int((now - started) * rate))
            while number < due:
                devices[number % count].update(started + number / rate)
                number += 1
            await asyncio.sleep(_TICK)
        return total, latest

    def count_accepted(self) -> int:
        """All accepted updates so far."""
        return sum(len(device.accepted) for device in self.devices)

    def forget_figures(self) -> None:
        """From here on, only what comes counts."""
        for device in self.devices:
            device.accepted.clear()
            device.refused.clear()
            device.refusals.clear()
            device.held_back = device.sent = device.deliveries = 0

    def close(self) -> None:
        """Ends all connections."""
        for device in self.devices:
            device.close()


class Probe:
    """A person nobody has seen before, with two devices: the change of one must reach the other at once."""

    def __init__(self, url: str) -> None:
        user = f"probe-{time.time_ns() % 10**9:x}"
        token = make_token(url, SECRET, user)
        self._devices = [_ProbeDevice(url, user, token, device=f"p{number}") for number in range(2)]

    async def until_quick(self, within: float) -> float | None:
        """Seconds until an update was acknowledged and delivered within `_QUICK`; None: it never was."""
        started = time.perf_counter()
        try:
            async with asyncio.timeout(within):
                await asyncio.gather(*(device.connect() for device in self._devices))
                await asyncio.gather(*(device.ready for device in self._devices))
                for number in itertools.count(1):
                    asked = time.perf_counter()
                    for device in self._devices:
                        device.expect(number)
                    self._devices[0].update(number)
                    try:
                        async with asyncio.timeout(_QUICK):
                            await asyncio.gather(self._devices[0].acknowledged, self._devices[1].told)
                    except TimeoutError:
                        pass
                    else:
                        return time.perf_counter() - started
                    await asyncio.sleep(max(asked + 2 * _QUICK - time.perf_counter(), 0))
        except (TimeoutError, OSError):
            return None
        finally:
            for device in self._devices:
                device.close()
        return None


class _ProbeDevice(Client):
    def __init__(self, url: str, user: str, token: str, *, device: str) -> None:
        super().__init__(url, user, token, device=device)
        self._number = 0
        self.acknowledged = self.told = asyncio.get_running_loop().create_future()

    def expect(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        self._number = number
        self.acknowledged, self.told = loop.create_future(), loop.create_future()

    def update(self, number: int) -> None:
        self.send(
            f'{{"type":"timer","action":"update","messageId":"p{number}",'
            f'"timer":{{"id":"{self.user}-t","name":"p{number}","totalDuration":"PT1M"}}}}'
        )

    def on_text(self, payload: bytes) -> None:
        if payload.startswith(b'{"status":"processed"'):
            if text_field(payload, b"messageId") == f"p{self._number}".encode():
                _set(self.acknowledged)
        elif payload.startswith(b'{"type":"timer"') and text_field(payload, b"name") == f"p{self._number}".encode():
            _set(self.told)


class Watch:
    """What the processes are like, once a second."""

    def __init__(self, system: System, edge: Process, count_pending: Callable[[], int]) -> None:
        self._system = system
        self._edge = edge
        self._count_pending = count_pending
        self._started = time.perf_counter()
        self.memory: list[tuple[float, dict[str, int]]] = []
        self.pending: list[int] = []
        self.not_ready = 0

    async def run(self) -> None:
        """Looks until it is cancelled."""
        while True:
            self.memory.append((time.perf_counter() - self._started, _resident(self._system)))
            self.not_ready += not await asyncio.to_thread(_is_ready, self._edge)
            self.pending.append(await asyncio.to_thread(self._count_pending))
            await asyncio.sleep(1.0)

    def memory_of(self, name: str) -> dict[str, float]:
        """Megabytes: at first, at most, and growth per minute over the last `_TAIL` samples."""
        samples = [(at, found[name] / 2**20) for at, found in self.memory if name in found]
        tail = samples[-_TAIL:]
        return {
            "first_mb": round(samples[0][1], 1),
            "max_mb": round(max(size for _, size in samples), 1),
            "slope_mb_per_minute": round(_slope(tail) * 60, 1),
        }


def _pending_counter(options: argparse.Namespace, directory: Path, database: str) -> Callable[[], int]:
    if options.store == "mongodb":
        collection = MongoClient[dict[str, Any]](os.environ["MONGODB_URI"])[database]["timers"]

        def count_documents() -> int:
            try:
                return collection.count_documents({"pending_since_us": {"$gt": 0}})
            except PyMongoError:
                return -1

        return count_documents
    path = directory / "data" / "timers.sqlite"

    def count_rows() -> int:
        try:
            with sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=1) as connection:
                return int(
                    connection.execute("SELECT count(*) FROM timers WHERE pending_since_us IS NOT NULL").fetchone()[0]
                )
        except sqlite3.Error:
            return -1

    return count_rows


async def run(options: argparse.Namespace) -> int:
    """One run; the exit code."""
    database = f"bubble-bench-{os.getpid()}"
    settings = {"BUBBLE_STORE": options.store, "BUBBLE_MONGODB_DATABASE": database}
    try:
        with tempfile.TemporaryDirectory(prefix="bubble-bench-") as directory:
            async with System(Path(directory), **settings) as system:
                count_pending = _pending_counter(options, Path(directory), database)
                result = await _measure(options, system, await system.edge("edge"), count_pending)
    finally:
        if options.store == "mongodb":
            with MongoClient[dict[str, Any]](os.environ["MONGODB_URI"]) as client:
                client.drop_database(database)
    _print_table(result)
    print(json.dumps(result))
    return 0 if result["held"] else 1


async def _measure(
    options: argparse.Namespace, system: System, edge: Process, count_pending: Callable[[], int]
) -> dict[str, Any]:
    everybody = Groups(edge.url, SECRET, groups=options.groups, size=options.size, timers=options.timers)
    _say(f"{len(everybody.devices)} devices in {options.groups} groups, {options.timers} timers each, {options.store}")
    await everybody.prepare(options.at_once)
    capacity = options.capacity or await everybody.closed_loop(options.window, options.warmup, options.calibrate)
    rate = capacity * options.times
    _say(f"takes {capacity:.0f}/s; {rate:.0f}/s for {options.seconds:.0f} s ...")
    everybody.forget_figures()
    watch = Watch(system, edge, count_pending)
    watching = asyncio.create_task(watch.run())
    cpu_before = _cpu_seconds(system)
    started = time.perf_counter()
    due, generator_late = await everybody.open_loop(rate, options.seconds)
    ended = time.perf_counter()
    elapsed = ended - started
    cpu = {name: round((used - cpu_before[name]) / elapsed, 2) for name, used in _cpu_seconds(system).items()}
    under_way = everybody.unanswered
    in_time = sum(at <= ended for device in everybody.devices for at, _ in device.accepted)
    refused_in_time = sum(sum(device.refusals.values()) for device in everybody.devices)
    deliveries = sum(device.deliveries for device in everybody.devices)
    probing = asyncio.create_task(Probe(edge.url).until_quick(_SETTLE_WITHIN))
    answered_after = await _until(lambda: not everybody.unanswered, _SETTLE_WITHIN)
    settled_after = None
    if await _until(lambda: not everybody.missing() and not everybody.disagreeing(), _SETTLE_WITHIN) is not None:
        settled_after = time.perf_counter() - ended
    quick_after = await probing
    watching.cancel()
    refusals: Counter[str] = sum((device.refusals for device in everybody.devices), Counter())
    cut: Counter[int | None] = sum((device.lost_in_close for device in everybody.devices), Counter())
    closed = Counter(
        str(device.close_code)
        for device in everybody.devices
        if device.transport is None or device.transport.is_closing()
    )
    silent = sum(count for kind, count in refusals.items() if kind.endswith("without retryAfter"))
    result = {
        "store": options.store,
        "devices": len(everybody.devices),
        "capacity_per_second": round(capacity),
        "due_per_second": round(due / elapsed),
        "sent_per_second": round(sum(device.sent for device in everybody.devices) / elapsed),
        "held_back_per_second": round(sum(device.held_back for device in everybody.devices) / elapsed),
        "accepted_per_second": round(in_time / elapsed),
        "goodput_share": round(in_time / elapsed / capacity, 2),
        "refused_per_second": round(refused_in_time / elapsed),
        "deliveries_per_second": round(deliveries / elapsed),
        "refusals": dict(refusals),
        "connections_closed": dict(closed),
        "cut_off_with_their_connection": {str(code): count for code, count in cut.items()},
        "unanswered_at_the_end": under_way,
        "unanswered_for_good": everybody.unanswered,
        "accepted_ms": _percentiles([late for device in everybody.devices for _, late in device.accepted]),
        f"accepted_ms_after_{_ONSET:.0f}_s": _percentiles(
            [late for device in everybody.devices for at, late in device.accepted if at > started + _ONSET]
        ),
        "refused_ms": _percentiles([late for device in everybody.devices for late in device.refused]),
        "all_answered_after_s": _rounded(answered_after),
        "probe_quick_after_s": _rounded(quick_after),
        "all_states_delivered_after_s": _rounded(settled_after),
        "states_missing": everybody.missing(),
        "states_disagreeing": everybody.disagreeing(),
        "versions_that_went_back": sum(device.went_back for device in everybody.devices),
        "pending_markers": {
            "max": max(watch.pending),
            "last": watch.pending[-1],
            "every_5_s": watch.pending[::5],
        },
        "not_ready_samples": watch.not_ready,
        "memory": {name: watch.memory_of(name) for name in _resident(system)},
        "cpu": cpu,
        "generator_late_ms": round(generator_late * 1_000),
        "complaints": _complaints(system),
    }
    result["held"] = bool(
        not silent
        and not everybody.unanswered
        and not result["states_missing"]
        and quick_after is not None
        and quick_after <= 5
        and settled_after is not None
        and settled_after <= 5
    )
    everybody.close()
    return result


def _resident(system: System) -> dict[str, int]:
    return {process.name: process.usage().resident for process in system.processes}


def _cpu_seconds(system: System) -> dict[str, float]:
    return {process.name: process.usage().cpu for process in system.processes}


def _complaints(system: System) -> dict[str, int]:
    """How often each warning or error is in the logs."""
    counts = Counter(
        f"{process.name}: {line.get('event')}"
        for process in system.processes
        for line in process.lines()
        if line.get("level") not in ("debug", "info")
    )
    return dict(counts.most_common())


def _is_ready(edge: Process) -> bool:
    """Whether the edge says so within a second."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{edge.port}/readyz", timeout=1):
            return True
    except (urllib.error.URLError, OSError):
        return False


def _print_table(result: dict[str, Any]) -> None:
    for name, value in result.items():
        if isinstance(value, dict):
            _say(f"{name}:")
            for key, each in value.items():
                _say(f"    {key!s:<36} {each}")
        else:
            _say(f"{name:<40} {value}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _version(payload: bytes) -> int:
    start = payload.index(b'"version":') + 10
    end = start
    while payload[end] in b"0123456789":
        end += 1
    return int(payload[start:end])


def _percentiles(seconds: Sequence[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    if not ordered:
        return {}
    return {
        f"p{share:g}": round(ordered[min(int(len(ordered) * share / 100), len(ordered) - 1)] * 1_000, 1)
        for share in (50, 90, 99, 99.9, 100)
    }


def _slope(points: Sequence[tuple[float, float]]) -> float:
    """Least squares."""
    count = len(points)
    if count < 2:
        return 0.0
    mean_x, mean_y = sum(x for x, _ in points) / count, sum(y for _, y in points) / count
    spread = math.fsum((x - mean_x) ** 2 for x, _ in points)
    return math.fsum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 2)


def _batched(devices: Sequence[Device], size: int) -> Iterable[Sequence[Device]]:
    return (devices[start : start + size] for start in range(0, len(devices), size))


async def _until(condition: Callable[[], bool], within: float) -> float | None:
    """Seconds until the condition held; None: it did not in time."""
    started = time.perf_counter()
    while not condition():
        if time.perf_counter() - started > within:
            return None
        await asyncio.sleep(0.05)
    return time.perf_counter() - started


def _set(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", choices=("sqlite", "mongodb"), default="sqlite", help="mongodb needs MONGODB_URI")
    parser.add_argument("--groups", type=int, default=50)
    parser.add_argument("--size", type=int, default=8, help="people in a group")
    parser.add_argument("--timers", type=int, default=4, help="timers of a person")
    parser.add_argument("--times", type=float, default=2, help="how many times the capacity is sent")
    parser.add_argument("--seconds", type=float, default=60, help="how long")
    parser.add_argument("--capacity", type=float, default=0, help="updates per second; 0 = find out")
    parser.add_argument("--window", type=int, default=8, help="unanswered updates of a device while finding out")
    parser.add_argument("--warmup", type=float, default=3, help="seconds before that counts")
    parser.add_argument("--calibrate", type=float, default=8, help="seconds it takes")
    parser.add_argument("--at-once", type=int, default=50, help="devices that make their timers at the same time")
    options = parser.parse_args()
    if options.store == "mongodb" and not os.environ.get("MONGODB_URI"):
        parser.error("set MONGODB_URI")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.exit(runner.run(run(options)))


if __name__ == "__main__":
    main()
