"""A client's side of the protocol, over as many connections as it takes. Pure: it is told what happened and when, keeps
the timers and the clock, says what to send and what that means. `client.py` does the I/O.

Times are seconds by the local clock of `clock.py`.
"""

import random
import secrets
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeAlias

import msgspec

from cli.clock import ServerClock
from cli.pending import Message, Pending
from cli.reconnect import Backoff
from cli.timers import Change, Replica, Timer
from runtime.iso8601 import parse_instant

PING_EVERY = 10.0
"""Seconds between two pings. Each is a look at the server's clock, and a sign that the link lives."""

FIRST_PINGS = 4
"""So many are sent quickly after a connect: the best of them tells the time."""

_FIRST_PINGS_EVERY = 0.2

PONG_WITHIN = 10.0
"""Seconds after which a ping without an answer means that the link is dead, whatever TCP believes."""

ACK_EVERY = 0.2
"""Seconds between two acks of deliveries that are in no trace; those that are in one are all acked."""

MESSAGE_BYTES = 16 * 1024
"""What the server takes until it says so itself."""

MAX_NAMED = 2_000
"""Timers that one `sync` may name."""


class Connected(msgspec.Struct, frozen=True):
    """A connection is there, and the server has said who we are."""

    event: ClassVar[str] = "connected"
    user_id: str
    connection_id: str
    token_expires_at: str = ""
    """As the server wrote it; empty when the token never expires."""


class UpToDate(msgspec.Struct, frozen=True):
    """A snapshot, or the answer to a `sync`, has come: the timers are those of the server."""

    event: ClassVar[str] = "snapshot"


class Changed(msgspec.Struct, frozen=True):
    """A timer is new or different. `by` did that; empty when that is not known, as after a reconnect, or when others changed
    whom it is shared with.
    """

    event: ClassVar[str] = "timer"
    change: Change
    by: str = ""


class Shared(msgspec.Struct, frozen=True):
    """A timer is visible from now on, because `by` shared it."""

    event: ClassVar[str] = "shared"
    change: Change
    by: str


class Stopped(msgspec.Struct, frozen=True):
    """A timer was stopped."""

    event: ClassVar[str] = "stopped"
    timer: Timer
    by: str = ""


class Unshared(msgspec.Struct, frozen=True):
    """A timer is not visible any more."""

    event: ClassVar[str] = "unshared"
    timer: Timer


class Gone(msgspec.Struct, frozen=True):
    """A timer was stopped, or is not visible any more, while there was no connection."""

    event: ClassVar[str] = "gone"
    timer: Timer


class Answered(msgspec.Struct, frozen=True):
    """The last word on a request."""

    reply: Message


class Dead(msgspec.Struct, frozen=True):
    """The connection is of no use: end it."""

    why: str


Happening: TypeAlias = Connected | UpToDate | Changed | Shared | Stopped | Unshared | Gone | Answered | Dead


