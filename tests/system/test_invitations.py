"""Sharing by link, over REST, as a page does it."""

import base64
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from edge.invitations import Outcome
from edge.rest.shapes import MAX_INVITATION
from tests.system.client import Client, eventually, token
from tests.system.cluster import SECRET, Cluster
from tests.system.conftest import Connect
from tests.system.fake_fcm import fake_fcm
from tests.system.monitoring import value
from tests.system.rest_client import Answer, Rest

Unique = Callable[[str], str]
As = Callable[..., Rest]
OwnCluster = Callable[..., Awaitable[Cluster]]

PATHS = ("/invitations", "/invitations/accept")


@pytest.fixture
def as_user(cluster: Cluster, unique: Unique) -> As:
    def make(user: str, **options: Any) -> Rest:
        return Rest(cluster.edge_port, unique(user), **options)

    return make


async def _make(client: Client, timer_id: str) -> None:
    await client.done(type="timer", action="update", timer={"id": timer_id, "name": "Tea", "remainingDuration": "PT5M"})


async def _invite(user: Rest, timer_id: str) -> str:
    answer = await user.done("POST", "/invitations", {"timerId": timer_id})
    assert (answer["timerId"], answer["owner"]) == (timer_id, user.user)
    invitation: str = answer["invitation"]
    assert len(invitation) <= MAX_INVITATION
    return invitation


async def _accept(user: Rest, invitation: object) -> Answer:
    return await user.ask("POST", "/invitations/accept", {"invitation": invitation})


@pytest.mark.parametrize(("prefix", "bearer"), [("", True), ("/prod", False)])
async def test_whoever_follows_an_invitation_gets_the_timer_and_all_the_owners_screens_are_told(
    connect: Connect, unique: Unique, as_user: As, prefix: str, bearer: bool
) -> None:
    tea = unique("tea")
    async with (
        connect("alice", "phone") as alice,
        connect("bob", "phone") as bob,
        as_user("alice", prefix=prefix, bearer=bearer) as alices,
        as_user("bob", prefix=prefix, bearer=bearer) as bobs,
    ):
        await _make(alice, tea)
        invitation = await _invite(alices, tea)
        answer = await _accept(bobs, invitation)
        assert (answer.status, answer.body["timerId"], answer.body["owner"]) == (200, tea, alice.user)
        share = await bob.expect(lambda m: m.get("type") == "share")
        assert (share["action"], share["sharedBy"], share["timer"]["name"]) == ("add", alice.user, "Tea")
        assert (await alice.update(tea))["sharedWith"] == [bob.user]
        # Again, by its owner too: done already.
        for user in (bobs, alices):
            assert (await _accept(user, invitation)).status == 200
        await alice.nothing_came()


async def test_an_invitation_ends_when_its_owner_removes_somebody(
    connect: Connect, unique: Unique, as_user: As
) -> None:
    tea = unique("tea")
    async with (
        connect("alice", "phone") as alice,
        as_user("alice") as alices,
        as_user("bob") as bob,
        as_user("carol") as carol,
    ):
        await _make(alice, tea)
        invitation = await _invite(alices, tea)
        assert (await _accept(bob, invitation)).status == 200
        await alice.done(type="share", action="remove", timerId=tea, sharedWithUser=bob.user)
        for user in (bob, carol):
            answer = await _accept(user, invitation)
            assert (answer.status, answer.body["field"]) == (403, "invitation")
        assert (await _accept(bob, await _invite(alices, tea))).status == 200


