"""`edge/dialects/app_session.py` and `app_conversation.py`, with services that answer when the test says, and a socket that takes
everything.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import WSMessage, WSMsgType

from edge.auth import Identity
from edge.close_codes import CloseCode
from edge.config import EdgeSettings
from edge.dialects import app_conversation, app_session, devices
from edge.dialects.app_session import AppSession
from edge.dialects.devices import Devices
from edge.hub import Hub
from edge.knowledge import TimerState, Verdict
from edge.requests import SharedWrite, Write
from edge.sessions import Sessions
from edge.tracing import Tracing
from proto.common.v1 import common_pb2
from proto.event.v1 import event_pb2
from proto.sharing.v1 import sharing_pb2
from proto.timer.v1 import timer_pb2
from runtime.pulse import Pulse
from runtime.telemetry import Telemetry
from tests.unit.test_knowledge import snapshot_of, view


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
    """There are no timers at first. Reads and writes wait for their answers, each until there is one more."""

    def __init__(self) -> None:
        self.reads: asyncio.Queue[timer_pb2.GetResult] = asyncio.Queue()
        self.writes: asyncio.Queue[timer_pb2.WriteResult] = asyncio.Queue()
        self.changes: list[sharing_pb2.ChangeItem] = []
        self.asked = 0

    async def snapshot(self, item: timer_pb2.SnapshotItem) -> timer_pb2.UserSnapshot:
        del item
        return timer_pb2.UserSnapshot()

    async def get(self, timer_id: str) -> timer_pb2.GetResult:
        del timer_id
        self.asked += 1
        return await self.reads.get()

    async def change(self, item: sharing_pb2.ChangeItem) -> sharing_pb2.ChangeResult:
        self.changes.append(item)
        return sharing_pb2.ChangeResult(audience=event_pb2.Audience(owner_id="alice", member_ids=[item.add_user_id]))

    async def write(self, item: timer_pb2.WriteItem) -> timer_pb2.WriteResult:
        del item
        self.asked += 1
        return await self.writes.get()


def state(version: int, audience_version: int, name: str = "", *, stopped: bool = False) -> TimerState:
    """Of alice's timer, which she shares with bob."""
    made = view(version, audience_version, name=name, stopped=stopped)
    return TimerState(made, f"{version}.{audience_version}", 0)


def messages(sent: bytes) -> list[dict[str, Any]]:
    """What the text frames say."""
    found = []
    while sent:
        head, length = (4, int.from_bytes(sent[2:4], "big")) if sent[1] == 126 else (2, sent[1])
        if sent[0] == 0x81:
            found.append(json.loads(sent[head : head + length]))
        sent = sent[head + length :]
    return found


async def until(holds: Callable[[], bool]) -> None:
    """Returns when something holds that is to hold soon."""
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0.01)


def written(version: int, view: event_pb2.TimerView) -> timer_pb2.WriteResult:
    """The answer to a command that has made a version, of a timer that is now as in the view."""
    return timer_pb2.WriteResult(outcome=timer_pb2.WriteOutcome(version=version, base_version=version - 1, view=view))


UPDATE = SharedWrite(
    item=timer_pb2.WriteItem(timer_id="tea", update=timer_pb2.Update(name="own")), share_with=None, must_see=True
)
STOP = Write(item=timer_pb2.WriteItem(timer_id="tea", stop=timer_pb2.Stop()))


