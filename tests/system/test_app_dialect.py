"""The published Android app and clients of the first dialect on the same timers: docs/app-dialect.md."""

import asyncio
import json
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import aiohttp
import pytest
import websockets

from tests.system.app_client import AppClient, parse_local
from tests.system.client import Client, token
from tests.system.cluster import Cluster
from tests.system.conftest import Connect

pytestmark = pytest.mark.one_store

Unique = Callable[[str], str]
Start = Callable[..., Any]
Phone = Callable[..., AppClient]


@pytest.fixture
def phone(cluster: Cluster, unique: Unique) -> Phone:
    """Makes a phone of the shared system, for a user of this test only."""

    def make(user: str, device: str = "pixel", **options: Any) -> AppClient:
        return AppClient(cluster.edge_port, unique(user), device, **options)

    return make


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


# --- coming in ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/ws", "/", "/prod/"])
async def test_the_app_is_known_by_its_header_wherever_it_looks_for_its_socket(phone: Phone, path: str) -> None:
    async with phone("alice", path=path) as alice:
        assert (await alice.snapshot())["timerList"] == []
        await alice.until(lambda: alice.pongs)
        assert alice.counts.forced_reconnects == 0
        assert not any("type" in message for message in alice.received if "status" in message)


@pytest.mark.parametrize("path", ["/ws", "/", "/prod/"])
async def test_a_plain_get_before_the_socket_gets_a_sensible_answer(cluster: Cluster, path: str) -> None:
    url = f"http://127.0.0.1:{cluster.edge_port}{path}"
    headers = {"Authorization": token("alice"), "DeviceId": "pixel"}
    async with aiohttp.ClientSession() as http:
        for given, expected in (({}, 200 if path == "/" else 401), (headers, 200 if path == "/" else 400)):
            async with http.get(url, headers=given) as response:
                assert response.status == expected
                if path == "/":
                    assert "<title>" in await response.text()
                else:
                    assert (await response.json())["error"]


@pytest.mark.parametrize("path", ["/ws", "/", "/prod/"])
@pytest.mark.parametrize("bad", ["", "nonsense", f"Bearer {token('alice', lifetime=-1)}"])
async def test_a_bad_token_is_refused_before_anything_else(cluster: Cluster, path: str, bad: str) -> None:
    headers = {"Authorization": bad, "DeviceId": "x" * 1_000, "User-Agent": "BubbleTimer-Android/1.0"}
    url = f"ws://127.0.0.1:{cluster.edge_port}{path}?dialect=none"
    with pytest.raises(websockets.InvalidStatus) as refusal:
        await websockets.connect(url, additional_headers=headers)
    assert refusal.value.response.status_code == 401


async def _first_frame(cluster: Cluster, query: str, headers: dict[str, str]) -> dict[str, Any]:
    url = f"ws://127.0.0.1:{cluster.edge_port}/ws?{query}"
    async with websockets.connect(url, additional_headers=headers) as socket:
        message: dict[str, Any] = json.loads(await socket.recv())
        return message


async def test_the_query_chooses_either_dialect_whatever_the_headers_say(cluster: Cluster, unique: Unique) -> None:
    alice = {"Authorization": token(unique("alice"))}
    with_header = alice | {"DeviceId": "pixel"}
    for query, headers, is_app in (
        ("", alice, False),
        ("", with_header, True),
        ("dialect=app", alice, True),
        ("dialect=first", with_header, False),
        ("dialect=first", alice, False),
    ):
        frame = await _first_frame(cluster, query, headers)
        assert ("type" not in frame) is is_app, (query, headers)
        assert frame["userId"] == unique("alice")
        assert frame["deviceId"] == headers.get("DeviceId", "unknown")
    with pytest.raises(websockets.InvalidStatus) as refusal:
        await _first_frame(cluster, "dialect=dance", alice)
    assert refusal.value.response.status_code == 400


async def test_the_user_is_the_cognito_name_else_the_subject(cluster: Cluster, unique: Unique) -> None:
    named = token("an id", **{"cognito:username": unique("alice")})  # type: ignore[arg-type]  # a claim that is no name
    assert (await _first_frame(cluster, "", {"Authorization": named, "DeviceId": "p"}))["userId"] == unique("alice")


# --- texts ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("total", "end"),
    [
        ("PT-5M-3S", "2031-02-03T04:05:06.123456789"),
        ("PT0S", "2031-02-03T04:05"),
        ("PT2H3M4.000000001S", "2031-12-31T23:59:59.1"),
        ("PT5M", "2031-02-03T04:05:06"),
    ],
)
async def test_texts_of_time_pass_between_phones_exactly_as_they_came(
    phone: Phone, unique: Unique, total: str, end: str
) -> None:
    async with phone("alice") as alice, phone("bob") as bob:
        await bob.snapshot()
        tea = alice.make("Früh☕", total, timer_id=unique("tea"))
        tea.tags = frozenset(("kitchen", "hot"))
        await alice.share(tea.id, bob.user)
        shown = await bob.timer(tea.id)
        assert (shown.name, shown.total, shown.remaining, shown.end) == ("Früh☕", total, total, None)
        assert shown.user_id == alice.user
        assert shown.shared_with == {alice.user, bob.user}
        assert shown.tags == {"kitchen", "hot"}
        tea.remaining, tea.end = None, end
        await alice.tell(tea)
        shown = await bob.timer(tea.id, remaining=None, end=end)
        async with phone("bob", "tablet") as tablet:
            assert (await tablet.timer(tea.id)) == shown
    assert bob.counts.forced_reconnects == 0


