"""Each mechanism by itself, in the very moment it is there for. `sabotage.py` breaks them one by one to see these fail."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc
import pytest

from proto.common.v1 import common_pb2
from proto.connection.v1 import connection_pb2, connection_pb2_grpc
from proto.sharing.v1 import sharing_pb2, sharing_pb2_grpc
from tests.faults.conftest import SystemWith
from tests.faults.database import SqliteDatabase
from tests.faults.link import Link
from tests.faults.system import System
from tests.system.client import Client, eventually

Unique = Callable[[str], str]

RECOVERED_WITHIN = 15.0
"""Seconds in which what must come after a fault has come. Generous: how fast it is, is not what these tests are about."""


@asynccontextmanager
async def _two_devices(system: System, user: str, tea: str) -> AsyncIterator[tuple[Client, Client]]:
    """A phone and a tablet of one user, with a timer that both know; with two edges, at different ones."""
    ports = system.edge_ports()
    async with Client(ports[0], user, "phone") as phone, Client(ports[-1], user, "tablet") as tablet:
        await phone.done(type="timer", action="update", timer={"id": tea, "name": "old", "remainingDuration": "PT1M"})
        await tablet.update(tea, RECOVERED_WITHIN)
        yield phone, tablet


async def _gets(client: Client, tea: str, name: str) -> None:
    await client.expect(
        lambda m: m.get("type") == "timer" and m["timer"]["id"] == tea and m["timer"]["name"] == name, RECOVERED_WITHIN
    )


async def test_a_state_whose_delivery_was_under_way_when_its_service_died_is_delivered(
    system: System, unique: Unique
) -> None:
    tea = unique("tea")
    async with _two_devices(system, unique("ann"), tea) as (phone, tablet):
        connections, timers = system.running("connection"), system.running("timer")
        for name in connections:
            system.processes[name].signal(signal.SIGSTOP)
        await phone.done(type="timer", action="update", timer={"id": tea, "name": "new"})
        for name in timers:
            await system.processes[name].kill()
        for name in connections:
            system.processes[name].signal(signal.SIGCONT)
        await asyncio.gather(*(system.start(name) for name in timers))
        await _gets(tablet, tea, "new")


async def test_a_state_that_could_not_be_delivered_in_time_is_delivered_later(system: System, unique: Unique) -> None:
    tea = unique("tea")
    async with _two_devices(system, unique("ann"), tea) as (phone, tablet):
        names = system.running("connection")
        for name in names:
            await system.processes[name].kill()
        await phone.done(type="timer", action="update", timer={"id": tea, "name": "new"})
        timers = [system.processes[name] for name in system.running("timer")]

        def given_up() -> bool:
            return any(line["event"].startswith("delivery failed") for timer in timers for line in timer.lines())

        await eventually(given_up, within=20)
        await asyncio.gather(*(system.start(name) for name in names))
        await _gets(tablet, tea, "new")


async def test_what_is_committed_while_a_connection_is_being_registered_is_in_its_snapshot_or_comes_after_it(
    system: System, unique: Unique
) -> None:
    ann, tea = unique("ann"), unique("tea")
    port = system.edge_ports()[0]
    wires = [link for (user, used), link in system.links.items() if user == "edge-0" and used.startswith("connection")]
    async with Client(port, ann, "phone") as phone:
        await phone.done(type="timer", action="update", timer={"id": tea, "name": "old"})
        for wire in wires:
            wire.cut()
        tablet = Client(port, ann, "tablet")
        entering = asyncio.create_task(tablet.__aenter__())
        await eventually(lambda: hasattr(tablet, "socket"))
        # Were the tablet's snapshot read already, it would be before this one: reads of one user keep their order.
        await phone.ask(type="sync", versions={})
        written = await phone.done(type="timer", action="update", timer={"id": tea, "name": "new"})
        with contextlib.suppress(TimeoutError):  # a replica that does not trust the edge any more keeps it pending
            async with asyncio.timeout(2):
                while system.database.pending():
                    await asyncio.sleep(0.01)
        for wire in wires:
            wire.heal()
        await entering
        try:
            (timer,) = tablet.snapshot["timers"]
            if timer["version"] != written["version"]:
                await _gets(tablet, tea, "new")
        finally:
            await tablet.__aexit__(None, None, None)


async def test_who_is_added_while_a_change_is_being_committed_is_shown_it(system: System, unique: Unique) -> None:
    """The audience of the change is known before the member is added, and the member reads the timer before the commit."""
    if not isinstance(system.database, SqliteDatabase):
        pytest.skip("only in SQLite can a commit be held up from outside")
    ann, bob, tea = unique("ann"), unique("bob"), unique("tea")
    (port,) = system.edge_ports()
    async with Client(port, ann, "phone") as phone, Client(port, bob, "tablet") as member:
        await phone.done(type="timer", action="update", timer={"id": tea, "name": "old", "remainingDuration": "PT1M"})
        with system.database.locked():
            await phone.send(type="timer", action="update", timer={"id": tea, "name": "new"}, messageId="w")
            await asyncio.sleep(0.2)  # long enough to be authorized, short enough for the audience to be good still
            await _share(system, ann, tea, bob)
            shared = await member.expect(lambda m: m.get("type") == "share", RECOVERED_WITHIN)
            assert shared["timer"]["name"] == "old"
        await phone.expect(lambda m: m.get("messageId") == "w" and m["status"] == "processed", RECOVERED_WITHIN)
        await _gets(member, tea, "new")


async def _share(system: System, owner: str, timer_id: str, member: str) -> None:
    """Adds a member directly, not behind the owner's own writes as an edge does."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{system.processes[system.running('sharing')[0]].port}") as channel:
        item = sharing_pb2.ChangeItem(origin=common_pb2.Origin(user_id=owner), timer_id=timer_id, add_user_id=member)
        stub = sharing_pb2_grpc.SharingServiceStub(channel)
        (result,) = (await stub.Change(sharing_pb2.ChangeRequest(items=[item]), timeout=5)).results
        assert result.WhichOneof("result") == "audience"