class Edge:
    """One edge, as far as the app's sessions go."""

    def __init__(self) -> None:
        settings = EdgeSettings()
        self._greeted: list[AppSession] = []
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

    def greeted(self, socket: Socket, *views: event_pb2.TimerView, user: str = "bob") -> AppSession:
        """A session whose snapshot had these timers, without anybody who reads from its socket."""
        session = self.session(socket, user)
        session.connection_id = "c"
        session.knowledge.snapshot(snapshot_of(*views), ())
        self._greeted.append(session)
        return session

    async def close(self) -> None:
        """Ends what the greeted sessions still do."""
        tasks = [task for session in self._greeted for task in session._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

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
            await until(lambda number=number: self.hub.sessions.get(f"c{number}") is not None)  # type: ignore[misc]
        try:
            yield runs
        finally:
            for socket in sockets:
                socket.abort()
            await asyncio.wait(runs, timeout=5)


@pytest.fixture
async def edge(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Edge]:
    monkeypatch.setenv("BUBBLE_JWT_SECRET", "s" * 32)
    monkeypatch.setattr(app_session, "_POLL", 0.01)
    monkeypatch.setattr(app_session, "_CORRECT_AGAIN", 0.01)
    monkeypatch.setattr(app_conversation, "REPEATS", (0.01,))
    edge = Edge()
    yield edge
    await edge.close()


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


# --- what is held for the app ---------------------------------------------------------------------------------------------


async def test_a_late_copy_of_a_removal_does_not_drop_what_is_held_since_the_timer_was_shared_again(edge: Edge) -> None:
    socket = Socket()
    session = edge.greeted(socket, view(5, 5))
    assert session.revoke("tea", 6, "r6", 0, "")
    assert session.offer_loaded(state(5, 7, "again")) is Verdict.SEND_AS_SHARE
    session.offer(state(8, 7, "last"))
    assert session.spacing.holds("tea")
    assert not session.revoke("tea", 6, "r6", 0, "")
    await until(lambda: socket.shown()[-1:] == ["last"])


async def test_what_is_held_of_a_timer_that_is_taken_away_is_dropped(edge: Edge) -> None:
    session = edge.greeted(Socket(), view(5, 5))
    session.offer(state(6, 5, "six"))
    session.offer(state(7, 5, "seven"))
    assert session.spacing.holds("tea")
    assert session.revoke("tea", 6, "r6", 0, "")
    assert not session.spacing.holds("tea")


async def test_the_late_answer_to_a_stop_does_not_drop_the_state_of_a_timer_that_was_brought_back(edge: Edge) -> None:
    socket = Socket()
    session = edge.greeted(socket, view(5, 5))
    session.offer(state(8, 5, "before"))
    session.offer(state(10, 5, "back"))
    assert session.spacing.holds("tea")
    session._app_conversation._stopped(written(9, view(9, 5, stopped=True)), STOP)
    await until(lambda: socket.shown()[-1:] == ["back"])


@pytest.mark.parametrize("code", [common_pb2.ERROR_CODE_NOT_FOUND, common_pb2.ERROR_CODE_PERMISSION_DENIED])
async def test_a_stop_that_found_nothing_does_not_drop_what_was_shared_since(
    edge: Edge, code: common_pb2.ErrorCode.ValueType
) -> None:
    socket = Socket()
    session = edge.greeted(socket, view(5, 5))
    assert session.revoke("tea", 6, "r6", 0, "")
    session.offer_loaded(state(5, 7, "again"))
    session.offer(state(8, 7, "last"))
    session._app_conversation._stopped(timer_pb2.WriteResult(error=common_pb2.Error(code=code)), STOP)
    await until(lambda: socket.shown()[-1:] == ["last"])


async def test_what_waits_for_the_app_is_dropped_when_the_app_stops_the_timer(edge: Edge) -> None:
    session = edge.greeted(Socket(), view(5, 5))
    session.offer(state(7, 5))
    session.offer(state(8, 5))
    assert session.spacing.holds("tea")
    assert session.outlet.waits("tea")
    session._app_conversation._stopped(written(9, view(9, 5, stopped=True)), STOP)
    assert not session.spacing.holds("tea")
    assert not session.outlet.waits("tea")
    assert session.knowledge.version_of("tea") == 0


# --- what was read or answered a while ago ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Since:
    """What the edge is told of a timer while an answer about version 9, audience 5 is on its way."""

    tell: Callable[[AppSession], object]
    shown: str
    """What of it the app ends on."""


SINCE = {
    "taken away": Since(lambda session: session.revoke("tea", 6, "r6", 0, ""), "stop"),
    "stopped": Since(lambda session: session.offer(state(10, 5, stopped=True)), "stop"),
    "changed": Since(lambda session: session.offer(state(10, 5, "ten")), "ten"),
    "shared with more": Since(lambda session: session.offer(state(9, 6, "more")), "more"),
}
CURRENT = pytest.mark.parametrize("since", SINCE.values(), ids=SINCE)


@CURRENT
async def test_what_is_read_for_a_correction_is_not_sent_when_something_newer_came_meanwhile(
    edge: Edge, since: Since
) -> None:
    socket, services = Socket(), edge.services
    session = edge.greeted(socket, view(5, 5))
    session.correct("tea")
    await until(lambda: services.asked == 1)
    since.tell(session)
    services.reads.put_nowait(timer_pb2.GetResult(view=view(9, 5, name="nine")))
    await until(lambda: services.asked == 2)  # what is so now is still to be told
    assert not session.spacing.holds("tea")
    assert socket.shown() == [since.shown]


async def test_a_correction_ends_with_what_is_so_after_all(edge: Edge) -> None:
    socket, services = Socket(), edge.services
    session = edge.greeted(socket)
    session.correct("tea")
    await until(lambda: services.asked == 1)
    session.revoke("tea", 6, "r6", 0, "")  # of a timer that it was not told of, so it is not told of this, but shows it
    services.reads.put_nowait(timer_pb2.GetResult(view=view(9, 5, name="nine")))
    services.reads.put_nowait(timer_pb2.GetResult(view=view(9, 6, members=())))
    await until(lambda: socket.shown() == ["stop"])
    await until(lambda: not session._correcting)


@pytest.mark.parametrize(
    "read",
    [
        timer_pb2.GetResult(error=common_pb2.Error(code=common_pb2.ERROR_CODE_NOT_FOUND)),
        timer_pb2.GetResult(view=view(9, 5, stopped=True)),
        timer_pb2.GetResult(view=view(9, 6, members=())),
    ],
    ids=["unknown", "stopped", "taken away"],
)
async def test_a_timer_that_was_gone_when_it_was_read_is_not_taken_from_the_app_that_got_it_since(
    edge: Edge, read: timer_pb2.GetResult
) -> None:
    socket, services = Socket(), edge.services
    session = edge.greeted(socket)
    session.correct("tea")
    await until(lambda: services.asked == 1)
    session.offer_loaded(state(10, 7, "back"))
    services.reads.put_nowait(read)
    await until(lambda: services.asked == 2)
    assert socket.shown() == ["back"]
    assert session.knowledge.version_of("tea") == 10


@pytest.mark.parametrize("read", [view(9, 5, name="nine"), view(9, 6, name="nine")], ids=["known", "not yet known"])
async def test_a_correction_sends_what_is_so_whether_or_not_it_is_known(edge: Edge, read: event_pb2.TimerView) -> None:
    socket = Socket()
    session = edge.greeted(socket, view(9, 5))
    edge.services.reads.put_nowait(timer_pb2.GetResult(view=read))
    session.correct("tea")
    await until(lambda: socket.shown() == ["nine"])
    assert not session._correcting


@CURRENT
async def test_the_outcome_that_the_app_must_see_is_not_sent_when_something_newer_came_before_the_answer(
    edge: Edge, since: Since
) -> None:
    socket = Socket()
    session = edge.greeted(socket, view(9, 5))
    since.tell(session)
    session._app_conversation._updated(written(9, view(9, 5, name="nine")).outcome, UPDATE)
    await until(lambda: socket.shown() == [since.shown])
    assert not session.spacing.holds("tea")


@CURRENT
async def test_the_outcome_of_a_repeated_change_is_not_sent_when_something_newer_came_before_the_answer(
    edge: Edge, since: Since
) -> None:
    socket, services = Socket(), edge.services
    session = edge.greeted(socket, view(9, 5))
    session._app_conversation._repeating["tea"] = UPDATE
    repeating = asyncio.create_task(session._app_conversation._repeat(UPDATE))
    await until(lambda: services.asked == 1)
    since.tell(session)
    services.writes.put_nowait(written(9, view(9, 5, name="nine")))
    await asyncio.wait_for(repeating, 5)
    assert not session.spacing.holds("tea")
    await until(lambda: socket.shown() == [since.shown])


async def test_the_app_sees_the_outcome_of_its_change_when_nothing_came_since(edge: Edge) -> None:
    socket = Socket()
    session = edge.greeted(socket, view(9, 5))
    session._app_conversation._updated(written(9, view(9, 5, name="nine")).outcome, UPDATE)
    await until(lambda: socket.shown() == ["nine"])


@pytest.mark.parametrize(
    ("now", "shown"),
    [(view(10, 5, name="ten"), "ten"), (view(10, 5, stopped=True), "stop")],
    ids=["changed", "stopped"],
)
async def test_the_answer_to_a_repeated_change_tells_the_app_of_what_somebody_else_did_before_the_event_does(
    edge: Edge, now: event_pb2.TimerView, shown: str
) -> None:
    socket = Socket()
    session = edge.greeted(socket, view(8, 5))
    edge.services.writes.put_nowait(written(9, now))
    session._app_conversation._repeating["tea"] = UPDATE
    await asyncio.wait_for(session._app_conversation._repeat(UPDATE), 5)
    session.offer(TimerState(now, "10.5", 0))
    await until(lambda: socket.shown() == [shown])


async def test_the_answer_to_a_repeated_stop_shows_the_timer_that_was_brought_back_before_the_event_does(
    edge: Edge,
) -> None:
    socket = Socket()
    session = edge.greeted(socket, view(8, 5))
    session._app_conversation._stopped(written(9, view(10, 5, name="back")), STOP)
    session.offer(state(10, 5, "back"))
    await until(lambda: socket.shown() == ["back"])


# --- what sharing costs ---------------------------------------------------------------------------------------------------


def share(session: AppSession, timer_id: str, members: Sequence[str], wanted: Sequence[str]) -> None:
    """The answer to an update of alice's with the whole set of members, when those of the timer are others."""
    request = SharedWrite(item=timer_pb2.WriteItem(timer_id=timer_id), share_with=tuple(wanted), must_see=False)
    session._app_conversation._updated(written(9, view(9, 5, members=members, timer_id=timer_id)).outcome, request)


def users(count: int) -> list[str]:
    return [f"user{number}" for number in range(count)]


async def test_every_change_of_a_member_is_worth_a_message_of_the_connections_rate(edge: Edge) -> None:
    session = edge.greeted(Socket(), user="alice")
    share(session, "tea", [], users(500))
    await until(lambda: len(edge.services.changes) == 500)
    share(session, "eggs", [], users(500))  # on its way already when that turned out
    await until(lambda: "eggs" in session._correcting)  # which the phone is told
    assert len(edge.services.changes) == 500
    wait = session._app_conversation._rate.check(time.monotonic())
    assert 10 < wait < 500 / edge.hub.settings.messages_per_second


async def test_of_many_sets_at_once_only_one_is_more_than_the_rate_allows(edge: Edge) -> None:
    session = edge.greeted(Socket(), user="alice")
    for number in range(20):
        share(session, f"t{number}", [], users(500))
    await until(lambda: len(session._correcting) == 19)
    await until(lambda: len(edge.services.changes) == 500)


async def test_a_phone_that_shares_with_a_few_or_changes_a_timer_of_many_is_not_held_up(edge: Edge) -> None:
    session = edge.greeted(Socket(), user="alice")
    share(session, "tea", [], users(5))
    await until(lambda: len(edge.services.changes) == 5)
    for _ in range(20):
        share(session, "team", users(500), users(500))
        await until(lambda: not session._app_conversation._sharing)
        assert session._app_conversation._rate.check(time.monotonic()) == 0
    assert not session._correcting
