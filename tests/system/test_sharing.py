"""Sharing as phones see it: who gets what, and who gets nothing."""

import asyncio
from collections.abc import Callable

from tests.system.client import Client
from tests.system.conftest import Connect

Unique = Callable[[str], str]


async def _start(client: Client, timer_id: str) -> None:
    await client.done(type="timer", action="update", timer={"id": timer_id, "name": "Tea", "remainingDuration": "PT5M"})


async def test_a_new_member_gets_the_timer_and_the_others_the_new_list(connect: Connect, unique: Unique) -> None:
    tea = unique("tea")
    async with (
        connect("alice", "phone") as alice,
        connect("alice", "tablet") as tablet,
        connect("bob", "phone") as bob,
        connect("carol", "phone") as carol,
    ):
        await _start(alice, tea)
        await tablet.update(tea)
        reply = await alice.done(type="share", action="add", timerId=tea, sharedWithUser=bob.user)
        assert (reply["timerId"], reply["sharedWith"]) == (tea, [bob.user])
        share = await bob.expect(lambda m: m.get("type") == "share")
        assert (share["action"], share["timerId"], share["sharedBy"]) == ("add", tea, alice.user)
        assert (share["timer"]["name"], share["timer"]["remainingDuration"]) == ("Tea", "PT5M")
        assert share["timer"]["sharedWith"] == [bob.user]
        assert (await tablet.update(tea))["sharedWith"] == [bob.user]
        await alice.done(type="share", action="add", timerId=tea, sharedWithUser=carol.user)
        assert (await carol.expect(lambda m: m.get("type") == "share"))["timer"]["sharedWith"] == [bob.user, carol.user]
        assert (await bob.update(tea))["sharedWith"] == [bob.user, carol.user]
        assert (await tablet.update(tea))["sharedWith"] == [bob.user, carol.user]
        await alice.nothing_came()


async def test_a_members_change_reaches_the_owner_and_the_other_members(connect: Connect, unique: Unique) -> None:
    tea = unique("tea")
    async with (
        connect("alice", "phone") as alice,
        connect("bob", "phone") as bob,
        connect("bob", "watch") as watch,
        connect("carol", "phone") as carol,
    ):
        await _start(alice, tea)
        for member in (bob, carol):
            await alice.done(type="share", action="add", timerId=tea, sharedWithUser=member.user)
            await member.expect(lambda m: m.get("type") == "share")
        reply = await bob.done(type="timer", action="extend", timerId=tea, by="PT1M")
        for client in (alice, carol, watch):
            timer = await client.expect(
                lambda m: m.get("type") == "timer" and m["timer"]["version"] == reply["version"]
            )
            assert timer["timer"]["remainingDuration"] == "PT6M"
            assert timer["timer"]["userId"] == alice.user
        stopped = await carol.done(type="timer", action="stop", timerId=tea)
        for client in (alice, bob, watch):
            stop = await client.expect(lambda m: m.get("action") == "stop")
            assert (stop["version"], stop["stoppedBy"]) == (stopped["version"], carol.user)


async def test_after_a_removal_nothing_more_reaches_that_user(connect: Connect, unique: Unique) -> None:
    tea = unique("tea")
    async with (
        connect("alice", "phone") as alice,
        connect("bob", "phone") as bob,
        connect("bob", "watch") as watch,
        connect("carol", "phone") as carol,
    ):
        await _start(alice, tea)
        for member in (bob, carol):
            await alice.done(type="share", action="add", timerId=tea, sharedWithUser=member.user)
            await member.expect(lambda m: m.get("type") == "share")
        await alice.done(type="share", action="remove", timerId=tea, sharedWithUser=bob.user)
        for client in (bob, watch):
            removed = await client.expect(lambda m: m.get("type") == "share" and m["action"] == "remove")
            assert (removed["timerId"], removed["sharedWithUser"]) == (tea, bob.user)
            client.inbox.clear()
        await carol.expect(lambda m: m.get("type") == "timer" and m["timer"]["sharedWith"] == [carol.user])
        reply = await alice.done(type="timer", action="extend", timerId=tea, by="PT1M")
        await carol.expect(lambda m: m.get("type") == "timer" and m["timer"]["version"] == reply["version"])
        await bob.nothing_came()
        await watch.nothing_came()
        assert (await bob.ask(type="timer", action="extend", timerId=tea, by="PT1M"))["code"] == 403
        assert (await bob.ask(type="sync", versions={tea: 1}))["gone"] == [tea]


async def test_a_member_may_leave_and_be_added_again(connect: Connect, unique: Unique) -> None:
    tea = unique("tea")
    async with connect("alice", "phone") as alice, connect("bob", "phone") as bob, connect("bob", "watch") as watch:
        await _start(alice, tea)
        for round_number in range(3):
            await alice.done(type="share", action="add", timerId=tea, sharedWithUser=bob.user)
            for client in (bob, watch):
                await client.expect(lambda m: m.get("type") == "share" and m["action"] == "add")
            await bob.done(type="share", action="remove", timerId=tea, sharedWithUser=bob.user)
            await watch.expect(lambda m: m.get("type") == "share" and m["action"] == "remove")
            await alice.expect(
                lambda m: m.get("type") == "timer" and m["timer"]["sharedWith"] == [], within=5 + round_number
            )