async def test_a_running_timer_that_comes_with_what_is_left_runs_and_whoever_sent_it_is_shown_so(
    phone: Phone, unique: Unique
) -> None:
    async with phone("alice") as alice, phone("bob") as bob:
        await bob.snapshot()
        tea = alice.make("Tea", timer_id=unique("tea"))
        await alice.share(tea.id, bob.user)
        await bob.timer(tea.id)
        tea.end = "2031-02-03T04:05:06.5"
        await alice.tell(tea)
        assert (await bob.timer(tea.id, end="2031-02-03T04:05:06.5")).remaining is None
        await alice.timer(tea.id, end="2031-02-03T04:05:06.5", remaining=None)


async def test_whatever_the_first_dialect_makes_the_apps_parser_can_read(
    connect: Connect, phone: Phone, unique: Unique
) -> None:
    timers = {
        "weeks": {"totalDuration": "P1W2DT3H", "remainingDuration": "-P-1W"},
        "bare": {},
        "idle": {"totalDuration": "PT5M", "name": "Tea"},
        "zoned": {"endTime": "2031-02-03T23:04:05.678+02:00", "remainingDuration": "PT1M"},
        "utc": {"endTime": "2031-02-03T23:04Z"},
        "zoneless": {"endTime": "2031-02-03T23:04:05"},
        "last": {"endTime": "9999-12-31T23:59:59.999999999Z"},
        "comma": {"remainingDuration": "PT1,5S"},
    }
    async with connect("alice", "laptop") as laptop, phone("alice", query="?tz=%2B05:30") as alice:
        await alice.snapshot()
        for name, fields in timers.items():
            await laptop.done(type="timer", action="update", timer={"id": unique(name), **fields})
        await alice.until(lambda: len(alice.timers) == len(timers))
        async with phone("alice", "tablet", query="?tz=%2B05:30") as tablet:
            await tablet.snapshot()
            assert tablet.timers == alice.timers
            assert tablet.counts.forced_reconnects == alice.counts.forced_reconnects == 0
    shown = {name: alice.timers[unique(name)] for name in timers}
    assert (shown["weeks"].total, shown["weeks"].remaining) == ("P9DT3H", "-P-7D")
    assert (shown["idle"].total, shown["idle"].remaining) == ("PT5M", "PT5M")
    assert (shown["bare"].name, shown["bare"].total, shown["bare"].remaining) == ("", None, None)
    assert (shown["zoned"].end, shown["zoned"].remaining) == ("2031-02-04T02:34:05.678", None)
    assert shown["utc"].end == "2031-02-04T04:34"
    assert shown["zoneless"].end == "2031-02-04T04:34:05"
    assert shown["last"].end == "9999-12-31T23:59:59.999999999"
    assert shown["comma"].remaining == "PT1,5S"


# --- between dialects -----------------------------------------------------------------------------------------------------


async def test_both_dialects_see_each_others_changes(connect: Connect, phone: Phone, unique: Unique) -> None:
    async with connect("alice", "laptop") as laptop, phone("alice") as alice, phone("bob") as bob:
        await alice.snapshot()
        await bob.snapshot()
        tea = alice.make("Tea", timer_id=unique("tea"))
        await alice.share(tea.id, bob.user)
        made = await laptop.update(tea.id)
        assert (made["name"], made["totalDuration"], made["remainingDuration"]) == ("Tea", "PT5M", "PT5M")
        await bob.timer(tea.id)
        await laptop.done(type="timer", action="extend", timerId=tea.id, by="PT1M")
        await bob.timer(tea.id, remaining="PT6M")
        await alice.timer(tea.id, remaining="PT6M")
        await bob.rename(tea.id, "Green tea")
        await laptop.expect(lambda m: m.get("type") == "timer" and m["timer"]["name"] == "Green tea")
        await alice.timer(tea.id, name="Green tea")
        assert alice.timers[tea.id] == bob.timers[tea.id]
        await bob.stop(tea.id)
        stop = await laptop.expect(lambda m: m.get("action") == "stop")
        assert (stop["timerId"], stop["stoppedBy"]) == (tea.id, bob.user)
        await alice.gone(tea.id)
        (stopped,) = alice.typed("stopTimer")
        assert (stopped["stoppedByUserId"], stopped["stoppedByUserName"]) == (bob.user, bob.user)
        assert stopped["messageId"]
    assert alice.counts.forced_reconnects == bob.counts.forced_reconnects == 0


