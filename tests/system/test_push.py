"""Who has no connection hears of a share by push: the whole system, and a local fake of Google's APIs."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from pymongo import MongoClient

from tests.system.client import Client, eventually
from tests.system.cluster import Cluster
from tests.system.fake_fcm import FakeFcm, fake_fcm, fault
from tests.system.rest_client import Rest

Unique = Callable[[str], str]

TIMER = {"name": "Tea", "totalDuration": "PT5M", "remainingDuration": "PT5M"}


@pytest.fixture
async def fcm() -> AsyncIterator[FakeFcm]:
    async with fake_fcm() as running:
        yield running


@pytest.fixture
def own_database(store_environment: dict[str, str], unique: Unique) -> Iterator[str]:
    """A database that no other test uses, so that users and timers may have plain names."""
    name = unique("bubble-test-push")
    yield name
    if "MONGODB_URI" in store_environment:
        with MongoClient[dict[str, object]](store_environment["MONGODB_URI"]) as client:
            client.drop_database(name)


@pytest.fixture
async def cluster(own_database: str, own_cluster: Any, fcm: FakeFcm) -> Cluster:
    running: Cluster = await own_cluster(
        BUBBLE_FCM_CREDENTIALS=fcm.credentials, BUBBLE_FCM_URL=fcm.url, BUBBLE_MONGODB_DATABASE=own_database
    )
    return running


async def with_phone(cluster: Cluster, user: str, device: str = "pixel") -> str:
    """A user who is reachable by push; returns the token."""
    push_token = f"fcm:{user}:{device}"
    async with Rest(cluster.edge_port, user) as rest:
        answer = await rest.done("POST", "/device-tokens", {"deviceId": device, "fcmToken": push_token})
        assert answer == {"result": "registered"}
    return push_token


async def shared(alice: Rest, timer_id: str, *users: str) -> None:
    answer = await alice.done("POST", "/timers/shared", {"timerId": timer_id, "userIds": users, "timer": TIMER})
    assert answer == {"result": "shared", "success": list(users), "failed": []}


async def settled(cluster: Cluster) -> None:
    """Returns when the sharing service has nothing left to deliver, repeats included."""
    await cluster_metric(cluster, "sharing", "bubble_outbox_pending_items 0.0", "bubble_outbox_sweeps_total")


async def cluster_metric(cluster: Cluster, service: str, wanted: str, counter: str) -> None:
    import aiohttp

    port = cluster.processes[service].metrics_port
    sweeps: list[float] = []
    async with aiohttp.ClientSession() as http, asyncio.timeout(15):
        while True:
            async with http.get(f"http://127.0.0.1:{port}/metrics") as response:
                text = await response.text()
            count = sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(counter))
            if wanted in text:
                sweeps.append(count)
                if sweeps[-1] >= sweeps[0] + 4:
                    return
            else:
                sweeps.clear()
            await asyncio.sleep(0.2)


async def test_a_share_to_somebody_without_a_connection_is_pushed_once(
    cluster: Cluster, fcm: FakeFcm, unique: Unique
) -> None:
    bob_token = await with_phone(cluster, "bob")
    await with_phone(cluster, "carol")
    async with Rest(cluster.edge_port, "alice") as alice, Client(cluster.edge_port, "carol", "laptop") as carol:
        await shared(alice, "tea", "bob", "carol", "dave")  # dave has no phone
        await eventually(lambda: fcm.data)
        shown = await carol.expect(lambda message: message.get("type") == "share")
        assert shown["timer"]["name"] == "Tea"
        await settled(cluster)
    assert fcm.data == [{"timerId": "tea", "timerName": "Tea", "sharerName": "alice", "action": "accept"}]
    assert [message["token"] for message in fcm.sent] == [bob_token]


async def test_a_share_by_socket_is_pushed_to_each_device_with_the_name_of_now(cluster: Cluster, fcm: FakeFcm) -> None:
    tokens = {await with_phone(cluster, "bob", device) for device in ("pixel", "tablet")}
    async with Client(cluster.edge_port, "alice", "phone") as alice:
        for name in ("Tee", "Green tea"):
            await alice.done(type="timer", action="update", timer={"id": "tea", "name": name})
        await alice.done(type="share", action="add", timerId="tea", sharedWithUser="bob")
    await eventually(lambda: len(fcm.accepted) == 2)
    assert {message["token"] for message in fcm.accepted} == tokens
    assert {data["timerName"] for data in fcm.data} == {"Green tea"}


@pytest.mark.one_store
async def test_what_is_not_taken_is_tried_again_until_it_is(cluster: Cluster, fcm: FakeFcm) -> None:
    await with_phone(cluster, "bob")
    fcm.answers = [fault(503, "UNAVAILABLE"), fault(500, "INTERNAL"), fault(429, "QUOTA_EXCEEDED", retry_after="1")]
    async with Rest(cluster.edge_port, "alice") as alice:
        await shared(alice, "tea", "bob")
    await eventually(lambda: fcm.data, within=30)
    assert len(fcm.sent) == 4


@pytest.mark.one_store
async def test_an_unregistered_token_is_forgotten(cluster: Cluster, fcm: FakeFcm) -> None:
    await with_phone(cluster, "bob")
    fcm.answers = [fault(404, "UNREGISTERED", name="NOT_FOUND")]
    async with Rest(cluster.edge_port, "alice") as alice:
        await shared(alice, "tea", "bob")
        await eventually(lambda: fcm.sent)
        await shared(alice, "milk", "bob")
        await settled(cluster)
        assert len(fcm.sent) == 1
        await with_phone(cluster, "bob")  # the app was installed anew
        await shared(alice, "soup", "bob")
        await eventually(lambda: fcm.data)
    assert fcm.data[0]["timerId"] == "soup"


@pytest.mark.one_store
async def test_a_removed_device_is_not_pushed_to(cluster: Cluster, fcm: FakeFcm) -> None:
    await with_phone(cluster, "bob", "pixel")
    await with_phone(cluster, "bob", "tablet")
    async with Rest(cluster.edge_port, "bob") as bob, Rest(cluster.edge_port, "alice") as alice:
        for _ in range(2):
            assert await bob.done("DELETE", "/device-tokens/pixel") == {"result": "removed"}
        await shared(alice, "tea", "bob")
        await settled(cluster)
    assert [message["token"] for message in fcm.sent] == ["fcm:bob:tablet"]


async def test_a_push_survives_the_death_of_the_connection_service(cluster: Cluster, fcm: FakeFcm) -> None:
    await with_phone(cluster, "bob")
    fcm.hangs.clear()
    async with Rest(cluster.edge_port, "alice") as alice:
        await shared(alice, "tea", "bob")
        await eventually(lambda: fcm.waiting == 1)
        await cluster.processes["connection"].kill()
        fcm.accepted.clear()
        fcm.hangs.set()
        await eventually(lambda: fcm.waiting == 0)
        fcm.accepted.clear()  # whatever the dead one was still answered
        await cluster.processes["connection"].start()
        await eventually(lambda: fcm.data, within=60)  # when the claim of the dead one has run out
    assert fcm.data[0]["timerId"] == "tea"


@pytest.mark.one_store
async def test_a_push_service_that_hangs_holds_up_neither_sockets_nor_other_shares(
    cluster: Cluster, fcm: FakeFcm
) -> None:
    fcm.hangs.clear()
    users = [f"away-{number}" for number in range(20)]  # more than are tried at once
    for user in users:
        await with_phone(cluster, user)
    async with Rest(cluster.edge_port, "alice") as alice, Client(cluster.edge_port, "bob", "laptop") as bob:
        await shared(alice, "tea", *users)
        await eventually(lambda: fcm.waiting == 16)
        for number in range(5):
            await shared(alice, f"timer-{number}", "bob")
            await bob.expect(lambda message: message.get("type") == "share")
            await alice.done("POST", f"/timers/timer-{number}", {"name": "changed"})
            assert (await bob.update(f"timer-{number}"))["name"] == "changed"
        await settled(cluster)  # no marker of a share waits for a push
        assert fcm.waiting == 16
        fcm.hangs.set()
        await eventually(lambda: len({message["token"] for message in fcm.accepted}) == 20, within=60)


@pytest.mark.one_store
async def test_who_was_removed_meanwhile_or_has_come_is_not_told_any_more(cluster: Cluster, fcm: FakeFcm) -> None:
    await with_phone(cluster, "bob")
    await with_phone(cluster, "carol")
    fcm.answers = [fault(503, "UNAVAILABLE", retry_after="3") for _ in range(2)]
    async with Client(cluster.edge_port, "alice", "phone") as alice:
        await alice.done(type="timer", action="update", timer={"id": "tea", "name": "Tea"})
        for user in ("bob", "carol"):
            await alice.done(type="share", action="add", timerId="tea", sharedWithUser=user)
        await eventually(lambda: len(fcm.sent) >= 1)
        await alice.done(type="share", action="remove", timerId="tea", sharedWithUser="bob")
        async with Client(cluster.edge_port, "carol", "laptop") as carol:
            assert [timer["id"] for timer in carol.snapshot["timers"]] == ["tea"]
            await waiting_is(cluster, 0)
    assert fcm.accepted == []


async def waiting_is(cluster: Cluster, number: int) -> None:
    """Returns when so many pushes wait."""
    import aiohttp

    port = cluster.processes["connection"].metrics_port
    async with aiohttp.ClientSession() as http, asyncio.timeout(60):
        while True:
            async with http.get(f"http://127.0.0.1:{port}/metrics") as response:
                if f"\nbubble_push_waiting {float(number)}\n" in await response.text():
                    return
            await asyncio.sleep(0.2)


@pytest.mark.one_store
async def test_without_credentials_nobody_is_told_and_nothing_is_kept(
    own_database: str, own_cluster: Any, fcm: FakeFcm
) -> None:
    cluster: Cluster = await own_cluster(BUBBLE_MONGODB_DATABASE=own_database)
    await with_phone(cluster, "bob")
    async with Rest(cluster.edge_port, "alice") as alice:
        await shared(alice, "tea", "bob")
        await settled(cluster)
    assert fcm.sent == []
    assert fcm.tokens_given == 0


@pytest.mark.one_store
async def test_wrong_credentials_are_told_at_the_start(own_cluster: Any) -> None:
    cluster: Cluster = await own_cluster()
    code = await cluster.processes["connection"].run_once({"BUBBLE_FCM_CREDENTIALS": '{"project_id": "secret-name"}'})
    assert code == 2
    log = cluster.processes["connection"].log_text()
    assert "BUBBLE_FCM_CREDENTIALS" in log
    assert "secret-name" not in log
