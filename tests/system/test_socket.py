"""The socket itself: who gets in, what is refused and how, how it ends, how it comes back."""

import asyncio
import contextlib
import json
import signal
import socket
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
import websockets

from runtime.clock import now_us
from runtime.iso8601 import parse_instant
from tests.system.client import Client, eventually, token
from tests.system.cluster import Cluster
from tests.system.conftest import Connect

Unique = Callable[[str], str]
Start = Callable[..., Any]


async def _refused_with(port: int, query: str, headers: dict[str, str] | None = None) -> int:
    with pytest.raises(websockets.InvalidStatus) as caught:
        await websockets.connect(f"ws://127.0.0.1:{port}/ws?{query}", additional_headers=headers or {})
    return caught.value.response.status_code


@pytest.mark.parametrize(
    "query",
    [
        "",
        "token=",
        "token=nonsense",
        f"token={token('alice', secret='another secret of more than 32 bytes')}",
        f"token={token('alice', lifetime=-1)}",
        f"token={token('')}",
    ],
    ids=["none", "empty", "garbage", "bad signature", "expired", "no user"],
)
async def test_no_or_a_bad_token_is_refused_at_the_handshake(cluster: Cluster, query: str) -> None:
    assert await _refused_with(cluster.edge_port, query) == 401


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", ""])
async def test_the_token_and_the_device_may_come_as_headers(cluster: Cluster, unique: Unique, scheme: str) -> None:
    alice = unique("alice")
    headers = {"Authorization": scheme + token(alice), "DeviceId": "pixel"}
    url = f"ws://127.0.0.1:{cluster.edge_port}/ws?dialect=first"  # without that, the header means the app's dialect
    async with websockets.connect(url, additional_headers=headers) as socket:
        connected = json.loads(await socket.recv())
        assert connected["type"] == "connected"
        assert (connected["userId"], connected["deviceId"]) == (alice, "pixel")
        assert json.loads(await socket.recv())["type"] == "snapshot"


async def test_an_impossible_device_and_a_strange_origin_are_refused(cluster: Cluster) -> None:
    good = f"token={token('alice')}"
    assert await _refused_with(cluster.edge_port, f"{good}&deviceId=a%0Ab") == 400
    assert await _refused_with(cluster.edge_port, f"{good}&deviceId={'x' * 129}") == 400
    assert await _refused_with(cluster.edge_port, f"{good}&deviceId={'%C3%BC' * 65}") == 400
    assert await _refused_with(cluster.edge_port, good, {"Origin": "https://evil.example"}) == 403


async def test_a_plain_get_of_the_socket_is_told_what_is_wrong(cluster: Cluster) -> None:
    url = f"http://127.0.0.1:{cluster.edge_port}/ws"
    async with aiohttp.ClientSession() as http:
        async with http.get(url) as response:
            assert response.status == 401
            assert (await response.json())["error"] == "The token is missing"
        async with http.get(url, params={"token": token("alice")}) as response:
            assert response.status == 400