@pytest.mark.parametrize("utc_offset", [0, 120, -210, 345])
async def test_a_phones_zone_is_learned_when_it_starts_a_timer(
    connect: Connect, phone: Phone, unique: Unique, utc_offset: int
) -> None:
    async with connect("alice", "laptop") as laptop, phone("alice", utc_offset=utc_offset) as alice:
        await alice.snapshot()
        tea = alice.make("Tea", "PT10M", timer_id=unique("tea"))
        await alice.tell(tea)
        await laptop.update(tea.id)
        await alice.start(tea.id)
        timer = await laptop.update(tea.id)
        left = instant(timer["endTime"]) - datetime.now(UTC)
        assert timedelta(minutes=9) < left <= timedelta(minutes=10)
        # and what others start is shown by its clock from then on
        eggs = unique("eggs")
        await laptop.done(type="timer", action="update", timer={"id": eggs, "totalDuration": "PT7M"})
        await laptop.done(type="timer", action="start", timerId=eggs)
        await alice.until(lambda: eggs in alice.timers and alice.timers[eggs].end is not None)
        left = parse_local(alice.timers[eggs].end or "") - alice.now()
        assert timedelta(minutes=6) < left <= timedelta(minutes=7)
    async with phone("alice", utc_offset=utc_offset) as alice:  # the same device comes again
        await alice.timer(eggs)
        left = parse_local(alice.timers[eggs].end or "") - alice.now()
        assert timedelta(minutes=6) < left <= timedelta(minutes=7)


async def test_a_phone_that_comes_with_a_timer_that_runs_already_is_understood(
    connect: Connect, phone: Phone, unique: Unique
) -> None:
    async with connect("alice", "laptop") as laptop, phone("alice", utc_offset=-300, pings=False) as alice:
        tea = alice.make("Tea", "PT10M", timer_id=unique("tea"))
        await alice.start(tea.id)
        left = instant((await laptop.update(tea.id))["endTime"]) - datetime.now(UTC)
        assert timedelta(minutes=9) < left <= timedelta(minutes=10)


@pytest.mark.parametrize("how", ["query", "header"])
async def test_a_client_may_say_what_zone_it_is_in(connect: Connect, phone: Phone, unique: Unique, how: str) -> None:
    options = {"query": "?tz=Asia/Kolkata"} if how == "query" else {"headers": {"tz": "Asia/Kolkata"}}
    async with connect("alice", "laptop") as laptop, phone("alice", utc_offset=330, **options) as alice:
        await alice.snapshot()
        tea = unique("tea")
        await laptop.done(type="timer", action="update", timer={"id": tea, "endTime": "2031-01-01T00:00:00Z"})
        await alice.timer(tea, end="2031-01-01T05:30:00")


async def test_two_phones_in_different_zones_see_the_same_moment(phone: Phone, unique: Unique) -> None:
    async with (
        phone("alice", query="?tz=%2B02:00") as alice,
        phone("bob", query="?tz=-05:00") as bob,
        phone("bob", "tablet") as tablet,
    ):
        await bob.snapshot()
        await tablet.snapshot()
        tea = alice.make("Tea", timer_id=unique("tea"))
        tea.remaining, tea.end = None, "2031-01-01T01:02:03.456"
        await alice.share(tea.id, bob.user)
        await bob.timer(tea.id, end="2030-12-31T18:02:03.456")
        await tablet.timer(tea.id, end="2031-01-01T01:02:03.456")  # its zone is not known, so as it came


# --- sharing --------------------------------------------------------------------------------------------------------------


async def test_the_owners_set_is_the_whole_one_and_a_members_says_nothing(
    connect: Connect, phone: Phone, unique: Unique
) -> None:
    async with (
        connect("alice", "laptop") as laptop,
        connect("bob", "laptop") as bobs_laptop,
        phone("alice") as alice,
        phone("bob") as bob,
        phone("carol") as carol,
    ):
        for each in (alice, bob, carol):
            await each.snapshot()
        tea = alice.make("Tea", timer_id=unique("tea"))
        await alice.share(tea.id, bob.user)
        await bob.timer(tea.id)
        await bobs_laptop.expect(lambda m: m.get("type") == "share" and m["action"] == "add")
        await alice.share(tea.id, bob.user, carol.user)
        await carol.timer(tea.id, shared_with={alice.user, bob.user, carol.user})
        await bob.timer(tea.id, shared_with={alice.user, bob.user, carol.user})
        # a member changes the timer with a set of its own: nothing of that is taken
        bobs = bob.timers[tea.id]
        bobs.shared_with = frozenset((bob.user, "mallory"))
        bobs.name = "Bob's"
        await bob.tell(bobs)
        await carol.timer(tea.id, name="Bob's", shared_with={alice.user, bob.user, carol.user})
        await alice.timer(tea.id, name="Bob's")
        await alice.share(tea.id, carol.user)
        await bob.gone(tea.id)
        await bobs_laptop.expect(lambda m: m.get("type") == "share" and m["action"] == "remove")
        await carol.timer(tea.id, shared_with={alice.user, carol.user})
        await bob.settled()
        await alice.rename(tea.id, "After")
        await carol.timer(tea.id, name="After")
        await bob.settled()
        assert tea.id not in bob.timers
        assert (await laptop.ask(type="sync", versions={}))["timers"][0]["sharedWith"] == [carol.user]


