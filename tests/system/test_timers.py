"""Timers as phones see them: the first four rows of the protocol's table of requests."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from tests.system.conftest import Connect

Unique = Callable[[str], str]


async def test_the_first_frames_are_connected_and_an_empty_snapshot(connect: Connect) -> None:
    async with connect("alice", "pixel") as alice:
        assert alice.connected["status"] == "connected"
        assert alice.connected["userId"] == alice.user
        assert alice.connected["deviceId"] == "pixel"
        assert alice.connected["connectionId"]
        assert alice.connected["heartbeat"] == {"intervalMs": 25_000, "timeoutMs": 45_000}
        assert alice.connected["limits"]["messageBytes"] == 16_384
        assert abs(datetime.fromisoformat(alice.connected["serverTime"]) - datetime.now(UTC)) < timedelta(seconds=60)
        assert alice.snapshot == {"type": "snapshot", "timers": [], "gone": []}


async def test_an_update_reaches_the_other_devices_of_its_owner_as_it_came(connect: Connect, unique: Unique) -> None:
    tea = unique("tea")
    sent = {
        "id": tea,
        "userId": "whoever",
        "name": "Früh☕stück",
        "totalDuration": "PT-5M-3S",
        "remainingDuration": "PT1M0.123456789S",
        "endTime": "2031-01-02T03:04:05.123456789+01:00",
        "colour": "unknown fields are ignored",
    }
    async with connect("alice", "phone") as phone, connect("alice", "tablet") as tablet:
        reply = await phone.ask(type="timer", action="update", timer=sent, messageId="first", more="ignored, too")
        assert reply == {"status": "processed", "messageId": "first", "timerId": tea, "version": reply["version"]}
        message = await tablet.expect(lambda m: m.get("type") == "timer")
        timer = message["timer"]
        assert message["action"] == "update"
        assert message["messageId"]
        assert message["serverTime"]
        assert timer["userId"] == phone.user
        assert timer["version"] == reply["version"]
        assert timer["sharedWith"] == []
        for field in ("id", "name", "totalDuration", "remainingDuration", "endTime"):
            assert timer[field] == sent[field]
        await phone.nothing_came()


async def test_only_the_id_is_required_and_absent_fields_keep_what_is_stored(connect: Connect, unique: Unique) -> None:
    tea = unique("tea")
    async with connect("alice", "phone") as phone, connect("alice", "tablet") as tablet:
        await phone.done(type="timer", action="update", timer={"id": tea})
        timer = await tablet.update(tea)
        assert {"totalDuration", "endTime", "remainingDuration"}.isdisjoint(timer)
        await phone.done(
            type="timer", action="update", timer={"id": tea, "name": "Tea", "totalDuration": "PT5M", "endTime": None}
        )
        assert (await tablet.update(tea))["totalDuration"] == "PT5M"
        await phone.done(type="timer", action="update", timer={"id": tea, "endTime": "2031-01-02T03:04:05Z"})
        timer = await tablet.update(tea)
        assert (timer["name"], timer["totalDuration"], timer["endTime"]) == ("Tea", "PT5M", "2031-01-02T03:04:05Z")
        await phone.done(type="timer", action="update", timer={"id": tea, "remainingDuration": "PT1M"})
        timer = await tablet.update(tea)
        assert timer["remainingDuration"] == "PT1M"
        assert "endTime" not in timer
        await phone.done(type="timer", action="update", timer={"id": tea, "name": "Green tea"})
        timer = await tablet.update(tea)
        assert (timer["name"], timer["remainingDuration"]) == ("Green tea", "PT1M")


async def test_devices_of_unknown_name_are_never_taken_for_the_same_one(connect: Connect, unique: Unique) -> None:
    tea = unique("tea")
    async with connect("alice") as one, connect("alice") as other:
        assert one.connected["deviceId"] == "unknown"
        await one.done(type="timer", action="update", timer={"id": tea, "name": "Tea"})
        assert (await other.update(tea))["name"] == "Tea"
        await one.nothing_came()


async def test_two_connections_of_one_device_do_not_echo_to_each_other(connect: Connect, unique: Unique) -> None:
    tea = unique("tea")
    async with connect("alice", "phone") as one, connect("alice", "phone") as other, connect("alice", "tv") as tv:
        await one.done(type="timer", action="update", timer={"id": tea, "name": "Tea"})
        await tv.update(tea)
        await other.nothing_came()


async def test_a_timer_is_started_paused_resumed_and_extended_at_the_servers_time(
    connect: Connect, unique: Unique
) -> None:
    tea = unique("tea")
    async with connect("alice", "phone") as phone, connect("alice", "tablet") as tablet:
        await phone.done(type="timer", action="update", timer={"id": tea, "totalDuration": "PT5M"})
        await tablet.update(tea)
        started = await phone.done(type="timer", action="start", timerId=tea)
        ends = datetime.fromisoformat(started["timer"]["endTime"])
        assert abs(ends - datetime.now(UTC) - timedelta(minutes=5)) < timedelta(seconds=10)
        assert (await tablet.update(tea))["endTime"] == started["timer"]["endTime"]
        extended = await tablet.done(type="timer", action="extend", timerId=tea, by="PT1M30S")
        assert datetime.fromisoformat(extended["timer"]["endTime"]) == ends + timedelta(seconds=90)
        assert (await phone.update(tea))["version"] == extended["version"]
        paused = await phone.done(type="timer", action="pause", timerId=tea)
        assert paused["timer"]["remainingDuration"].startswith("PT6M")
        assert "endTime" not in await tablet.update(tea)
        resumed = await tablet.done(type="timer", action="resume", timerId=tea)
        assert "remainingDuration" not in resumed["timer"]
        assert (await phone.update(tea))["endTime"] == resumed["timer"]["endTime"]


async def test_two_people_who_each_add_a_minute_add_two(connect: Connect, unique: Unique) -> None:
    tea = unique("tea")
    async with connect("alice", "phone") as alice, connect("bob", "phone") as bob:
        await alice.done(type="timer", action="update", timer={"id": tea, "remainingDuration": "PT1M"})
        await alice.done(type="share", action="add", timerId=tea, sharedWithUser=bob.user)
        await asyncio.gather(
            *(who.done(type="timer", action="extend", timerId=tea, by="PT1M") for who in (alice, bob) for _ in range(5))
        )
        reply = await alice.ask(type="sync", versions={})
        assert [timer["remainingDuration"] for timer in reply["timers"]] == ["PT11M"]


async def test_a_stop_reaches_the_audience_and_a_late_update_can_not_undo_it(connect: Connect, unique: Unique) -> None:
    tea = unique("tea")
    async with connect("alice", "phone") as phone, connect("alice", "tablet") as tablet:
        await phone.done(type="timer", action="update", timer={"id": tea, "name": "Tea"})
        await tablet.update(tea)
        stopped = await tablet.done(type="timer", action="stop", timerId=tea)
        message = await phone.expect(lambda m: m.get("action") == "stop")
        assert message["timerId"] == tea
        assert message["version"] == stopped["version"]
        assert message["stoppedBy"] == tablet.user
        late = await phone.ask(type="timer", action="update", timer={"id": tea, "name": "late"})
        assert (late["status"], late["code"]) == ("error", 409)
        again = await phone.done(type="timer", action="stop", timerId=tea)
        assert again["version"] == stopped["version"]
        await tablet.nothing_came()
        deliberate = await phone.done(
            type="timer", action="update", timer={"id": tea, "name": "new"}, baseVersion=stopped["version"]
        )
        assert deliberate["version"] > stopped["version"]
        assert (await tablet.update(tea))["name"] == "new"


async def test_a_write_on_another_version_is_refused_with_the_current_state(connect: Connect, unique: Unique) -> None:
    tea = unique("tea")
    async with connect("alice", "phone") as phone:
        first = await phone.done(type="timer", action="update", timer={"id": tea, "name": "one"}, baseVersion=0)
        second = await phone.done(
            type="timer", action="update", timer={"id": tea, "name": "two"}, baseVersion=first["version"]
        )
        refused = await phone.ask(
            type="timer", action="update", timer={"id": tea, "name": "three"}, baseVersion=first["version"]
        )
        assert (refused["code"], refused["field"]) == (409, "baseVersion")
        assert refused["timer"]["name"] == "two"
        assert refused["timer"]["version"] == second["version"]


async def test_a_repeated_message_gets_the_first_answer_and_has_no_second_effect(
    connect: Connect, unique: Unique
) -> None:
    tea = unique("tea")
    extend = {"type": "timer", "action": "extend", "timerId": tea, "by": "PT1M", "messageId": "lost"}
    async with connect("alice", "phone") as phone:
        await phone.done(type="timer", action="update", timer={"id": tea, "remainingDuration": "PT1M"})
        first = await phone.done(**extend)
    async with connect("alice", "phone") as phone:
        assert (await phone.done(**extend))["version"] == first["version"]
        assert (await phone.ask(type="sync", versions={}))["timers"][0]["remainingDuration"] == "PT2M"


async def test_versions_rise_across_stops_and_new_lives_of_a_timer(connect: Connect, unique: Unique) -> None:
    tea = unique("tea")
    async with connect("alice", "phone") as phone:
        versions: list[int] = []
        for _ in range(5):
            last = versions[-1] if versions else 0
            made = await phone.done(type="timer", action="update", timer={"id": tea}, baseVersion=last)
            stopped = await phone.done(type="timer", action="stop", timerId=tea)
            versions += [made["version"], stopped["version"]]
        assert versions == sorted(set(versions))
        assert versions[-1] < 2**53


async def test_replies_come_in_the_order_of_the_requests(connect: Connect, unique: Unique) -> None:
    async with connect("alice", "phone") as phone:
        for number in range(30):
            await phone.send(
                type="timer", action="update", messageId=f"n{number}", timer={"id": unique(f"t{number % 7}")}
            )
            await phone.send(type="ping", timestamp=number, messageId=f"p{number}")
        await phone.expect(lambda m: m.get("messageId") == "p29")
        order = [m["messageId"] for m in phone.received if m.get("status") == "processed" or m.get("type") == "pong"]
        assert order == [f"{kind}{number}" for number in range(30) for kind in "np"]
