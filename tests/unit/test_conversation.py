"""`edge/conversation.py`, with services that answer when the test says so, and a socket that takes everything."""

import asyncio
import gc
import json
import time
from collections.abc import Callable
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
from proto.common.v1 import common_pb2
from proto.event.v1 import event_pb2
from proto.sharing.v1 import sharing_pb2
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


class Services:
    """Notes what is asked, and answers as told: `answers` has a function of the question by the name of the call, `held` the names of
    calls whose answers wait for `release`.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.held: set[str] = set()
        self.answers: dict[str, Callable[[Any], object]] = {}
        self._waiting: list[tuple[str, asyncio.Future[Any], Any]] = []

    def admit_write(self, timer_id: str) -> None:
        del timer_id

    def write(self, item: timer_pb2.WriteItem, place: object = None) -> "asyncio.Future[Any]":
        del place
        return self._ask(f"write {item.update.name or 'an intent'}", item)

    def get(self, timer_id: str) -> "asyncio.Future[Any]":
        return self._ask(f"get {timer_id}", timer_id)

    def change(self, item: sharing_pb2.ChangeItem) -> "asyncio.Future[Any]":
        return self._ask(f"change {item.add_user_id or item.remove_user_id}", item)

    def snapshot(self, item: timer_pb2.SnapshotItem) -> "asyncio.Future[Any]":
        return self._ask("snapshot", item)

    def _ask(self, name: str, item: object) -> "asyncio.Future[Any]":
        self.asked.append(name)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((name, future, item))
        self._answer()
        return future

    def release(self, name: str) -> None:
        self.held.remove(name)
        self._answer()

    def _answer(self) -> None:
        for name, future, item in list(self._waiting):
            if name not in self.held:
                self._waiting.remove((name, future, item))
                future.set_result(self.answers[name.split()[0]](item))


def result(version: int, timer_id: str = "tea", members: tuple[str, ...] = ("bob",)) -> timer_pb2.WriteResult:
    """The result of a command that made a version of alice's timer."""
    answer = timer_pb2.WriteResult()
    answer.outcome.version = answer.outcome.view.timer.version = version
    answer.outcome.view.timer.timer_id = timer_id
    answer.outcome.view.audience.CopyFrom(event_pb2.Audience(owner_id="alice", member_ids=members, version=1))
    return answer


def audience(version: int, *members: str) -> sharing_pb2.ChangeResult:
    return sharing_pb2.ChangeResult(audience=event_pb2.Audience(owner_id="alice", member_ids=members, version=version))


class Phone:
    """A session of a user who has a timer, and what its client is sent."""

    def __init__(self, user: str = "alice", codec: SeedCodec | None = None) -> None:
        self.services = Services()
        self.services.answers = {
            "get": lambda _: timer_pb2.GetResult(view=result(1).outcome.view),
            "change": lambda item: audience(2, *([item.add_user_id] if item.add_user_id else [])),
            "write": lambda item: result(len(self.services.asked) + 1, item.timer_id),
            "snapshot": lambda _: timer_pb2.UserSnapshot(),
        }
        settings = EdgeSettings()
        hub = Hub(
            settings=settings,
            verifier=cast("Any", None),
            sessions=Sessions(),
            backend=cast("Any", self.services),
            presence=cast("Any", SimpleNamespace(edge_id="e")),
            delivery=cast("Any", None),
            tracing=Tracing(Telemetry(), settings),
            pulse=Pulse(),
        )
        self._socket = Socket()
        transport = cast("asyncio.Transport", self._socket)
        identity = Identity(user, float("inf"))
        self.session = Session(
            hub, cast("Any", None), transport, codec or SeedCodec(), identity, "phone", resumes=False
        )
        snapshot = timer_pb2.UserSnapshot()
        snapshot.versions["tea"].version = snapshot.versions["tea"].audience_version = 1
        self.session.knowledge.snapshot(snapshot, [])
        self._numbers = 0

    def asks(self, **message: object) -> None:
        self._numbers += 1
        text = json.dumps({"messageId": f"m{self._numbers}", **message})
        self.session._conversation.receive(text.encode(), time.monotonic())

    def updates(self, name: str, timer_id: str = "tea") -> None:
        self.asks(type="timer", action="update", timer={"id": timer_id, "name": name})

    def shares(self, action: str, user: str, timer_id: str = "tea") -> None:
        self.asks(type="share", action=action, timerId=timer_id, sharedWithUser=user)

    async def is_sent(self) -> list[dict[str, Any]]:
        """Everything, when all is answered."""
        await self.session._conversation.finish(patience=5)
        self.session.outlet.write()
        found, sent = [], self._socket.sent
        while sent:
            head, length = (4, int.from_bytes(sent[2:4], "big")) if sent[1] == 126 else (2, sent[1])
            found.append(json.loads(sent[head : head + length]))
            sent = sent[head + length :]
        return found


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUBBLE_JWT_SECRET", "s" * 32)
    monkeypatch.setenv("BUBBLE_MESSAGES_PER_SECOND", "0")


async def turns() -> None:
    """Long enough for everything that need not wait for a service."""
    for _ in range(20):
        await asyncio.sleep(0)


class ForgetfulCodec(SeedCodec):
    """Can't tell of the first version."""

    def processed(self, timer_id: str, version: int, message_id: str | None) -> bytes:
        if version == 2:
            raise ValueError("What was it?")
        return super().processed(timer_id, version, message_id)


