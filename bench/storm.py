"""Everybody comes back at once: `python -m bench.storm --clients 2000`. Starts a system of its own. Linux only.

Groups of people see the timers of one of them. All hold a connection to one edge, and that is restarted under them; a second
edge serves only those who go on changing timers meanwhile. Clients do what docs/protocol.md says: who is told 1012 comes
back at once, who is cut waits a random time (full jitter), and all send `sync` with what they have.
"""

import argparse
import asyncio
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import uvloop

from bench.client import Client, make_token
from bench.system import SECRET, Process, System

_SIZE = 8  # people in a group
_BUCKET = 0.1  # seconds of one line of the histogram
_CONNECT_PATIENCE = 10.0  # seconds until an attempt counts as failed
_AT_ONCE = 100  # clients that arrive together before the storm


class Storm:
    """What all phones saw, by the monotonic clock."""

    def __init__(self) -> None:
        self.accepted: list[float] = []
        self.back: list[float] = []
        self.failed: Counter[str] = Counter()
        self.full_bytes = 0
        self.sync_bytes = 0
        self.syncs = 0

    def reset(self) -> None:
        """Forgets how everybody came, but not how much that took."""
        self.accepted.clear()
        self.back.clear()
        self.failed.clear()


class Phone:
    """One device that is always connected, or tries to be."""

    def __init__(self, url: str, user: str, storm: Storm) -> None:
        self.url = url
        self.user = user
        self.token = make_token(url, SECRET, user)
        self.storm = storm
        self.known: dict[str, tuple[int, int]] = {}
        """Version and audience version of each timer."""
        self.arrived = asyncio.Event()

    async def live(self) -> None:
        """Until cancelled."""
        failures = 0
        while True:
            connection = PhoneConnection(self)
            try:
                async with asyncio.timeout(_CONNECT_PATIENCE):
                    await connection.connect()
                    await connection.ready
            except (OSError, TimeoutError) as error:
                failures += 1
                self.storm.failed[_kind(error)] += 1
                connection.close()
            else:
                self.storm.back.append(time.monotonic())
                self.arrived.set()
                await connection.over
                failures = 0 if connection.close_code == 1012 else 1
            if failures:
                await asyncio.sleep(random.uniform(0, min(30, 0.5 * 2**failures)))

    def take(self, timer: dict[str, object]) -> None:
        """A timer's state, by the rule for clients."""
        name, version, share_version = timer["id"], timer["version"], timer["shareVersion"]
        if isinstance(name, str) and isinstance(version, int) and isinstance(share_version, int):
            old = self.known.get(name, (0, 0))
            self.known[name] = (max(version, old[0]), max(share_version, old[1]))


class PhoneConnection(Client):
    """One connection of a phone."""

    def __init__(self, phone: Phone) -> None:
        super().__init__(phone.url, phone.user, phone.token, device="phone", resume=bool(phone.known))
        self._phone = phone
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def on_open(self) -> None:
        self._phone.storm.accepted.append(time.monotonic())
        known = self._phone.known
        if known:
            versions = {timer_id: version for timer_id, (version, _) in known.items()}
            share_versions = {timer_id: version for timer_id, (_, version) in known.items()}
            self.send(json.dumps({"type": "sync", "versions": versions, "shareVersions": share_versions}))

    def on_text(self, payload: bytes) -> None:
        if payload.startswith(b'{"type":"snapshot"'):
            storm = self._phone.storm
            if self._phone.known:
                storm.syncs += 1
                storm.sync_bytes += len(payload)
            else:
                storm.full_bytes += len(payload)
            for timer in json.loads(payload)["timers"]:
                self._phone.take(timer)
        elif payload.startswith(b'{"type":"timer"'):
            self._phone.take(json.loads(payload)["timer"])

    def on_closed(self, exc: Exception | None) -> None:  # noqa: ARG002  # the close code tells more
        if not self.over.done():
            self.over.set_result(None)