async def test_only_the_owner_of_a_timer_that_runs_can_invite(connect: Connect, unique: Unique, as_user: As) -> None:
    tea = unique("tea")
    async with (
        connect("alice", "phone") as alice,
        as_user("alice") as alices,
        as_user("bob") as bob,
        as_user("mallory") as mallory,
    ):
        await _make(alice, tea)
        invitation = await _invite(alices, tea)
        await _accept(bob, invitation)
        for user, timer_id, expected in ((bob, tea, 403), (mallory, tea, 403), (alices, unique("none"), 404)):
            answer = await user.ask("POST", "/invitations", {"timerId": timer_id})
            assert (answer.status, answer.body["status"], answer.body["code"]) == (expected, "error", expected)
        await alice.done(type="timer", action="stop", timerId=tea)
        assert (await alices.ask("POST", "/invitations", {"timerId": tea})).status == 404
        assert (await _accept(mallory, invitation)).status == 404


async def test_what_nobody_here_signed_for_this_purpose_is_no_invitation(
    connect: Connect, unique: Unique, as_user: As
) -> None:
    tea = unique("tea")
    async with connect("alice", "phone") as alice, as_user("alice") as alices, as_user("bob") as bob:
        await _make(alice, tea)
        invitation = await _invite(alices, tea)
        head, claims, signature = invitation.split(".")
        fields = json.loads(base64.urlsafe_b64decode(claims + "=="))
        fields["owner"] = "somebody else"
        forged = base64.urlsafe_b64encode(json.dumps(fields).encode()).decode().rstrip("=")
        unsigned = jwt.encode(fields, "", algorithm="none")
        with_the_tokens_key = jwt.encode(fields | {"exp": time.time() + 60}, SECRET, algorithm="HS256")
        candidates = [f"{head}.{forged}.{signature}", unsigned, with_the_tokens_key, token(alice.user), "", "x" * 3_000]
        for candidate in candidates:
            answer = await _accept(bob, candidate)
            assert (answer.status, answer.body["field"]) == (400, "invitation")
        # And an invitation opens no socket.
        headers = {"Authorization": f"Bearer {invitation}"}
        assert (await bob.ask("POST", "/invitations", {"timerId": tea}, headers=headers)).status == 401
        assert (await _accept(bob, invitation)).status == 200


async def test_both_requests_keep_the_rules_of_rest(cluster: Cluster, as_user: As) -> None:
    async with as_user("alice") as alice:
        for path in PATHS:
            answer = await alice.ask("POST", path, {}, headers={"Authorization": "nonsense"})
            assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
            bodies: list[object] = [[], {"timerId": 1, "invitation": 1}, {}]
            for body in bodies:
                answer = await alice.ask("POST", path, body)
                assert answer.status == 400
                assert answer.body.keys() >= {"status", "code", "error", "traceId"}
            assert (await alice.ask("POST", path, {"timerId": "x" * 17_000})).status == 413
            answer = await alice.ask("POST", path, {}, headers={"Origin": "https://evil.example"})
            assert (answer.status, "Access-Control-Allow-Origin" in answer.headers) == (403, False)
            own = f"http://127.0.0.1:{cluster.edge_port}"
            answer = await alice.ask("POST", path, {}, headers={"Origin": own})
            assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (400, own)
    async with aiohttp.ClientSession() as http:  # a token in the query is for sockets, which can't send headers
        url = f"http://127.0.0.1:{cluster.edge_port}/invitations?token={token('alice')}"
        async with http.post(url, json={"timerId": "tea"}) as response:
            assert response.status == 401


async def test_who_invites_too_often_is_told_when_to_come_back(own_cluster: OwnCluster, unique: Unique) -> None:
    cluster = await own_cluster(BUBBLE_INVITATIONS_PER_MINUTE="2")
    tea, eggs = unique("tea"), unique("eggs")
    async with (
        Client(cluster.edge_port, unique("alice")) as phone,
        Client(cluster.edge_port, unique("bob")) as bobs,
        Rest(cluster.edge_port, unique("alice")) as alice,
        Rest(cluster.edge_port, unique("bob")) as bob,
    ):
        await _make(phone, tea)
        await _make(bobs, eggs)
        invitation, _ = [await _invite(alice, tea) for _ in range(2)]
        answer = await alice.ask("POST", "/invitations", {"timerId": tea})
        assert (answer.status, answer.body["error"]) == (429, "Too many invitations")
        assert 25 <= int(answer.headers["Retry-After"]) <= 30  # two a minute
        # Everybody has a limit of their own, and it is one of making invitations, and of nothing else.
        await _invite(bob, eggs)
        for _ in range(3):
            assert (await _accept(bob, invitation)).status == 200
        await alice.done("GET", "/timers/shared")
        assert await value(cluster.processes["edge"], "bubble_edge_invitations_total", outcome="limited") == 1