async def test_only_the_owner_adds_and_removes_and_strangers_see_nothing(connect: Connect, unique: Unique) -> None:
    tea = unique("tea")
    async with connect("alice", "phone") as alice, connect("bob", "phone") as bob, connect("eve", "phone") as eve:
        await _start(alice, tea)
        await alice.done(type="share", action="add", timerId=tea, sharedWithUser=bob.user)
        for client, action, who in ((bob, "add", eve), (bob, "remove", alice), (eve, "add", eve), (eve, "remove", eve)):
            refused = await client.ask(type="share", action=action, timerId=tea, sharedWithUser=who.user)
            assert refused["code"] == 403, refused
        for action in ("stop", "start", "pause", "resume"):
            assert (await eve.ask(type="timer", action=action, timerId=tea))["code"] == 403
        assert (await eve.ask(type="timer", action="update", timer={"id": tea}))["code"] == 403
        assert (await alice.ask(type="share", action="add", timerId=tea, sharedWithUser=alice.user))["code"] == 400
        assert (await alice.ask(type="share", action="add", timerId=unique("no"), sharedWithUser="bob"))["code"] == 404
        await eve.nothing_came()


async def test_sharing_twice_and_removing_nobody_are_answered_as_done(connect: Connect, unique: Unique) -> None:
    tea = unique("tea")
    async with connect("alice", "phone") as alice, connect("bob", "phone") as bob:
        await _start(alice, tea)
        await alice.done(type="share", action="add", timerId=tea, sharedWithUser=bob.user)
        await bob.expect(lambda m: m.get("type") == "share")
        again = await alice.done(type="share", action="add", timerId=tea, sharedWithUser=bob.user)
        assert again["sharedWith"] == [bob.user]
        nobody = await alice.done(type="share", action="remove", timerId=tea, sharedWithUser="nobody")
        assert nobody["shareVersion"] == again["shareVersion"]
        await bob.nothing_came()


async def test_a_timer_that_is_created_anew_reaches_its_members_again(connect: Connect, unique: Unique) -> None:
    tea = unique("tea")
    async with connect("alice", "phone") as alice, connect("bob", "phone") as bob:
        await _start(alice, tea)
        await alice.done(type="share", action="add", timerId=tea, sharedWithUser=bob.user)
        await bob.expect(lambda m: m.get("type") == "share")
        stopped = await alice.done(type="timer", action="stop", timerId=tea)
        await bob.expect(lambda m: m.get("action") == "stop")
        anew = await alice.done(
            type="timer", action="update", timer={"id": tea, "name": "again"}, baseVersion=stopped["version"]
        )
        assert (await bob.update(tea))["version"] == anew["version"]


async def test_everybody_converges_to_the_last_state_under_many_writers(connect: Connect, unique: Unique) -> None:
    tea = unique("tea")
    people = [connect(f"user{number}", "phone") for number in range(6)]
    async with people[0] as owner, people[1], people[2], people[3], people[4], people[5]:
        await _start(owner, tea)
        for member in people[1:]:
            await owner.done(type="share", action="add", timerId=tea, sharedWithUser=member.user)

        async def write(client: Client) -> int:
            last = 0
            for number in range(20):
                reply = await client.done(
                    type="timer", action="update", timer={"id": tea, "name": f"{client.user} {number}"}
                )
                assert reply["version"] > last
                last = reply["version"]
            return last

        last = max(await asyncio.gather(*(write(client) for client in people)))

        def versions(client: Client) -> list[int]:
            return [
                m["timer"]["version"] if "timer" in m else m["version"]
                for m in client.received
                if m.get("type") in ("timer", "share") or "version" in m
            ]

        for client in people:
            async with asyncio.timeout(10):
                while max(versions(client)) < last:
                    await asyncio.sleep(0.01)
            seen = [m["timer"]["version"] for m in client.received if m.get("type") == "timer"]
            assert seen == sorted(seen), "a version went back"


async def test_a_share_right_behind_the_update_that_makes_the_timer_finds_it(connect: Connect, unique: Unique) -> None:
    async with connect("alice", "phone") as alice, connect("bob", "phone") as bob:
        for number in range(10):
            tea = unique(f"tea{number}")
            await alice.send(type="timer", action="update", timer={"id": tea})
            await alice.done(type="share", action="add", timerId=tea, sharedWithUser=bob.user)
            await bob.expect(lambda m, tea=tea: m.get("type") == "share" and m["timerId"] == tea)  # type: ignore[misc]


async def test_an_id_that_was_not_made_is_nobodys(connect: Connect, unique: Unique) -> None:
    tea = unique("tea")
    async with connect("alice", "phone") as alice, connect("eve", "phone") as eve:
        refused = await eve.ask(type="timer", action="update", timer={"id": tea}, baseVersion=7)
        assert refused["code"] == 404
        await alice.done(type="timer", action="update", timer={"id": tea})


async def test_live_timers_are_in_the_snapshot_however_many_were_stopped(connect: Connect, unique: Unique) -> None:
    async with connect("alice", "phone") as alice, connect("bob", "phone") as bob:
        for number in range(40):
            await alice.send(type="timer", action="update", timer={"id": unique(f"old{number}")})
            await alice.done(type="timer", action="stop", timerId=unique(f"old{number}"))
        await _start(alice, unique("live"))
        await alice.done(type="share", action="add", timerId=unique("live"), sharedWithUser=bob.user)
    for user in ("alice", "bob"):
        async with connect(user, "phone") as client:
            assert [timer["id"] for timer in client.snapshot["timers"]] == [unique("live")]