class Conversation:
    """See above. After `opened`, `received` and `tick`, send what `outgoing` returns; call `tick` when it is `due`."""

    def __init__(
        self, *, pings: bool, rand: Callable[[], float] = random.random, pending: Pending | None = None
    ) -> None:
        self.timers = Replica()
        self.clock = ServerClock()
        self.user_id = ""
        self.pending = pending or Pending()
        self.backoff = Backoff(rand)
        self._pings = pings
        self._outgoing: list[str] = []
        self._has_timers = False
        self._up = False
        self._opened_at = 0.0
        self._resumed = False
        self._syncs: set[str] = set()
        self._message_bytes = MESSAGE_BYTES
        self._announced = 0.0
        self._pings_sent = 0
        self._ping_at: float | None = None
        self._ping_sent_at: float | None = None
        self._acked_at = float("-inf")

    @property
    def resumes(self) -> bool:
        """Whether the next connection is to be asked for with `resume=1`: then `sync` brings what changed, and nothing else."""
        return self._has_timers and self._sync_message() is not None

    def opened(self, now: float, *, resumed: bool) -> None:
        """A connection was asked for at this moment; `resumed` is what `resumes` was then."""
        self._opened_at = now
        self._resumed = resumed
        self._outgoing.clear()
        self._syncs.clear()
        self._announced = 0.0
        self._pings_sent = 0
        self._ping_at = self._ping_sent_at = None

    def lost(self, code: int | None, now: float, *, retry_after: float = 0.0) -> float:
        """The connection has ended, or there was none to be had. Returns the seconds until the next attempt."""
        lasted = now - self._opened_at if self._up else 0.0
        self._up = False
        self._outgoing.clear()
        self._ping_at = self._ping_sent_at = None
        return self.backoff.after(code, lasted=lasted, announced=self._announced, retry_after=retry_after)

    def request(self, message: Mapping[str, Any], give_up_at: float) -> str:
        """A command. Returns its messageId; `Answered` follows, perhaps over another connection."""
        whole = self.pending.add(message, give_up_at)
        if self._up:
            self._send(whole)
        message_id: str = whole["messageId"]
        return message_id

    def outgoing(self) -> list[str]:
        """What is to be sent now, in order."""
        texts, self._outgoing = self._outgoing, []
        return texts

    @property
    def due(self) -> float | None:
        """When to call `tick`; None: not before something else happens."""
        pong = self._ping_sent_at + PONG_WITHIN if self._ping_sent_at is not None else None
        return min(
            (at for at in (self._ping_at, pong, self.pending.next_due if self._up else None) if at is not None),
            default=None,
        )

    def tick(self, now: float) -> list[Happening]:
        """Time has passed."""
        if not self._up:
            return []
        if self._ping_sent_at is not None and now >= self._ping_sent_at + PONG_WITHIN:
            self._ping_sent_at = None
            return [Dead("the server does not answer")]
        for message in self.pending.due(now):
            self._send(message)
        if self._ping_at is not None and now >= self._ping_at and self._ping_sent_at is None:
            self._pings_sent += 1
            self._ping_at = now + (_FIRST_PINGS_EVERY if self._pings_sent < FIRST_PINGS else PING_EVERY)
            self._ping_sent_at = now
            self._send({"type": "ping", "timestamp": now})
        return []

    def received(self, text: str | bytes, now: float) -> list[Happening]:
        """A text message has come. Unknown ones are ignored, as the protocol may grow."""
        try:
            message = msgspec.json.decode(text)
        except msgspec.DecodeError:
            return [Dead("the server does not speak the protocol")]
        if not isinstance(message, dict):
            return []
        try:
            return self._understand(message, now)
        except (AttributeError, KeyError, TypeError, ValueError):  # msgspec.ValidationError is a ValueError
            return [Dead("the server does not speak the protocol")]

    def _understand(self, message: Message, now: float) -> list[Happening]:
        kind = message.get("type")
        if kind == "connected":
            return self._begin(message, now)
        if kind == "snapshot":
            return self._snapshot(message)
        if kind == "pong":
            self._pong(message, now)
        elif kind == "reconnect":
            self._announced = message["afterMs"] / 1_000
        elif kind in ("timer", "share"):
            self._acknowledge(message, now)
            return self._delivery(kind, message)
        elif "status" in message:
            return self._reply(message, now)
        return []

    def _begin(self, message: Message, now: float) -> list[Happening]:
        self._up = True
        self.user_id = message["userId"]
        self._message_bytes = message.get("limits", {}).get("messageBytes", MESSAGE_BYTES)
        server_time = parse_instant(message["serverTime"])
        self.clock.take(sent=self._opened_at, server_received=server_time, server_sent=server_time, received=now)
        if self._resumed:
            sync = self._sync_message()
            if sync is None:  # the limit has changed meanwhile
                return [Dead("there are too many timers for one message")]
            self._syncs.add(sync["messageId"])
            self._send(sync)
        if self._pings:
            self._ping_at = now
        if self._resumed:
            # Commands come behind the sync: what they lead to is then newer than what it brings.
            self._repeat_all()
        return [Connected(self.user_id, message["connectionId"], message.get("tokenExpiresAt", ""))]

    def _repeat_all(self) -> None:
        for request in self.pending.everything():
            self._send(request)

    def _snapshot(self, message: Message) -> list[Happening]:
        timers = msgspec.convert(message["timers"], list[Timer])
        is_first = "messageId" not in message
        happenings: list[Happening] = []
        if is_first and not self._resumed:
            # Everything there is: what we had before is worth nothing beside it, but to tell what is different.
            before = {timer.id: timer for timer in self.timers.forget()}
            for timer in timers:
                self.timers.take(timer)
            if self._has_timers:
                happenings = _differences(before, timers)
            self._has_timers = True
            self._repeat_all()
            return [*happenings, UpToDate()]
        for timer in timers:
            change = self.timers.take(timer)
            if change is not None:
                happenings.append(Changed(change))
        for timer_id in message["gone"]:
            gone = self.timers.remove(timer_id)
            if gone is not None:
                happenings.append(Gone(gone))
        if message.get("messageId") in self._syncs:
            self._syncs.discard(message["messageId"])
            happenings.append(UpToDate())
        return happenings

    def _delivery(self, kind: str, message: Message) -> list[Happening]:
        action = message.get("action")
        if kind == "timer" and action == "update":
            change = self._take(message["timer"])
            return [_changed(change, message.get("changedBy", ""))] if change else []
        if kind == "timer" and action == "stop":
            timer = self.timers.remove(message["timerId"], message.get("version"))
            return [Stopped(timer, message.get("stoppedBy", ""))] if timer else []
        if kind == "share" and action == "add":
            change = self._take(message["timer"])
            return [Shared(change, message.get("sharedBy", ""))] if change else []
        if kind == "share" and action == "remove":
            timer = self.timers.remove(message["timerId"])
            return [Unshared(timer)] if timer else []
        return []

    def _reply(self, reply: Message, now: float) -> list[Happening]:
        if reply.get("messageId") in self._syncs:
            return [Dead(f"the server could not say what has changed: {reply.get('error', '')}")]
        if not self.pending.settle(reply, now):
            return []
        happenings: list[Happening] = []
        state = reply.get("timer")
        if state is not None and "stoppedBy" not in state:
            change = self._take(state)
            if change:
                happenings.append(_changed(change, self.user_id if reply.get("status") == "processed" else ""))
        elif "shareVersion" in reply:
            known = self.timers.get(reply["timerId"])
            if known is not None:
                after = msgspec.structs.replace(
                    known, shared_with=tuple(reply["sharedWith"]), share_version=reply["shareVersion"]
                )
                change = self.timers.take(after)
                if change:
                    happenings.append(Changed(change, self.user_id))
        return [*happenings, Answered(reply)]

    def _take(self, timer: object) -> Change | None:
        return self.timers.take(msgspec.convert(timer, Timer))

    def _pong(self, message: Message, now: float) -> None:
        if self._ping_sent_at is None or message.get("timestamp") != self._ping_sent_at:
            return  # of a ping that was given up
        sent = parse_instant(message["serverTime"])
        received = parse_instant(message["receivedTime"]) if "receivedTime" in message else sent
        self.clock.take(sent=self._ping_sent_at, server_received=received, server_sent=sent, received=now)
        self._ping_sent_at = None

    def _acknowledge(self, delivery: Message, now: float) -> None:
        message_id = delivery.get("messageId")
        if message_id is None:
            return
        traceparent = delivery.get("traceparent")
        if traceparent:
            version, trace, _, flags = traceparent.split("-")
            step = f"{version}-{trace}-{secrets.token_hex(8)}-{flags}"
            self._send({"type": "ack", "messageId": message_id, "traceparent": step})
        elif now - self._acked_at >= ACK_EVERY:
            self._acked_at = now
            self._send({"type": "ack", "messageId": message_id})

    def _sync_message(self) -> Message | None:
        """None when it would be longer than the server takes."""
        if len(self.timers) > MAX_NAMED:
            return None
        message = {"type": "sync", "messageId": f"sync-{secrets.token_hex(4)}", **self.timers.versions()}
        return message if len(msgspec.json.encode(message)) <= self._message_bytes else None

    def _send(self, message: Mapping[str, Any]) -> None:
        self._outgoing.append(msgspec.json.encode(message).decode())


def _changed(change: Change, author: str) -> Changed:
    """`author` made this version of the timer, perhaps long ago: of the audience, whose version is another, it says nothing."""
    before, after = change.before, change.after
    is_audience_alone = before is not None and before.version == after.version
    return Changed(change, "" if is_audience_alone else author)


def _differences(before: Mapping[str, Timer], timers: list[Timer]) -> list[Happening]:
    """What is different in a whole snapshot from what was known."""
    happenings: list[Happening] = []
    for timer in timers:
        old = before.get(timer.id)
        if old != timer:
            happenings.append(Changed(Change(old, timer)))
    ids = {timer.id for timer in timers}
    return [*happenings, *(Gone(timer) for timer_id, timer in before.items() if timer_id not in ids)]