async def test_what_comes_of_invitations_is_counted(cluster: Cluster, connect: Connect, unique: Unique) -> None:
    tea, alice, bob = unique("tea"), unique("alice"), unique("bob")

    async def counted() -> dict[str, float]:
        edge = cluster.processes["edge"]
        return {each: await value(edge, "bubble_edge_invitations_total", outcome=each) for each in Outcome}

    async with (
        connect("alice", "phone") as phone,
        Rest(cluster.edge_port, alice) as alices,
        Rest(cluster.edge_port, bob) as bobs,
    ):
        await _make(phone, tea)
        before = await counted()
        invitation = await _invite(alices, tea)
        await bobs.ask("POST", "/invitations", {"timerId": tea})
        await _accept(bobs, invitation)
        await _accept(bobs, "nonsense")
        await phone.done(type="share", action="remove", timerId=tea, sharedWithUser=bob)
        await _accept(bobs, invitation)
        await phone.done(type="timer", action="stop", timerId=tea)
        await _accept(bobs, invitation)
        after = await counted()
    grown = {each: after[each] - before[each] for each in Outcome if after[each] != before[each]}
    # The tests of a worker follow each other: nobody else counts meanwhile.
    assert grown == {"made": 1, "denied": 1, "accepted": 1, "invalid": 1, "ended": 1, "gone": 1}


async def test_without_a_secret_there_are_no_invitations_and_the_page_is_told(
    own_cluster: OwnCluster, tmp_path: Path
) -> None:
    signer = rsa.generate_private_key(65_537, 2_048)
    public = {**RSAAlgorithm.to_jwk(signer.public_key(), as_dict=True), "kid": "rsa-1", "alg": "RS256"}
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [public]}))
    cluster = await own_cluster(BUBBLE_JWT_SECRET="", BUBBLE_JWKS_URL=str(tmp_path / "keys.json"))
    claims = {"sub": "alice", "exp": time.time() + 600}
    headers = {"Authorization": jwt.encode(claims, signer, algorithm="RS256", headers={"kid": "rsa-1"})}
    async with Rest(cluster.edge_port, "alice") as alice:
        assert (await alice.done("GET", "/config"))["invitations"] is False
        answer = await alice.ask("POST", "/invitations", {"timerId": "tea"}, headers=headers)
        assert answer.status == 404
        assert "no invitations here" in answer.body["error"]


async def test_the_phones_of_whoever_joins_are_told_the_timers_name(own_cluster: OwnCluster, unique: Unique) -> None:
    async with fake_fcm() as fcm:
        cluster = await own_cluster(BUBBLE_FCM_CREDENTIALS=fcm.credentials, BUBBLE_FCM_URL=fcm.url)
        tea, push_token = unique("tea"), unique("fcm")
        async with (
            Client(cluster.edge_port, unique("alice")) as phone,
            Rest(cluster.edge_port, unique("alice")) as alice,
            Rest(cluster.edge_port, unique("bob")) as bob,
        ):
            await bob.done("POST", "/device-tokens", {"deviceId": "pixel", "fcmToken": push_token})
            await _make(phone, tea)
            await _accept(bob, await _invite(alice, tea))

            def pushed() -> list[Any]:  # the database may have others' pushes, too
                return [data for data in fcm.data if data["timerId"] == tea]

            await eventually(pushed)
            assert [data["timerName"] for data in pushed()] == ["Tea"]
