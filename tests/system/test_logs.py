"""What the processes write: one schema, no secrets, silence when nothing happens, and few lines in an outage."""

import asyncio
import base64
import json
import re
import secrets
import signal
import socket
from collections import Counter
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
import websockets

from runtime import logs
from tests.system.client import Client, token
from tests.system.cluster import SECRET, Cluster

Start = Callable[..., Any]
Unique = Callable[[str], str]

FIELDS = {**logs.REQUIRED, **logs.OPTIONAL}


def lines(cluster: Cluster) -> list[tuple[str, dict[str, Any]]]:
    """Every line of every process, with the process. Fails for one that is no JSON object."""
    written = []
    for name, process in cluster.processes.items():
        for text in process.log_text().splitlines():
            line = json.loads(text)
            assert isinstance(line, dict), text
            written.append((name, line))
    return written


def check_schema(cluster: Cluster) -> None:
    """Fails for a line that is not as documented."""
    for name, line in lines(cluster):
        assert line.keys() >= logs.REQUIRED.keys(), line
        assert line.keys() <= FIELDS.keys(), line
        for field, value in line.items():
            assert type(value) is FIELDS[field], (field, line)
        assert line["service"] == name, line
        assert line["level"] in logs.LEVELS, line
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["timestamp"]), line
        assert re.fullmatch("[0-9a-f]{32}", line.get("trace_id", "0" * 32)), line
        assert all(re.fullmatch("[0-9a-f]{32}", trace_id) for trace_id in line.get("trace_ids", ())), line


