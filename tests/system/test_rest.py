"""REST beside the socket, on the whole system."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from tests.system.app_client import AppClient, format_local
from tests.system.client import Client
from tests.system.cluster import Cluster
from tests.system.conftest import Connect
from tests.system.rest_client import Rest

pytestmark = pytest.mark.one_store

Unique = Callable[[str], str]
As = Callable[..., Rest]
Phone = Callable[..., AppClient]

DURATIONS = [
    "PT-5M-3S", "PT0S", "-PT5M", "+PT5M", "PT0.000000001S", "PT-0.5S", "P1DT2H", "PT2H-3M", "pt5m", "-p-1dT+2h", "PT1,5s", "PT5.S",
    "PT00000000000000005M", "PT8760H",
]  # fmt: skip
"""What java.time.Duration writes or reads."""

TEA = {"name": "Tea", "totalDuration": "PT5M", "remainingDuration": "PT-5M-3.000000001S"}


@pytest.fixture
def as_user(cluster: Cluster, unique: Unique) -> As:
    def make(user: str, **options: Any) -> Rest:
        return Rest(cluster.edge_port, unique(user), **options)

    return make


@pytest.fixture
def phone(cluster: Cluster, unique: Unique) -> Phone:
    def make(user: str, device: str = "pixel", **options: Any) -> AppClient:
        return AppClient(cluster.edge_port, unique(user), device, **options)

    return make


@pytest.mark.parametrize(("prefix", "bearer"), [("", True), ("/prod", False)])
async def test_a_timer_is_made_read_shared_and_rejected(as_user: As, unique: Unique, prefix: str, bearer: bool) -> None:
    tea = unique("tea")
    async with as_user("alice", prefix=prefix, bearer=bearer) as alice, as_user("bob", prefix=prefix) as bob:
        made = await alice.done("POST", f"/timers/{tea}", {"id": tea, **TEA})
        expected = {"id": tea, "userId": alice.user, **TEA, "sharedWith": [alice.user]}
        assert made == expected
        assert await alice.done("GET", f"/timers/{tea}") == expected
        assert (await bob.ask("GET", f"/timers/{tea}")).status == 403
        for _ in range(2):  # what is so already is answered as done, and the caller is left out
            answer = await alice.done("POST", "/timers/shared", {"timerId": tea, "userIds": [bob.user, alice.user]})
            assert answer == {"result": "shared", "success": [bob.user], "failed": []}
        expected["sharedWith"] = [alice.user, bob.user]
        assert await bob.done("GET", "/timers/shared") == [expected]
        assert await alice.done("GET", "/timers/shared") == []  # one's own are not shared with one
        for _ in range(2):
            assert await bob.done("DELETE", "/timers/shared", params={"timerId": tea}) == {"result": "rejected"}
        assert await bob.done("GET", "/timers/shared") == []
        assert (await bob.ask("GET", f"/timers/{tea}")).status == 403


async def test_a_running_timer_has_an_end_alone_as_it_came(as_user: As, unique: Unique) -> None:
    tea = unique("tea")
    ends = ["2026-11-24T08:20", "2026-11-24T08:20:30", "2026-11-24T08:20:30.123456789"]
    async with as_user("alice") as alice:
        for end in ends:
            for field in ("timerEnd", "endTime"):
                # Who accepts a running timer sends both: then it runs.
                made = await alice.done("POST", f"/timers/{tea}", {**TEA, field: end})
                assert made["endTime"] == end
                assert "remainingDuration" not in made
        paused = await alice.done("POST", f"/timers/{tea}", {"remainingDuration": "PT0S"})
        assert (paused["remainingDuration"], paused["name"]) == ("PT0S", "Tea")
        assert "endTime" not in paused


async def test_an_end_with_a_zone_is_given_without_one_in_the_zone_of_who_asks(
    as_user: As, connect: Connect, unique: Unique
) -> None:
    tea = unique("tea")
    async with connect("alice", "laptop") as laptop, as_user("alice") as alice:
        timer = {"id": tea, "endTime": "2026-11-24T08:20:30.123Z"}
        await laptop.done(type="timer", action="update", timer=timer)
        for options, end in (
            ({}, "2026-11-24T08:20:30.123"),
            ({"params": {"tz": "+02:00"}}, "2026-11-24T10:20:30.123"),
            ({"headers": {"tz": "-0330"}}, "2026-11-24T04:50:30.123"),
        ):
            assert (await alice.done("GET", f"/timers/{tea}", **options))["endTime"] == end
        assert (await alice.ask("GET", f"/timers/{tea}", params={"tz": "Mars"})).status == 400


async def test_a_running_timer_that_is_sent_again_is_the_same_timer(
    as_user: As, connect: Connect, unique: Unique
) -> None:
    tea = unique("tea")
    ahead = datetime.now(UTC) + timedelta(hours=2, minutes=4)  # which two hours ahead of UTC is in four minutes
    timer = {"name": "Tea", "totalDuration": "PT5M", "timerEnd": f"{ahead:%Y-%m-%dT%H:%M:%S}"}
    async with connect("alice", "laptop") as laptop, as_user("alice") as alice:
        for _ in range(2):
            made = await alice.done("POST", f"/timers/{tea}", timer)
            assert made["endTime"] == timer["timerEnd"]
            told = await laptop.expect(lambda m: m.get("timer", {}).get("id") == tea)
            assert told["timer"]["endTime"] == f"{timer['timerEnd']}+02:00"


@pytest.mark.parametrize("how", ["alone", "in a share"])
async def test_an_end_without_a_zone_comes_back_as_it_was_everywhere_and_is_the_right_moment_elsewhere(
    cluster: Cluster, as_user: As, connect: Connect, phone: Phone, unique: Unique, how: str
) -> None:
    tea, end = unique("tea"), "2031-02-03T04:05:06.123456789"
    here = {"params": {"tz": "+02:00"}}
    async with (
        connect("alice", "laptop") as laptop,
        phone("bob") as bob,
        phone("carol", query="?tz=+02:00") as carol,
        phone("dave", query="?tz=-05:00") as dave,
        as_user("alice") as alice,
        as_user("bob") as bobs,
    ):
        members = [each.user for each in (bob, carol, dave)]
        timer = {"name": "Tea", "totalDuration": "PT5M", "timerEnd": end}
        if how == "alone":
            made = await alice.done("POST", f"/timers/{tea}", timer, **here)
            assert made["endTime"] == end
            await alice.done("POST", "/timers/shared", {"timerId": tea, "userIds": members})
        else:
            await alice.done("POST", "/timers/shared", {"timerId": tea, "userIds": members, "timer": timer}, **here)
        await laptop.expect(lambda m: m.get("timer", {}).get("endTime") == f"{end}+02:00")
        for reader in (bob, carol):
            await reader.timer(tea, end=end, remaining=None)
        await dave.timer(tea, end="2031-02-02T21:05:06.123456789")
        for options in ({}, here):
            assert (await alice.done("GET", f"/timers/{tea}", **options))["endTime"] == end
            assert [each["endTime"] for each in await bobs.done("GET", "/timers/shared", **options)] == [end]
        # What a phone writes at its socket, REST gives as it came, too.
        shown = carol.timers[tea]
        shown.end = "2031-02-03T04:05"
        await carol.tell(shown)
        await bob.timer(tea, end=shown.end)
        await laptop.expect(lambda m: m.get("timer", {}).get("endTime") == f"{shown.end}+02:00")
        assert [each["endTime"] for each in await bobs.done("GET", "/timers/shared")] == [shown.end]


async def test_whoever_says_no_zone_has_the_one_that_its_device_has_shown_or_its_new_timer_else_the_default(
    own_cluster: Any, unique: Unique
) -> None:
    cluster: Cluster = await own_cluster(BUBBLE_APP_TIME_ZONE="-03:30")
    user = unique("alice")
    async with (
        Client(cluster.edge_port, user, "laptop") as laptop,
        AppClient(cluster.edge_port, user, "pixel", utc_offset=120) as phone,
        Rest(cluster.edge_port, user) as unknown,
        Rest(cluster.edge_port, user, DeviceId="pixel") as known,
    ):
        tea = phone.make("Tea", timer_id=unique("tea"))
        await phone.tell(tea)
        await laptop.update(tea.id)
        await phone.start(tea.id)  # which shows its offset
        await laptop.update(tea.id)
        for rest, offset in ((unknown, "-03:30"), (known, "+02:00")):
            made = await rest.done("POST", f"/timers/{tea.id}", {"endTime": "2031-01-01T00:00"})
            assert made["endTime"] == "2031-01-01T00:00"
            assert (await laptop.update(tea.id))["endTime"] == f"2031-01-01T00:00{offset}"
        for how in ("alone", "in a share"):
            new = {"totalDuration": "PT10M", "timerEnd": format_local(phone.now() + timedelta(minutes=7))}
            eggs = unique(f"eggs {how}")
            if how == "alone":
                await unknown.done("POST", f"/timers/{eggs}", new)
            else:
                await unknown.done("POST", "/timers/shared", {"timerId": eggs, "userIds": [], "timer": new})
            assert (await laptop.update(eggs))["endTime"] == f"{new['timerEnd']}+02:00"
        # What has no local end is shown by the default where nothing else is known, as at the app's sockets.
        await laptop.done(type="timer", action="update", timer={"id": tea.id, "endTime": "2031-01-01T00:00Z"})
        assert (await unknown.done("GET", f"/timers/{tea.id}"))["endTime"] == "2030-12-31T20:30"
        assert (await known.done("GET", f"/timers/{tea.id}"))["endTime"] == "2031-01-01T02:00"


@pytest.mark.parametrize("duration", DURATIONS)
async def test_every_duration_of_java_passes_between_rest_and_the_apps_sockets_exactly_as_it_came(
    as_user: As, phone: Phone, unique: Unique, duration: str
) -> None:
    tea, eggs = unique("tea"), unique("eggs")
    async with as_user("alice") as alice, as_user("bob") as bobs, phone("alice") as pixel, phone("bob") as bob:
        fields = {"totalDuration": duration, "remainingDuration": duration}
        await alice.done("POST", "/timers/shared", {"timerId": tea, "userIds": [bob.user], "timer": fields})
        shown = await bob.timer(tea, total=duration, remaining=duration)
        pixel.timers[eggs] = replace(shown, id=eggs, user_id=pixel.user)
        await pixel.tell(pixel.timers[eggs])
        await bob.timer(eggs, total=duration, remaining=duration)
        for given in (*await bobs.done("GET", "/timers/shared"), await alice.done("GET", f"/timers/{tea}")):
            assert fields.items() <= given.items()
        assert pixel.counts.forced_reconnects == bob.counts.forced_reconnects == 0


@pytest.mark.parametrize("field", ["totalDuration", "remainingDuration"])
async def test_what_is_no_duration_is_refused_in_both_ways_by_its_name(
    as_user: As, phone: Phone, unique: Unique, field: str
) -> None:
    async with as_user("alice") as alice, phone("alice") as pixel:
        for text in ("5 minutes", "", "PT", "P1Y", "PT1M1H", "PT5", "PT1e3S", "PT99999999999999999999S", "x" * 65):
            timer_id = unique(text)[:100]
            answer = await alice.ask("POST", f"/timers/{quote(timer_id)}", {field: text})
            assert (answer.status, answer.body["field"]) == (400, field), answer
            await pixel.send(type="updateTimer", timer={"id": timer_id, field: text})
            await pixel.until(lambda: any("code" in each for each in pixel.received))
            refusal = next(each for each in pixel.received if "code" in each)
            pixel.received.clear()
            assert (refusal["code"], refusal["field"]) == (400, field), refusal
            for error in (refusal["error"], answer.body["error"]):
                assert error.startswith((f"{field} is not", f"{field} must", f"{field}: ")), (text, error)


async def test_a_timer_that_was_not_started_can_be(as_user: As, unique: Unique) -> None:
    tea = unique("tea")
    async with as_user("alice") as alice:
        made = await alice.done("POST", f"/timers/{tea}", {"name": "Tea", "totalDuration": "PT5M"})
        assert made["remainingDuration"] == "PT5M"
        assert None not in made.values()


async def test_sockets_see_what_rest_does_and_the_other_way_round(
    as_user: As, connect: Connect, unique: Unique
) -> None:
    tea = unique("tea")
    async with connect("alice", "phone") as phone, connect("bob", "phone") as bobs, as_user("alice") as alice:
        await alice.done("POST", f"/timers/{tea}", TEA)
        assert (await phone.update(tea))["name"] == "Tea"
        await alice.done("POST", "/timers/shared", {"timerId": tea, "userIds": [bobs.user]})
        assert (await bobs.expect(lambda m: m.get("type") == "share"))["timer"]["id"] == tea
        assert (await phone.update(tea))["sharedWith"] == [bobs.user]
        await phone.done(type="timer", action="update", timer={"id": tea, "name": "Green"})
        assert (await alice.done("GET", f"/timers/{tea}"))["name"] == "Green"
        await phone.done(type="timer", action="stop", timerId=tea)
        assert (await alice.ask("GET", f"/timers/{tea}")).status == 404
        async with as_user("bob") as bob:
            assert await bob.done("GET", "/timers/shared") == []


async def test_an_unknown_timer_is_made_of_the_one_in_the_share_and_a_known_one_is_left_as_it_is(
    as_user: As, unique: Unique
) -> None:
    tea = unique("tea")
    async with as_user("alice") as alice, as_user("bob") as bob:
        request = {"timerId": tea, "userIds": [bob.user]}
        assert (await alice.ask("POST", "/timers/shared", request)).status == 404
        await alice.done("POST", "/timers/shared", {**request, "timer": {"id": tea, **TEA}})
        await alice.done("POST", "/timers/shared", {**request, "timer": {"name": "Old", "totalDuration": "PT1S"}})
        (seen,) = await bob.done("GET", "/timers/shared")
        assert (seen["name"], seen["userId"]) == ("Tea", alice.user)


async def test_of_many_who_make_the_same_timer_at_once_all_are_answered(as_user: As, unique: Unique) -> None:
    tea = unique("tea")
    request = {"timerId": tea, "userIds": [unique("bob")], "timer": TEA}
    async with as_user("alice") as alice:
        answers = await asyncio.gather(*(alice.ask("POST", "/timers/shared", request) for _ in range(8)))
    assert [answer.status for answer in answers] == [200] * 8


async def test_a_share_is_answered_user_by_user(as_user: As, unique: Unique) -> None:
    tea = unique("tea")
    async with as_user("alice") as alice:
        users = [unique("bob"), "new\nline", unique("carol"), unique("bob")]
        answer = await alice.done("POST", "/timers/shared", {"timerId": tea, "userIds": users, "timer": TEA})
        assert answer == {"result": "shared", "success": [users[0], users[2]], "failed": ["new\nline"]}


async def test_only_the_owner_shares_and_only_the_audience_writes(as_user: As, unique: Unique) -> None:
    tea = unique("tea")
    async with as_user("alice") as alice, as_user("bob") as bob, as_user("carol") as carol:
        await alice.done("POST", "/timers/shared", {"timerId": tea, "userIds": [bob.user], "timer": TEA})
        for user in (bob, carol):
            for users in ([carol.user, "dave"], []):
                answer = await user.ask("POST", "/timers/shared", {"timerId": tea, "userIds": users, "timer": TEA})
                assert answer.status == 403, answer
        assert (await bob.done("POST", f"/timers/{tea}", {"name": "Bob's"}))["userId"] == alice.user
        assert (await carol.ask("POST", f"/timers/{tea}", {"name": "Carol's"})).status == 403
        assert (await alice.ask("DELETE", "/timers/shared", {"timerId": tea})).status == 400
        assert (await bob.ask("DELETE", "/timers/shared", {"timerId": unique("unknown")})).status == 404


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("POST", "/timers/shared", b"{", None),
        ("POST", "/timers/shared", b"[]", None),
        ("POST", "/timers/shared", b"\xff", None),
        ("POST", "/timers/shared", b'{"userIds":[]}', "timerId"),
        ("POST", "/timers/shared", b'{"timerId":"","userIds":[]}', "timerId"),
        ("POST", "/timers/shared", b'{"timerId":"t","userIds":"bob"}', "userIds"),
        ("POST", "/timers/shared", b'{"timerId":"t","userIds":[1]}', "userIds"),
        ("POST", "/timers/shared", b'{"timerId":"t","userIds":[],"timer":{"id":"other"}}', "id"),
        ("POST", "/timers/shared", json.dumps({"timerId": "t", "userIds": ["u"] * 101}).encode(), "userIds"),
        ("POST", "/timers/t", b'{"id":"other"}', "id"),
        ("POST", "/timers/t", b'{"totalDuration":"five minutes"}', "totalDuration"),
        ("POST", "/timers/t", b'{"remainingDuration":"PT1M1H"}', "remainingDuration"),
        ("POST", "/timers/t", b'{"timerEnd":"tomorrow"}', "timerEnd"),
        ("POST", "/timers/t", b'{"endTime":"2026-02-30T00:00"}', "endTime"),
        ("POST", "/timers/shared", b'{"timerId":"t-new","userIds":[],"timer":{"timerEnd":"soon"}}', "timerEnd"),
        ("POST", "/timers/" + "x" * 129, b"{}", "id"),
        ("GET", "/timers/%0a", b"", "id"),
        ("DELETE", "/timers/shared", b"", "timerId"),
        ("DELETE", "/timers/shared", b"{}", "timerId"),
        ("DELETE", "/timers/shared?timerId=", b"", "timerId"),
        ("POST", "/device-tokens", b'{"deviceId":"d"}', "fcmToken"),
        ("POST", "/device-tokens", b'{"deviceId":"d","fcmToken":"with space"}', "fcmToken"),
        ("POST", "/device-tokens", b'{"deviceId":"unknown","fcmToken":"t"}', "deviceId"),
        ("DELETE", "/device-tokens/" + "x" * 129, b"", "deviceId"),
    ],
)
async def test_what_is_malformed_is_refused_with_400_and_the_field(
    as_user: As, method: str, path: str, body: bytes, field: str | None
) -> None:
    async with as_user("alice") as alice:
        answer = await alice.ask(method, path, data=body)
    assert (answer.status, answer.body["code"], answer.body.get("field")) == (400, 400, field), answer
    assert answer.body["error"]
    assert len(answer.body["traceId"]) == 32


@pytest.mark.parametrize("prefix", ["", "/prod"])
@pytest.mark.parametrize(
    ("method", "path", "status", "allowed"),
    [
        ("DELETE", "/timers/x", 405, {"GET", "POST", "OPTIONS"}),
        ("HEAD", "/timers/x", 405, {"GET", "POST", "OPTIONS"}),
        ("PUT", "/timers/shared", 405, {"DELETE", "GET", "POST", "OPTIONS"}),
        ("GET", "/device-tokens", 405, {"POST", "OPTIONS"}),
        ("GET", "/invitations/accept", 405, {"POST", "OPTIONS"}),
        ("GET", "/timers", 404, None),
        ("GET", "/timers/", 404, None),
        ("POST", "/timers/x/y", 404, None),
        ("DELETE", "/device-tokens/", 404, None),
        ("OPTIONS", "/invitations/x", 404, None),
    ],
)
async def test_what_is_no_request_at_all_is_refused_as_everything_else_is(
    cluster: Cluster, prefix: str, method: str, path: str, status: int, allowed: set[str] | None
) -> None:
    url = f"http://127.0.0.1:{cluster.edge_port}{prefix}{path}"
    async with (
        aiohttp.ClientSession(headers={"Origin": f"http://127.0.0.1:{cluster.edge_port}"}) as http,
        http.request(method, url) as response,
    ):
        assert (response.status, response.content_type) == (status, "application/json")
        assert response.headers["Access-Control-Allow-Origin"]  # a page may read why
        allow = response.headers.get("Allow")
        assert (None if allow is None else set(allow.split(", "))) == allowed
        if method != "HEAD":
            answer = await response.json()
            assert (answer["status"], answer["code"], len(answer["traceId"])) == ("error", status, 32)
            assert answer["error"]


async def test_what_is_too_long_is_refused_with_413_also_without_a_length(as_user: As, unique: Unique) -> None:
    async def parts() -> Any:
        for _ in range(20):
            yield b" " * 1_000

    async with as_user("alice") as alice:
        for body in (b" " * 16_385, parts()):
            assert (await alice.ask("POST", "/timers/t", data=body)).status == 413


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer nonsense", "Bearer e30.e30.e30"])
async def test_without_a_good_token_nothing_else_is_looked_at(cluster: Cluster, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    async with aiohttp.ClientSession(headers=headers) as http:
        for method, path in (
            ("GET", "/timers/shared"),
            ("POST", "/prod/timers/shared"),
            ("DELETE", "/device-tokens/x"),
        ):
            async with http.request(method, f"http://127.0.0.1:{cluster.edge_port}{path}", data=b"{") as response:
                assert response.status == 401
                assert response.headers["WWW-Authenticate"] == "Bearer"
                missing = (authorization or "").removeprefix("Bearer") == ""
                assert ((await response.json())["error"] == "The token is missing") is missing


@pytest.mark.parametrize("stranger", ["https://evil.example", "null", "http://["])
async def test_pages_of_listed_origins_may_ask_and_others_may_not(own_cluster: Any, stranger: str) -> None:
    cluster: Cluster = await own_cluster(BUBBLE_ALLOWED_ORIGINS="https://app.example")
    good, bad = {"Origin": "https://app.example"}, {"Origin": stranger}
    async with Rest(cluster.edge_port, "alice") as alice:
        answer = await alice.ask("GET", "/timers/shared", headers=good)
        assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (200, good["Origin"])
        assert "Origin" in answer.headers["Vary"]
        assert (await alice.ask("GET", "/timers/x", headers=good)).headers["Access-Control-Allow-Origin"]
        answer = await alice.ask("GET", "/timers/shared", headers=bad)
        assert answer.status == 403
        assert "Access-Control-Allow-Origin" not in answer.headers
    async with aiohttp.ClientSession() as http:  # browsers send no token with a preflight
        url = f"http://127.0.0.1:{cluster.edge_port}/prod/timers/shared"
        asks = {"Access-Control-Request-Method": "DELETE", "Access-Control-Request-Headers": "authorization"}
        async with http.options(url, headers=good | asks) as response:
            assert response.status == 204
            assert response.headers["Access-Control-Allow-Methods"] == "DELETE, GET, POST"
            assert "authorization" in response.headers["Access-Control-Allow-Headers"]
        async with http.options(url, headers=bad | asks) as response:
            assert response.status == 403
            assert "Access-Control-Allow-Methods" not in response.headers


async def test_who_asks_too_often_is_told_when_to_come_back_and_shares_count_by_user(
    own_cluster: Any, unique: Unique
) -> None:
    cluster: Cluster = await own_cluster(BUBBLE_MESSAGES_PER_SECOND="0.1", BUBBLE_MESSAGE_BURST="10")
    async with Rest(cluster.edge_port, unique("alice")) as alice, Rest(cluster.edge_port, unique("bob")) as bob:
        users = [f"user-{number}" for number in range(12)]
        await alice.done("POST", "/timers/shared", {"timerId": unique("t"), "userIds": users, "timer": TEA})
        answer = await alice.ask("GET", "/timers/shared")
        assert answer.status == 429
        assert int(answer.headers["Retry-After"]) >= 30
        assert await bob.done("GET", "/timers/shared") == []  # everybody has a rate of their own


async def test_a_service_that_is_away_is_told_as_such(own_cluster: Any, unique: Unique) -> None:
    cluster: Cluster = await own_cluster()
    async with Rest(cluster.edge_port, unique("alice")) as alice:
        await cluster.processes["sharing"].kill()
        answer = await alice.ask(
            "POST", "/timers/shared", {"timerId": unique("t"), "userIds": [unique("bob")], "timer": TEA}
        )
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) >= 1
        await cluster.processes["sharing"].start()

        async def works() -> bool:
            request = {"timerId": unique("t"), "userIds": [unique("bob")], "timer": TEA}
            return (await alice.ask("POST", "/timers/shared", request)).status == 200

        async with asyncio.timeout(20):
            while not await works():
                await asyncio.sleep(0.2)


async def test_the_document_is_served(cluster: Cluster) -> None:
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"http://127.0.0.1:{cluster.edge_port}/openapi.json") as response,
    ):
        assert (await response.json())["openapi"] == "3.1.0"


async def test_requests_are_counted_by_route_and_outcome(cluster: Cluster, as_user: As, unique: Unique) -> None:
    async with as_user("alice") as alice:
        await alice.ask("GET", f"/timers/{unique('unknown')}")
    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{cluster.edge_port}/metrics") as response:
        lines = (await response.text()).splitlines()
    counts = [line for line in lines if line.startswith("bubble_edge_rest_seconds_count")]
    assert any('type="GET /timers/{id}"' in line and 'outcome="404"' in line for line in counts), counts
