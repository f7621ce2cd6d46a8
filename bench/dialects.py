"""What the systems that are measured expect of a client, each in its own words. Pure.

All of them get the same update and tell the same state; what differs is how it is wrapped. The patterns find every reply and
every delivery in the bytes of a connection without taking the frames apart.
"""

import re
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from cli.raw_socket import text_frame

FIRST_NUMBER = 100_000_000
"""Of updates: all of a run have nine digits, so that every frame of a timer has the same length."""

_TIMER = '"timer":{"id":"%s","name":"n%%d","totalDuration":"PT25M","endTime":"2030-01-01T00:00:00.000Z"}'
_STATE = rb'"id":"([^"]*)",[^v]*"version":(\d+)'  # no other field of a state has a v


class Member(NamedTuple):
    """A device that is to connect."""

    user: str
    device: str
    token: str


@dataclass(frozen=True)
class Dialect:
    """Of the raw broadcast and of Django Channels: JSON as ours, without snapshots and shares."""

    ready: ClassVar[bytes] = b'{"type":"connected"'
    """How the message begins after which the connection can be used."""
    opening: ClassVar[str] = ""
    """What a client says as soon as the socket is open, with the token for `%s`."""
    pings: ClassVar[dict[bytes, str]] = {}
    """Messages that must be answered, and by what."""
    ping_pattern: ClassVar[re.Pattern[bytes] | None] = None
    """Finds those messages in the bytes of a connection."""
    mark: ClassVar[bytes] = b'"status":"processed"'
    """Is in every acknowledgement of an update, once, and in nothing else."""
    error: ClassVar[bytes] = b'"status":"error"'
    """Is in every refusal."""
    replies: ClassVar[re.Pattern[bytes]] = re.compile(
        rb'"status":"processed","timerId":"[^"]*","version":(\d+),"messageId":"(\d+)"'
    )
    reply_is_version_first: ClassVar[bool] = True
    deliveries: ClassVar[re.Pattern[bytes]] = re.compile(
        rb'"action":"update","timer":\{"id":"([^"]*)",[^n]*"name":"n(\d+)"[^v]*"version":(\d+)'
    )
    refusals: ClassVar[re.Pattern[bytes]] = re.compile(rb'"status":"error"')
    echo: ClassVar[bool] = False
    """A sender is told its own states, too."""

    def path(self, member: Member) -> str:
        """What is asked for at the handshake."""
        return f"/ws?token={member.token}&deviceId={member.device}"

    def update(self, timer: str) -> bytes:
        """The frame of an update of a timer, as a template for its number, which it has twice."""
        return self.template('{"type":"timer","action":"update","messageId":"%%d",' + _TIMER + "}", timer)

    def template(self, text: str, timer: str) -> bytes:
        """A frame in which `%d` is left to be filled in."""
        template = text % timer
        frame = text_frame((template.replace("%d", str(FIRST_NUMBER))).encode())
        return frame.replace(b"%", b"%%").replace(str(FIRST_NUMBER).encode(), b"%d")


@dataclass(frozen=True)
class Bubble(Dialect):
    """Ours: docs/protocol.md."""

    ready: ClassVar[bytes] = b'{"type":"snapshot"'


@dataclass(frozen=True)
class SocketIo(Dialect):
    """Socket.IO 4 on Engine.IO 4, on WebSockets from the start; updates are events with an acknowledgement."""

    ready: ClassVar[bytes] = b"40"
    opening: ClassVar[str] = '40{"token":"%s"}'
    pings: ClassVar[dict[bytes, str]] = {b"2": "3"}
    ping_pattern: ClassVar[re.Pattern[bytes] | None] = re.compile(rb"\x81\x01(2)")
    mark: ClassVar[bytes] = b'[{"version":'
    replies: ClassVar[re.Pattern[bytes]] = re.compile(rb'43(\d+)\[\{"version":(\d+)')
    reply_is_version_first: ClassVar[bool] = False
    error: ClassVar[bytes] = b'[{"error"'
    refusals: ClassVar[re.Pattern[bytes]] = re.compile(rb'\[\{"error"')

    def path(self, member: Member) -> str:
        del member  # comes later
        return "/socket.io/?EIO=4&transport=websocket"

    def update(self, timer: str) -> bytes:
        return self.template('42%%d["update",{' + _TIMER + "}]", timer)


@dataclass(frozen=True)
class Centrifugo(Dialect):
    """Centrifugo's JSON protocol; the number of an update takes the place of a version, which it does not make."""

    ready: ClassVar[bytes] = b'{"id":1,"connect"'
    opening: ClassVar[str] = '{"id":1,"connect":{"token":"%s"}}'
    pings: ClassVar[dict[bytes, str]] = {b"{}": "{}"}
    ping_pattern: ClassVar[re.Pattern[bytes] | None] = re.compile(rb"(?<!:)(\{\})")  # it may share a frame with others
    mark: ClassVar[bytes] = b'"publish":{'
    replies: ClassVar[re.Pattern[bytes]] = re.compile(rb'\{"id":(\d+),"publish":\{()')
    reply_is_version_first: ClassVar[bool] = False
    error: ClassVar[bytes] = b',"error":{'
    refusals: ClassVar[re.Pattern[bytes]] = re.compile(rb',"error":\{')
    deliveries: ClassVar[re.Pattern[bytes]] = re.compile(
        rb'"action":"update","timer":\{"id":"([^"]*)",[^n]*"name":"n((\d+))"'
    )
    echo: ClassVar[bool] = True

    def path(self, member: Member) -> str:
        del member
        return "/connection/websocket"

    def update(self, timer: str) -> bytes:
        channel = timer.split("-", maxsplit=1)[0]
        return self.template(
            f'{{"id":%%d,"publish":{{"channel":"{channel}","data":{{"type":"timer","action":"update",' + _TIMER + "}}}",
            timer,
        )