async def raw(port: int, data: bytes) -> bytes:
    """Sends bytes that need not be HTTP; returns the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    try:
        return await asyncio.wait_for(reader.read(4_096), 2)
    except (TimeoutError, ConnectionError):
        return b""
    finally:
        writer.close()


@pytest.mark.one_store
async def test_no_line_holds_a_token_a_query_or_a_payload_whatever_strangers_send(
    own_cluster: Start, unique: Unique
) -> None:
    cluster: Cluster = await own_cluster(BUBBLE_LOG_LEVEL="debug", BUBBLE_MESSAGES_PER_SECOND="0")
    port, alice, tea = cluster.edge_port, unique("alice"), unique("tea")
    good, expired, forged = token(alice), token(alice, lifetime=-60), token(alice, secret="x" * 40)
    marker = f"payload-{secrets.token_hex(8)}"
    tokens = [good, expired, forged, f"nonsense-{secrets.token_hex(8)}"]
    async with aiohttp.ClientSession() as http:
        for bad in (*tokens[1:], ""):
            async with http.get(f"http://127.0.0.1:{port}/ws?{urlencode({'token': bad})}") as response:
                assert response.status == 401
                assert re.fullmatch("[0-9a-f]{32}", (await response.json())["traceId"])
            async with http.get(f"http://127.0.0.1:{port}/ws", headers={"Authorization": f"Bearer {bad}"}) as response:
                assert response.status == 401
        for path in (f"/ws?token={good}", f"/nothing?token={good}", f"/static/../../etc?token={good}"):
            async with http.get(f"http://127.0.0.1:{port}{path}") as response:
                assert response.status in (400, 404)
        async with http.post(f"http://127.0.0.1:{port}/ws?token={good}", data=marker * 10_000) as response:
            assert response.status == 405
    for data in (
        f"GET /ws?token={good} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nBad Header\r\n\r\n",
        f"GET /ws?token={good} HTTP/9.9\r\n\r\n",
        f"{good} {marker}\r\n\r\n",
        f"GET /ws?token={good}{'a' * 20_000} HTTP/1.1\r\nHost: x\r\n\r\n",
        f"GET /ws HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {good}\x00\r\n\r\n",
        f"POST /ws?token={good} HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n{marker}",
        f"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{marker}\r\n",
    ):
        await raw(port, data.encode())
    async with Client(port, alice, "phone") as phone:
        await phone.done(type="timer", action="update", timer={"id": tea, "name": marker, "totalDuration": "PT5M"})
        for text in (
            "{",
            f'{{"type": "{marker}"}}',
            f'{{"type": "timer", "action": "{marker}"}}',
            f'["{marker}"]',
            json.dumps({"type": "timer", "action": "update", "timer": {"id": marker * 20}}),
            json.dumps({"type": "auth", "token": forged, "messageId": "a"}),
            json.dumps({"type": "timer", "action": "update", "timer": {"id": tea, "name": marker * 1_000}}),
        ):
            await phone.socket.send(text)  # fmt: skip
        await phone.socket.send(marker.encode() * 10)
        await phone.ask(type="ping")
    for huge in (marker * 2_000, marker * 10_000):
        async with Client(port, alice, "tablet") as tablet:
            await tablet.socket.send(huge)
            await tablet.expect_end_or_error()
    with pytest.raises(websockets.InvalidStatus):
        await websockets.connect(
            f"ws://127.0.0.1:{port}/ws?{urlencode({'token': good})}", origin=websockets.Origin("http://evil.example")
        )
    async with Client(port, alice, "tv") as tv:
        await cluster.processes["sharing"].kill()
        failed = await tv.expect_reply_within(
            15, type="timer", action="update", timer={"id": tea, "name": marker}, messageId="m1"
        )
        assert failed["code"] == 503
    await cluster.processes["sharing"].start()
    await cluster.stop()
    check_schema(cluster)
    output = "".join(process.log_text() for process in cluster.processes.values())
    for secret in (*tokens, marker, SECRET, "token="):
        assert secret not in output, secret
    for each in tokens[:3]:  # nor a part that would do
        for part in each.split(".")[1:]:
            assert part not in output
    assert base64.b64encode(marker.encode()).decode() not in output
    # The reply that told of the failure, the edge's line and that of the service behind it name the same message.
    named = [
        line for _, line in lines(cluster) if failed["traceId"] in (line.get("trace_id"), *line.get("trace_ids", ()))
    ]
    assert {line["service"] for line in named} >= {"edge", "timer"}
    assert all(line["user_id"] == alice and line["connection_id"] for line in named if line["service"] == "edge")


async def test_every_line_has_the_schema_through_kills_pauses_and_refused_settings(
    own_cluster: Start, unique: Unique
) -> None:
    cluster: Cluster = await own_cluster(BUBBLE_LOG_LEVEL="debug", BUBBLE_MESSAGES_PER_SECOND="0")
    alice, tea = unique("alice"), unique("tea")
    async with Client(cluster.edge_port, alice, "phone") as phone, Client(cluster.edge_port, alice, "tv"):
        await phone.done(type="timer", action="update", timer={"id": tea, "totalDuration": "PT5M"})
        for name in ("connection", "sharing", "timer"):
            await cluster.processes[name].kill()
            await cluster.processes[name].start()
            await phone.expect_reply_within(20, type="timer", action="extend", timerId=tea, by="PT1M")
        cluster.processes["connection"].signal(signal.SIGSTOP)
        await phone.expect_reply_within(20, type="timer", action="extend", timerId=tea, by="PT1M")
        await asyncio.sleep(4)
        cluster.processes["connection"].signal(signal.SIGCONT)
        await phone.expect_reply_within(20, type="timer", action="extend", timerId=tea, by="PT1M")
    # A port that is taken: a process ends with 1, and says why in a line like all others.
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for name, variable in (("timer", "BUBBLE_TIMER_PORT"), ("edge", "BUBBLE_EDGE_PORT")):
            await _refused(cluster, name, {variable: str(taken.getsockname()[1])}, code=1)
    await _refused(cluster, "sharing", {"BUBBLE_MAX_MEMBERS_PER_TIMER": "many"}, code=2)
    await cluster.stop()
    check_schema(cluster)
    assert [line for _, line in lines(cluster) if line["level"] in ("error", "critical")] == [
        line for _, line in lines(cluster) if line["event"] in ("failed", "wrong settings")
    ]


async def _refused(cluster: Cluster, name: str, environment: dict[str, str], *, code: int) -> None:
    process = cluster.processes[name]
    position = len(process.log_text())
    assert await process.run_once(environment) == code
    written = [json.loads(text) for text in process.log_text()[position:].splitlines()]
    # The one that runs already writes into the same log.
    (line,) = [each for each in written if each["level"] in ("error", "critical")]
    assert line["level"] == "error"


async def test_an_idle_system_writes_nothing(own_cluster: Start, unique: Unique) -> None:
    cluster: Cluster = await own_cluster(BUBBLE_LOG_LEVEL="info")
    async with Client(cluster.edge_port, unique("alice"), "phone"), Client(cluster.edge_port, unique("bob"), "phone"):
        before = {name: process.log_text() for name, process in cluster.processes.items()}
        await asyncio.sleep(10)  # the promise itself: ten seconds of silence
        assert {name: process.log_text() for name, process in cluster.processes.items()} == before
    started = Counter(name for name, _ in lines(cluster))
    assert max(started.values()) <= 6, started


@pytest.mark.one_store
async def test_an_outage_under_load_writes_few_lines(own_cluster: Start, unique: Unique) -> None:
    cluster: Cluster = await own_cluster(BUBBLE_MESSAGES_PER_SECOND="0")
    before = Counter(name for name, _ in lines(cluster))
    alice = unique("alice")
    answers = 0
    for away in ("connection", "sharing"):
        async with Client(cluster.edge_port, alice, "phone") as phone:
            await cluster.processes[away].kill()
            for _ in range(4):
                replies = await asyncio.gather(
                    *(
                        phone.expect_reply_within(30, type="timer", action="update", timer={"id": unique(f"t{number}")})
                        for number in range(50)
                    )
                )
                answers += len(replies)
        await cluster.processes[away].start()
        await cluster.wait_until_ready()
    await cluster.stop()
    check_schema(cluster)
    written = Counter(name for name, _ in lines(cluster))
    written.subtract(before)
    assert answers == 400
    assert max(written.values()) <= 80, Counter((line["service"], line["event"]) for _, line in lines(cluster))
