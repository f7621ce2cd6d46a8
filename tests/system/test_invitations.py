"""Sharing by link, as a page does it."""

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import aiohttp
import jwt
import pytest

from edge.invitations import MAX_LENGTH
from tests.system.client import Client, token
from tests.system.cluster import SECRET, Cluster
from tests.system.conftest import Connect

Unique = Callable[[str], str]
Answer = dict[str, Any]


class Http:
    """What a page posts, and what it is answered."""

    def __init__(self, port: int) -> None:
        self._base = f"http://127.0.0.1:{port}"

    async def post(self, path: str, bearer: str, body: object) -> tuple[int, Answer]:
        async with (
            aiohttp.ClientSession() as http,
            http.post(self._base + path, json=body, headers={"Authorization": f"Bearer {bearer}"}) as response,
        ):
            return response.status, await response.json()

    async def invite(self, user: str, timer_id: str) -> str:
        status, answer = await self.post("/invitations", token(user), {"timerId": timer_id})
        assert status == 200, answer
        assert (answer["timerId"], answer["owner"]) == (timer_id, user)
        invitation: str = answer["invitation"]
        assert len(invitation) <= MAX_LENGTH
        return invitation

    async def accept(self, user: str, invitation: str) -> tuple[int, Answer]:
        return await self.post("/invitations/accept", token(user), {"invitation": invitation})


@pytest.fixture
def http(cluster: Cluster) -> Http:
    return Http(cluster.edge_port)


async def _make(client: Client, timer_id: str) -> None:
    await client.done(type="timer", action="update", timer={"id": timer_id, "name": "Tea", "remainingDuration": "PT5M"})


async def test_whoever_follows_an_invitation_gets_the_timer_and_all_the_owners_screens_are_told(
    connect: Connect, unique: Unique, http: Http
) -> None:
    tea = unique("tea")
    async with connect("alice", "phone") as alice, connect("bob", "phone") as bob:
        await _make(alice, tea)
        invitation = await http.invite(alice.user, tea)
        status, answer = await http.accept(bob.user, invitation)
        assert (status, answer["timerId"], answer["owner"]) == (200, tea, alice.user)
        share = await bob.expect(lambda m: m.get("type") == "share")
        assert (share["action"], share["sharedBy"], share["timer"]["name"]) == ("add", alice.user, "Tea")
        assert (await alice.update(tea))["sharedWith"] == [bob.user]
        # Again, by its owner too: done already.
        for user in (bob.user, alice.user):
            assert (await http.accept(user, invitation))[0] == 200
        await alice.nothing_came()


async def test_an_invitation_ends_when_its_owner_removes_somebody(connect: Connect, unique: Unique, http: Http) -> None:
    tea = unique("tea")
    async with connect("alice", "phone") as alice:
        await _make(alice, tea)
        invitation = await http.invite(alice.user, tea)
        assert (await http.accept(unique("bob"), invitation))[0] == 200
        await alice.done(type="share", action="remove", timerId=tea, sharedWithUser=unique("bob"))
        for user in (unique("bob"), unique("carol")):
            assert (await http.accept(user, invitation))[0] == 403
        assert (await http.accept(unique("bob"), await http.invite(alice.user, tea)))[0] == 200


async def test_only_the_owner_of_a_timer_that_runs_can_invite(connect: Connect, unique: Unique, http: Http) -> None:
    tea = unique("tea")
    async with connect("alice", "phone") as alice:
        await _make(alice, tea)
        invitation = await http.invite(alice.user, tea)
        await http.accept(unique("bob"), invitation)
        for user, timer_id, expected in (("bob", tea, 403), ("mallory", tea, 403), ("alice", unique("none"), 404)):
            status, answer = await http.post("/invitations", token(unique(user)), {"timerId": timer_id})
            assert (status, answer["status"], answer["code"]) == (expected, "error", expected)
        await alice.done(type="timer", action="stop", timerId=tea)
        assert (await http.post("/invitations", token(alice.user), {"timerId": tea}))[0] == 404
        assert (await http.accept(unique("carol"), invitation))[0] == 404


async def test_what_nobody_here_signed_for_this_purpose_is_no_invitation(
    connect: Connect, unique: Unique, http: Http
) -> None:
    tea, bob = unique("tea"), unique("bob")
    async with connect("alice", "phone") as alice:
        await _make(alice, tea)
        invitation = await http.invite(alice.user, tea)
        head, claims, signature = invitation.split(".")
        fields = json.loads(base64.urlsafe_b64decode(claims + "=="))
        fields["owner"] = "somebody else"
        forged = base64.urlsafe_b64encode(json.dumps(fields).encode()).decode().rstrip("=")
        unsigned = jwt.encode(fields, "", algorithm="none")
        with_the_tokens_key = jwt.encode(fields | {"exp": time.time() + 60}, SECRET, algorithm="HS256")
        candidates = [f"{head}.{forged}.{signature}", unsigned, with_the_tokens_key, token(alice.user), "", "x" * 3_000]
        for candidate in candidates:
            assert (await http.accept(bob, candidate))[0] == 400
        # And an invitation opens no socket.
        status, _ = await http.post("/invitations", invitation, {"timerId": tea})
        assert status == 401
        assert (await http.accept(bob, invitation))[0] == 200


async def test_requests_without_a_good_token_or_body_are_refused(http: Http) -> None:
    for path in ("/invitations", "/invitations/accept"):
        assert (await http.post(path, "nonsense", {}))[0] == 401
        bodies: list[object] = [[], {"timerId": 1}, {}]
        for body in bodies:
            assert (await http.post(path, token("alice"), body))[0] == 400