async def test_the_late_end_of_an_old_connection_does_not_take_its_successor_away(
    system_with: SystemWith, unique: Unique
) -> None:
    ann, tea = unique("ann"), unique("tea")
    async with (
        system_with(BUBBLE_PING_INTERVAL="0.5", BUBBLE_PING_TIMEOUT="2") as system,
        Link(system.edge_ports()[0]) as wire,
        Client(system.edge_ports()[-1], ann, "phone") as phone,
        Client(wire.port, ann, "tablet") as old,
    ):
        await phone.done(type="timer", action="update", timer={"id": tea, "name": "old"})
        await old.update(tea)
        wire.cut()
        async with Client(system.edge_ports()[0], ann, "tablet") as tablet:
            living = sorted(client.connected["connectionId"] for client in (phone, tablet))
            assert old.connected["connectionId"] not in living
            await _until_registered(system, ann, living)
            await phone.done(type="timer", action="update", timer={"id": tea, "name": "new"})
            await _gets(tablet, tea, "new")
            await _until_registered(system, ann, living)
        wire.refuse()  # the old socket learns that it is over


async def _until_registered(system: System, user: str, connection_ids: list[str]) -> None:
    """Returns when the user has just these connections."""
    async with grpc.aio.insecure_channel(
        f"127.0.0.1:{system.processes[system.running('connection')[0]].port}"
    ) as channel:
        stub = connection_pb2_grpc.ConnectionServiceStub(channel)
        found: list[str] = []
        async with asyncio.timeout(RECOVERED_WITHIN):
            while found != connection_ids:
                response = await stub.ListConnections(connection_pb2.ListConnectionsRequest(user_ids=[user]), timeout=5)
                found = sorted(connection.connection_id for connection in response.connections)
                await asyncio.sleep(0.05)


@pytest.mark.parametrize("busy", [0, 40], ids=["at once", "after forty commands of others"])
async def test_a_command_whose_answer_was_lost_is_repeated_at_another_edge_and_happens_once(
    system: System, unique: Unique, busy: int
) -> None:
    ann, ben, tea = unique("ann"), unique("ben"), unique("tea")
    extend = {"type": "timer", "action": "extend", "timerId": tea, "by": "PT1M", "messageId": "lost"}
    ports = system.edge_ports()
    async with Client(ports[0], ben, "phone") as other, Link(ports[0]) as wire:
        await other.done(type="timer", action="update", timer={"id": tea, "remainingDuration": "PT1M"})
        await other.done(type="share", action="add", timerId=tea, sharedWithUser=ann)
        async with Client(wire.port, ann, "phone") as phone:
            wire.cut(there=False)
            await phone.send(**extend)
            assert (await other.update(tea, RECOVERED_WITHIN))["remainingDuration"] == "PT2M"
            wire.refuse()
        for _ in range(busy):
            last = await other.done(type="timer", action="extend", timerId=tea, by="PT1S")
        async with Client(ports[-1], ann, "phone") as phone:
            repeated = await phone.done(**extend)
            stored = (await other.ask(type="sync", versions={}))["timers"][0]
            assert stored["remainingDuration"] == (f"PT2M{busy}S" if busy else "PT2M")
            if busy:
                assert repeated["version"] < last["version"]
            else:
                assert repeated["version"] == stored["version"]


async def test_an_old_copy_of_an_invitation_does_not_undo_the_removal_after_it(system: System, unique: Unique) -> None:
    ann, ben, tea = unique("ann"), unique("ben"), unique("tea")
    invitation = {"type": "share", "action": "add", "timerId": tea, "sharedWithUser": ben, "messageId": "lost"}
    ports = system.edge_ports()
    async with Client(ports[0], ann, "phone") as phone, Client(ports[-1], ben, "phone") as guest:
        await phone.done(type="timer", action="update", timer={"id": tea})
        await phone.done(**invitation)
        await guest.expect(lambda m: m.get("type") == "share" and m["action"] == "add")
        await phone.done(type="share", action="remove", timerId=tea, sharedWithUser=ben)
        await guest.expect(lambda m: m.get("type") == "share" and m["action"] == "remove")
        assert (await phone.done(**invitation))["sharedWith"] == []
        await guest.nothing_came()


@pytest.mark.parametrize("kind", ["timer", "sharing"])
async def test_with_one_of_two_replicas_stopped_the_other_one_does_all_the_work(
    system: System, unique: Unique, kind: str
) -> None:
    names = system.running(kind)
    if len(names) < 2:
        pytest.skip("SQLite has one of each")
    async with Client(system.edge_ports()[0], unique("ann"), "phone") as phone:
        system.processes[names[0]].signal(signal.SIGSTOP)
        try:
            # While calls take turns between the two, every other one is answered with 503 after its deadline.
            in_a_row = 0
            async with asyncio.timeout(40):
                while in_a_row < 20:
                    answer = await phone.expect_reply_within(
                        20, type="timer", action="update", timer={"id": unique(f"tea{in_a_row}")}
                    )
                    in_a_row = in_a_row + 1 if answer["status"] == "processed" else 0
        finally:
            system.processes[names[0]].signal(signal.SIGCONT)
