"""The published Android app, as far as its socket goes: what it sends, what it can't bear, when it comes back.

Independent of the system's code, and no more forgiving than the app: whatever would end the app's connection ends this one,
and is counted. What it does wrong, such as leaving sockets open and throwing updates away, it does wrong here.
"""

import asyncio
import json
import re
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from types import TracebackType
from typing import Any, Self

import aiohttp

from tests.system.client import WITHIN, token

Message = dict[str, Any]

PING_INTERVAL = 30.0
PONG_TIMEOUT = 15.0
RECONNECT_DELAY = 5.0
RETRY_DELAY = 1.0
"""Seconds between two attempts of one that was refused."""

THROTTLE = 1.0
"""Seconds after an update of a timer in which another one is thrown away."""

# As java.time.Duration and LocalDateTime parse them.
_DURATION = re.compile(
    r"([-+]?)P(?:([-+]?[0-9]+)D)?(T(?:([-+]?[0-9]+)H)?(?:([-+]?[0-9]+)M)?(?:([-+]?)([0-9]+)(?:[.,]([0-9]{0,9}))?S)?)?",
    re.IGNORECASE,
)
_LOCAL = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?", re.ASCII)


class Unbearable(Exception):
    """What makes the app's parser throw: the end of its connection."""


class State(Enum):
    """Of the connection, as the app sees it."""

    DISCONNECTED = auto()
    CONNECTING = auto()
    CONNECTED = auto()
    RECONNECTING = auto()


def parse_duration(text: str) -> timedelta:
    """A duration, as java.time reads it."""
    match = _DURATION.fullmatch(text)
    if match is None or match.group(3) in ("T", "t") or not (match.group(2) or match.group(3)):
        raise Unbearable(f"no duration: {text!r}")
    sign, days, _, hours, minutes, second_sign, seconds, fraction = match.groups()
    second = timedelta(seconds=int(seconds or 0), microseconds=int((fraction or "").ljust(6, "0")[:6]))
    total = timedelta(days=int(days or 0), hours=int(hours or 0), minutes=int(minutes or 0))
    total += -second if second_sign == "-" else second
    return -total if sign == "-" else total


