"""`bubble load`: a small load test, to see how a system feels, with a live view. For measurements there is `bench/`.

People in groups share their timers with each other; each has one device and sends updates of one timer at a fixed rate,
whatever the answers do (an open loop: a system that gets slow is not asked less because of that). At the end every device
must have the last acknowledged state of every timer of its group, and the timers are stopped.

With a token, which names one user only, all devices are that user's: one group.
"""

import asyncio
import collections
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

import aiohttp
import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from cli import output
from cli.access import Access
from cli.client import development_token
from cli.errors import BadToken, Busy, ExitCode, Problem, Unreachable
from cli.raw_socket import RawSocket
from runtime.iso8601 import format_instant

MOST_DEVICES = 500
"""What this program can serve without being slow itself."""

MOST_RATE = 18.0
"""Updates a second of one device. By default a system permits 20 (docs/protocol.md), and sharing needs some."""

SETTLE_WITHIN = 10.0
"""Seconds in which, after the last update, every answer and every delivery must come."""

_OPEN_WITHIN = 20.0
_TOO_MANY = 4409  # docs/protocol.md, "Closing"
_SPARK = "▁▂▃▄▅▆▇█"
_SPARK_SECONDS = 40


class _TimerFields(msgspec.Struct):
    id: str = ""
    version: int = 0


class _Frame(msgspec.Struct):
    """What is looked at of a frame."""

    type: str = ""
    status: str = ""
    action: str = ""
    messageId: str = ""  # noqa: N815  # as in the protocol
    code: int = 0
    error: str = ""
    version: int = 0
    timer: _TimerFields | None = None


_decode = msgspec.json.Decoder(_Frame).decode


class Tally:
    """What all devices together saw. Times are seconds by `time.perf_counter`."""

    def __init__(self) -> None:
        self.sent = 0
        self.acknowledged = 0
        self.delivered = 0
        self.refused: collections.Counter[str] = collections.Counter()
        self.lost_connections = 0
        self.replies: list[float] = []
        self.deliveries: list[float] = []
        self._sent_at: collections.OrderedDict[tuple[str, int], float] = collections.OrderedDict()
        self._early: collections.OrderedDict[tuple[str, int], list[float]] = collections.OrderedDict()

    def reply(self, timer_id: str, version: int, sent_at: float, now: float) -> None:
        """An update was acknowledged."""
        self.acknowledged += 1
        self.replies.append(now - sent_at)
        key = timer_id, version
        for at in self._early.pop(key, ()):
            self.deliveries.append(at - sent_at)
        self._sent_at[key] = sent_at
        while len(self._sent_at) > _REMEMBERED:
            self._sent_at.popitem(last=False)

    def delivery(self, timer_id: str, version: int, now: float) -> None:
        """A state came to another device; often before the sender's acknowledgement."""
        self.delivered += 1
        key = timer_id, version
        sent_at = self._sent_at.get(key)
        if sent_at is not None:
            self.deliveries.append(now - sent_at)
            return
        self._early.setdefault(key, []).append(now)
        while len(self._early) > _REMEMBERED:
            self._early.popitem(last=False)


_REMEMBERED = 10_000  # versions whose sending or arrival is remembered until the other one is known