async def test_a_member_who_changes_the_set_is_shown_the_true_one_again(
    connect: Connect, phone: Phone, unique: Unique
) -> None:
    async with connect("alice", "laptop") as laptop, phone("bob") as bob:
        await bob.snapshot()
        tea = unique("tea")
        await laptop.done(type="timer", action="update", timer={"id": tea, "name": "Tea", "totalDuration": "PT5M"})
        for user in ("bob", "carol"):
            await laptop.done(type="share", action="add", timerId=tea, sharedWithUser=unique(user))
        everybody = {laptop.user, bob.user, unique("carol")}
        await bob.timer(tea, shared_with=everybody)
        for theirs in ((bob.user, "mallory"), (bob.user,), ()):
            bob.forget_when_changed(tea)
            await bob.share(tea, *theirs)  # shown at once on bob's phone, and nowhere else
            assert bob.timers[tea].shared_with != everybody
            await bob.timer(tea, shared_with=everybody)
        assert bob.counts.thrown_away == 0
        # Who says what is so is not answered with it.
        count = len(bob.typed("updateTimer"))
        bob.forget_when_changed(tea)
        await bob.rename(tea, "Bob's")
        await laptop.update(tea)
        await asyncio.sleep(2)  # a state for the phone would have been held for 1.1 s
        await bob.settled()
        assert len(bob.typed("updateTimer")) == count


async def test_a_share_that_crosses_the_owners_update_is_not_undone_by_it(
    connect: Connect, phone: Phone, unique: Unique
) -> None:
    async with connect("alice", "laptop") as laptop, phone("alice") as alice, phone("bob") as bob:
        await alice.snapshot()
        tea = alice.make("Tea", timer_id=unique("tea"))
        await alice.share(tea.id, bob.user)
        await bob.timer(tea.id)
        await alice.settled()
        for number in range(3):
            added = unique(f"guest{number}")
            await laptop.done(type="share", action="add", timerId=tea.id, sharedWithUser=added)
            await alice.rename(tea.id, f"{number}")  # with the set that it knows, which lacks the guest
            await bob.timer(tea.id, name=f"{number}")
            await alice.timer(
                tea.id, shared_with={alice.user, bob.user, *(unique(f"guest{n}") for n in range(number + 1))}
            )
        await laptop.done(type="share", action="remove", timerId=tea.id, sharedWithUser=unique("guest0"))
        await alice.rename(tea.id, "last")
        await bob.timer(tea.id, name="last")
        await alice.timer(tea.id, shared_with={alice.user, bob.user, unique("guest1"), unique("guest2")})


async def test_an_update_may_be_the_first_frame_and_shares_follow_in_any_order(
    connect: Connect, phone: Phone, unique: Unique
) -> None:
    async with connect("alice", "laptop") as laptop, phone("bob") as bob:
        await bob.snapshot()
        tea = unique("tea")
        # the POST came first, so to speak: the timer is there, and shared
        await laptop.done(type="timer", action="update", timer={"id": tea, "name": "Tea", "totalDuration": "PT5M"})
        await laptop.done(type="share", action="add", timerId=tea, sharedWithUser=bob.user)
        await bob.timer(tea)
        async with phone("alice", pings=False) as alice:
            mine = alice.make("Mine", timer_id=tea)
            mine.shared_with = frozenset((alice.user, bob.user))
            await alice.tell(mine)
            await bob.timer(tea, name="Mine", shared_with={alice.user, bob.user})
            eggs = alice.make("Eggs", timer_id=unique("eggs"))
            await alice.tell(eggs)
            await laptop.update(eggs.id)
            await laptop.done(type="share", action="add", timerId=eggs.id, sharedWithUser=bob.user)
            await alice.share(eggs.id, bob.user)
            await bob.timer(eggs.id, shared_with={alice.user, bob.user})


# --- stops ----------------------------------------------------------------------------------------------------------------


async def test_a_stop_of_what_is_stopped_or_unknown_is_accepted_and_goes_to_nobody(
    connect: Connect, phone: Phone, unique: Unique
) -> None:
    async with connect("alice", "laptop") as laptop, phone("alice") as alice, phone("bob") as bob:
        await alice.snapshot()
        await bob.snapshot()
        tea = alice.make("Tea", timer_id=unique("tea"))
        await alice.share(tea.id, bob.user)
        await bob.timer(tea.id)
        await alice.stop(tea.id)
        await bob.gone(tea.id)  # and bob's phone sends a stop itself
        await laptop.expect(lambda m: m.get("action") == "stop")
        await alice.send(type="stopTimer", shareWith=[], timerId=unique("never"))
        await bob.send(type="stopTimer", shareWith=[], timerId=unique("alices"))
        async with phone("bob", "tablet", pings=False) as tablet:  # that knows nothing of it
            await tablet.snapshot()
            await tablet.settled()
            told = tablet.typed("stopTimer")  # of what it may have missed
            await tablet.send(type="stopTimer", shareWith=[], timerId=tea.id)
            await tablet.settled()
            assert tablet.typed("stopTimer") == told
        await alice.settled()
        await bob.settled()
        assert alice.counts.stops_sent == 2
        assert bob.counts.stops_sent == 1
        assert len(bob.typed("stopTimer")) == 1
        assert alice.typed("stopTimer") == []
        for each in (alice, bob):
            assert [m for m in each.received if m.get("status") == "error"] == []
        laptop.inbox.clear()
        await laptop.nothing_came()
        assert len([m for m in laptop.received if m.get("action") == "stop"]) == 1


