"""Readers that stop, trickle, flood or vanish: what they get, when they are cut, and what they cost the others."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.system.client import Client, Message
from tests.system.cluster import Cluster
from tests.system.slow_client import SlowClient, can_vanish

Unique = Callable[[str], str]

BACKLOG = 48 * 1024
PATIENCE = 1.5
PING_TIMEOUT = 5.0
PATIENT = 20.0
"""Seconds in which what is expected must come, where hundreds of things are under way."""

_AT_ONCE = 40  # requests without an answer

NAME = "n" * 240  # with it, a state has some 500 bytes

IN_SOCKETS = 256 * 1024
"""Bytes that the two kernels and the edge's socket hold at most on their way to a client with a small window: they can't be
replaced by newer states any more."""

UNREAD = 1024 * 1024
"""Bytes that the two kernels and the edge's parser hold at most on their way to an edge that does not read."""


# What is tested here is the edge's, whatever the store.


@pytest.fixture(scope="module")
async def patient(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    """A system whose bounds are those of production."""
    async with _running(tmp_path_factory.mktemp("patient")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
async def impatient(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    """A system whose patience and heartbeats are short, and whose edge logs why it closes connections."""
    async with _running(
        tmp_path_factory.mktemp("impatient"),
        BUBBLE_LOG_LEVEL="debug",
        BUBBLE_MAX_CONNECTIONS_PER_USER="2",
        BUBBLE_BACKLOG_BYTES=str(BACKLOG),
        BUBBLE_BACKLOG_PATIENCE=str(PATIENCE),
        BUBBLE_PING_INTERVAL="0.5",
        BUBBLE_PING_TIMEOUT=str(PING_TIMEOUT),
    ) as cluster:
        yield cluster


@asynccontextmanager
async def _running(directory: Path, **environment: str) -> AsyncIterator[Cluster]:
    running = Cluster(directory, {"BUBBLE_STORE": "sqlite", "BUBBLE_MESSAGES_PER_SECOND": "0", **environment})
    try:
        await running.start()
        yield running
    finally:
        await running.stop()
    assert running.crashes() == []


class Writer:
    """Somebody with many timers, all of them shared."""

    def __init__(self, client: Client, timer_ids: list[str]) -> None:
        self.client = client
        self.timer_ids = timer_ids
        self.versions: dict[str, int] = {}
        self.sent = 0
        self._rounds = itertools.count(1)
        self._ids = itertools.count(1)

    async def update_all(self) -> None:
        """One more state of every timer; returns when all are acknowledged."""
        number = next(self._rounds)
        replies = await self._done(
            {"type": "timer", "action": "update", "timer": {"id": timer_id, "name": f"{number} {NAME}"}}
            for timer_id in self.timer_ids
        )
        self.versions |= {reply["timerId"]: reply["version"] for reply in replies}
        self.sent += len(self.timer_ids)

    async def share_with(self, user: str) -> None:
        """Shares all timers with somebody."""
        await self._done(
            {"type": "share", "action": "add", "timerId": timer_id, "sharedWithUser": user}
            for timer_id in self.timer_ids
        )

    async def _done(self, requests: Iterable[Message]) -> list[Message]:
        """Asks all that, a few at a time; what a busy system puts off is asked again."""
        due = list(requests)
        replies = []
        while due:
            batch, due = due[:_AT_ONCE], due[_AT_ONCE:]
            ids = [f"w{next(self._ids)}" for _ in batch]
            for message_id, request in zip(ids, batch, strict=True):
                await self.client.send(**request, messageId=message_id)
            for message_id, request in zip(ids, batch, strict=True):
                reply = await self.client.expect(_answers(message_id), PATIENT)
                if reply["status"] == "processed":
                    replies.append(reply)
                else:
                    assert reply["code"] == 503, reply
                    due.append(request)
        return replies


async def _writer(client: Client, timers: int, *members: str) -> Writer:
    writer = Writer(client, [f"{client.user}-{number}" for number in range(timers)])
    await writer.update_all()
    for member in members:
        await writer.share_with(member)
    return writer


def _answers(message_id: str) -> Callable[[Message], bool]:
    return lambda message: message.get("messageId") == message_id


def _tells_of(timer_id: str, version: int) -> Callable[[Message], bool]:
    return lambda message: (
        message.get("type") == "timer" and message["timer"]["id"] == timer_id and message["timer"]["version"] == version
    )


async def _converges(client: SlowClient, writer: Writer, within: float = PATIENT) -> None:
    """Reads as fast as it can until the client has the last state of every timer; none may ever go back."""

    def has_all(_: object = None) -> bool:
        return all(
            (states := client.timers(timer_id)) and states[-1]["version"] == version
            for timer_id, version in writer.versions.items()
        )

    if not has_all():
        await client.read_until(has_all, within)
    for timer_id in writer.timer_ids:
        versions = [timer["version"] for timer in client.timers(timer_id)]
        assert versions == sorted(versions), timer_id


def _is_snapshot(message: Message) -> bool:
    return message.get("type") == "snapshot"


async def _closing(cluster: Cluster, client: SlowClient, within: float = 15) -> int:
    """The code with which the edge closes a connection, as soon as it begins to."""
    codes: list[int] = []

    def found() -> bool:
        codes[:] = [
            line["close_code"]
            for line in cluster.processes["edge"].lines()
            if line.get("event") == "closing" and line["connection_id"] == client.connection_id
        ]
        return bool(codes)

    async with asyncio.timeout(within):
        while not found():
            await asyncio.sleep(0.05)
    (code,) = codes
    return code


async def _is_let_in(client: SlowClient) -> bool:
    """Whether there is a place for a connection, or it is told 4409."""
    while await client.read(64 * 1024):
        if client.received:
            return True
    assert client.close_code == 4409
    return False


@asynccontextmanager
async def _resumed(cluster: Cluster, user: str, device: str) -> AsyncIterator[SlowClient]:
    """A connection that goes on where its device was, as soon as there is a place for it."""
    async with AsyncExitStack() as tries:
        async with asyncio.timeout(5):
            while True:
                client = await tries.enter_async_context(SlowClient(cluster.edge_port, user, device, resume=True))
                if await _is_let_in(client):
                    break
                await asyncio.sleep(0.1)
        yield client


async def test_who_stops_and_reads_again_gets_the_latest_states_and_far_fewer_than_were_sent(
    patient: Cluster, unique: Unique
) -> None:
    bob = unique("bob")
    async with (
        Client(patient.edge_port, unique("alice"), "phone") as alice,
        Client(patient.edge_port, unique("carol"), "phone") as carol,
    ):
        writer = await _writer(alice, 20, bob, carol.user)
        async with SlowClient(patient.edge_port, bob, "phone") as slow:
            await slow.read_until(_is_snapshot)
            before = len(slow.received)
            for _ in range(60):
                await writer.update_all()
            await _converges(slow, writer)
            states_on_their_way = IN_SOCKETS // len(json.dumps(slow.received[-2]))
            assert len(slow.received) - before <= states_on_their_way + len(writer.timer_ids)
            assert len(slow.received) - before < writer.sent / 2
            # It goes on as if nothing had been.
            await writer.update_all()
            await _converges(slow, writer)
        # Somebody who reads all the time has not noticed.
        for timer_id in writer.timer_ids:
            await carol.expect(_tells_of(timer_id, writer.versions[timer_id]), PATIENT)


async def test_a_backlog_over_the_bound_is_cut_with_4413_and_a_reconnect_brings_exactly_what_was_missed(
    impatient: Cluster, unique: Unique
) -> None:
    bob = unique("bob")
    async with (
        Client(impatient.edge_port, unique("alice"), "phone") as alice,
        Client(impatient.edge_port, unique("carol"), "phone") as carol,
    ):
        writer = await _writer(alice, 150, bob)
        untouched = await _writer(carol, 1, bob)
        async with SlowClient(impatient.edge_port, bob, "phone") as slow:
            await slow.read_until(_is_snapshot)
            for _ in range(5):  # 75 KB each: what is in sockets, and what may wait, and more
                await writer.update_all()
            assert await _closing(impatient, slow) == 4413
            assert await slow.read_to_the_end() == 4413
            known = {id_: slow.timers(id_)[-1] for id_ in (*writer.timer_ids, *untouched.timer_ids)}
        missed = {id_ for id_, version in writer.versions.items() if known[id_]["version"] < version}
        assert missed
        async with SlowClient(impatient.edge_port, bob, "phone", resume=True) as again:
            versions = {id_: timer["version"] for id_, timer in known.items()}
            share_versions = {id_: timer["shareVersion"] for id_, timer in known.items()}
            await again.send(type="sync", versions=versions, shareVersions=share_versions, messageId="sync")
            snapshot = await again.read_until(lambda m: m.get("messageId") == "sync")
            assert {timer["id"] for timer in snapshot["timers"]} == missed
            assert {timer["id"]: timer["version"] for timer in snapshot["timers"]} == {
                id_: writer.versions[id_] for id_ in missed
            }
            assert snapshot["gone"] == []


async def test_who_is_slow_but_goes_on_reading_is_never_cut_and_converges(impatient: Cluster, unique: Unique) -> None:
    bob = unique("bob")
    async with Client(impatient.edge_port, unique("alice"), "phone") as alice:
        writer = await _writer(alice, 60, bob)  # 30 KB, below the bound
        async with SlowClient(impatient.edge_port, bob, "phone") as slow:
            await slow.read_until(_is_snapshot)
            trickling = asyncio.create_task(slow.trickle(2_048, 0.05, 2 * PING_TIMEOUT))
            while not trickling.done():
                await writer.update_all()
            assert not slow.ended
            assert len(slow.received) < writer.sent / 2, "it was not slow"
            await _converges(slow, writer)


async def test_who_reads_a_byte_now_and_then_gets_the_latest_states_in_the_end(
    impatient: Cluster, unique: Unique
) -> None:
    bob = unique("bob")
    async with Client(impatient.edge_port, unique("alice"), "phone") as alice:
        writer = await _writer(alice, 20, bob)
        async with SlowClient(impatient.edge_port, bob, "phone") as slow:
            await slow.read_until(_is_snapshot)
            for _ in range(int(2 * PING_TIMEOUT)):
                for _ in range(10):
                    await writer.update_all()
                await slow.read(1)
                await slow.send(
                    type="ping"
                )  # our pings are behind all that it has not read; its own show that it lives
                await asyncio.sleep(0.3)
            assert not slow.ended
            await _converges(slow, writer)


async def test_who_reads_a_byte_now_and_then_with_too_much_waiting_is_cut_with_4413(
    impatient: Cluster, unique: Unique
) -> None:
    bob = unique("bob")
    async with Client(impatient.edge_port, unique("alice"), "phone") as alice:
        writer = await _writer(alice, 400, bob)
        async with SlowClient(impatient.edge_port, bob, "phone") as slow:
            await slow.read_until(_is_snapshot)
            for _ in range(2):
                await writer.update_all()
            trickling = asyncio.create_task(slow.trickle(1, 0.1, 60))
            assert await _closing(impatient, slow) == 4413
            trickling.cancel()


@can_vanish
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
async def test_who_vanishes_without_a_word_is_gone_by_the_heartbeat_and_frees_its_place(
    impatient: Cluster, unique: Unique, busy: bool
) -> None:
    bob = unique("bob")
    async with Client(impatient.edge_port, unique("alice"), "phone") as alice:
        writer = await _writer(alice, 5, bob)
        async with (
            SlowClient(impatient.edge_port, bob, "phone") as gone,
            Client(impatient.edge_port, bob, "tablet") as tablet,
        ):
            await gone.read_until(_is_snapshot)
            gone.vanish()
            async with SlowClient(impatient.edge_port, bob, "probe") as probe:
                assert not await _is_let_in(probe)
            closing = asyncio.create_task(_closing(impatient, gone))
            while not closing.done():  # some 2.5 KB each: they stay far below the bound
                if busy:
                    await writer.update_all()
                await asyncio.sleep(0.1)
            assert await closing == 4408
            known = {timer["id"]: timer for timer in gone.received[-1]["timers"]}
            await writer.update_all()
            stopped = writer.timer_ids[0]
            await alice.done(type="timer", action="stop", timerId=stopped)
            async with _resumed(impatient, bob, "phone") as again:  # its socket waits two seconds for a goodbye
                await again.send(type="sync", versions={id_: timer["version"] for id_, timer in known.items()})
                snapshot = await again.read_until(_is_snapshot)
                missed = {id_: version for id_, version in writer.versions.items() if id_ != stopped}
                assert {timer["id"]: timer["version"] for timer in snapshot["timers"]} == missed
                assert snapshot["gone"] == [stopped]
            assert await tablet.ask(type="ping")


@can_vanish
async def test_who_was_out_of_reach_for_less_than_the_heartbeat_goes_on_with_the_latest_states(
    patient: Cluster, unique: Unique
) -> None:
    bob = unique("bob")
    async with Client(patient.edge_port, unique("alice"), "phone") as alice:
        writer = await _writer(alice, 20, bob)
        async with SlowClient(patient.edge_port, bob, "phone") as slow:
            await slow.read_until(_is_snapshot)
            slow.vanish()
            for _ in range(40):
                await writer.update_all()
            slow.come_back()
            await _converges(slow, writer, 30)  # TCP sends again what was lost, with pauses that double


async def test_who_sends_and_never_reads_is_not_read_any_more_and_cut_with_4413(
    impatient: Cluster, unique: Unique
) -> None:
    async with SlowClient(impatient.edge_port, unique("bob"), "phone") as slow:
        await slow.read_until(_is_snapshot)
        sent = 0

        async def flood() -> None:
            nonlocal sent
            while True:
                await slow.send(type="ping", timestamp="x" * 8_000)
                sent += 8_000
                await asyncio.sleep(0)

        flooding = asyncio.create_task(flood())
        closing = asyncio.create_task(_closing(impatient, slow))
        try:
            stood_still_at = -1
            while stood_still_at != sent:
                stood_still_at = sent
                await asyncio.sleep(PATIENCE / 3)
                assert not closing.done(), "it was read all the time"
            # Answers that may wait, and what lies in sockets and buffers, on both ways.
            assert BACKLOG < sent < BACKLOG + IN_SOCKETS + UNREAD
            assert await closing == 4413
        finally:
            flooding.cancel()
            closing.cancel()
            await asyncio.gather(flooding, closing, return_exceptions=True)


async def test_who_stalls_in_a_large_first_snapshot_is_cut_and_who_reads_it_slowly_is_not(
    impatient: Cluster, unique: Unique
) -> None:
    bob = unique("bob")
    async with (
        Client(impatient.edge_port, unique("alice"), "phone") as alice,
        Client(impatient.edge_port, unique("carol"), "phone") as carol,
    ):
        for client in (alice, carol):
            await _writer(client, 400, bob)
        async with SlowClient(impatient.edge_port, bob, "stalled") as stalled:
            while not stalled.received:
                await stalled.read(100)
            assert await _closing(impatient, stalled) == 4413
            # The goodbye goes between the fragments of the snapshot, so the client is told although it never got it all.
            assert await stalled.read_to_the_end() == 4413
            assert [message["type"] for message in stalled.received] == ["connected"]
        async with SlowClient(impatient.edge_port, bob, "slow") as slow:
            # Twice the least rate, and so for longer than the patience.
            rate = 2 * BACKLOG / PATIENCE
            while len(slow.received) < 2:
                assert await slow.read(2_048), slow.close_code
                await asyncio.sleep(2_048 / rate)
            assert len(slow.received[1]["timers"]) == 800
            await slow.read_all()


async def test_nothing_of_a_timer_comes_after_it_was_taken_away_while_its_states_waited(
    patient: Cluster, unique: Unique
) -> None:
    bob = unique("bob")
    async with Client(patient.edge_port, unique("alice"), "phone") as alice:
        writer = await _writer(alice, 60, bob)
        taken, kept = writer.timer_ids[0], writer.timer_ids[1]
        async with SlowClient(patient.edge_port, bob, "phone") as slow:
            await slow.read_until(_is_snapshot)
            for _ in range(IN_SOCKETS // (60 * 500) + 2):
                await writer.update_all()
            for timer_id in (taken, kept):
                await alice.done(type="timer", action="update", timer={"id": timer_id, "name": "last"})
            removal = await alice.done(type="share", action="remove", timerId=taken, sharedWithUser=bob)
            await alice.done(type="timer", action="update", timer={"id": taken, "name": "after"})
            await slow.read_until(lambda m: m.get("type") == "share")
            await slow.read_until(lambda m: m.get("timer", {}).get("id") == kept and m["timer"]["name"] == "last")
            await slow.read_all()
            removed = [
                place
                for place, message in enumerate(slow.received)
                if message.get("type") == "share" and message["action"] == "remove"
            ]
            assert len(removed) == 1, removal
            assert not [m for m in slow.received[removed[0] :] if m.get("timer", {}).get("id") == taken]
            # What waited was taken back; of the other timer it came.
            assert {"last", "after"}.isdisjoint(timer["name"] for timer in slow.timers(taken))
            assert slow.timers(kept)[-1]["name"] == "last"


async def test_hundreds_of_stalled_readers_cost_a_bounded_memory_and_hold_up_nobody(
    impatient: Cluster, unique: Unique
) -> None:
    readers = 60
    status = Path(f"/proc/{impatient.processes['edge'].pid}/status")
    if not status.exists():
        pytest.skip("the memory of a process is read from /proc")
    names = [unique(f"slow{number}") for number in range(readers)]
    async with (
        Client(impatient.edge_port, unique("alice"), "phone") as alice,
        Client(impatient.edge_port, unique("bob"), "phone") as bob,
    ):
        writer = await _writer(alice, 20, bob.user, *names)
        stalled = [SlowClient(impatient.edge_port, name, "phone") for name in names]
        for client in stalled:
            await client.__aenter__()
            await client.read_until(_is_snapshot)
        before = _resident(status)
        for _ in range(40):  # 400 KB for each of them
            await writer.update_all()
        grown = (_resident(status) - before) / readers
        for timer_id in writer.timer_ids:
            await bob.expect(_tells_of(timer_id, writer.versions[timer_id]), PATIENT)
        assert grown < 1.5 * BACKLOG, f"{grown:.0f} bytes for each"
        for client in stalled:
            await client.__aexit__(None, None, None)


def _resident(status: Path) -> int:
    """Bytes of memory a process has in use."""
    (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) * 1_024