async def test_an_answer_that_cannot_be_told_is_an_error_and_does_not_hold_up_those_behind_it() -> None:
    phone = Phone(codec=ForgetfulCodec())
    phone.updates("Tea")
    phone.updates("Green tea")
    first, second = await phone.is_sent()
    assert (first["code"], first["messageId"]) == (500, "m1")
    assert (second["status"], second["version"], second["messageId"]) == ("processed", 3, "m2")


async def test_who_leaves_right_after_asking_leaves_nothing_behind_that_python_warns_of(
    recwarn: pytest.WarningsRecorder,
) -> None:
    phone = Phone()
    phone.asks(type="sync", versions={})
    phone.shares("add", "bob")
    phone.asks(type="auth", token="t")
    for task in phone.session._tasks:
        task.cancel()
    await turns()
    gc.collect()
    assert [str(warning.message) for warning in recwarn if "never awaited" in str(warning.message)] == []


# --- in turn --------------------------------------------------------------------------------------------------------------


async def test_who_takes_somebody_away_and_writes_on_at_once_does_not_show_that() -> None:
    phone = Phone()
    phone.services.held = {"change bob"}
    phone.shares("remove", "bob")
    phone.updates("A secret")
    phone.updates("Something else", "eggs")
    await turns()
    assert phone.services.asked == ["write Something else", "get tea", "change bob"]
    phone.services.release("change bob")
    answers = await phone.is_sent()
    assert phone.services.asked[-1] == "write A secret"
    assert [answer["messageId"] for answer in answers if answer.get("status") == "processed"] == ["m1", "m2", "m3"]


async def test_commands_and_shares_of_one_timer_take_effect_in_the_order_in_which_they_were_asked_for() -> None:
    phone = Phone()
    phone.services.held = {"write 1", "change bob", "write 2", "change carol"}
    phone.updates("1")
    phone.shares("add", "bob")
    phone.updates("2")
    phone.updates("3")
    phone.shares("add", "carol")
    phone.updates("4")
    for held in ("write 1", "change bob", "write 2", "change carol"):
        await turns()
        phone.services.release(held)
    await phone.is_sent()
    asked = [each for each in phone.services.asked if not each.startswith("get")]
    assert asked == ["write 1", "change bob", "write 2", "write 3", "change carol", "write 4"]
    await turns()
    assert not phone.session._conversation._last_of


async def test_a_share_that_is_refused_lets_what_was_asked_behind_it_go_on() -> None:
    phone = Phone()
    refusal = common_pb2.Error(code=common_pb2.ERROR_CODE_PERMISSION_DENIED, message="Only the owner")
    phone.services.answers["change"] = lambda _: sharing_pb2.ChangeResult(error=refusal)
    phone.shares("add", "carol")
    phone.updates("Tea")
    refused, done = await phone.is_sent()
    assert (refused["code"], refused["timerId"]) == (403, "tea")
    assert done["status"] == "processed"


async def test_who_shares_is_not_sent_its_own_next_change() -> None:
    phone = Phone()
    phone.shares("add", "bob")
    await phone.is_sent()
    changed = result(2)
    changed.outcome.base_version = 1
    changed.outcome.view.audience.version = 2
    phone.services.answers["write"] = lambda _: changed
    phone.updates("Tea")
    assert ["status" in message for message in await phone.is_sent()] == [True, True]


async def test_a_sync_reads_when_it_is_its_turn_so_that_nothing_overtakes_what_it_brings() -> None:
    phone = Phone()
    phone.services.held = {"write Slow"}
    phone.updates("Slow")
    phone.asks(type="sync", versions={})
    await asyncio.sleep(0.05)
    assert phone.services.asked == ["write Slow"]
    phone.services.release("write Slow")
    assert [message.get("type", "reply") for message in await phone.is_sent()] == ["reply", "snapshot"]


# --- rights ---------------------------------------------------------------------------------------------------------------


async def test_who_has_left_learns_nothing_by_asking_to_leave_once_more() -> None:
    phone = Phone("bob")
    phone.services.answers["change"] = lambda _: audience(7, "carol")
    phone.shares("remove", "bob")
    (answer,) = await phone.is_sent()
    assert (answer["status"], answer["sharedWith"], answer["version"]) == ("processed", [], 0)
    assert phone.session.knowledge.is_revoked("tea")


async def test_an_old_copy_of_leaving_does_not_blind_who_was_added_again() -> None:
    phone = Phone("bob")
    phone.services.answers["change"] = lambda _: audience(7, "bob")
    phone.shares("remove", "bob")
    (answer,) = await phone.is_sent()
    assert answer["sharedWith"] == ["bob"]
    assert not phone.session.knowledge.is_revoked("tea")


async def test_a_conflict_that_is_answered_after_the_timer_was_taken_away_does_not_show_it() -> None:
    phone = Phone("bob")
    conflict = timer_pb2.WriteResult(
        error=common_pb2.Error(code=common_pb2.ERROR_CODE_CONFLICT, message="Another version")
    )
    conflict.current.CopyFrom(result(9).outcome.view)
    phone.services.answers["write"] = lambda _: conflict
    phone.services.held = {"write Tea"}
    phone.updates("Tea")
    phone.session.revoke("tea", 8, "8.tea", 0, "")
    phone.services.release("write Tea")
    refused = next(message for message in await phone.is_sent() if "code" in message)
    assert refused["code"] == 409
    assert "timer" not in refused