async def test_the_echo_of_a_stop_does_not_stop_the_timer_that_was_begun_anew(
    connect: Connect, phone: Phone, unique: Unique
) -> None:
    async with connect("alice", "laptop") as laptop, phone("bob", acknowledges=True) as bob:
        await bob.snapshot()
        tea = unique("tea")
        await laptop.done(type="timer", action="update", timer={"id": tea, "totalDuration": "PT5M"})
        await laptop.done(type="share", action="add", timerId=tea, sharedWithUser=bob.user)
        await bob.timer(tea)
        for number in range(5):
            stopped = await laptop.done(type="timer", action="stop", timerId=tea)
            await laptop.done(
                type="timer", action="update", timer={"id": tea, "name": str(number)}, baseVersion=stopped["version"]
            )
            await bob.timer(tea, name=str(number))
            await bob.settled()
        (timer,) = (await laptop.ask(type="sync", versions={}))["timers"]
        assert timer["name"] == "4"
        assert bob.counts.stops_sent == 5


async def test_somebody_who_is_shared_a_timer_again_at_once_does_not_stop_it_for_all(
    connect: Connect, phone: Phone, unique: Unique
) -> None:
    async with connect("alice", "laptop") as laptop, phone("bob") as bob:
        await bob.snapshot()
        tea = unique("tea")
        await laptop.done(type="timer", action="update", timer={"id": tea, "totalDuration": "PT5M"})
        for _ in range(3):
            await laptop.done(type="share", action="add", timerId=tea, sharedWithUser=bob.user)
            await bob.timer(tea)
            stops = bob.counts.stops_sent
            await laptop.done(type="share", action="remove", timerId=tea, sharedWithUser=bob.user)
            await laptop.done(type="share", action="add", timerId=tea, sharedWithUser=bob.user)
            await bob.until(lambda stops=stops: bob.counts.stops_sent > stops)  # type: ignore[misc]
            await bob.timer(tea)
            await bob.settled()
            await laptop.done(type="share", action="remove", timerId=tea, sharedWithUser=bob.user)
            await bob.gone(tea)
        assert len((await laptop.ask(type="sync", versions={}))["timers"]) == 1


# --- spacing --------------------------------------------------------------------------------------------------------------


async def test_updates_of_one_timer_are_spaced_and_the_last_state_always_arrives(
    connect: Connect, phone: Phone, unique: Unique
) -> None:
    tea, eggs = unique("tea"), unique("eggs")
    async with connect("alice", "laptop") as laptop, phone("alice") as alice:
        await alice.snapshot()
        for number in range(40):
            await laptop.done(type="timer", action="update", timer={"id": tea, "name": str(number)})
            if number == 20:
                await laptop.done(type="timer", action="update", timer={"id": eggs})
            await asyncio.sleep(0.06)
        await alice.timer(tea, name="39")
        times = [at for at, m in alice.frames if m.get("type") == "updateTimer" and m["timer"]["id"] == tea]
        assert min(after - before for before, after in pairwise(times)) > 1.0
        assert alice.counts.thrown_away == 0
        order = [m["timer"]["id"] for m in alice.typed("updateTimer")]
        assert order.index(eggs) < len(order) - 1, "a new timer waited behind another one's updates"
        # a stop takes what is held with it
        await laptop.done(type="timer", action="update", timer={"id": tea, "name": "held"})
        await laptop.done(type="timer", action="stop", timerId=tea)
        await alice.gone(tea)
        await asyncio.sleep(1.2)  # what was held would be due by now
        await alice.settled()
        assert tea not in alice.timers


async def test_what_follows_a_phones_own_change_is_not_thrown_away(
    connect: Connect, phone: Phone, unique: Unique
) -> None:
    async with connect("alice", "laptop") as laptop, phone("alice") as alice:
        await alice.snapshot()
        tea = alice.make("Tea", timer_id=unique("tea"))
        for number in range(3):
            await alice.rename(tea.id, f"mine {number}")
            await laptop.update(tea.id)
            await laptop.done(type="timer", action="update", timer={"id": tea.id, "name": f"theirs {number}"})
            await alice.timer(tea.id, name=f"theirs {number}")
        assert alice.counts.thrown_away == 0


async def test_a_phone_that_never_acknowledges_gets_spaced_updates_too(
    connect: Connect, phone: Phone, unique: Unique
) -> None:
    tea = unique("tea")
    async with connect("alice", "laptop") as laptop, phone("alice", acknowledges=False) as alice:
        await alice.snapshot()
        for number in range(10):
            await laptop.done(type="timer", action="update", timer={"id": tea, "name": str(number)})
        await alice.timer(tea, name="9")
        assert alice.counts.thrown_away == 0


# --- what is refused ------------------------------------------------------------------------------------------------------