MALFORMED: list[tuple[str, str | None]] = [
    ("", None),
    ("nonsense", None),
    ("[]", None),
    ("null", None),
    ('"timer"', None),
    ('{"type":"timer","action":"update","timer":{"id":"x","name":NaN}}', None),
    ("[" * 8_000, None),
    ('{"a":' * 2_500 + "1" + "}" * 2_500, None),
    ('{"type":"ping","messageId":"\\ud800"}', None),
    ("{}", "type"),
    ('{"type":"dance"}', "type"),
    ('{"type":7}', "type"),
    ('{"type":"timer"}', "action"),
    ('{"type":"timer","action":"dance"}', "action"),
    ('{"type":"timer","action":"update"}', "timer"),
    ('{"type":"timer","action":"update","timer":[]}', "timer"),
    ('{"type":"timer","action":"update","timer":{}}', "id"),
    ('{"type":"timer","action":"update","timer":{"id":7}}', "id"),
    ('{"type":"timer","action":"update","timer":{"id":""}}', "timerId"),
    ('{"type":"timer","action":"update","timer":{"id":"%s"}}' % ("x" * 129), "timerId"),
    ('{"type":"timer","action":"update","timer":{"id":"a\\u0000b"}}', "timerId"),
    ('{"type":"timer","action":"update","timer":{"id":"a\\u202eb"}}', "timerId"),
    ('{"type":"timer","action":"update","timer":{"id":"x","name":"a\\u2066b"}}', "name"),
    ('{"type":"timer","action":"update","timer":{"id":"x","name":"%s"}}' % ("x" * 257), "name"),
    ('{"type":"timer","action":"update","timer":{"id":"x","name":7}}', "name"),
    ('{"type":"timer","action":"update","timer":{"id":"x","totalDuration":300}}', "totalDuration"),
    ('{"type":"timer","action":"update","timer":{"id":"x","totalDuration":"5 minutes"}}', "totalDuration"),
    ('{"type":"timer","action":"update","timer":{"id":"x","totalDuration":"P1Y"}}', "totalDuration"),
    ('{"type":"timer","action":"update","timer":{"id":"x","remainingDuration":""}}', "remainingDuration"),
    ('{"type":"timer","action":"update","timer":{"id":"x","endTime":"2026-13-01T00:00:00Z"}}', "endTime"),
    ('{"type":"timer","action":"update","timer":{"id":"x"},"baseVersion":"1"}', "baseVersion"),
    ('{"type":"timer","action":"stop"}', "timerId"),
    ('{"type":"timer","action":"extend","timerId":"x"}', "by"),
    ('{"type":"timer","action":"extend","timerId":"x","by":"PT0S"}', "by"),
    ('{"type":"timer","action":"extend","timerId":"x","by":"PT-1M"}', "by"),
    ('{"type":"share","action":"dance","timerId":"x","sharedWithUser":"bob"}', "action"),
    ('{"type":"share","action":"add","timerId":"x"}', "sharedWithUser"),
    ('{"type":"share","action":"add","timerId":"x","sharedWithUser":""}', "sharedWithUser"),
    ('{"type":"auth"}', "token"),
    ('{"type":"sync"}', "versions"),
    ('{"type":"sync","versions":{"x":"1"}}', None),
    ('{"type":"ping","messageId":7}', "messageId"),
    ('{"type":"ping","messageId":"%s"}' % ("x" * 129), "messageId"),
]


async def test_whatever_is_malformed_gets_a_clear_error_and_closes_nothing(connect: Connect) -> None:
    async with connect("alice", "phone") as alice:
        for text, field in MALFORMED:
            await alice.socket.send(text)
            error = await alice.expect(lambda m: m.get("status") == "error")
            assert error["code"] == 400, (text[:80], error)
            assert error["error"]
            if field is not None:
                assert error.get("field") == field, (text[:80], error)
        await alice.nothing_came()


async def test_the_seed_texts_of_unknown_types_and_actions(connect: Connect) -> None:
    async with connect("alice", "phone") as alice:
        unknown_type = await alice.ask(type="dance")
        assert (unknown_type["code"], unknown_type["error"]) == (400, "Unknown message type")
        unknown_action = await alice.ask(type="timer", action="dance")
        assert (unknown_action["code"], unknown_action["error"]) == (400, "Unknown timer action")


async def test_binary_and_too_long_messages_get_an_error_and_huge_ones_end_the_connection(connect: Connect) -> None:
    async with connect("alice", "phone") as alice:
        await alice.socket.send(b'{"type":"ping"}')
        assert (await alice.expect(lambda m: m.get("status") == "error"))["code"] == 400
        await alice.socket.send(json.dumps({"type": "ping", "timestamp": "x" * 20_000}))
        assert (await alice.expect(lambda m: m.get("status") == "error"))["code"] == 413
        await alice.ask(type="ping")
        await alice.socket.send("x" * 70_000)
        assert await alice.closed() == 1009


async def test_a_ping_is_answered_with_its_timestamp_as_it_came(connect: Connect) -> None:
    async with connect("alice", "phone") as alice:
        for timestamp in (1_764_000_000_000, 1.5, "2026-01-01T00:00:00Z", {"a": [1]}):
            pong = await alice.ask(type="ping", timestamp=timestamp)
            assert (pong["type"], pong["timestamp"]) == ("pong", timestamp)
        assert await (await alice.socket.ping()) >= 0


