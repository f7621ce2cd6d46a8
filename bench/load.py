"""A closed-loop load: `python -m bench.load`.

Groups of people share their timers with each other; each person has one device and keeps a window of unanswered updates,
each of another of their own timers (with fewer timers than the window, updates of one timer overtake deliveries of its
older states, which are then left out). Every update must be acknowledged, and at the end every device must have the last state of every timer of
its group: what is missing counts as lost.

The clients are cheap on purpose, since they share the machine with the system (`bench/client.py`).
"""

import argparse
import asyncio
import itertools
import json
import sys
import time
from collections.abc import Sequence

import uvloop

from bench.client import Client, add_token_arguments, make_token, text_field


class Writer(Client):
    """One device of one person, which keeps a window of unanswered updates."""

    def __init__(self, url: str, user: str, token: str, window: int, timers: int) -> None:
        super().__init__(url, user, token)
        self.timer_ids = [f"{user}-t{number}" for number in range(timers)]
        self._window = window
        self._sending = False
        self._sent_at: dict[int, float] = {}
        self._numbers = itertools.count(1)
        self._share_replies = 0
        self.shared = asyncio.Event()
        self.acknowledged = 0
        self.refused = 0
        self.deliveries = 0
        self.last_acknowledged: dict[int, bytes] = {}
        self.latest: dict[bytes, bytes] = {}
        self.latencies: list[float] = []

    def start(self) -> None:
        """Fills the window and keeps it full."""
        self._sending = True
        for _ in range(self._window):
            self.update()

    def stop(self) -> None:
        """Sends no more updates."""
        self._sending = False

    @property
    def outstanding(self) -> int:
        """Updates without an answer."""
        return len(self._sent_at)

    def share_with(self, users: Sequence[str]) -> None:
        """Shares the timer; `shared` is set when all replies are there."""
        self._share_replies = len(users) * len(self.timer_ids)
        for user in users:
            for timer_id in self.timer_ids:
                self.send(
                    f'{{"type":"share","action":"add","timerId":"{timer_id}","sharedWithUser":"{user}","messageId":"s"}}'
                )

    def update(self) -> None:
        """Sends one update, of the next timer."""
        number = next(self._numbers)
        timer_id = self.timer_ids[number % len(self.timer_ids)]
        self._sent_at[number] = time.perf_counter()
        self.send(
            f'{{"type":"timer","action":"update","messageId":"{number}","timer":{{"id":"{timer_id}","name":"n{number}",'
            '"totalDuration":"PT25M","endTime":"2030-01-01T00:00:00.000Z"}}'
        )

    def on_closed(self, exc: Exception | None) -> None:
        if not self.closing:
            print(f"{self.user}: connection lost {exc}, close code {self.close_code}", file=sys.stderr)

    def on_text(self, payload: bytes) -> None:
        if payload.startswith(b'{"status":"processed"'):
            self._reply(payload)
        elif payload.startswith((b'{"type":"timer"', b'{"type":"share"')):
            self.deliveries += 1
            self.latest[text_field(payload, b"id")] = payload
        elif payload.startswith(b'{"status":"error"'):
            if b'"code":429' in payload:
                sys.exit("The system limits rates: start it with BUBBLE_MESSAGES_PER_SECOND=0.")
            self.refused += 1
            if self.refused <= 3:
                print(f"{self.user}: {payload[:200]!r}", file=sys.stderr)
            self._finish(payload)

    def _reply(self, payload: bytes) -> None:
        if payload.endswith(b'"messageId":"s"}'):
            self._share_replies -= 1
            if not self._share_replies:
                self.shared.set()
            return
        self.acknowledged += 1
        start = payload.index(b'"version":') + 10
        version = payload[start : payload.index(b",", start)]
        self.last_acknowledged[self._finish(payload) % len(self.timer_ids)] = version

    def _finish(self, payload: bytes) -> int:
        start = payload.rindex(b'"messageId":"') + 13
        number = int(payload[start : payload.index(b'"', start)])
        self.latencies.append(time.perf_counter() - self._sent_at.pop(number))
        if self._sending:
            self.update()
        return number


def missing_states(groups: Sequence[Sequence[Writer]]) -> int:
    """How many devices do not have the last acknowledged state of a timer of their group."""
    missing = 0
    for group in groups:
        for writer in group:
            for index, timer_id in enumerate(writer.timer_ids):
                version = b'"version":' + writer.last_acknowledged[index]
                missing += sum(
                    version not in reader.latest.get(timer_id.encode(), b"") for reader in group if reader is not writer
                )
    return missing


async def run(options: argparse.Namespace) -> int:
    """One run; the exit code."""
    prefix = f"u{time.time_ns() % 10**9:x}"
    names = [[f"{prefix}-{g}-{m}" for m in range(options.size)] for g in range(options.groups)]
    groups = []
    for users in names:
        clients = [
            Writer(
                options.url,
                user,
                make_token(options.url, options.secret, user),
                options.window,
                options.timers or options.window,
            )
            for user in users
        ]
        for client in clients:
            await client.connect()
        await asyncio.gather(*(client.ready for client in clients))
        groups.append(clients)
    everybody = [client for group in groups for client in group]
    for client in everybody:
        for _ in client.timer_ids:
            client.update()
    while any(client.outstanding for client in everybody):
        await asyncio.sleep(0.05)
    for group in groups:
        for client in group:
            client.share_with([other.user for other in group if other is not client])
            await asyncio.wait_for(client.shared.wait(), 30)
    print(f"{len(everybody)} devices in {options.groups} groups, window {options.window}", file=sys.stderr)
    for client in everybody:
        client.start()
    await asyncio.sleep(options.warmup)
    acknowledged = sum(client.acknowledged for client in everybody)
    delivered = sum(client.deliveries for client in everybody)
    for client in everybody:
        client.latencies.clear()
    started = time.perf_counter()
    await asyncio.sleep(options.seconds)
    elapsed = time.perf_counter() - started
    acknowledged = sum(client.acknowledged for client in everybody) - acknowledged
    delivered = sum(client.deliveries for client in everybody) - delivered
    latencies = sorted(latency for client in everybody for latency in client.latencies)
    for client in everybody:
        client.stop()
    deadline = time.perf_counter() + 20
    while time.perf_counter() < deadline and (
        any(client.outstanding for client in everybody) or missing_states(groups)
    ):
        await asyncio.sleep(0.1)
    result = {
        "acknowledged_per_second": round(acknowledged / elapsed),
        "deliveries_per_second": round(delivered / elapsed),
        "reply_ms_p50": round(latencies[len(latencies) // 2] * 1_000, 1) if latencies else None,
        "reply_ms_p99": round(latencies[len(latencies) * 99 // 100] * 1_000, 1) if latencies else None,
        "unanswered": sum(client.outstanding for client in everybody),
        "refused": sum(client.refused for client in everybody),
        "states_missing": missing_states(groups),
        "settled_after_s": round(20 - (deadline - time.perf_counter()), 1),
    }
    print(json.dumps(result))
    for client in everybody:
        client.close()
    return 0 if not (result["unanswered"] or result["states_missing"]) else 1


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_token_arguments(parser)
    parser.add_argument("--groups", type=int, default=50)
    parser.add_argument("--size", type=int, default=8, help="people in a group")
    parser.add_argument("--window", type=int, default=8, help="unanswered updates of a person")
    parser.add_argument("--timers", type=int, default=0, help="timers of a person; 0 = as many as the window")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--warmup", type=float, default=3)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.exit(runner.run(run(parser.parse_args())))


if __name__ == "__main__":
    main()
