"""docs/asyncapi.yaml against a running edge, in the app's dialect: what it takes and what it sends. See test_asyncapi.py."""

from collections import defaultdict
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest

from edge.dialects.app_session import PONG_INTERVAL
from tests.docs.asyncapi import Frame, document, fields_of
from tests.system.app_client import AppClient, AppTimer
from tests.system.client import token
from tests.system.cluster import Cluster

pytestmark = pytest.mark.one_store

NOT_PROVOKED = {401, 404, 500}
"""Codes of errors that a healthy edge does not send to the app: it says nothing of a token that has expired but the end of the
connection (save in the second before that), and asks for nothing that must be there.
"""

Unique = Callable[[str], str]
Start = Callable[..., Any]


async def test_the_examples_of_requests_are_done_in_their_order(own_cluster: Start) -> None:
    asyncapi = document("appSocket")
    cluster: Cluster = await own_cluster()
    async with AppClient(cluster.edge_port, "alice", "pixel", pings=False, acknowledges=False) as alice:
        await alice.snapshot()
        answers = []
        for request, replies in asyncapi.requests.items():
            for example in asyncapi.examples(request):
                alice.received.clear()
                await alice.send(**example["data"])
                if not replies:
                    await alice.settled()  # nothing but the pong has come
                    assert [asyncapi.what_is(frame) for frame in alice.received] == ["pong"]
                    continue
                await alice.until(lambda: any(is_answer(frame) for frame in alice.received))
                answer = next(frame for frame in alice.received if is_answer(frame))
                assert asyncapi.what_is(answer) in set(replies) - {"error"}, (example, answer)
                answers.append((request, answer.get("timerId")))
        assert answers == [
            *(("updateTimer", timer_id) for timer_id in ("tea", "eggs", "eggs")),
            *(("stopTimer", timer_id) for timer_id in ("tea", "eggs")),
            ("ping", None),
        ]
        assert alice.counts.forced_reconnects == 0


async def test_every_message_and_field_is_sent_and_no_other_is(own_cluster: Start, unique: Unique) -> None:
    cluster: Cluster = await own_cluster(BUBBLE_MAX_TIMERS_PER_USER="3")
    async with AsyncExitStack() as stack:
        names = ("alice", "bob", "mallory")
        phones = [AppClient(cluster.edge_port, unique(name), "pixel", stays_away=True) for name in names]
        alice, bob, mallory = [await stack.enter_async_context(phone) for phone in phones]
        for phone in phones:
            await phone.snapshot()
        await live_together(alice, bob)
        tablet = AppClient(cluster.edge_port, alice.user, "tablet")  # which finds some timers
        await stack.enter_async_context(tablet)
        await tablet.until(lambda: tablet.timers)
        await make_mistakes(alice, mallory)
        await flood(mallory)
        pongs = len(alice.pongs)
        await alice.until(lambda: len(alice.pongs) > pongs, within=PONG_INTERVAL + 5)
        await meet_an_outage(cluster, bob)
        seen = by_message([frame for phone in (*phones, tablet) for frame in phone.received])

    asyncapi = document("appSocket")
    assert sorted(seen) == asyncapi.sent
    assert {name: set().union(*map(fields_of, frames)) for name, frames in seen.items()} == {
        name: asyncapi.fields(name) for name in asyncapi.sent
    }
    codes = {each["const"] for each in asyncapi.payload("error")["properties"]["code"]["oneOf"]}
    assert {frame["code"] for frame in seen["error"]} == codes - NOT_PROVOKED


async def test_a_refused_handshake_has_the_error_as_its_body(cluster: Cluster) -> None:
    asyncapi = document("appSocket")
    good = {"Authorization": token("alice"), "DeviceId": "pixel"}
    seen = []
    async with aiohttp.ClientSession() as http:
        for headers in (
            {"DeviceId": "pixel"},
            good | {"DeviceId": "x" * 129},
            good | {"Origin": "http://stranger.example"},
            good,
        ):
            async with http.get(f"http://127.0.0.1:{cluster.edge_port}/prod/", headers=headers) as response:
                assert asyncapi.what_is(await response.json()) == "error"
                seen.append(response.status)
    assert seen == [each["status"] for each in asyncapi.channel["x-handshake-refusals"] if each["status"] != 503]


def is_answer(frame: Frame) -> bool:
    """Whether a frame answers what was asked."""
    return frame.get("type") == "pong" or frame.get("status") in ("processed", "error")


def by_message(frames: list[Frame]) -> dict[str, list[Frame]]:
    """Frames by what the document calls them. Each must be one, and only one."""
    found: dict[str, list[Frame]] = defaultdict(list)
    for frame in frames:
        found[document("appSocket").what_is(frame)].append(frame)
    return found


async def live_together(alice: AppClient, bob: AppClient) -> None:
    """Two people share timers, in every state."""
    tea, eggs, rice = (alice.make(name) for name in ("Tea", "Eggs", "Rice"))
    for timer in (tea, eggs, rice):
        timer.tags = frozenset(("kitchen",))
        await alice.share(timer.id, bob.user)
        await bob.timer(timer.id)
    await alice.start(eggs.id)
    await bob.until(lambda: bob.timers[eggs.id].end)
    await alice.stop(rice.id)
    await bob.gone(rice.id)


async def make_mistakes(alice: AppClient, mallory: AppClient) -> None:
    """Every error that one message can cause."""
    eggs = next(timer for timer in alice.timers.values() if timer.name == "Eggs")
    await refused(alice, 400, type="updateTimer", timer={"id": "x", "totalDuration": "five minutes"})
    await refused(mallory, 403, type="updateTimer", timer={"id": eggs.id, "name": "Mallory's"})
    await alice.stop(eggs.id)
    await alice.settled()
    await refused(alice, 409, type="updateTimer", timer={"id": eggs.id, "name": "late"})
    await refused(alice, 413, type="updateTimer", timer={"id": "long", "name": "x" * 20_000})


async def flood(mallory: AppClient) -> None:
    """More than the burst."""
    for _ in range(100):
        await mallory.send(type="ping", timestamp=1)
    await mallory.until(lambda: any(frame.get("code") == 429 for frame in mallory.received))


async def meet_an_outage(cluster: Cluster, bob: AppClient) -> None:
    """A service is gone."""
    await cluster.processes["timer"].kill()
    timer: AppTimer = next(iter(bob.timers.values()))
    await bob.rename(timer.id, "during the outage")
    await bob.until(lambda: any(frame.get("code") == 503 for frame in bob.received), within=20)


async def refused(phone: AppClient, code: int, **data: Any) -> None:
    """A message that must be answered with this error."""
    before = len(phone.received)
    await phone.send(**data)
    await phone.until(lambda: any("code" in frame for frame in phone.received[before:]))
    assert [frame["code"] for frame in phone.received[before:] if "code" in frame] == [code]