async def test_a_pong_says_when_the_ping_was_read_and_when_it_was_answered(connect: Connect) -> None:
    async with connect("alice", "phone") as alice:
        sent_us = now_us()
        pong = await alice.ask(type="ping")
        heard_us = now_us()
        received_us, answered_us = parse_instant(pong["receivedTime"]), parse_instant(pong["serverTime"])
        assert sent_us <= received_us <= answered_us <= heard_us  # by one clock: that of this machine


async def test_an_ack_gets_no_reply(connect: Connect) -> None:
    async with connect("alice", "phone") as alice:
        await alice.send(type="ack", messageId="whatever")
        await alice.send(type="ack")
        await alice.nothing_came()


async def test_unknown_timers_and_stopped_ones_are_not_found(connect: Connect, unique: Unique) -> None:
    tea = unique("tea")
    async with connect("alice", "phone") as alice:
        for action in ("stop", "start", "pause", "resume"):
            assert (await alice.ask(type="timer", action=action, timerId=unique("none")))["code"] == 404
        await alice.done(type="timer", action="update", timer={"id": tea, "totalDuration": "PT1M"})
        await alice.done(type="timer", action="stop", timerId=tea)
        refused = await alice.ask(type="timer", action="start", timerId=tea)
        assert (refused["code"], refused["timerId"]) == (404, tea)


async def test_sync_sends_only_what_changed_and_names_what_is_gone(connect: Connect, unique: Unique) -> None:
    kept, changed, stopped = unique("kept"), unique("changed"), unique("stopped")
    async with connect("alice", "phone") as alice:
        for timer_id in (kept, changed, stopped):
            await alice.done(type="timer", action="update", timer={"id": timer_id, "name": "old"})
    async with connect("alice", "phone") as alice:
        known = {timer["id"]: timer for timer in alice.snapshot["timers"]}
        assert known.keys() == {kept, changed, stopped}
        await alice.done(type="timer", action="update", timer={"id": changed, "name": "new"})
        await alice.done(type="timer", action="stop", timerId=stopped)
    versions = {timer_id: timer["version"] for timer_id, timer in known.items()} | {"strange": 1}
    share_versions = {timer_id: timer["shareVersion"] for timer_id, timer in known.items()}
    async with connect("alice", "phone", resume=True) as alice:
        await alice.send(type="sync", versions=versions, shareVersions=share_versions, messageId="s")
        snapshot = await alice.expect(lambda m: m.get("type") == "snapshot")
        assert snapshot["messageId"] == "s"
        assert [(timer["id"], timer["name"]) for timer in snapshot["timers"]] == [(changed, "new")]
        assert sorted(snapshot["gone"]) == sorted([stopped, "strange"])


async def test_who_resumes_and_never_syncs_gets_the_whole_snapshot(connect: Connect, unique: Unique) -> None:
    tea = unique("tea")
    async with connect("alice", "phone") as alice:
        await alice.done(type="timer", action="update", timer={"id": tea})
    async with connect("alice", "phone", resume=True) as alice:
        snapshot = await alice.expect(lambda m: m.get("type") == "snapshot")
        assert [timer["id"] for timer in snapshot["timers"]] == [tea]


async def test_a_new_token_keeps_a_connection_whose_token_expires(connect: Connect, unique: Unique) -> None:
    user = unique("alice")
    async with connect("alice", "phone", token=token(user, lifetime=2.5)) as alice:
        assert alice.connected["tokenExpiresAt"]
        bad = await alice.ask(type="auth", token="nonsense")
        assert (bad["code"], bad["field"]) == (401, "token")
        assert (await alice.ask(type="auth", token=token("somebody else")))["code"] == 401
        renewed = await alice.done(type="auth", token=token(user))
        assert renewed["tokenExpiresAt"] > alice.connected["tokenExpiresAt"]
        await asyncio.sleep(3.5)  # past the first token's end, which is what this is about
        await alice.ask(type="ping")


async def test_an_expired_token_ends_the_connection_with_4401(connect: Connect, unique: Unique) -> None:
    async with connect("alice", "phone", token=token(unique("alice"), lifetime=1.5)) as alice:
        assert await alice.closed() == 4401


