"""What clients ask for, whatever dialect they speak."""

from typing import ClassVar, TypeAlias

import msgspec

from proto.timer.v1 import timer_pb2

_KINDS = {
    command.name: f"timer.{command.name}" for command in timer_pb2.WriteItem.DESCRIPTOR.oneofs_by_name["command"].fields
}


class Write(msgspec.Struct, frozen=True, kw_only=True):
    """A command on a timer. The session adds who it comes from."""

    item: timer_pb2.WriteItem
    with_timer: bool = False
    """The reply is to have the timer after the command."""
    message_id: str | None = None
    traceparent: str = ""

    @property
    def kind(self) -> str:
        """What is asked for, as metrics and traces name it."""
        return _KINDS[self.item.WhichOneof("command") or ""]


class SharedWrite(Write, frozen=True, kw_only=True):
    """An update by a whole state, of a dialect whose updates say who the timer is shared with."""

    share_with: tuple[str, ...] | None
    """Everybody who is to see the timer, the owner perhaps included; None: it does not say. From a member it says nothing."""
    must_see: bool = False
    """The client shows something else than what it asked for, so it is to be sent the result."""


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """Adding (`add`) or removing (not `add`) a member."""

    timer_id: str
    user_id: str
    add: bool
    message_id: str | None = None
    traceparent: str = ""

    @property
    def kind(self) -> str:
        """What is asked for, as metrics and traces name it."""
        return "share.add" if self.add else "share.remove"


class Sync(msgspec.Struct, frozen=True, kw_only=True):
    """What the client knows, by timer id; it wants what is different. Without audience versions: None."""

    kind: ClassVar[str] = "sync"
    versions: dict[str, int]
    audience_versions: dict[str, int] | None = None
    message_id: str | None = None
    traceparent: str = ""


class Ping(msgspec.Struct, frozen=True, kw_only=True):
    """A sign of life. `timestamp` is JSON, to be sent back as it came; empty when there was none."""

    kind: ClassVar[str] = "ping"
    timestamp: bytes = b""
    message_id: str | None = None
    traceparent: str = ""


class Acknowledge(msgspec.Struct, frozen=True, kw_only=True):
    """The client has shown the delivery of this id."""

    kind: ClassVar[str] = "ack"
    message_id: str | None = None
    traceparent: str = ""


class Authenticate(msgspec.Struct, frozen=True, kw_only=True):
    """A new token for this connection."""

    kind: ClassVar[str] = "auth"
    token: str
    message_id: str | None = None
    traceparent: str = ""


Request: TypeAlias = Write | Share | Sync | Ping | Acknowledge | Authenticate
