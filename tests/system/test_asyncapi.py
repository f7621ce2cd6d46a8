"""docs/asyncapi.yaml against a running edge: what it takes, what it sends, that nothing is missing and nothing is made up."""

import signal
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from edge.close_codes import CloseCode
from tests.docs.asyncapi import Frame, document, fields_of
from tests.system.client import Client, token
from tests.system.cluster import Cluster
from tests.system.collector import collecting

TRACED = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

NOT_PROVOKED = {500}
"""Codes of errors that a healthy edge does not send."""


@pytest.fixture
async def traced_cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    """A system of this test's own, with small limits, whose deliveries are traced."""
    async with collecting() as collector:
        settings = {
            "BUBBLE_STORE": "sqlite",
            "BUBBLE_DRAIN_SECONDS": "1",
            "BUBBLE_MAX_TIMERS_PER_USER": "3",
            "BUBBLE_PING_INTERVAL": "25",
            **collector.settings,
        }
        cluster = Cluster(tmp_path, settings)
        try:
            await cluster.start()
            yield cluster
        finally:
            await cluster.stop()


class Conversation:
    """All that is said while it lasts."""

    def __init__(self, cluster: Cluster, stack: AsyncExitStack) -> None:
        self._cluster = cluster
        self._stack = stack
        self.clients: list[Client] = []

    async def client(self, user: str, device: str = "pixel", **options: Any) -> Client:
        """Somebody who connects."""
        client = Client(self._cluster.edge_port, user, device, **options)
        self.clients.append(client)
        return await self._stack.enter_async_context(client)

    def frames(self) -> list[Frame]:
        """Every frame that anybody got."""
        return [frame for client in self.clients for frame in client.received]


async def test_the_examples_of_requests_are_done_in_their_order(traced_cluster: Cluster) -> None:
    asyncapi = document()
    async with AsyncExitStack() as stack:
        conversation = Conversation(traced_cluster, stack)
        alice = await conversation.client("alice")
        for request, replies in asyncapi.requests.items():
            for example in asyncapi.examples(request):
                message = example | ({"token": token("alice")} if request == "authenticate" else {})
                if not replies:
                    await alice.send(**message)
                    continue
                reply = await alice.ask(**message)
                assert asyncapi.what_is(reply) in set(replies) - {"error"}, (message, reply)
        answered = {frame.get("messageId") for frame in alice.received if "action" not in frame}
        assert answered >= {
            each["messageId"]
            for name, replies in asyncapi.requests.items()
            if replies
            for each in asyncapi.examples(name)
            if "messageId" in each
        }


async def test_every_message_and_field_is_sent_and_no_other_is(traced_cluster: Cluster) -> None:
    async with AsyncExitStack() as stack:
        conversation = Conversation(traced_cluster, stack)
        alice = await conversation.client("alice")
        bob = await conversation.client("bob")
        await live_together(alice, bob)
        await make_mistakes(alice, await conversation.client("eve"))
        await flood(await conversation.client("mallory"))
        await meet_an_outage(traced_cluster, alice)
        traced_cluster.processes["edge"].signal(signal.SIGTERM)
        assert await alice.closed(within=10) == CloseCode.RESTARTING.code
        seen = by_message(conversation.frames())

    asyncapi = document()
    assert sorted(seen) == asyncapi.sent
    # A timer is the same in each message that has one.
    seen_fields = {name: set().union(*map(fields_of, frames)) for name, frames in seen.items()}
    of_timers = {
        path.partition(".")[2] for fields in seen_fields.values() for path in fields if path.startswith("timer")
    }
    for name, fields in seen_fields.items():
        missing = {path for path in asyncapi.fields(name) - fields if path.partition(".")[2] not in of_timers - {""}}
        assert missing == set(), name
    codes = {each["const"] for each in asyncapi.payload("error")["properties"]["code"]["oneOf"]}
    assert {frame["code"] for frame in seen["error"]} == codes - NOT_PROVOKED