class Owner(Client):
    """Whose timers a group sees; connected to the edge that stays."""

    def __init__(self, url: str, user: str, timers: int) -> None:
        super().__init__(url, user, make_token(url, SECRET, user), device="desk")
        self.timer_ids = [f"t{number}-{user}" for number in range(timers)]
        self.versions: dict[str, int] = {}
        self._due = 0
        self._refusal = b""
        self._done = asyncio.Event()

    async def update(self, timer_ids: Sequence[str]) -> None:
        """One more state of each of these; returns when all are acknowledged."""
        await self._ask(
            f'{{"type":"timer","action":"update","timer":{{"id":"{timer_id}","name":"a timer of the usual length {time.time()}",'
            '"totalDuration":"PT25M","endTime":"2030-01-01T00:00:00.000Z"}}'
            for timer_id in timer_ids
        )

    async def share(self, users: Sequence[str]) -> None:
        """Shares all timers with these; returns when all is acknowledged."""
        await self._ask(
            f'{{"type":"share","action":"add","timerId":"{timer_id}","sharedWithUser":"{user}"}}'
            for timer_id in self.timer_ids
            for user in users
        )

    async def _ask(self, messages: Iterable[str]) -> None:
        texts = list(messages)
        self._due = len(texts)
        self._done.clear()
        for text in texts:
            self.send(text)
        await self._done.wait()
        if self._refusal:
            raise RuntimeError(f"refused: {self._refusal!r}")

    def on_text(self, payload: bytes) -> None:
        if payload.startswith(b'{"status"'):
            reply = json.loads(payload)
            if reply["status"] != "processed":
                self._refusal = payload
            elif "shareVersion" not in reply:
                self.versions[reply["timerId"]] = reply["version"]
            self._due -= 1
            if not self._due:
                self._done.set()


def _kind(error: BaseException) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "refused (nobody listens)"
    if isinstance(error, TimeoutError):
        return "timed out"
    text = str(error)
    return "503 not ready" if " 503 " in text else f"other: {text.splitlines()[0] if text else type(error).__name__}"


def _behind(phones: Sequence[Phone], owners: Sequence[Owner]) -> int:
    """How many phones do not have the last acknowledged state of a timer of their group."""
    return sum(
        any(phone.known.get(timer_id, (0, 0))[0] < version for timer_id, version in owner.versions.items())
        for phone, owner in zip(phones, [owner for owner in owners for _ in range(_SIZE)], strict=False)
    )


async def _restart(system: System, edge: Process, how: str) -> tuple[Process, float | None]:
    """Ends an edge and starts its successor in its place. Returns that, and after how many seconds the old one was gone."""
    started = time.monotonic()
    if how == "kill":
        edge.signal(signal.SIGKILL)
        await edge.wait()
        await edge.start()
        return edge, None
    edge.signal(signal.SIGTERM)
    if how == "drain":
        await edge.wait()
        gone = time.monotonic() - started
        await edge.start()
        return edge, gone
    successor = await system.edge("successor", edge.port)
    await edge.wait()
    return successor, time.monotonic() - started