async def test_a_phone_whose_change_is_refused_is_sent_what_is_so(
    connect: Connect, phone: Phone, unique: Unique
) -> None:
    async with connect("alice", "laptop") as laptop, phone("bob") as bob:
        await bob.snapshot()
        tea, foreign = unique("tea"), unique("foreign")
        await laptop.done(type="timer", action="update", timer={"id": foreign, "name": "Alice's"})
        await laptop.done(type="timer", action="update", timer={"id": tea, "name": "Tea"})
        await laptop.done(type="share", action="add", timerId=tea, sharedWithUser=bob.user)
        await bob.timer(tea)
        await bob.rename(tea, "x" * 300)
        await bob.timer(tea, name="Tea")
        await bob.tell(bob.make("Stolen", timer_id=foreign))
        await bob.gone(foreign)
        stopped = bob.timers[tea]
        await laptop.done(type="timer", action="stop", timerId=tea)
        await bob.gone(tea)
        await bob.tell(stopped)  # it was under way when the stop came
        await bob.gone(tea)
        errors = [m for m in bob.received if m.get("status") == "error"]
        assert [m["code"] for m in errors] == [400, 403, 409]
        assert not any("type" in m for m in errors)
        assert (await laptop.ask(type="sync", versions={tea: 1, foreign: 1}))["gone"] == [tea]


async def test_an_acknowledgement_is_never_answered(phone: Phone) -> None:
    async with phone("alice") as alice:
        await alice.snapshot()
        await alice.settled()
        before = len(alice.received)
        for data in (
            {},
            {"messageId": ""},
            {"messageId": None},
            {"messageId": 7},
            {"messageId": "x" * 5_000},
            {"messageId": ["a"]},
        ):
            for _ in range(30):
                await alice.send(type="acknowledge", **data)
        await alice.settled()
        assert len(alice.received) == before + 1
        assert alice.received[-1]["type"] == "pong"


MALFORMED = [
    "",
    "nonsense",
    "[]",
    "null",
    "{}",
    '{"action":"sendmessage"}',
    '{"action":"sendmessage","data":null}',
    '{"action":"sendmessage","data":[]}',
    '{"action":"dance","data":{"type":"ping"}}',
    '{"action":"sendmessage","data":{"type":"dance"}}',
    '{"action":"sendmessage","data":{"type":"updateTimer"}}',
    '{"action":"sendmessage","data":{"type":"updateTimer","timer":{}}}',
    '{"action":"sendmessage","data":{"type":"updateTimer","timer":{"id":"","name":"x"}}}',
    '{"action":"sendmessage","data":{"type":"updateTimer","timer":{"id":"x","timerEnd":"tomorrow"}}}',
    '{"action":"sendmessage","data":{"type":"updateTimer","timer":{"id":"x","timerEnd":"2026-02-30T00:00"}}}',
    '{"action":"sendmessage","data":{"type":"updateTimer","timer":{"id":"x","totalDuration":"5"}}}',
    '{"action":"sendmessage","data":{"type":"updateTimer","timer":{"id":"x","tags":["a\\u0000"]}}}',
    '{"action":"sendmessage","data":{"type":"updateTimer","shareWith":[7],"timer":{"id":"x"}}}',
    '{"action":"sendmessage","data":{"type":"stopTimer"}}',
    '{"type":"ping"}',
]


async def test_whatever_is_malformed_is_answered_with_what_the_app_does_not_read(phone: Phone) -> None:
    async with phone("alice") as alice:
        await alice.snapshot()
        await alice.settled()
        assert alice._socket is not None
        for text in MALFORMED:
            before = len([m for m in alice.received if m.get("status") == "error"])
            await alice._socket.send_str(text)
            await alice.until(lambda: len([m for m in alice.received if m.get("status") == "error"]) > before)  # noqa: B023
            error = [m for m in alice.received if m.get("status") == "error"][-1]
            assert error["code"] == 400, (text, error)
            assert "type" not in error
            assert "message" not in error
        await alice.settled()
        assert alice.counts.forced_reconnects == 0


# --- the connection -------------------------------------------------------------------------------------------------------


async def test_pongs_come_unasked_after_the_first_ping_and_not_before(phone: Phone) -> None:
    async with phone("alice") as alice, phone("bob", pings=False) as bob:
        await alice.until(lambda: alice.pongs)
        await alice.until(lambda: len(alice.pongs) >= 3, within=30)
        gaps = [after - before for before, after in pairwise(alice.pongs)]
        assert max(gaps) < 15  # by then the app would reconnect
        assert min(gaps) > 5
        assert bob.pongs == []
        assert all(isinstance(m["timestamp"], int) for m in alice.typed("pong"))


async def test_a_superseded_socket_gets_a_close_frame_and_is_not_cut(
    connect: Connect, phone: Phone, unique: Unique
) -> None:
    tea = unique("tea")
    async with connect("alice", "laptop") as laptop, phone("alice") as alice:
        await alice.snapshot()
        await alice.leave_socket_open_and_reconnect()
        await alice.until(lambda: alice.close_frames)
        assert alice.close_frames == [(4412, "superseded")]
        old, new = alice.sockets
        await asyncio.sleep(3)  # longer than others may take to answer a close frame
        assert old._conn is not None
        assert old._conn.transport is not None
        assert not old._conn.transport.is_closing()
        await laptop.done(type="timer", action="update", timer={"id": tea})
        await alice.timer(tea)
        assert len(alice.typed("updateTimer")) == 1
        assert alice.counts.forced_reconnects == 0
        assert alice.counts.connects == 2
        assert not new.closed