async def test_a_refused_handshake_has_the_error_as_its_body(traced_cluster: Cluster) -> None:
    url = f"http://127.0.0.1:{traced_cluster.edge_port}/ws"
    good = {"Authorization": f"Bearer {token('alice')}"}
    documented = document().whole["channels"]["socket"]["x-handshake-refusals"]
    seen = []
    async with aiohttp.ClientSession() as http:
        for query, headers in (
            ({}, {}),
            ({"deviceId": "x" * 129}, good),
            ({}, {**good, "Origin": "http://stranger.example"}),
            ({}, good),
        ):
            async with http.get(url, params=query, headers=headers) as response:
                assert document().what_is(await response.json()) == "error"
                seen.append(response.status)
    assert seen == [each["status"] for each in documented if each["status"] != 503]


def by_message(frames: Iterable[Frame]) -> dict[str, list[Frame]]:
    """Frames by what the document calls them. Each must be one, and only one."""
    found: dict[str, list[Frame]] = defaultdict(list)
    for frame in frames:
        found[document().what_is(frame)].append(frame)
    return found


async def live_together(alice: Client, bob: Client) -> None:
    """Two people share timers, in every state."""
    await alice.done(type="timer", action="update", timer={"id": "tea", "name": "Tea", "totalDuration": "PT5M"})
    await alice.done(type="share", action="add", timerId="tea", sharedWithUser="bob", traceparent=TRACED)
    await bob.expect(of("share", "add"))
    for action in ("start", "pause", "resume"):
        await alice.done(type="timer", action=action, timerId="tea", traceparent=TRACED)
        await bob.update("tea")
    await bob.done(type="timer", action="pause", timerId="tea")
    await alice.update("tea")
    await alice.send(type="ping", timestamp=1, messageId="p")
    for token_lifetime in (600, 700):
        await alice.done(type="auth", token=token("alice", lifetime=token_lifetime))
    await alice.ask(type="sync", versions={"tea": 1, "gone": 1})
    await alice.done(type="share", action="remove", timerId="tea", sharedWithUser="bob", traceparent=TRACED)
    await bob.expect(of("share", "remove"))
    await alice.done(type="share", action="add", timerId="tea", sharedWithUser="bob")
    await bob.expect(of("share", "add"))
    await bob.ask(type="sync", versions={})
    await alice.done(type="timer", action="stop", timerId="tea", traceparent=TRACED)
    await bob.expect(of("timer", "stop"))


async def make_mistakes(alice: Client, eve: Client) -> None:
    """Every error that a client can cause by one message."""
    await alice.done(type="timer", action="update", timer={"id": "eggs", "endTime": "2036-01-01T00:00Z"})
    await refused(alice, 400, type="timer", action="dance", timerId="eggs")
    await refused(alice, 401, type="auth", token="nonsense")
    await refused(eve, 403, type="timer", action="stop", timerId="eggs")
    await refused(alice, 404, type="timer", action="start", timerId="nothing")
    await refused(alice, 409, type="timer", action="pause", timerId="eggs", baseVersion=1)
    await refused(alice, 409, type="timer", action="update", timer={"id": "tea", "name": "late"})
    await alice.send(type="timer", action="update", timer={"id": "long", "name": "x" * 20_000})
    await alice.expect(lambda frame: frame.get("code") == 413)


async def flood(mallory: Client) -> None:
    """More than the burst."""
    for _ in range(100):
        await mallory.send(type="ping")
    await mallory.expect(lambda frame: frame.get("code") == 429)


async def meet_an_outage(cluster: Cluster, alice: Client) -> None:
    """A service is gone."""
    await cluster.processes["timer"].kill()
    await alice.expect_reply_within(15, type="timer", action="start", timerId="eggs", messageId="outage")
    assert alice.received[-1]["code"] == 503


async def refused(client: Client, code: int, **message: Any) -> None:
    """A message that must be answered with this error."""
    reply = await client.ask(**message)
    assert reply.get("code") == code, reply


def of(kind: str, action: str) -> Callable[[Frame], bool]:
    """Whether a frame is a delivery of this kind."""
    return lambda frame: frame.get("type") == kind and frame.get("action") == action
