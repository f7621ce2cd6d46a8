"""Requests that wait for their replies. Pure.

A request is repeated with its messageId until it is answered: after a reconnect, and when the server asks for it with
`retryAfter`; then each time after twice as long, so that repeats do not keep an overloaded server overloaded. The server
gives a repeated command its first answer, so nothing happens twice.
"""

import uuid
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

REPEATS = 3
"""How often a request is sent again because the server was busy."""

_REPEATABLE = (429, 503)

Message = dict[str, Any]


class _Waiting(msgspec.Struct):
    message: Message
    give_up_at: float
    repeats: int = 0
    repeat_at: float | None = None


class Pending:
    """In the order of the requests. Times are seconds of one clock."""

    def __init__(self, new_id: Callable[[], str] = lambda: str(uuid.uuid4())) -> None:
        self._new_id = new_id
        self._waiting: dict[str, _Waiting] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, message: Mapping[str, Any], give_up_at: float) -> Message:
        """The whole message, to be sent now if there is a connection. `give_up_at`: after that its sender asks no more."""
        whole = {**message, "messageId": self._new_id()}
        self._waiting[whole["messageId"]] = _Waiting(whole, give_up_at)
        return whole

    def settle(self, reply: Mapping[str, Any], now: float) -> bool:
        """A reply has come. True when it is the last word on a request, which is forgotten; False when nobody waits for it,
        or the request will be repeated.
        """
        message_id = reply.get("messageId")
        waiting = self._waiting.get(message_id) if isinstance(message_id, str) else None
        if waiting is None:
            return False
        if reply.get("status") == "error" and reply.get("code") in _REPEATABLE and waiting.repeats < REPEATS:
            at = now + float(reply.get("retryAfter") or 1) * 2**waiting.repeats
            if at < waiting.give_up_at:
                waiting.repeats += 1
                waiting.repeat_at = at
                return False
        self.forget(waiting.message["messageId"])
        return True

    def forget(self, message_id: str) -> None:
        """Nobody waits for it any more."""
        self._waiting.pop(message_id, None)

    def due(self, now: float) -> list[Message]:
        """What is to be sent again by now because the server was busy before."""
        found = []
        for waiting in self._waiting.values():
            if waiting.repeat_at is not None and waiting.repeat_at <= now:
                waiting.repeat_at = None
                found.append(waiting.message)
        return found

    def everything(self) -> list[Message]:
        """After a reconnect: all that is not answered. What the server asked to be repeated later keeps its time."""
        return [waiting.message for waiting in self._waiting.values() if waiting.repeat_at is None]

    @property
    def next_due(self) -> float | None:
        """When `due` has something."""
        return min((each.repeat_at for each in self._waiting.values() if each.repeat_at is not None), default=None)