class Device(RawSocket):
    """One device of one person, with one timer."""

    def __init__(self, url: str, user: str, token: str, name: str, tally: Tally) -> None:
        super().__init__(url, user, token, device=name)
        self.timer_id = f"load-{name}"
        self.settled = asyncio.Event()
        self.acknowledged_version = 0
        self.versions: dict[str, int] = {}
        self.unanswered: dict[str, float] = {}
        self._tally = tally
        self._counter = 0
        self._other_replies = 0

    def update(self) -> None:
        """Sends one update of its timer."""
        self._counter += 1
        message_id = f"u{self._counter}"
        self.unanswered[message_id] = time.perf_counter()
        self._tally.sent += 1
        end = format_instant(time.time_ns() // 1_000 + 3_600_000_000 + self._counter)
        self.send(
            f'{{"type":"timer","action":"update","messageId":"{message_id}","timer":{{"id":"{self.timer_id}",'
            f'"name":"load {self._counter}","totalDuration":"PT1H","endTime":"{end}"}}}}'
        )

    def ask(self, *messages: dict[str, Any]) -> None:
        """Sends other requests; `settled` is set when all have their replies."""
        self.settled.clear()
        self._other_replies = len(messages)
        for message in messages:
            self.send(msgspec.json.encode({**message, "messageId": "other"}).decode())

    def on_text(self, payload: bytes) -> None:
        now = time.perf_counter()
        frame = _decode(payload)
        if frame.status in ("processed", "error"):
            self._reply(frame, now)
        elif frame.type in ("timer", "share") and frame.timer is not None:
            self.versions[frame.timer.id] = max(frame.timer.version, self.versions.get(frame.timer.id, 0))
            if frame.type == "timer":
                self._tally.delivery(frame.timer.id, frame.timer.version, now)

    def on_closed(self, _exc: Exception | None) -> None:
        if not self.closing:
            self._tally.lost_connections += 1
        self.settled.set()

    def _reply(self, frame: _Frame, now: float) -> None:
        if frame.status == "error":
            self._tally.refused[f"{frame.code} {frame.error}"] += 1
        if frame.messageId == "other":
            self._other_replies -= 1
            if self._other_replies <= 0:
                self.settled.set()
            return
        sent_at = self.unanswered.pop(frame.messageId, None)
        if sent_at is not None and frame.status == "processed":
            self.acknowledged_version = max(frame.version, self.acknowledged_version)
            self._tally.reply(self.timer_id, frame.version, sent_at, now)


async def run(
    access: Access, *, devices: int, group: int, rate: float, seconds: float, console: Console, as_json: bool
) -> int:
    """One load test; returns the exit code: 0 when nothing was lost. Raises Problem when it can't begin."""
    tally = Tally()
    crowd = await _crowd(access, devices, group, tally)
    everybody = [device for people in crowd for device in people]
    try:
        await _open(everybody, access)
        await _prepare(crowd, tally, one_user=access.token is not None)
        started = time.perf_counter()
        sending = asyncio.create_task(_send(everybody, rate, seconds))
        try:
            await _show(sending, tally, started, seconds, console, hidden=as_json or not console.is_terminal)
            elapsed = time.perf_counter() - started
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        await _until(lambda: not any(device.unanswered for device in everybody) and not missing(crowd), SETTLE_WITHIN)
        result = summary(tally, crowd, elapsed)
    finally:
        await _clean_up(everybody)
    if as_json:
        output.print_json(result)
    else:
        console.print(verdict(result))
    return 0 if result["well"] else 1


async def _crowd(access: Access, devices: int, group: int, tally: Tally) -> list[list[Device]]:
    run_id = secrets.token_hex(3)
    url = "ws" + access.url.removeprefix("http")
    if access.token is not None:
        return [[Device(url, "", access.token, f"{run_id}-{n}", tally) for n in range(devices)]]
    users = [f"load-{run_id}-{number}" for number in range(devices)]
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as http:
        everybody = [
            Device(url, user, await development_token(http, access, user), f"{run_id}-{number}", tally)
            for number, user in enumerate(users)
        ]
    return [everybody[first : first + group] for first in range(0, devices, group)]


async def _open(everybody: Sequence[Device], access: Access) -> None:
    try:
        async with asyncio.timeout(_OPEN_WITHIN):
            for device in everybody:
                await device.connect()
            await asyncio.gather(*(device.ready for device in everybody))
    except TimeoutError as error:
        raise Unreachable(f"Not all devices were connected within {_OPEN_WITHIN:g} s.") from error
    except OSError as error:
        if any(device.close_code == _TOO_MANY for device in everybody):
            raise Problem(
                f"The system does not permit one user {len(everybody)} connections.",
                hint="Take fewer --devices; those of before may count for half a minute yet.",
                code=ExitCode.BUSY,
            ) from error
        status = str(error).split("\r\n", maxsplit=1)[0]
        if "401" in status:
            raise BadToken(f"The server does not accept the token from {access.source}.") from error
        if "503" in status:
            raise Busy(f"{access.host} takes no connections now.") from error
        raise Unreachable(
            f"{access.host} can't be reached: {status}.", hint=f"Does it run? It is {access.url} now."
        ) from error


async def _prepare(crowd: Sequence[Sequence[Device]], tally: Tally, *, one_user: bool) -> None:
    """Every device makes its timer and shares it with the others of its group; what it costs counts for nothing."""
    for people in crowd:
        for device in people:
            device.update()
    everybody = [device for people in crowd for device in people]
    await _until(lambda: not any(device.unanswered for device in everybody), SETTLE_WITHIN)
    if not one_user:
        for people in crowd:
            for device in people:
                shares = [
                    {"type": "share", "action": "add", "timerId": device.timer_id, "sharedWithUser": other.user}
                    for other in people
                    if other is not device
                ]
                if shares:
                    device.ask(*shares)
                    await asyncio.wait_for(device.settled.wait(), SETTLE_WITHIN)
    await _until(lambda: not missing(crowd), SETTLE_WITHIN)
    if tally.refused:
        reason = next(iter(tally.refused))
        raise Busy(f"The system refused while the timers were made: {reason}.")
    if tally.lost_connections or missing(crowd):
        raise Unreachable("The devices could not agree on their timers before the load began.")
    tally.sent = tally.acknowledged = tally.delivered = 0
    tally.replies.clear()
    tally.deliveries.clear()


async def _send(everybody: Sequence[Device], rate: float, seconds: float) -> None:
    """Each device sends at its rate, all of them spread evenly over time."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    step = 1 / (rate * len(everybody))
    for number in range(round(seconds / step)):
        wait = started + number * step - loop.time()
        if wait > 0:
            await asyncio.sleep(wait)
        everybody[number % len(everybody)].update()


async def _until(condition: Callable[[], bool], within: float) -> bool:
    deadline = time.perf_counter() + within
    while not condition():
        if time.perf_counter() > deadline:
            return False
        await asyncio.sleep(0.02)
    return True


async def _clean_up(everybody: Sequence[Device]) -> None:
    """The timers are stopped and the connections closed, whatever happened."""
    connected = [device for device in everybody if device.transport is not None and not device.transport.is_closing()]
    for device in connected:
        device.ask({"type": "timer", "action": "stop", "timerId": device.timer_id})
    await asyncio.gather(
        *(asyncio.wait_for(device.settled.wait(), SETTLE_WITHIN) for device in connected), return_exceptions=True
    )
    for device in everybody:
        device.close()


def missing(crowd: Sequence[Sequence[Device]]) -> int:
    """How many devices lack the last acknowledged state of a timer of their group."""
    return sum(
        other.versions.get(device.timer_id, 0) < device.acknowledged_version
        for people in crowd
        for device in people
        for other in people
        if other is not device
    )


def quantile(values: Sequence[float], part: float) -> float | None:
    """Milliseconds; None without any value."""
    if not values:
        return None
    ordered = sorted(values)
    return round(ordered[min(int(len(ordered) * part), len(ordered) - 1)] * 1_000, 1)


def summary(tally: Tally, crowd: Sequence[Sequence[Device]], elapsed: float) -> dict[str, Any]:
    """What came out."""
    unanswered = sum(len(device.unanswered) for people in crowd for device in people)
    lost = missing(crowd)
    return {
        "well": not (unanswered or lost or tally.lost_connections or tally.refused),
        "devices": sum(len(people) for people in crowd),
        "seconds": round(elapsed, 1),
        "sent": tally.sent,
        "acknowledged": tally.acknowledged,
        "delivered": tally.delivered,
        "refused": dict(tally.refused),
        "unanswered": unanswered,
        "missingStates": lost,
        "lostConnections": tally.lost_connections,
        "replyMs": {"p50": quantile(tally.replies, 0.5), "p99": quantile(tally.replies, 0.99)},
        "deliveryMs": {"p50": quantile(tally.deliveries, 0.5), "p99": quantile(tally.deliveries, 0.99)},
    }


def verdict(result: dict[str, Any]) -> Text:
    """The same for people."""
    reply, delivery = result["replyMs"], result["deliveryMs"]
    text = Text()
    text.append(
        f"{result['acknowledged']} of {result['sent']} updates acknowledged, {result['delivered']} deliveries, "
        f"in {result['seconds']} s.\n"
    )
    text.append(f"reply     p50 {_ms(reply['p50'])}  p99 {_ms(reply['p99'])}\n")
    text.append(f"delivery  p50 {_ms(delivery['p50'])}  p99 {_ms(delivery['p99'])}\n")
    for reason, count in result["refused"].items():
        text.append(f"refused {count} times: {reason}\n", style="yellow")
    faults = [
        f"{result[key]} {words}"
        for key, words in (
            ("unanswered", "updates without an answer"),
            ("missingStates", "states that did not arrive"),
            ("lostConnections", "connections that were cut"),
        )
        if result[key]
    ]
    if faults:
        return text.append(", ".join(faults) + ".", style="bold red")
    if result["refused"]:
        return text.append("Nothing that was acknowledged is missing.", style="yellow")
    return text.append("Every device has the last state of every timer.", style="green")


def _ms(value: float | None) -> str:
    return "     —   " if value is None else f"{value:6.1f} ms"


async def _show(
    sending: asyncio.Task[None], tally: Tally, started: float, seconds: float, console: Console, *, hidden: bool
) -> None:
    """A live view until all is sent."""
    if hidden:
        await sending
        return
    rates: collections.deque[int] = collections.deque([0], maxlen=_SPARK_SECONDS)
    counted = 0
    next_second = started + 1
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while not sending.done():
            await asyncio.wait([sending], timeout=0.1)
            now = time.perf_counter()
            rates[-1] = tally.delivered - counted
            live.update(_picture(tally, now - started, seconds, rates, console.width), refresh=True)
            if now >= next_second:
                counted, next_second = tally.delivered, next_second + 1
                rates.append(0)
    sending.result()


def _picture(tally: Tally, elapsed: float, seconds: float, rates: Sequence[int], width: int) -> Group:
    from cli.screen import bar

    recent = tally.replies[-500:], tally.deliveries[-2_000:]
    most = max(*rates, 1)
    spark = "".join(_SPARK[min(rate * (len(_SPARK) - 1) // most, len(_SPARK) - 1)] for rate in rates)
    head = Text.assemble(
        bar(min(elapsed / seconds, 1.0), max(min(width - 14, 40), 4), "#5fafd7"), f"  {elapsed:3.0f} of {seconds:.0f} s"
    )
    lines = [
        head,
        Text(f"sent {tally.sent:>8}   acknowledged {tally.acknowledged:>8}   refused {tally.refused.total()}"),
        Text(f"reply     p50 {_ms(quantile(recent[0], 0.5))}  p99 {_ms(quantile(recent[0], 0.99))}"),
        Text(f"delivery  p50 {_ms(quantile(recent[1], 0.5))}  p99 {_ms(quantile(recent[1], 0.99))}"),
        Text.assemble("deliveries a second  ", (spark, "#5fafd7"), f"  {most}"),
    ]
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return Group(*lines)