async def run(options: argparse.Namespace) -> int:
    """One run; the exit code says whether everybody came back and has everything."""
    with tempfile.TemporaryDirectory(prefix="bubble-storm-") as directory:
        async with System(Path(directory), BUBBLE_DRAIN_SECONDS=str(options.drain)) as system:
            other = await system.edge("other")
            edge = await system.edge("edge")
            storm = Storm()
            users = [[f"u{group}-{member}" for member in range(_SIZE)] for group in range(options.clients // _SIZE)]
            owners = [Owner(other.url, group[0], options.timers) for group in users]
            for owner, group in zip(owners, users, strict=True):
                await owner.connect()
                await owner.ready
                await owner.update(owner.timer_ids)
                await owner.share(group[1:])
            phones = [Phone(edge.url, user, storm) for group in users for user in group]
            lives = []
            for start in range(0, len(phones), _AT_ONCE):
                lives += [asyncio.create_task(phone.live()) for phone in phones[start : start + _AT_ONCE]]
                await asyncio.gather(*(phone.arrived.wait() for phone in phones[start : start + _AT_ONCE]))
            print(
                f"{len(phones)} clients of {options.timers} timers each; the edge is restarted: {options.how}",
                flush=True,
            )
            storm.reset()
            started = time.monotonic()
            used = {process: process.usage() for process in system.processes}
            restarting = asyncio.create_task(_restart(system, edge, options.how))
            await asyncio.sleep(0.5)
            await asyncio.gather(*(owner.update(owner.timer_ids[: options.changed]) for owner in owners))
            deadline = time.monotonic() + options.patience
            while time.monotonic() < deadline and (len(storm.back) < len(phones) or not restarting.done()):
                await asyncio.sleep(0.05)
            while time.monotonic() < deadline and _behind(phones, owners):
                await asyncio.sleep(0.05)
            elapsed = time.monotonic() - started
            successor, gone = await restarting
            _report(storm, started, elapsed, len(phones), gone)
            for process in system.processes:
                usage = process.usage() if process is not edge or successor is edge else None
                if usage is None:
                    continue
                fresh = process is successor
                seconds = usage.cpu - (0 if fresh else used[process].cpu)
                print(f"  CPU of {process.name:<12} {seconds:6.2f} s, {usage.resident / 1e6:6.1f} MB")
            behind = _behind(phones, owners)
            print(f"clients without the last acknowledged states: {behind}")
            for life in lives:
                life.cancel()
            await asyncio.gather(*lives, return_exceptions=True)
            for client in owners:
                client.close()
            return 0 if not behind and len(storm.back) >= len(phones) else 1


def _report(storm: Storm, started: float, elapsed: float, clients: int, gone: float | None) -> None:
    if gone is not None:
        print(f"the old edge was gone after {gone:.1f} s")
    if not storm.back:
        print("nobody came back")
        return
    print(
        f"first one back after {min(storm.back) - started:.2f} s, all back after {max(storm.back) - started:.2f} s, "
        f"all converged after {elapsed:.2f} s"
    )
    histogram = Counter(int((at - started) / _BUCKET) for at in storm.back)
    per_second = Counter(int((at - started) / 1) for at in storm.accepted)
    print(
        f"connects: {len(storm.accepted)} accepted, at most {max(per_second.values())} in a second; "
        f"back: at most {max(histogram.values())} in {_BUCKET} s"
    )
    print(f"failed attempts: {sum(storm.failed.values())} {dict(storm.failed)}")
    full = storm.full_bytes / clients * storm.syncs
    print(
        f"sync snapshots: {storm.syncs}, {storm.sync_bytes:,} bytes; full ones would be {full:,.0f} bytes "
        f"({storm.sync_bytes / full:.1%})"
        if storm.syncs
        else "no sync"
    )
    print("back per 100 ms:")
    for bucket in range(min(histogram), max(histogram) + 1):
        if histogram[bucket]:
            bar = "#" * max(round(histogram[bucket] * 60 / max(histogram.values())), 1)
            print(f"  {bucket * _BUCKET:5.1f} s {histogram[bucket]:5} {bar}")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=2_000)
    parser.add_argument("--timers", type=int, default=16, help="timers that each sees")
    parser.add_argument("--changed", type=int, default=2, help="timers of those that change meanwhile")
    parser.add_argument(
        "--how",
        choices=["drain", "overlap", "kill"],
        default="drain",
        help="drain: SIGTERM, and the successor starts when it has ended; overlap: at once; kill: SIGKILL",
    )
    parser.add_argument("--drain", type=float, default=10, help="BUBBLE_DRAIN_SECONDS")
    parser.add_argument("--patience", type=float, default=90, help="seconds until the run is given up")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.exit(runner.run(run(parser.parse_args())))


if __name__ == "__main__":
    main()
