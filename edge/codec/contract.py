"""What a dialect of the socket does: bytes to requests, and everything that is sent to bytes. No I/O, no state."""

from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec

from edge.errors import ClientError
from edge.requests import Request
from proto.event.v1 import event_pb2


class Welcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a client is told first. Times are microseconds since 1970; `token_expires_at_us` 0: never."""

    connection_id: str
    user_id: str
    device_id: str
    server_time_us: int
    token_expires_at_us: int
    ping_interval: float
    ping_timeout: float
    messages_per_second: float
    message_burst: float


class Codec(Protocol):
    """One dialect. Every `encode` method returns one JSON text; `decode` raises ClientError, see there."""

    def decode(self, message: bytes) -> Request:
        """A message that is not too long. Raises DecodeError, with the message's id if that could be read."""

    def connected(self, welcome: Welcome) -> bytes:
        """The first frame."""

    def snapshot(
        self, views: Iterable[event_pb2.TimerView], gone: Sequence[str], *, message_id: str | None = None
    ) -> bytes:
        """Timers, and ids that are no more."""

    def processed(self, timer_id: str, version: int, message_id: str | None) -> bytes:
        """A command was done."""

    def processed_with_timer(self, view: event_pb2.TimerView, version: int, message_id: str | None) -> bytes:
        """The same, with what it led to."""

    def shared(self, view: event_pb2.TimerView, message_id: str | None) -> bytes:
        """A member was added or removed."""

    def authenticated(self, token_expires_at_us: int, message_id: str | None) -> bytes:
        """The new token is good."""

    def pong(self, timestamp: bytes, received_us: int, server_time_us: int, message_id: str | None) -> bytes:
        """The answer to a ping that was read at one moment and answered at another, in microseconds since 1970."""

    def error(
        self,
        error: ClientError,
        message_id: str | None,
        *,
        timer_id: str = "",
        current: event_pb2.TimerView | None = None,
        trace_id: str = "",
    ) -> bytes:
        """A refusal."""

    # `traceparent` is the context of the delivery when that is traced, and empty otherwise.

    def timer(self, view: event_pb2.TimerView, event_id: str, server_time_us: int, *, traceparent: str = "") -> bytes:
        """A timer's state, to those who knew the timer: an update, or that it was stopped."""

    def share_added(
        self, view: event_pb2.TimerView, event_id: str, server_time_us: int, *, traceparent: str = ""
    ) -> bytes:
        """A timer, to somebody it has just been shared with."""

    def share_removed(
        self, timer_id: str, user_id: str, event_id: str, server_time_us: int, *, traceparent: str = ""
    ) -> bytes:
        """To somebody who may no longer see a timer."""

    def reconnect(self, after_ms: int) -> bytes:
        """The edge is about to be restarted."""


class DecodeError(ClientError):
    """A message that could not be understood, and its id and trace context when those could be read."""

    kind = "invalid"
    """As a request has it."""

    def __init__(self, code: int, message: str, *, field: str = "", message_id: str | None = None) -> None:
        super().__init__(code, message, field=field)
        self.message_id = message_id
        self.traceparent = ""
