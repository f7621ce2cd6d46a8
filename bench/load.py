"""A closed-loop load: `python -m bench.load`.

Groups of people share their timers with each other; each person has one device and keeps a window of unanswered updates,
each of another of their own timers (with fewer timers than the window, updates of one timer overtake deliveries of its
older states, which are then left out). Every update must be acknowledged, and at the end every device must have the last state of every timer of
its group: what is missing counts as lost.

The clients are cheap on purpose, since they share the machine with the system: raw frames, no JSON beyond what is looked
for, one write per turn of the loop.
"""

import argparse
import asyncio
import functools
import itertools
import json
import struct
import sys
import time
import urllib.request
from collections.abc import Sequence
from urllib.parse import urlsplit

import jwt
import uvloop

_NO_MASK = b"\x00\x00\x00\x00"  # a client must mask; with a key of zeros the bytes stay as they are


class Client(asyncio.Protocol):
    """One device of one person."""

    def __init__(self, url: str, user: str, token: str, window: int, timers: int) -> None:
        self._url = urlsplit(url)
        self.user = user
        self.timer_ids = [f"{user}-t{number}" for number in range(timers)]
        self._token = token
        self._window = window
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self._open = False
        self._sending = False
        self._stopped = False
        self._sent_at: dict[int, float] = {}
        self._numbers = itertools.count(1)
        self._share_replies = 0
        self.ready = asyncio.get_running_loop().create_future()
        self.shared = asyncio.Event()
        self.acknowledged = 0
        self.refused = 0
        self.deliveries = 0
        self.last_acknowledged: dict[int, bytes] = {}
        self.latest: dict[bytes, bytes] = {}
        self.latencies: list[float] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # uvloop's has no common ancestor
        self._write_raw(
            f"GET /ws?token={self._token}&deviceId=d-{self.user} HTTP/1.1\r\nHost: {self._url.netloc}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
        )

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ready.done():
            self.ready.set_exception(exc or ConnectionError("closed"))
        if not self._stopped:
            print(f"{self.user}: connection lost {exc}", file=sys.stderr)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._open:
            head, separator, rest = self._buffer.partition(b"\r\n\r\n")
            if not separator:
                return
            if b" 101 " not in head.split(b"\r\n", 1)[0]:
                self.ready.set_exception(ConnectionError(head.decode()))
                return
            self._open = True
            self._buffer = rest
        buffer, position, available = self._buffer, 0, len(self._buffer)
        while available - position >= 2:
            length, start = buffer[position + 1] & 0x7F, position + 2
            if length == 126:
                if available - position < 4:
                    break
                (length,) = struct.unpack_from("!H", buffer, start)
                start += 2
            elif length == 127:
                if available - position < 10:
                    break
                (length,) = struct.unpack_from("!Q", buffer, start)
                start += 8
            if start + length > available:
                break
            self._frame(buffer[position] & 0x0F, buffer[start : start + length])
            position = start + length
        self._buffer = buffer[position:]

    def send(self, text: str) -> None:
        """One text message."""
        payload = text.encode()
        length = len(payload)
        head = struct.pack("!BB", 0x81, 0x80 | length) if length < 126 else struct.pack("!BBH", 0x81, 0xFE, length)
        self._write_raw(head + _NO_MASK + payload)

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

    def close(self) -> None:
        """Ends the connection."""
        self._stopped = True
        if self._transport is not None:
            self._transport.close()

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

    def _frame(self, opcode: int, payload: bytes) -> None:
        if opcode == 9:
            self._write_raw(b"\x8a\x80" + _NO_MASK)
        elif opcode == 8:
            print(f"{self.user}: closed {payload[:60]!r}", file=sys.stderr)
        elif payload.startswith(b'{"status":"processed"'):
            self._reply(payload)
        elif payload.startswith((b'{"type":"timer"', b'{"type":"share"')):
            self.deliveries += 1
            start = payload.index(b'"id":"') + 6
            self.latest[payload[start : payload.index(b'"', start)]] = payload
        elif payload.startswith(b'{"status":"error"'):
            if b'"code":429' in payload:
                sys.exit("The system limits rates: start it with BUBBLE_MESSAGES_PER_SECOND=0.")
            self.refused += 1
            if self.refused <= 3:
                print(f"{self.user}: {payload[:200]!r}", file=sys.stderr)
            self._finish(payload)
        elif payload.startswith(b'{"type":"snapshot"') and not self.ready.done():
            self.ready.set_result(None)

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

    def _write_raw(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


def missing_states(groups: Sequence[Sequence[Client]]) -> int:
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
    loop = asyncio.get_running_loop()
    address = urlsplit(options.url)
    groups = []
    for users in names:
        clients = [
            Client(options.url, user, _token(options, user), options.window, options.timers or options.window)
            for user in users
        ]
        for client in clients:
            await loop.create_connection(functools.partial(_itself, client), address.hostname, address.port)
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


def _itself(client: Client) -> Client:
    return client


def _token(options: argparse.Namespace, user: str) -> str:
    if options.secret:
        return jwt.encode({"sub": user, "exp": time.time() + 3_600}, options.secret, algorithm="HS256")
    request = urllib.request.Request(
        f"http://{urlsplit(options.url).netloc}/dev/token", data=json.dumps({"user": user}).encode(), method="POST"
    )
    with urllib.request.urlopen(request) as response:
        token: str = json.load(response)["token"]
        return token


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="ws://127.0.0.1:8080", help="the edge")
    parser.add_argument("--secret", default="", help="token secret; without it, development tokens are asked for")
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