async def test_a_socket_that_is_superseded_at_another_edge_is_told_and_not_cut(
    own_cluster: Start, unique: Unique
) -> None:
    cluster: Cluster = await own_cluster()
    there = await cluster.start_another_edge()
    user, tea = unique("alice"), unique("tea")
    async with (
        Client(cluster.edge_port, user, "laptop") as laptop,
        Client(cluster.edge_port, user, "pixel") as window,  # of the first dialect: a device may have several
        Client(there, user, "pixel") as other_window,
        AppClient(cluster.edge_port, user, "unknown") as nameless,
        AppClient(there, user, "unknown") as other_nameless,
        AppClient(cluster.edge_port, user, "pixel") as alice,
    ):
        phones = [nameless, other_nameless, alice]
        for phone in phones:
            await phone.snapshot()
        for port in (there, cluster.edge_port, there):  # there and back: no socket takes the place of a newer one
            alice.port = port
            await alice.leave_socket_open_and_reconnect()
            await alice.until(lambda: len(alice.close_frames) == len(alice.sockets) - 1)
            await alice.until(lambda: len(alice.typed("activeTimerList")) == len(alice.sockets))
        await laptop.done(type="timer", action="update", timer={"id": tea})
        for phone in (alice, nameless, other_nameless):
            await phone.timer(tea)
        for client in (window, other_window):
            await client.update(tea)
        assert len(alice.typed("updateTimer")) == 1
        await alice.settled()
        assert alice.close_frames == [(4412, "superseded")] * 3
        *old, new = alice.sockets
        await asyncio.sleep(3)  # longer than others may take to answer a close frame
        for socket in old:
            assert socket._conn is not None
            assert socket._conn.transport is not None
            assert not socket._conn.transport.is_closing()
        assert not new.closed
        assert [(each.counts.forced_reconnects, each.close_frames) for each in phones[:2]] == [(0, [])] * 2
        assert (alice.counts.connects, alice.counts.forced_reconnects) == (4, 0)


async def test_a_drain_ends_the_apps_sockets_without_a_close_frame_and_a_few_at_a_time(
    own_cluster: Start, unique: Unique
) -> None:
    cluster: Cluster = await own_cluster(BUBBLE_DRAIN_SECONDS="4")
    phones = [AppClient(cluster.edge_port, unique(f"user{n}"), "pixel", stays_away=True) for n in range(20)]
    for each in phones:
        await each.__aenter__()
        await each.snapshot()
    await phones[0].leave_socket_open_and_reconnect()
    await phones[0].until(lambda: phones[0].close_frames)
    started = time.monotonic()
    ended = []
    cluster.processes["edge"].signal(signal.SIGTERM)

    async def wait(each: AppClient) -> None:
        await each.until(lambda: each.counts.forced_reconnects, within=10)
        ended.append(time.monotonic() - started)

    async with asyncio.TaskGroup() as group:
        for each in phones:
            group.create_task(wait(each))
    assert await cluster.processes["edge"].wait(10) == 0
    assert [each.close_frames for each in phones[1:]] == [[]] * 19
    assert {each.counts.reasons[0] for each in phones} == {"the connection ended"}
    assert max(ended) - min(ended) > 1.0, "all at once"
    for each in phones:
        await each.__aexit__(None, None, None)
    await cluster.stop()
    assert cluster.crashes() == []


async def test_what_was_stopped_while_a_phone_was_away_it_is_told_when_it_comes_back(
    own_cluster: Start, unique: Unique
) -> None:
    cluster: Cluster = await own_cluster()
    alice, bob = unique("alice"), unique("bob")
    names = ("kept", "hers", "shared", "anew")
    async with Client(cluster.edge_port, alice, "laptop") as laptop:
        for name in names:
            await laptop.done(type="timer", action="update", timer={"id": name, "name": name})
            if name != "hers":
                await laptop.done(type="share", action="add", timerId=name, sharedWithUser=bob)
        phones = [AppClient(cluster.edge_port, user, "pixel", stays_away=True) for user in (alice, bob)]
        for each in phones:
            await each.__aenter__()
            await each.snapshot()
        cluster.processes["edge"].signal(signal.SIGKILL)
        await cluster.processes["edge"].wait()
    for each in phones:
        await each.until(lambda each=each: each.counts.forced_reconnects)  # type: ignore[misc]
    await cluster.processes["edge"].start()
    await cluster.wait_until_ready()
    async with Client(cluster.edge_port, alice, "laptop") as laptop:
        for name in ("hers", "shared"):
            await laptop.done(type="timer", action="stop", timerId=name)
        stopped = await laptop.done(type="timer", action="stop", timerId="anew")
        await laptop.done(
            type="timer", action="update", timer={"id": "anew", "name": "again"}, baseVersion=stopped["version"]
        )
        for each in phones:
            assert set(each.timers) == (set(names) if each.user == alice else set(names) - {"hers"})
            await each.connect()
            await each.until(lambda each=each: set(each.timers) == {"kept", "anew"})  # type: ignore[misc]
            await each.settled()
            assert each.timers["anew"].name == "again"
            stops = len(each.typed("stopTimer"))
            await each.leave_socket_open_and_reconnect()  # a moment later there is nothing new to tell
            await each.settled()
            assert len(each.typed("stopTimer")) - stops <= stops
        assert {timer["id"] for timer in (await laptop.ask(type="sync", versions={}))["timers"]} == {"kept", "anew"}
        for each in phones:
            await each.__aexit__(None, None, None)


