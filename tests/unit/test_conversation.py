"""`edge/conversation.py`, with services that answer as the test says, and a socket that takes everything."""

import asyncio
import json
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from edge.auth import Identity
from edge.codec.seed import SeedCodec
from edge.config import EdgeSettings
from edge.hub import Hub
from edge.session import Session
from edge.sessions import Sessions
from edge.tracing import Tracing
from proto.timer.v1 import timer_pb2
from runtime.pulse import Pulse
from runtime.telemetry import Telemetry


class Socket:
    """A transport that takes everything."""

    def __init__(self) -> None:
        self.sent = b""

    def write(self, data: bytes) -> None:
        self.sent += data

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False


class TimerService:
    """Does what it is asked: the first version is 1, and so on."""

    def __init__(self) -> None:
        self._version = 0

    def admit_write(self, timer_id: str) -> None:
        del timer_id

    async def _answer(self, item: timer_pb2.WriteItem) -> timer_pb2.WriteResult:
        self._version += 1
        result = timer_pb2.WriteResult()
        result.outcome.version = result.outcome.view.timer.version = self._version
        result.outcome.view.timer.timer_id = item.timer_id
        return result

    def write(self, item: timer_pb2.WriteItem, place: object) -> "asyncio.Future[timer_pb2.WriteResult]":
        del place
        return asyncio.ensure_future(self._answer(item))


class ForgetfulCodec(SeedCodec):
    """Can't tell of the first version."""

    def processed(self, timer_id: str, version: int, message_id: str | None) -> bytes:
        if version == 1:
            raise ValueError("What was it?")
        return super().processed(timer_id, version, message_id)


def session_of(socket: Socket) -> Session:
    settings = EdgeSettings()
    hub = Hub(
        settings=settings,
        verifier=cast("Any", None),
        sessions=Sessions(),
        backend=cast("Any", TimerService()),
        presence=cast("Any", SimpleNamespace(edge_id="e")),
        delivery=cast("Any", None),
        tracing=Tracing(Telemetry(), settings),
        pulse=Pulse(),
    )
    transport = cast("asyncio.Transport", socket)
    return Session(
        hub, cast("Any", None), transport, ForgetfulCodec(), Identity("ann", float("inf")), "phone", resumes=False
    )


def messages(sent: bytes) -> list[dict[str, Any]]:
    """What the frames say."""
    found = []
    while sent:
        head, length = (4, int.from_bytes(sent[2:4], "big")) if sent[1] == 126 else (2, sent[1])
        found.append(json.loads(sent[head : head + length]))
        sent = sent[head + length :]
    return found


async def test_an_answer_that_cannot_be_told_is_an_error_and_does_not_hold_up_those_behind_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BUBBLE_JWT_SECRET", "s" * 32)
    socket = Socket()
    session = session_of(socket)
    for number in (1, 2):
        update = {"type": "timer", "action": "update", "timer": {"id": "tea"}, "messageId": f"m{number}"}
        session._conversation.receive(json.dumps(update).encode(), time.monotonic())
    await session._conversation.finish(patience=5)
    session.outlet.write()

    first, second = messages(socket.sent)
    assert (first["code"], first["messageId"]) == (500, "m1")
    assert (second["status"], second["version"], second["messageId"]) == ("processed", 2, "m2")