def format_duration(duration: timedelta) -> str:
    """As java.time writes it, for what is not negative."""
    microseconds = duration // timedelta(microseconds=1)
    seconds, fraction = divmod(microseconds, 1_000_000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    text = "PT" + (f"{hours}H" if hours else "") + (f"{minutes}M" if minutes else "")
    if fraction:
        return f"{text}{seconds}.{f'{fraction:06d}'.rstrip('0')}S"
    return f"{text}{seconds}S" if seconds or text == "PT" else text


def parse_local(text: str) -> datetime:
    """A local date and time, as java.time reads it: no zone."""
    if _LOCAL.fullmatch(text) is None:
        raise Unbearable(f"no local time: {text!r}")
    minute, _, rest = text.partition("T")
    clock, _, fraction = rest.partition(".")
    try:
        whole = datetime.fromisoformat(f"{minute}T{clock}")
    except ValueError as error:
        raise Unbearable(f"no local time: {text!r}") from error
    return whole + timedelta(microseconds=int(fraction.ljust(6, "0")[:6]))


def format_local(moment: datetime) -> str:
    """As java.time writes it: no seconds when they are zero, and three, six or nine digits of a fraction."""
    if not moment.second and not moment.microsecond:
        return moment.isoformat(timespec="minutes")
    if not moment.microsecond:
        return moment.isoformat(timespec="seconds")
    return moment.isoformat(timespec="microseconds" if moment.microsecond % 1_000 else "milliseconds")


@dataclass
class AppTimer:
    """A timer on the phone. Texts are as they came."""

    id: str
    user_id: str
    name: str
    total: str | None = None
    remaining: str | None = None
    end: str | None = None
    shared_with: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset()

    def to_json(self) -> Message:
        """As the app sends it: what is absent is absent."""
        message: Message = {"id": self.id, "userId": self.user_id, "name": self.name}
        for name, value in (
            ("totalDuration", self.total),
            ("remainingDuration", self.remaining),
            ("timerEnd", self.end),
        ):
            if value is not None:
                message[name] = value
        return message | {"sharedWith": sorted(self.shared_with), "tags": sorted(self.tags)}


def _string(message: Message, name: str) -> str:
    if not isinstance(message.get(name), str):
        raise Unbearable(f"{name} is no text: {message}")
    value: str = message[name]
    return value


def _strings(message: Message, name: str) -> frozenset[str]:
    value = message.get(name)
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise Unbearable(f"{name} is no array of texts: {message}")
    return frozenset(value)


def timer_from(message: object) -> AppTimer:
    """A timer, as the app's parser reads it. Raises Unbearable."""
    if not isinstance(message, dict):
        raise Unbearable(f"no timer: {message}")
    total, remaining, end = (
        _string(message, name) if name in message else None
        for name in ("totalDuration", "remainingDuration", "timerEnd")
    )
    for duration in (total, remaining):
        if duration is not None:
            parse_duration(duration)
    if end is not None:
        parse_local(end)
    return AppTimer(
        _string(message, "id"), _string(message, "userId"), _string(message, "name"),
        total, remaining, end, _strings(message, "sharedWith"), _strings(message, "tags"),
    )  # fmt: skip


def read(text: str) -> Message:
    """A message as JSON. Raises Unbearable when there is a null anywhere, which the app reads as the text "null"."""
    message = json.loads(text)
    if not isinstance(message, dict):
        raise Unbearable(f"no object: {text}")
    if _has_null(message):
        raise Unbearable(f"a null: {text}")
    return message


def _has_null(value: object) -> bool:
    if isinstance(value, dict):
        return any(map(_has_null, value.values()))
    return value is None or (isinstance(value, list) and any(map(_has_null, value)))


@dataclass
class Counts:
    """What happened to one phone."""

    connects: int = 0
    refused: int = 0
    forced_reconnects: int = 0
    """Connections that it gave up, or that were ended, without its wish."""
    thrown_away: int = 0
    """Updates that came too soon after another one."""
    crossed: int = 0
    """Updates that came right after a change of its own, which they had crossed on their way: thrown away, too."""
    stops_sent: int = 0
    reasons: list[str] = field(default_factory=list)
    """Of the forced reconnects."""
    unreadable: list[str] = field(default_factory=list)
    """What its parser threw at."""


class AppClient:
    """One phone. Use as a context manager: it connects when entered, and again whenever the app would."""

    def __init__(
        self,
        port: int,
        user: str,
        device: str,
        *,
        path: str = "/ws",
        utc_offset: int = 0,
        headers: dict[str, str] | None = None,
        query: str = "",
        acknowledges: bool = True,
        pings: bool = True,
        stays_away: bool = False,
        token_lifetime: float = 600.0,
    ) -> None:
        """`utc_offset` in minutes: of the phone's clock. `stays_away`: does not come back by itself."""
        self.user = user
        self.device = device
        self.timers: dict[str, AppTimer] = {}
        self.counts = Counts()
        self.state = State.DISCONNECTED
        self.received: list[Message] = []
        self.frames: list[tuple[float, Message]] = []
        self.pongs: list[float] = []
        self.close_frames: list[tuple[int, str]] = []
        self.port = port
        """Of the edge that the next connection is made to."""
        self._path = path + query
        self._offset = timedelta(minutes=utc_offset)
        self._headers = headers or {}
        self._acknowledges = acknowledges
        self._pings = pings
        self._stays_away = stays_away
        self._token = token(user, lifetime=token_lifetime)
        self._updated_at: dict[str, float] = {}
        self._changed_here: set[str] = set()
        self._last_pong: float | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._arrived = asyncio.Condition()
        self._http: aiohttp.ClientSession
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self.sockets: list[aiohttp.ClientWebSocketResponse] = []

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession()
        await self.connect()
        self._spawn(self._watch())
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stays_away = True
        self.state = State.DISCONNECTED
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for socket in self.sockets:
            await _cut(socket)
        await self._http.close()

    # --- the connection -----------------------------------------------------------------------------------------------

    async def connect(self) -> None:
        """Opens a socket, whatever others are open."""
        self.state = State.CONNECTING
        headers = {
            "Authorization": self._token,
            "DeviceId": self.device,
            "User-Agent": "BubbleTimer-Android/1.0",
        } | self._headers
        try:
            # Nothing is done for it by the library: the app does not answer a close frame.
            socket = await self._http.ws_connect(
                f"http://127.0.0.1:{self.port}{self._path}",
                headers=headers,
                autoclose=False,
                autoping=True,
                max_msg_size=0,
            )
        except (aiohttp.ClientError, OSError):
            self.counts.refused += 1
            self.state = State.DISCONNECTED
            if not self._stays_away:
                self._spawn(self._again(RETRY_DELAY))
            return
        self.counts.connects += 1
        self._socket = socket
        self.sockets.append(socket)
        self._last_pong = None
        self.state = State.CONNECTED
        self._spawn(self._read(socket))
        if self._pings:
            await self.ping()

    async def leave_socket_open_and_reconnect(self) -> None:
        """What the watchdog does when no pong comes, without the wait."""
        self.state = State.RECONNECTING
        await self.connect()

    async def ping(self) -> None:
        """The app's own ping."""
        await self.send(type="ping", timestamp=round(time.time() * 1_000), direct=True)

    async def send(self, **data: Any) -> None:
        """One message, on the newest socket. A write that fails is noticed."""
        socket = self._socket
        if socket is None:
            return
        try:
            await socket.send_str(json.dumps({"action": "sendmessage", "data": data}))
        except (ConnectionError, aiohttp.ClientError):
            self._failed(socket, "a write failed")

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(PING_INTERVAL)
            if self.state is State.CONNECTED and self._pings:
                await self.ping()
                if self._last_pong is not None and time.monotonic() - self._last_pong > PONG_TIMEOUT:
                    self._reconnect("the last pong is too old")

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            message = await socket.receive()
            if message.type is aiohttp.WSMsgType.TEXT:
                try:
                    await self._message(socket, message.data)
                except Unbearable as error:
                    self.counts.unreadable.append(str(error))
                    await _cut(socket)
                    self._failed(socket, str(error))
                    return
            elif message.type is aiohttp.WSMsgType.CLOSE:
                self.close_frames.append((message.data, message.extra or ""))
                await self._notify()
                return  # and it goes on believing
            else:
                self._failed(socket, "the connection ended")
                await self._notify()
                return

    def _failed(self, socket: aiohttp.ClientWebSocketResponse, reason: str) -> None:
        """OkHttp's onFailure: the app does not ask for which of its sockets."""
        if self.state is State.CONNECTED:
            self._reconnect(reason)
        elif socket is self._socket and self.state is not State.RECONNECTING:
            self.state = State.DISCONNECTED

    def _reconnect(self, reason: str) -> None:
        self.counts.forced_reconnects += 1
        self.counts.reasons.append(reason)
        self.state = State.RECONNECTING
        if not self._stays_away:
            self._spawn(self._again(RECONNECT_DELAY))

    async def _again(self, delay: float) -> None:
        await asyncio.sleep(delay)
        await self.connect()

    # --- what it reads ------------------------------------------------------------------------------------------------

    async def _message(self, socket: aiohttp.ClientWebSocketResponse, text: str) -> None:
        message = read(text)
        self.received.append(message)
        self.frames.append((time.monotonic(), message))
        if "message" in message and "connectionId" in message:
            raise Unbearable(f"a server's error: {text}")  # the app would only log it; there must be none
        if "type" in message:
            await self._typed(socket, message)
        await self._notify()

    async def _typed(self, socket: aiohttp.ClientWebSocketResponse, message: Message) -> None:
        kind = message["type"]
        if kind == "pong":
            self._last_pong = time.monotonic()
            self.pongs.append(self._last_pong)
            return
        if self._acknowledges:
            answer = {"type": "acknowledge", "messageId": message.get("messageId", "")}
            with suppress(ConnectionError, aiohttp.ClientError):
                await socket.send_str(json.dumps({"action": "sendmessage", "data": answer}))
        match kind:
            case "activeTimerList":
                if not isinstance(message.get("timerList"), list):
                    raise Unbearable(f"no list: {message}")
                for each in message["timerList"]:
                    self._upsert(timer_from(each))
            case "updateTimer":
                self._upsert(timer_from(message.get("timer")))
            case "stopTimer":
                await self._removed(_string(message, "timerId"))
            case _:
                raise Unbearable(f"an unknown type: {message}")

    def _upsert(self, timer: AppTimer) -> None:
        if timer.id not in self.timers:
            self.timers[timer.id] = timer
        elif not self.is_too_soon(timer.id):
            self.timers[timer.id] = timer
            self._updated_at[timer.id] = time.monotonic()
            self._changed_here.discard(timer.id)
        elif timer != self.timers[timer.id]:
            if timer.id in self._changed_here:
                self.counts.crossed += 1
            else:
                self.counts.thrown_away += 1

    async def _removed(self, timer_id: str) -> None:
        timer = self.timers.pop(timer_id, None)
        self._updated_at.pop(timer_id, None)
        if timer is not None:  # what watches the list tells the others, too
            await self._send_stop(timer)

    def is_too_soon(self, timer_id: str) -> bool:
        """Whether an update of this timer would be thrown away now."""
        return time.monotonic() - self._updated_at.get(timer_id, float("-inf")) < THROTTLE

    def forget_when_changed(self, timer_id: str) -> None:
        """As if the last change of a timer were long ago."""
        self._updated_at.pop(timer_id, None)

    async def _notify(self) -> None:
        async with self._arrived:
            self._arrived.notify_all()

    # --- what its user does -------------------------------------------------------------------------------------------

    def now(self) -> datetime:
        """By the phone's clock."""
        return datetime.now(UTC).replace(tzinfo=None) + self._offset

    def make(self, name: str, total: str = "PT5M", *, timer_id: str | None = None) -> AppTimer:
        """A new timer, paused; nobody is told of it yet."""
        timer = AppTimer(timer_id or str(uuid.uuid4()), self.user, name, total, remaining=total)
        timer.shared_with = frozenset((self.user,))
        self.timers[timer.id] = timer
        return timer

    async def tell(self, timer: AppTimer) -> None:
        """The user has changed a timer: it is shown, and sent."""
        self.timers[timer.id] = timer
        if not self.is_too_soon(timer.id):
            self._updated_at[timer.id] = time.monotonic()
            self._changed_here.add(timer.id)
        await self.send(
            type="updateTimer", reason="who knows", shareWith=sorted(timer.shared_with), timer=timer.to_json()
        )

    async def start(self, timer_id: str) -> None:
        """Starts a paused timer."""
        timer = self.timers[timer_id]
        if timer.remaining is not None:
            timer.end = format_local(self.now() + parse_duration(timer.remaining))
            timer.remaining = None
        await self.tell(timer)

    async def pause(self, timer_id: str) -> None:
        """Pauses a running timer."""
        timer = self.timers[timer_id]
        if timer.end is not None:
            left = parse_local(timer.end) - self.now()
            timer.remaining = format_duration(max(left, timedelta()))
            timer.end = None
        await self.tell(timer)

    async def rename(self, timer_id: str, name: str) -> None:
        """Gives a timer another name."""
        timer = self.timers[timer_id]
        timer.name = name
        await self.tell(timer)

    async def share(self, timer_id: str, *users: str) -> None:
        """Makes these, and the timer's maker, the ones who see it."""
        timer = self.timers[timer_id]
        timer.shared_with = frozenset((timer.user_id, *users))
        await self.tell(timer)

    async def stop(self, timer_id: str) -> None:
        """Stops a timer; the app says so twice."""
        timer = self.timers.pop(timer_id)
        self._updated_at.pop(timer_id, None)
        await self._send_stop(timer)
        await self._send_stop(timer)

    async def _send_stop(self, timer: AppTimer) -> None:
        self.counts.stops_sent += 1
        await self.send(type="stopTimer", shareWith=sorted(timer.shared_with), timerId=timer.id, timer=timer.to_json())

    # --- what tests wait for ------------------------------------------------------------------------------------------

    async def until(self, condition: Callable[[], object], within: float = WITHIN) -> None:
        """Returns when the condition holds."""
        try:
            async with self._arrived, asyncio.timeout(within):
                await self._arrived.wait_for(lambda: bool(condition()))
        except TimeoutError:
            raise AssertionError(
                f"{self.user} waited in vain; timers {self.timers}, {self.counts}, last {self.received[-5:]}"
            ) from None

    async def timer(self, timer_id: str, within: float = WITHIN, **wanted: object) -> AppTimer:
        """A timer when it is there, with these fields."""

        def is_there() -> bool:
            timer = self.timers.get(timer_id)
            return timer is not None and all(getattr(timer, name) == value for name, value in wanted.items())

        await self.until(is_there, within)
        return self.timers[timer_id]

    async def gone(self, timer_id: str, within: float = WITHIN) -> None:
        """Returns when a timer is not there."""
        await self.until(lambda: timer_id not in self.timers, within)

    async def snapshot(self) -> Message:
        """The first snapshot of the newest connection, when it has come."""
        await self.until(lambda: any(m.get("type") == "activeTimerList" for m in self.received))
        return next(m for m in reversed(self.received) if m.get("type") == "activeTimerList")

    async def settled(self) -> None:
        """Returns when what was sent before has been dealt with: answers come in order."""
        count = len(self.pongs)
        await self.ping()
        await self.until(lambda: len(self.pongs) > count)

    def typed(self, kind: str) -> list[Message]:
        """The messages of a type, in order."""
        return [message for message in self.received if message.get("type") == kind]

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _cut(socket: aiohttp.ClientWebSocketResponse) -> None:
    """The end of a TCP connection without a word."""
    connection = socket._conn
    if connection is not None and connection.transport is not None:
        connection.transport.abort()
        await asyncio.sleep(0)