async def test_the_page_and_health_are_served_with_a_strict_policy(cluster: Cluster) -> None:
    base = f"http://127.0.0.1:{cluster.edge_port}"
    async with aiohttp.ClientSession() as http:
        async with http.get(f"{base}/") as page:
            assert page.status == 200
            policy = page.headers["Content-Security-Policy"]
            assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
            assert "unsafe" not in policy
            assert "*" not in policy
            assert "<title>" in await page.text()
        async with http.get(f"{base}/static/app.js") as script:
            assert script.status == 200
        for path, status in (("/healthz", 200), ("/readyz", 200), ("/dev/token", 404), ("/static/../app.py", 404)):
            async with http.get(base + path) as response:
                assert response.status == status
        async with http.get(f"{base}/config") as config:
            assert await config.json() == {"dev": False, "invitations": True}


@pytest.mark.one_store
async def test_the_rate_of_messages_is_limited_and_abuse_ends_the_connection(
    own_cluster: Start, unique: Unique
) -> None:
    cluster: Cluster = await own_cluster(
        BUBBLE_MESSAGES_PER_SECOND="5",
        BUBBLE_MESSAGE_BURST="10",
        BUBBLE_MAX_CONNECTIONS_PER_USER="2",
        BUBBLE_MAX_CONNECTIONS="3",
        BUBBLE_MAX_TIMERS_PER_USER="2",
        BUBBLE_PING_INTERVAL="0.5",
        BUBBLE_PING_TIMEOUT="2",
    )
    alice = unique("alice")
    async with Client(cluster.edge_port, alice, "phone") as client:
        for _ in range(12):
            await client.send(type="ping", messageId="p")
        refused = await client.expect(lambda m: m.get("status") == "error")
        assert refused["code"] == 429
        assert 0 < refused["retryAfter"] <= 1
        await asyncio.sleep(refused["retryAfter"] + 0.3)
        assert (await client.ask(type="ping"))["type"] == "pong"
        await asyncio.sleep(1)
        for number in range(2):
            await client.done(type="timer", action="update", timer={"id": unique(f"t{number}")})
        too_many = await client.ask(type="timer", action="update", timer={"id": unique("t2")})
        assert too_many["code"] == 429
        with contextlib.suppress(websockets.ConnectionClosed):
            for _ in range(200):
                await client.send(type="ping")
        assert await client.closed() == 4429
    erin = unique("erin")
    async with Client(cluster.edge_port, erin, "phone"), Client(cluster.edge_port, erin, "tablet"):
        with pytest.raises(AssertionError, match="closed 4409"):
            async with Client(cluster.edge_port, erin, "watch"):
                pass
        async with Client(cluster.edge_port, unique("bob"), "phone"):
            assert await _refused_with(cluster.edge_port, f"token={token(unique('carol'))}") == 503
    silent = await asyncio.open_connection("127.0.0.1", cluster.edge_port)
    silent[1].write(
        f"GET /ws?token={token(unique('dave'))} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
    )
    everything = await asyncio.wait_for(silent[0].read(), 10)  # it answers no ping, so the edge ends it
    assert b"heartbeat timeout" in everything
    silent[1].close()


async def test_what_was_acknowledged_is_there_after_everything_was_killed(own_cluster: Start, unique: Unique) -> None:
    cluster: Cluster = await own_cluster()
    tea, alice, bob = unique("tea"), unique("alice"), unique("bob")
    async with Client(cluster.edge_port, alice, "phone") as client:
        await client.done(
            type="timer", action="update", timer={"id": tea, "name": "Tea", "endTime": "2031-01-01T00:00:00Z"}
        )
        await client.done(type="share", action="add", timerId=tea, sharedWithUser=bob)
        last = await client.done(type="timer", action="extend", timerId=tea, by="PT1M")
        for process in cluster.processes.values():
            process.signal(signal.SIGKILL)
    for process in cluster.processes.values():
        await process.wait()
    for process in cluster.processes.values():
        await process.start()
    await cluster.wait_until_ready()
    for user in (alice, bob):
        async with Client(cluster.edge_port, user, "phone") as client:
            (timer,) = client.snapshot["timers"]
            assert timer["version"] == last["version"]
            assert (timer["name"], timer["endTime"]) == ("Tea", "2031-01-01T00:01:00.000Z")
            assert (timer["userId"], timer["sharedWith"]) == (alice, [bob])