async def test_a_change_that_meets_a_service_that_is_being_restarted_is_made_afterwards(
    own_cluster: Start, unique: Unique
) -> None:
    cluster: Cluster = await own_cluster()
    alice = unique("alice")
    async with (
        Client(cluster.edge_port, alice, "laptop") as laptop,
        AppClient(cluster.edge_port, alice, "pixel") as phone,
    ):
        await phone.snapshot()
        tea = phone.make("Tea")
        await phone.tell(tea)
        await laptop.update(tea.id)
        eggs = phone.make("Eggs")
        await phone.tell(eggs)
        await laptop.update(eggs.id)
        await cluster.processes["timer"].kill()
        await phone.rename(tea.id, "first")
        await phone.rename(tea.id, "second")
        await phone.stop(eggs.id)
        # Long enough for the calls to fail; they are refused when what they wait for is away.
        await phone.until(lambda: any(m.get("code") == 503 for m in phone.received), within=20)
        await cluster.processes["timer"].start()
        stop = await laptop.expect(lambda m: m.get("action") == "stop", within=20)
        assert stop["timerId"] == eggs.id
        await laptop.expect(
            lambda m: m.get("type") == "timer" and m.get("timer", {}).get("name") == "second", within=20
        )
        await phone.timer(tea.id, name="second")
        await phone.settled()
        assert eggs.id not in phone.timers
        assert phone.timers[tea.id].name == "second"
        assert phone.counts.forced_reconnects == 0
        timers = (await laptop.ask(type="sync", versions={}))["timers"]
        assert [(timer["id"], timer["name"]) for timer in timers] == [(tea.id, "second")]


async def test_a_change_that_is_repeated_does_not_undo_what_others_did_meanwhile(
    own_cluster: Start, unique: Unique
) -> None:
    cluster: Cluster = await own_cluster()
    alice = unique("alice")
    async with (
        Client(cluster.edge_port, alice, "laptop") as laptop,
        AppClient(cluster.edge_port, alice, "pixel") as phone,
    ):
        await phone.snapshot()
        tea = phone.make("Tea")
        await phone.tell(tea)
        await laptop.update(tea.id)
        await cluster.processes["timer"].kill()
        await phone.rename(tea.id, "the phone's")
        await phone.until(lambda: any(m.get("code") == 503 for m in phone.received), within=20)
        await cluster.processes["timer"].start()
        update = {"id": tea.id, "name": "the laptop's"}
        reply = await laptop.expect_reply_within(10, type="timer", action="update", timer=update)
        assert reply["status"] == "processed"
        await phone.timer(tea.id, name="the laptop's", within=20)
        await phone.until(lambda: not phone.counts.thrown_away)
        (timer,) = (await laptop.ask(type="sync", versions={}))["timers"]
        assert timer["name"] == "the laptop's"
        assert phone.counts.forced_reconnects == 0


async def test_a_snapshot_that_crosses_a_phones_first_change_does_not_undo_it_on_the_phone(
    connect: Connect, phone: Phone, unique: Unique
) -> None:
    async with connect("alice", "laptop") as laptop, phone("alice", "tablet") as tablet:
        await tablet.snapshot()
        tea = tablet.make("Tea", timer_id=unique("tea"))
        await tablet.tell(tea)
        await laptop.update(tea.id)
        for number in range(20):
            async with phone("alice", pings=False) as alice:
                changed = alice.make(f"offline {number}", timer_id=tea.id)
                await alice.tell(changed)
                alice.forget_when_changed(tea.id)  # it was a while ago, so what comes is not thrown away
                await laptop.expect(lambda m, n=number: m.get("timer", {}).get("name") == f"offline {n}")  # type: ignore[misc]
                await alice.timer(tea.id, name=f"offline {number}")
                await alice.settled()
                await alice.timer(tea.id, name=f"offline {number}")
        await tablet.timer(tea.id, name="offline 19")


async def test_a_phone_that_comes_back_within_a_second_of_an_update_ends_on_the_last_state(
    connect: Connect, phone: Phone, unique: Unique
) -> None:
    tea = unique("tea")
    async with connect("alice", "laptop") as laptop, phone("alice") as alice:
        await alice.snapshot()
        await laptop.done(type="timer", action="update", timer={"id": tea, "name": "made"})
        await alice.timer(tea)
        for number in range(3):
            await laptop.done(type="timer", action="update", timer={"id": tea, "name": f"first {number}"})
            await alice.timer(tea, name=f"first {number}")
            await laptop.done(type="timer", action="update", timer={"id": tea, "name": f"held {number}"})
            await alice.leave_socket_open_and_reconnect()
            await alice.timer(tea, name=f"held {number}")
