"""`sharing_service/servicer.py` over gRPC, on SQLite."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest

from proto.common.v1 import common_pb2
from proto.event.v1 import event_pb2
from proto.sharing.v1 import sharing_pb2, sharing_pb2_grpc
from runtime.errors import Unavailable
from runtime.telemetry import Telemetry
from sharing_service.domain import Share
from sharing_service.servicer import MAX_IDS, MAX_ITEMS, MAX_USERS, SharingServicer
from sharing_service.store.contract import Save
from sharing_service.store.sqlite import SqliteShareStore, open_store
from tests.servicers.harness import RecordingRelay, kinds, serving

SERVICE = sharing_pb2.DESCRIPTOR.services_by_name["SharingService"].full_name
MOST_MEMBERS = 4
MOST_SHARES = 6

OWNER = sharing_pb2.ROLE_OWNER
MEMBER = sharing_pb2.ROLE_MEMBER
STRANGER = sharing_pb2.ROLE_STRANGER
UNKNOWN = sharing_pb2.ROLE_UNSPECIFIED

INVALID = common_pb2.ERROR_CODE_INVALID_ARGUMENT
DENIED = common_pb2.ERROR_CODE_PERMISSION_DENIED
NOT_FOUND = common_pb2.ERROR_CODE_NOT_FOUND
LIMIT = common_pb2.ERROR_CODE_LIMIT_REACHED


class Service(NamedTuple):
    """A sharing service, what it keeps, and its relay."""

    stub: "sharing_pb2_grpc.SharingServiceAsyncStub"
    store: SqliteShareStore
    relay: RecordingRelay[Share]

    async def authorize(self, *items: sharing_pb2.AuthorizeItem) -> list[sharing_pb2.Authorization]:
        return list((await self.stub.Authorize(sharing_pb2.AuthorizeRequest(items=items), timeout=5)).results)

    async def claim(self, *timer_ids: str, user: str = "alice") -> None:
        answers = await self.authorize(*(question(timer_id, user, claim=True) for timer_id in timer_ids))
        assert [answer.role for answer in answers] == [OWNER] * len(timer_ids)

    async def change(self, *items: sharing_pb2.ChangeItem) -> list[sharing_pb2.ChangeResult]:
        return list((await self.stub.Change(sharing_pb2.ChangeRequest(items=items), timeout=10)).results)

    async def done(self, item: sharing_pb2.ChangeItem) -> event_pb2.Audience:
        (result,) = await self.change(item)
        assert result.WhichOneof("result") == "audience", result.error
        return result.audience

    async def refused(self, item: sharing_pb2.ChangeItem) -> common_pb2.Error:
        (result,) = await self.change(item)
        assert result.WhichOneof("result") == "error"
        return result.error

    async def audience(self, timer_id: str) -> event_pb2.Audience:
        request = sharing_pb2.GetAudienceRequest(timer_ids=[timer_id])
        (found,) = (await self.stub.GetAudience(request, timeout=5)).audiences
        return found

    async def shared_with(self, *users: str) -> list[set[str]]:
        response = await self.stub.ListShared(sharing_pb2.ListSharedRequest(user_ids=users), timeout=5)
        return [{access.timer_id for access in each.timers} for each in response.results]


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    relay = RecordingRelay[Share]()
    async with open_store(tmp_path) as store:
        servicer = SharingServicer(
            store,
            relay.as_relay,
            Telemetry(),
            max_members_per_timer=MOST_MEMBERS,
            max_shares_per_user=MOST_SHARES,
        )
        async with serving(
            SERVICE,
            lambda server: sharing_pb2_grpc.add_SharingServiceServicer_to_server(servicer, server),
            check=store.ping,
        ) as (_, channel):
            yield Service(sharing_pb2_grpc.SharingServiceStub(channel), store, relay)


def question(timer_id: str, user: str, *, claim: bool = False) -> sharing_pb2.AuthorizeItem:
    return sharing_pb2.AuthorizeItem(timer_id=timer_id, user_id=user, claim=claim)


TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def origin(user: str) -> common_pb2.Origin:
    return common_pb2.Origin(user_id=user, device_id="pixel", connection_id="c1")


def add(user: str, *, by: str = "alice", timer_id: str = "tea") -> sharing_pb2.ChangeItem:
    return sharing_pb2.ChangeItem(origin=origin(by), timer_id=timer_id, add_user_id=user, traceparent=TRACE)


def remove(user: str, *, by: str = "alice", timer_id: str = "tea") -> sharing_pb2.ChangeItem:
    return sharing_pb2.ChangeItem(origin=origin(by), timer_id=timer_id, remove_user_id=user)


async def status_of(call: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call
    code: grpc.StatusCode = failure.value.code()
    return code


# --- Authorize ------------------------------------------------------------------------------------------------------------


async def test_everybody_learns_their_role_and_the_audience_in_order(service: Service) -> None:
    await service.claim("tea")
    await service.done(add("bob"))
    answers = await service.authorize(
        question("tea", "mallory"), question("unknown", "alice"), question("tea", "bob"), question("tea", "alice")
    )
    assert [answer.role for answer in answers] == [STRANGER, UNKNOWN, MEMBER, OWNER]
    assert not answers[1].HasField("audience")
    assert answers[3].audience.owner_id == "alice"
    assert list(answers[3].audience.member_ids) == ["bob"]


async def test_an_id_that_nobody_owns_becomes_that_of_who_claims_it_for_good(service: Service) -> None:
    (first,) = await service.authorize(question("tea", "alice", claim=True))
    (second,) = await service.authorize(question("tea", "bob", claim=True))
    (again,) = await service.authorize(question("tea", "alice", claim=True))
    assert [each.role for each in (first, second, again)] == [OWNER, STRANGER, OWNER]
    assert first.audience == second.audience == again.audience
    assert first.audience.version > 0
    assert (await service.store.load(["tea"]))["tea"].owner == "alice"
    assert service.relay.offered == []


async def test_of_several_claims_in_one_batch_the_first_wins(service: Service) -> None:
    answers = await service.authorize(
        question("tea", "carol"),
        question("tea", "bob", claim=True),
        question("tea", "alice", claim=True),
        question("eggs", "alice", claim=True),
    )
    assert [answer.role for answer in answers] == [STRANGER, OWNER, STRANGER, OWNER]


async def test_of_many_who_claim_at_once_one_wins_and_all_learn_who(service: Service) -> None:
    answers = [
        answer
        for (answer,) in await asyncio.gather(
            *(service.authorize(question("tea", f"user-{number}", claim=True)) for number in range(20))
        )
    ]
    assert sorted(answer.role for answer in answers) == [OWNER] + [STRANGER] * 19
    assert len({answer.audience.owner_id for answer in answers}) == 1
    winner = [answer.role for answer in answers].index(OWNER)
    assert answers[0].audience.owner_id == f"user-{winner}"


@pytest.mark.parametrize(
    "item",
    [
        question("", "alice", claim=True),
        question("x" * 129, "alice", claim=True),
        question("tea", "", claim=True),
        question("tea", "a\x00", claim=True),
    ],
)
async def test_an_impossible_id_can_not_be_claimed_and_fails_nobody_else(
    service: Service, item: sharing_pb2.AuthorizeItem
) -> None:
    answers = await service.authorize(question("eggs", "alice", claim=True), item, question("rice", "bob", claim=True))
    assert [answer.role for answer in answers] == [OWNER, UNKNOWN, OWNER]
    assert not answers[1].HasField("audience")
    assert await service.store.load(["", "tea", "x" * 129]) == {}


# --- GetAudience and ListShared -------------------------------------------------------------------------------------------


async def test_audiences_come_in_order_and_nobodys_is_empty(service: Service) -> None:
    await service.claim("tea", "eggs")
    request = sharing_pb2.GetAudienceRequest(timer_ids=["eggs", "unknown", "tea", "eggs"])
    audiences = (await service.stub.GetAudience(request, timeout=5)).audiences
    assert [audience.owner_id for audience in audiences] == ["alice", "", "alice", "alice"]


async def test_audiences_are_cut_short_for_whoever_asks_for_less(service: Service) -> None:
    await service.claim("tea", "eggs")
    for user in ("bob", "carol", "dave", "erin"):
        await service.done(add(user))
    await service.done(add("bob", timer_id="eggs"))
    whole = await service.audience("tea")
    request = sharing_pb2.GetAudienceRequest(timer_ids=["tea", "eggs", "unknown"], most_bytes=15, user_id="erin")
    tea, eggs, unknown = (await service.stub.GetAudience(request, timeout=5)).audiences
    assert list(tea.member_ids) == ["bob", "carol", "erin"]
    assert (tea.owner_id, tea.version) == (whole.owner_id, whole.version)
    assert list(eggs.member_ids) == ["bob"]
    assert unknown == event_pb2.Audience()


async def test_each_user_gets_its_own_list_in_order(service: Service) -> None:
    await service.claim("tea", "eggs")
    await service.claim("rice", user="bob")
    await service.done(add("bob"))
    await service.done(add("alice", by="bob", timer_id="rice"))
    assert await service.shared_with("bob", "nobody", "alice") == [{"tea"}, set(), {"rice"}]


async def test_a_list_has_the_audiences_unless_only_ids_are_asked_for(service: Service) -> None:
    await service.claim("tea")
    await service.done(add("bob"))
    request = sharing_pb2.ListSharedRequest(user_ids=["bob"])
    (whole,) = (await service.stub.ListShared(request, timeout=5)).results[0].timers
    assert whole == sharing_pb2.TimerAccess(timer_id="tea", audience=await service.audience("tea"))
    request.without_audiences = True
    (short,) = (await service.stub.ListShared(request, timeout=5)).results[0].timers
    assert short == sharing_pb2.TimerAccess(timer_id="tea")


# --- Change ---------------------------------------------------------------------------------------------------------------


async def test_a_change_is_committed_answered_with_the_audience_and_offered_to_the_relay(service: Service) -> None:
    await service.claim("tea")
    before = await service.audience("tea")
    audience = await service.done(add("bob"))
    assert list(audience.member_ids) == ["bob"]
    assert audience.version > before.version
    assert await service.audience("tea") == audience
    (offered,) = service.relay.offered
    assert (offered.version, offered.added, offered.origin.connection_id) == (audience.version, ("bob",), "c1")
    assert offered.traceparent == TRACE
    assert [share.version for share in await service.store.list_pending(10, (0, ""))] == [audience.version]


async def test_changes_of_a_batch_take_effect_in_their_order(service: Service) -> None:
    await service.claim("tea", "eggs")
    results = await service.change(
        add("bob"), add("carol"), remove("bob"), add("mallory", by="mallory"), add("dave", timer_id="eggs"), add("bob")
    )
    assert kinds(results) == ["audience", "audience", "audience", "error", "audience", "audience"]
    assert [list(result.audience.member_ids) for result in results] == [
        ["bob"],
        ["bob", "carol"],
        ["carol"],
        [],
        ["dave"],
        ["carol", "bob"],
    ]


async def test_what_is_so_already_is_answered_as_done_and_told_nobody(service: Service) -> None:
    await service.claim("tea")
    first = await service.done(add("bob"))
    assert await service.done(add("bob")) == first
    assert await service.done(remove("carol")) == first
    assert len(service.relay.offered) == 1


async def test_a_member_may_leave(service: Service) -> None:
    await service.claim("tea")
    await service.done(add("bob"))
    assert list((await service.done(remove("bob", by="bob"))).member_ids) == []
    assert service.relay.offered[-1].removed == ("bob",)
    assert await service.shared_with("bob") == [set()]
    assert (await service.refused(remove("bob", by="bob"))).code == DENIED


async def test_what_is_not_allowed_is_refused_item_by_item_and_changes_nothing(service: Service) -> None:
    await service.claim("tea")
    before = await service.done(add("bob"))
    nothing = sharing_pb2.ChangeItem(origin=origin("alice"), timer_id="tea")
    results = await service.change(
        add("carol", by="bob"),
        remove("bob", by="mallory"),
        add("alice"),
        add("bob", timer_id="unknown"),
        add(""),
        add("x" * 129),
        add("bob", timer_id=""),
        nothing,
        remove("alice", by="bob"),
    )
    assert [(result.error.code, result.error.field) for result in results] == [
        (DENIED, "timerId"),
        (DENIED, "timerId"),
        (INVALID, "sharedWithUser"),
        (NOT_FOUND, "timerId"),
        (INVALID, "sharedWithUser"),
        (INVALID, "sharedWithUser"),
        (INVALID, "timerId"),
        (INVALID, "action"),
        (DENIED, "timerId"),
    ]
    assert await service.audience("tea") == before


async def test_those_who_share_at_once_lose_nothing(service: Service) -> None:
    await service.claim("tea")
    members = [f"user-{number}" for number in range(MOST_MEMBERS)]
    await asyncio.gather(*(service.done(add(member)) for member in members))
    assert set((await service.audience("tea")).member_ids) == set(members)


async def test_a_timer_has_no_more_members_than_the_limit(service: Service) -> None:
    await service.claim("tea")
    for number in range(MOST_MEMBERS):
        await service.done(add(f"user-{number}"))
    error = await service.refused(add("one more"))
    assert (error.code, error.field) == (LIMIT, "sharedWithUser")
    assert error.retry_after_ms > 0
    await service.done(remove("user-0"))
    await service.done(add("one more"))


async def test_a_user_is_in_no_more_audiences_than_the_limit(service: Service) -> None:
    timers = [f"timer-{number}" for number in range(MOST_SHARES + 1)]
    await service.claim(*timers)
    for timer_id in timers[:-1]:
        await service.done(add("bob", timer_id=timer_id))
    assert (await service.refused(add("bob", timer_id=timers[-1]))).code == LIMIT
    await service.done(add("bob", timer_id=timers[0]))  # is so already
    await service.done(add("carol", timer_id=timers[-1]))
    await service.done(remove("bob", by="bob", timer_id=timers[0]))
    await service.done(add("bob", timer_id=timers[-1]))


async def test_a_batch_does_not_lead_over_a_users_limit(service: Service) -> None:
    timers = [f"timer-{number}" for number in range(MOST_SHARES + 2)]
    await service.claim(*timers)
    results = await service.change(*(add("bob", timer_id=timer_id) for timer_id in timers))
    assert kinds(results) == ["audience"] * MOST_SHARES + ["error"] * 2
    assert {result.error.code for result in results[MOST_SHARES:]} == {LIMIT}
    assert await service.shared_with("bob") == [set(timers[:MOST_SHARES])]


async def test_a_removal_makes_room_for_what_comes_with_it(service: Service) -> None:
    timers = [f"timer-{number}" for number in range(MOST_SHARES + 1)]
    await service.claim(*timers)
    await service.change(*(add("bob", timer_id=timer_id) for timer_id in timers[:-1]))
    results = await service.change(remove("bob", timer_id=timers[0]), add("bob", timer_id=timers[-1]))
    assert kinds(results) == ["audience", "audience"]
    assert await service.shared_with("bob") == [set(timers[1:])]


async def test_changes_of_many_timers_are_one_read_and_one_commit(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    timers = [f"timer-{number}" for number in range(MOST_SHARES)]
    await service.claim(*timers)
    saved, save = [], service.store.save

    async def counting_save(saves: Sequence[Save]) -> list[bool]:
        saved.append(len(saves))
        return await save(saves)

    monkeypatch.setattr(service.store, "save", counting_save)
    await service.change(*(add(user, timer_id=timer_id) for timer_id in timers for user in ("bob", "carol")))
    assert saved == [MOST_SHARES, MOST_SHARES]  # the second change of each timer sees the first
    assert len(service.relay.offered) == 2 * MOST_SHARES


async def test_when_the_commit_fails_what_was_answered_before_it_stays_so(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    await service.claim("tea", "eggs", "rice")
    await service.done(add("bob", timer_id="eggs"))

    async def failing_save(_: Sequence[Save]) -> list[bool]:
        raise Unavailable("The database can't be reached")

    monkeypatch.setattr(service.store, "save", failing_save)
    results = await service.change(add("bob"), add("bob", timer_id="eggs"), add("bob", by="mallory", timer_id="rice"))
    assert kinds(results) == ["error", "audience", "error"]
    assert [result.error.code for result in results] == [common_pb2.ERROR_CODE_OVERLOADED, 0, DENIED]
    assert list((await service.audience("tea")).member_ids) == []


# --- Release --------------------------------------------------------------------------------------------------------------


async def test_a_released_id_is_forgotten_and_may_be_claimed_by_anybody(service: Service) -> None:
    await service.claim("tea", "eggs")
    await service.done(add("bob"))
    for _ in range(2):
        await service.stub.Release(sharing_pb2.ReleaseRequest(timer_ids=["tea", "unknown"]), timeout=5)
    assert await service.shared_with("bob") == [set()]
    assert (await service.audience("tea")).owner_id == ""
    await service.claim("tea", user="bob")


# --- sizes and failures ---------------------------------------------------------------------------------------------------


async def test_a_batch_may_be_as_long_as_the_proto_says(service: Service) -> None:
    await service.claim(*(f"timer-{number}" for number in range(MAX_ITEMS)))
    ids = [f"timer-{number}" for number in range(MAX_IDS)]
    response = await service.stub.GetAudience(sharing_pb2.GetAudienceRequest(timer_ids=ids), timeout=5)
    assert len(response.audiences) == MAX_IDS
    assert len(await service.shared_with(*["alice"] * MAX_USERS)) == MAX_USERS
    assert await service.change() == []
    assert await service.authorize() == []


async def test_a_batch_that_is_too_long_is_refused_as_a_whole(service: Service) -> None:
    ids = ["tea"] * (MAX_IDS + 1)
    for call in (
        service.authorize(*[question("tea", "alice", claim=True)] * (MAX_ITEMS + 1)),
        service.change(*[add("bob")] * (MAX_ITEMS + 1)),
        service.shared_with(*["alice"] * (MAX_USERS + 1)),
        service.stub.GetAudience(sharing_pb2.GetAudienceRequest(timer_ids=ids)),
        service.stub.Release(sharing_pb2.ReleaseRequest(timer_ids=ids)),
    ):
        assert await status_of(call) is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_store_that_fails_makes_the_service_unavailable(service: Service) -> None:
    await service.claim("tea")
    await service.store._database.write(lambda connection: connection.execute("ALTER TABLE shares RENAME TO away"))
    assert await status_of(service.authorize(question("tea", "alice"))) is grpc.StatusCode.UNAVAILABLE
    assert await status_of(service.shared_with("alice")) is grpc.StatusCode.UNAVAILABLE
    # Within a batch, each item has its own answer.
    assert (await service.refused(add("bob"))).code == common_pb2.ERROR_CODE_OVERLOADED
    await service.store._database.write(lambda connection: connection.execute("ALTER TABLE away RENAME TO shares"))
    await service.done(add("bob"))
