"""What clients ask for, whatever dialect they speak."""

from typing import TypeAlias

import msgspec

from proto.timer.v1 import timer_pb2


class Write(msgspec.Struct, frozen=True, kw_only=True):
    """A command on a timer. The session adds who it comes from."""

    item: timer_pb2.WriteItem
    with_timer: bool = False
    """The reply is to have the timer after the command."""
    message_id: str | None = None
    traceparent: str = ""


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """Adding (`add`) or removing (not `add`) a member."""

    timer_id: str
    user_id: str
    add: bool
    message_id: str | None = None
    traceparent: str = ""


class Sync(msgspec.Struct, frozen=True, kw_only=True):
    """What the client knows, by timer id; it wants what is different. Without audience versions: None."""

    versions: dict[str, int]
    audience_versions: dict[str, int] | None = None
    message_id: str | None = None
    traceparent: str = ""


class Ping(msgspec.Struct, frozen=True, kw_only=True):
    """A sign of life. `timestamp` is JSON, to be sent back as it came; empty when there was none."""

    timestamp: bytes = b""
    message_id: str | None = None
    traceparent: str = ""


class Acknowledge(msgspec.Struct, frozen=True, kw_only=True):
    """The client has shown the delivery of this id."""

    message_id: str | None = None
    traceparent: str = ""


class Authenticate(msgspec.Struct, frozen=True, kw_only=True):
    """A new token for this connection."""

    token: str
    message_id: str | None = None
    traceparent: str = ""


Request: TypeAlias = Write | Share | Sync | Ping | Acknowledge | Authenticate
