"""`edge/dialects/app_session.py` and `app_conversation.py`, with services that answer when the test says, and a socket that takes
everything.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import WSMessage, WSMsgType

from edge.auth import Identity
from edge.close_codes import CloseCode
from edge.config import EdgeSettings
from edge.dialects import app_session, devices
from edge.dialects.app_session import AppSession
from edge.dialects.devices import Devices
from edge.hub import Hub
from edge.sessions import Sessions
from edge.tracing import Tracing
from proto.timer.v1 import timer_pb2
from runtime.pulse import Pulse
from runtime.telemetry import Telemetry


class Socket:
    """A transport that takes everything, and the WebSocket above it, whose peer says something all the time."""

    closed = False

    def __init__(self) -> None:
        self.sent = b""
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.sent += data

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True

    async def receive(self) -> WSMessage:
        await asyncio.sleep(0.01)
        return WSMessage(WSMsgType.CLOSED if self.aborted else WSMsgType.PONG, b"", None)

    def shown(self) -> list[str]:
        """What the app was told of timers: their names, or `stop`."""
        told = []
        for message in messages(self.sent):
            if message.get("type") == "updateTimer":
                told.append(message["timer"]["name"])
            elif message.get("type") == "stopTimer":
                told.append("stop")
        return told


class Presence:
    """Takes every connection."""

    edge_id = "e"

    def __init__(self) -> None:
        self._opened = 0

    async def open(self, user: str, device: str, claim: Callable[[str], None], *, supersedable: bool) -> None:
        del user, device, supersedable
        self._opened += 1
        claim(f"c{self._opened}")

    def close(self, connection_id: str) -> None:
        del connection_id


class Services:
    """There are no timers at first."""

    async def snapshot(self, item: timer_pb2.SnapshotItem) -> timer_pb2.UserSnapshot:
        del item
        return timer_pb2.UserSnapshot()


def messages(sent: bytes) -> list[dict[str, Any]]:
    """What the text frames say."""
    found = []
    while sent:
        head, length = (4, int.from_bytes(sent[2:4], "big")) if sent[1] == 126 else (2, sent[1])
        if sent[0] == 0x81:
            found.append(json.loads(sent[head : head + length]))
        sent = sent[head + length :]
    return found


class Edge:
    """One edge, as far as the app's sessions go."""

    def __init__(self) -> None:
        settings = EdgeSettings()
        self.devices = Devices()
        self.services = Services()
        self.hub = Hub(
            settings=settings,
            verifier=cast("Any", None),
            sessions=Sessions(),
            backend=cast("Any", self.services),
            presence=cast("Any", Presence()),
            delivery=cast("Any", SimpleNamespace()),
            tracing=Tracing(Telemetry(), settings),
            pulse=Pulse(),
        )

    def session(self, socket: Socket, user: str = "bob", device: str = "pixel") -> AppSession:
        transport, identity = cast("asyncio.Transport", socket), Identity(user, float("inf"))
        return AppSession(
            self.hub, cast("Any", socket), transport, self.devices, identity, device, zone=0, default_zone=0
        )

    @asynccontextmanager
    async def connected(self, *sockets: Socket) -> AsyncIterator[list[asyncio.Task[CloseCode]]]:
        """Connections of one device that are opened one after the other."""
        runs = []
        for number, socket in enumerate(sockets, 1):
            runs.append(asyncio.create_task(self.session(socket).run()))
            async with asyncio.timeout(5):
                while self.hub.sessions.get(f"c{number}") is None:
                    await asyncio.sleep(0)
        try:
            yield runs
        finally:
            for socket in sockets:
                socket.abort()
            await asyncio.wait(runs, timeout=5)


@pytest.fixture
def edge(monkeypatch: pytest.MonkeyPatch) -> Edge:
    monkeypatch.setenv("BUBBLE_JWT_SECRET", "s" * 32)
    monkeypatch.setattr(app_session, "_POLL", 0.01)
    return Edge()


# --- the end of a socket that was left ------------------------------------------------------------------------------------


async def test_a_superseded_socket_that_goes_on_talking_is_cut_in_the_end(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_session, "QUIET_END", 0.3)
    old, new = Socket(), Socket()
    async with edge.connected(old, new) as (ending, staying):
        async with asyncio.timeout(5):
            assert await asyncio.shield(ending) is CloseCode.SUPERSEDED
        assert old.aborted
        assert not new.aborted
        assert not staying.done()
        assert list(edge.hub.sessions) == [edge.devices._newest["bob", "pixel"]]


async def test_of_too_many_sockets_that_a_user_has_left_the_oldest_is_cut_at_once(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "MAX_ENDING", 2)
    sockets = [Socket() for _ in range(5)]
    async with edge.connected(*sockets) as runs:
        async with asyncio.timeout(5):
            await asyncio.wait(runs[:2])
        assert [socket.aborted for socket in sockets] == [True, True, False, False, False]
    assert edge.devices._ending == {}