@pytest.mark.one_store
async def test_a_drain_tells_clients_to_reconnect_and_every_process_ends_well(
    own_cluster: Start, unique: Unique
) -> None:
    cluster: Cluster = await own_cluster()
    clients = [Client(cluster.edge_port, unique(f"user{number}"), "phone") for number in range(20)]
    for client in clients:
        await client.__aenter__()
    cluster.processes["edge"].signal(signal.SIGTERM)
    for client in clients:
        hint = await client.expect(lambda m: m.get("type") == "reconnect")
        assert 0 <= hint["afterMs"] <= 2_000
    await eventually(lambda: not _listens(cluster))
    for client in clients:
        assert await client.closed() == 1012
        await client.__aexit__(None, None, None)
    assert await cluster.processes["edge"].wait(4) == 0
    assert set((await cluster.stop()).values()) == {0}
    assert cluster.crashes() == []


def _listens(cluster: Cluster) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", cluster.edge_port)) == 0


async def test_deliveries_go_on_after_each_service_was_killed_and_started_again(
    own_cluster: Start, unique: Unique
) -> None:
    cluster: Cluster = await own_cluster()
    tea, alice, bob = unique("tea"), unique("alice"), unique("bob")
    async with Client(cluster.edge_port, alice, "phone") as phone, Client(cluster.edge_port, bob, "phone") as other:
        await phone.done(type="timer", action="update", timer={"id": tea, "name": "0"})
        await phone.done(type="share", action="add", timerId=tea, sharedWithUser=bob)
        await other.expect(lambda m: m.get("type") == "share")
        for round_number, name in enumerate(("connection", "sharing", "timer"), 1):
            await cluster.processes[name].kill()
            restart = asyncio.create_task(cluster.processes[name].start())
            reply = await phone.expect_reply_within(
                10, type="timer", action="update", timer={"id": tea, "name": str(round_number)}
            )
            await restart
            assert reply["status"] == "processed", (name, reply)
            timer = await other.update(tea, within=10)
            assert (timer["name"], timer["version"]) == (str(round_number), reply["version"])


@pytest.mark.one_store
async def test_no_token_is_ever_in_a_log(own_cluster: Start, unique: Unique) -> None:
    cluster: Cluster = await own_cluster(BUBBLE_LOG_LEVEL="debug")
    good, bad = token(unique("alice")), "SECRETTOKEN"
    async with Client(cluster.edge_port, unique("alice"), "phone", token=good) as client:
        await client.ask(type="auth", token=bad)
    await _refused_with(cluster.edge_port, f"token={bad}")
    for request in (f"GET /ws?token={bad}\x01 HTTP/1.1", f"GET /ws HTTP/1.1\r\nAuthorization: Bearer {bad}\x01"):
        reader, writer = await asyncio.open_connection("127.0.0.1", cluster.edge_port)
        writer.write(f"{request}\r\nHost: x\r\n\r\n".encode())
        await asyncio.wait_for(reader.read(), 5)
        writer.close()
    await cluster.stop()
    for process in cluster.processes.values():
        assert bad not in process.log_text()
        assert good not in process.log_text()


async def test_one_sync_at_a_time(cluster: Cluster, connect: Connect) -> None:
    edge = cluster.processes["edge"]
    async with connect("alice", "phone") as alice:
        edge.signal(signal.SIGSTOP)  # so that it meets all of them together
        try:
            for number in range(5):
                await alice.send(type="sync", versions={}, messageId=f"s{number}")
        finally:
            edge.signal(signal.SIGCONT)
        replies = [await alice.expect(lambda m: m.get("messageId", "").startswith("s")) for _ in range(5)]
        assert replies[0]["type"] == "snapshot"
        assert {reply["code"] for reply in replies[1:] if "code" in reply} == {429}
        await alice.ask(type="sync", versions={})


async def test_a_client_that_is_gone_before_the_handshake_is_answered_is_no_crash(
    cluster: Cluster, unique: Unique
) -> None:
    request = (
        f"GET /ws?token={token(unique('alice'))} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    ).encode()
    edge = cluster.processes["edge"]
    edge.signal(signal.SIGSTOP)  # so that it meets the request and its sender's end together
    try:
        for _ in range(20):
            _, writer = await asyncio.open_connection("127.0.0.1", cluster.edge_port)
            writer.write(request)
            await writer.drain()
            writer.transport.abort()
    finally:
        edge.signal(signal.SIGCONT)
    await cluster.wait_until_ready()
    assert cluster.crashes() == []
