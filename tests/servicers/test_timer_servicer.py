"""`timer_service/servicer.py` over gRPC, on SQLite."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from proto.common.v1 import common_pb2
from proto.event.v1 import event_pb2
from proto.sharing.v1 import sharing_pb2
from proto.timer.v1 import timer_pb2, timer_pb2_grpc
from runtime import semconv
from runtime.errors import may_be_one_items_fault
from runtime.iso8601 import parse_duration
from runtime.recorder import Recorder
from runtime.telemetry import Telemetry
from tests.servicers.harness import FakeSharing, RecordingRelay, kinds, rpc_error, serving
from timer_service.domain import State, Timer
from timer_service.relay import Saved
from timer_service.servicer import MAX_KNOWN, MAX_SNAPSHOTS, MAX_WRITES, TimerServicer
from timer_service.store.contract import Save
from timer_service.store.sqlite import SqliteTimerStore, open_store

SERVICE = timer_pb2.DESCRIPTOR.services_by_name["TimerService"].full_name
MOST_TIMERS = 5

INVALID = common_pb2.ERROR_CODE_INVALID_ARGUMENT
DENIED = common_pb2.ERROR_CODE_PERMISSION_DENIED
NOT_FOUND = common_pb2.ERROR_CODE_NOT_FOUND
CONFLICT = common_pb2.ERROR_CODE_CONFLICT
LIMIT = common_pb2.ERROR_CODE_LIMIT_REACHED


class Service(NamedTuple):
    """A timer service, what it keeps, and what is behind it."""

    stub: "timer_pb2_grpc.TimerServiceAsyncStub"
    store: SqliteTimerStore
    sharing: FakeSharing
    relay: RecordingRelay[Saved]

    async def write(self, *items: timer_pb2.WriteItem) -> list[timer_pb2.WriteResult]:
        response = await self.stub.Write(timer_pb2.WriteRequest(items=items), timeout=10)
        return list(response.results)

    async def write_one(self, item: timer_pb2.WriteItem) -> timer_pb2.WriteResult:
        (result,) = await self.write(item)
        return result

    async def done(self, item: timer_pb2.WriteItem) -> timer_pb2.WriteOutcome:
        result = await self.write_one(item)
        assert result.WhichOneof("result") == "outcome", result.error
        return result.outcome

    async def get(self, timer_id: str, user_id: str = "") -> timer_pb2.GetResult:
        request = timer_pb2.GetRequest(items=[timer_pb2.GetItem(timer_id=timer_id, user_id=user_id)])
        (result,) = (await self.stub.Get(request, timeout=5)).results
        return result

    async def snapshot(self, user_id: str, **known: timer_pb2.Known) -> timer_pb2.UserSnapshot:
        request = timer_pb2.SnapshotRequest(items=[timer_pb2.SnapshotItem(user_id=user_id, known=known)])
        (result,) = (await self.stub.Snapshot(request, timeout=5)).results
        return result


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    sharing, relay = FakeSharing(), RecordingRelay[Saved]()
    async with open_store(tmp_path) as store:
        servicer = TimerServicer(store, sharing.as_stub, relay.as_relay, Telemetry(), max_timers_per_user=MOST_TIMERS)
        async with serving(
            SERVICE,
            lambda server: timer_pb2_grpc.add_TimerServiceServicer_to_server(servicer, server),
            check=store.ping,
        ) as (_, channel):
            yield Service(timer_pb2_grpc.TimerServiceStub(channel), store, sharing, relay)


def origin(user: str = "alice") -> common_pb2.Origin:
    return common_pb2.Origin(user_id=user, device_id="pixel", connection_id="c1")


def update(timer_id: str = "tea", user: str = "alice", **fields: Any) -> timer_pb2.WriteItem:
    return timer_pb2.WriteItem(origin=origin(user), timer_id=timer_id, update=timer_pb2.Update(**fields))


def stop(timer_id: str = "tea", user: str = "alice") -> timer_pb2.WriteItem:
    return timer_pb2.WriteItem(origin=origin(user), timer_id=timer_id, stop=timer_pb2.Stop())


def extend(by: str = "PT1M", timer_id: str = "tea", user: str = "alice", operation_id: str = "") -> timer_pb2.WriteItem:
    return timer_pb2.WriteItem(
        origin=origin(user), timer_id=timer_id, operation_id=operation_id, extend=timer_pb2.Extend(by=by)
    )


def with_base(item: timer_pb2.WriteItem, base_version: int) -> timer_pb2.WriteItem:
    item.base_version = base_version
    return item


async def status_of(call: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call
    code: grpc.StatusCode = failure.value.code()
    if code is grpc.StatusCode.INTERNAL:
        assert failure.value.details() == "Internal server error"
    return code


# --- Write ----------------------------------------------------------------------------------------------------------------


async def test_the_first_update_creates_the_timer_for_its_sender(service: Service) -> None:
    outcome = await service.done(update(name="Tea", total_duration="PT5M"))
    timer = outcome.view.timer
    assert (timer.timer_id, timer.name, timer.total_duration) == ("tea", "Tea", "PT5M")
    assert (timer.run_state, timer.changed_by) == (event_pb2.RUN_STATE_IDLE, "alice")
    assert not timer.HasField("end_time")
    assert outcome.view.audience.owner_id == "alice"
    assert (outcome.base_version, outcome.version) == (0, timer.version)
    assert service.sharing.audiences["tea"].owner_id == "alice"


async def test_what_a_device_without_a_zone_wrote_and_tags_are_kept_beside_the_instant(service: Service) -> None:
    local_end = event_pb2.LocalEnd(text="2026-11-24T08:20", utc_offset_minutes=-210)
    tags = timer_pb2.Tags(values=["hot", "kitchen"])
    outcome = await service.done(update(end_time="2026-11-24T08:20-03:30", local_end=local_end, tags=tags))
    assert (outcome.view.timer.local_end, list(outcome.view.timer.tags)) == (local_end, ["hot", "kitchen"])
    assert (await service.get("tea")).view.timer.local_end == local_end
    renamed = (await service.done(update(name="Tea"))).view.timer
    assert (renamed.local_end, list(renamed.tags)) == (local_end, ["hot", "kitchen"])
    unknown = event_pb2.LocalEnd(text="2026-11-24T08:21")
    timer = (await service.done(update(end_time="2026-11-24T08:21Z", local_end=unknown))).view.timer
    assert not timer.local_end.HasField("utc_offset_minutes")
    timer = (await service.done(update(end_time="2026-11-24T08:22Z", tags=timer_pb2.Tags()))).view.timer
    assert not timer.HasField("local_end")
    assert list(timer.tags) == []


async def test_an_outcome_is_committed_and_offered_to_the_relay(service: Service) -> None:
    outcome = await service.done(update(end_time="2026-11-24T08:20:30.123456789+02:00"))
    stored = (await service.store.load(["tea"]))["tea"]
    assert stored.version == outcome.version
    assert stored.end_time == "2026-11-24T08:20:30.123456789+02:00"
    assert [each.version for each in await service.store.list_pending(10, (0, ""))] == [outcome.version]
    assert [(each.timer.timer_id, each.timer.version) for each in service.relay.offered] == [("tea", outcome.version)]


async def test_results_come_in_the_order_of_the_items_each_with_its_own_end(service: Service) -> None:
    service.sharing.share("bobs", owner="bob")
    results = await service.write(
        update("new"),
        update("bobs"),
        stop("unknown"),
        update("", name="no id"),
        extend("PT0S"),
        timer_pb2.WriteItem(origin=origin(), timer_id="new"),
        with_base(update("other"), 5),
        update("other"),
    )
    assert kinds(results) == ["outcome", "error", "error", "error", "error", "error", "error", "outcome"]
    codes = [(result.error.code, result.error.field) for result in results if result.HasField("error")]
    assert codes == [
        (DENIED, "timerId"),
        (NOT_FOUND, "timerId"),
        (INVALID, "timerId"),
        (INVALID, "by"),
        (INVALID, "action"),
        (NOT_FOUND, "timerId"),
    ]
    assert all(result.error.message for result in results if result.HasField("error"))


async def test_items_of_one_timer_take_effect_in_the_order_of_the_batch(service: Service) -> None:
    results = await service.write(
        update(total_duration="PT5M"), extend("PT1M"), update(name="Tea"), extend("PT2M"), stop()
    )
    outcomes = [result.outcome for result in results]
    versions = [outcome.version for outcome in outcomes]
    assert versions == sorted(set(versions))
    assert [outcome.base_version for outcome in outcomes] == [0, *versions[:-1]]
    assert [outcome.view.timer.total_duration for outcome in outcomes] == ["PT5M", "PT6M", "PT6M", "PT8M", "PT8M"]
    assert outcomes[-1].view.timer.run_state == event_pb2.RUN_STATE_STOPPED
    assert [each.timer.version for each in service.relay.offered] == [versions[-1]]  # the last state stands for all


async def test_an_item_that_is_refused_does_not_stand_in_the_way_of_the_next_one_of_its_timer(
    service: Service,
) -> None:
    results = await service.write(update(total_duration="PT5M"), with_base(extend(), 1), extend("PT3M"))
    assert kinds(results) == ["outcome", "error", "outcome"]
    assert results[2].outcome.view.timer.total_duration == "PT8M"
    assert results[1].current.timer.total_duration == "PT5M"


async def test_a_conflict_brings_the_current_state(service: Service) -> None:
    outcome = await service.done(update(name="Tea"))
    service.sharing.share("tea", "bob")
    result = await service.write_one(with_base(update(user="bob", name="Coffee"), outcome.version - 1))
    assert (result.error.code, result.error.field) == (CONFLICT, "baseVersion")
    assert (result.current.timer.name, result.current.timer.version) == ("Tea", outcome.version)
    assert list(result.current.audience.member_ids) == ["bob"]


async def test_an_update_right_after_a_stop_is_refused_with_the_tombstone(service: Service) -> None:
    await service.done(update(name="Tea"))
    stopped = await service.done(stop())
    result = await service.write_one(update(name="too late"))
    assert (result.error.code, result.error.field) == (CONFLICT, "timerId")
    assert result.current.timer.run_state == event_pb2.RUN_STATE_STOPPED
    assert result.current.timer.stopped_by == "alice"
    again = await service.done(with_base(update(name="on purpose"), stopped.version))
    assert again.version > stopped.version
    assert again.view.timer.run_state == event_pb2.RUN_STATE_IDLE


async def test_a_repeated_item_has_no_second_effect_and_gets_the_first_answer(service: Service) -> None:
    await service.done(update(total_duration="PT5M"))
    item = extend("PT1M", operation_id="op-1")
    first = await service.done(item)
    later = await service.done(update(name="later"))
    again = await service.done(item)
    assert (again.version, again.base_version) == (first.version, first.base_version)
    assert (again.view.timer.version, again.view.timer.total_duration) == (later.version, "PT6M")
    twice = await service.write(extend("PT1M", operation_id="op-2"), extend("PT1M", operation_id="op-2"))
    assert [result.outcome.version for result in twice] == [twice[0].outcome.version] * 2
    assert (await service.get("tea")).view.timer.total_duration == "PT7M"


async def test_a_command_that_changes_nothing_is_answered_as_done_and_told_nobody(service: Service) -> None:
    await service.done(update(total_duration="PT5M"))
    stopped = await service.done(stop())
    service.relay.offered.clear()
    again = await service.done(stop())
    assert (again.version, again.base_version) == (stopped.version, stopped.version)
    assert service.relay.offered == []


async def test_members_may_change_and_stop_and_strangers_learn_nothing(service: Service) -> None:
    await service.done(update(name="Tea", total_duration="PT5M"))
    service.sharing.share("tea", "bob")
    assert (await service.done(extend(user="bob"))).view.timer.changed_by == "bob"
    for item in (update(user="mallory"), stop(user="mallory"), extend(user="mallory")):
        result = await service.write_one(item)
        assert result.error.code == DENIED
        assert not result.HasField("current")
    assert (await service.done(stop(user="bob"))).view.timer.stopped_by == "bob"
    assert (await service.get("tea")).view.audience.owner_id == "alice"


async def test_only_an_update_that_may_create_a_timer_claims_its_id(service: Service) -> None:
    results = await service.write(stop("a"), extend(timer_id="b"), with_base(update("c"), 5))
    assert [result.error.code for result in results] == [NOT_FOUND] * 3
    assert service.sharing.audiences == {}


async def test_a_wrong_item_reaches_neither_the_sharing_service_nor_the_store(service: Service) -> None:
    await service.write(update(""), update("x" * 129), update(end_time="soon"), update(user=""))
    assert service.sharing.asked == []
    assert await service.store.list_pending(10, (0, "")) == []


async def test_an_empty_batch_has_an_empty_answer(service: Service) -> None:
    assert await service.write() == []
    assert service.sharing.asked == []


async def test_writers_who_come_at_once_lose_nothing(service: Service) -> None:
    await service.done(update(total_duration="PT0S"))
    results = await asyncio.gather(*(service.write(extend("PT1S"), extend("PT1S")) for _ in range(8)))
    assert {kind for each in results for kind in kinds(each)} == {"outcome"}
    versions = [result.outcome.version for each in results for result in each]
    assert len(set(versions)) == 16
    assert parse_duration((await service.get("tea")).view.timer.total_duration) == 16_000_000


async def test_what_is_acknowledged_under_contention_is_exactly_what_has_happened(service: Service) -> None:
    await service.done(update(total_duration="PT0S"))
    results = [result for (result,) in await asyncio.gather(*(service.write(extend("PT1S")) for _ in range(60)))]
    done = [result for result in results if result.HasField("outcome")]
    refused = [result.error for result in results if result.HasField("error")]
    assert all(error.code == common_pb2.ERROR_CODE_OVERLOADED and error.retry_after_ms for error in refused)
    total = (await service.get("tea")).view.timer.total_duration
    assert parse_duration(total) == len(done) * 1_000_000


async def test_two_who_create_the_same_timer_at_once_have_one_owner(service: Service) -> None:
    (one,), (other,) = await asyncio.gather(
        service.write(update(user="alice", name="a")), service.write(update(user="bob", name="b"))
    )
    assert sorted(kinds([one, other]), key=str) == ["error", "outcome"]
    lost = one if one.HasField("error") else other
    assert lost.error.code == DENIED


async def test_a_timer_that_can_not_be_understood_fails_alone(service: Service) -> None:
    await service.done(update(total_duration="PT5M"))
    service.sharing.share("broken")
    broken = Timer(timer_id="broken", owner="alice", version=1, state=State.RUNNING, end_time="garbage")
    await service.store.save([Save(broken, None)])
    pause = timer_pb2.WriteItem(origin=origin(), timer_id="broken", pause=timer_pb2.Pause())
    results = await service.write(extend(), pause, extend())
    assert kinds(results) == ["outcome", "error", "outcome"]
    assert (results[1].error.code, results[1].error.message) == (
        common_pb2.ERROR_CODE_INTERNAL,
        "Internal server error",
    )


# --- limits ---------------------------------------------------------------------------------------------------------------


async def test_a_user_has_no_more_timers_than_the_limit_and_claims_no_more_ids(service: Service) -> None:
    for number in range(MOST_TIMERS):
        await service.done(update(f"timer-{number}"))
    result = await service.write_one(update("one more"))
    assert result.error.code == LIMIT
    assert result.error.retry_after_ms > 0
    assert "one more" not in service.sharing.audiences
    await service.done(update("timer-0", name="still mine"))
    await service.done(update("bobs", user="bob"))
    await service.done(stop("timer-0"))
    await service.done(update("one more"))


async def test_bringing_a_stopped_timer_back_counts_as_a_new_one(service: Service) -> None:
    await service.done(update("stopped"))
    stopped = await service.done(stop("stopped"))
    for number in range(MOST_TIMERS):
        await service.done(update(f"timer-{number}"))
    assert (await service.write_one(with_base(update("stopped"), stopped.version))).error.code == LIMIT
    await service.done(stop("timer-0"))
    await service.done(with_base(update("stopped"), stopped.version))


async def test_one_batch_can_not_go_beyond_the_limit_either(service: Service) -> None:
    results = await service.write(*(update(f"timer-{number}") for number in range(3 * MOST_TIMERS)))
    assert kinds(results) == ["outcome"] * MOST_TIMERS + ["error"] * 2 * MOST_TIMERS


async def test_calls_at_once_can_not_go_beyond_the_limit_either(service: Service) -> None:
    calls = [[update(f"timer-{call}-{number}") for number in range(MOST_TIMERS)] for call in range(8)]
    results = [result for batch in await asyncio.gather(*(service.write(*call) for call in calls)) for result in batch]
    assert kinds(results).count("outcome") == MOST_TIMERS
    assert await service.store.count_live(["alice"]) == {"alice": MOST_TIMERS}
    for result, item in zip(results, (item for call in calls for item in call), strict=True):
        assert result.HasField("outcome") == (item.timer_id in service.sharing.audiences)


async def test_timers_that_are_brought_back_at_once_can_not_go_beyond_the_limit_either(service: Service) -> None:
    stopped = [
        Timer(timer_id=f"stopped-{number}", owner="alice", version=1, state=State.STOPPED)
        for number in range(2 * MOST_TIMERS)
    ]
    await service.store.save([Save(timer, None) for timer in stopped])
    for timer in stopped:
        service.sharing.share(timer.timer_id)
    calls = [(update(timer.timer_id), update(f"new-{timer.timer_id}")) for timer in stopped]
    await asyncio.gather(*(service.write(*call) for call in calls))
    assert (await service.store.count_live(["alice"]))["alice"] <= MOST_TIMERS
    await service.store.save([Save(Timer(timer_id="bobs", owner="bob", version=1, state=State.STOPPED), None)])
    service.sharing.share("bobs", owner="bob")
    for number in range(MOST_TIMERS - 1):  # nothing is kept for calls that have ended
        await service.done(update(f"bob-{number}", user="bob"))
    await service.done(update("bobs", user="bob"))


async def test_a_batch_may_be_as_long_as_the_proto_says(service: Service) -> None:
    await service.done(update(total_duration="PT0S"))
    results = await service.write(*(extend("PT1S") for _ in range(MAX_WRITES)))
    assert kinds(results) == ["outcome"] * MAX_WRITES
    assert (await service.get("tea")).view.timer.total_duration == "PT4M16S"


async def test_a_batch_that_is_too_long_is_refused_as_a_whole(service: Service) -> None:
    items = [update(f"timer-{number}") for number in range(MAX_WRITES + 1)]
    assert await status_of(service.write(*items)) is grpc.StatusCode.INVALID_ARGUMENT
    gets = timer_pb2.GetRequest(items=[timer_pb2.GetItem(timer_id="tea")] * (MAX_WRITES + 1))
    assert await status_of(service.stub.Get(gets)) is grpc.StatusCode.INVALID_ARGUMENT
    snapshots = timer_pb2.SnapshotRequest(items=[timer_pb2.SnapshotItem(user_id="alice")] * (MAX_SNAPSHOTS + 1))
    assert await status_of(service.stub.Snapshot(snapshots)) is grpc.StatusCode.INVALID_ARGUMENT


async def test_of_a_batch_that_is_too_long_nothing_is_done(service: Service) -> None:
    items = [update(f"timer-{number}") for number in range(MAX_WRITES + 1)]
    await status_of(service.write(*items))
    assert service.sharing.asked == []
    assert await service.store.list_pending(10, (0, "")) == []


async def test_more_known_timers_than_anybody_has_are_refused(service: Service) -> None:
    known = {f"timer-{number}": timer_pb2.Known(version=1) for number in range(MAX_KNOWN + 1)}
    assert await status_of(service.snapshot("alice", **known)) is grpc.StatusCode.INVALID_ARGUMENT
    known.popitem()
    assert len((await service.snapshot("alice", **known)).gone_timer_ids) == MAX_KNOWN


# --- Get ------------------------------------------------------------------------------------------------------------------


async def test_a_timer_is_read_with_its_audience(service: Service) -> None:
    outcome = await service.done(update(name="Tea"))
    service.sharing.share("tea", "bob", version=7)
    for user in ("alice", "bob", ""):
        view = (await service.get("tea", user)).view
        assert (view.timer.version, view.audience.version) == (outcome.version, 7)
        assert list(view.audience.member_ids) == ["bob"]


async def test_strangers_and_unknown_timers_are_refused_item_by_item(service: Service) -> None:
    await service.done(update(name="Tea"))
    service.sharing.share("claimed, never written")
    items = [("tea", "mallory"), ("unknown", "alice"), ("claimed, never written", "alice"), ("tea", "alice")]
    request = timer_pb2.GetRequest(
        items=[timer_pb2.GetItem(timer_id=timer_id, user_id=user) for timer_id, user in items]
    )
    results = (await service.stub.Get(request, timeout=5)).results
    assert [result.error.code for result in results] == [DENIED, NOT_FOUND, NOT_FOUND, 0]
    assert results[3].view.timer.name == "Tea"


async def test_a_tombstone_can_be_read(service: Service) -> None:
    await service.done(update())
    await service.done(stop())
    view = (await service.get("tea", "alice")).view
    assert (view.timer.run_state, view.timer.stopped_by) == (event_pb2.RUN_STATE_STOPPED, "alice")


# --- Snapshot -------------------------------------------------------------------------------------------------------------


async def test_a_snapshot_has_everything_a_user_sees_and_nothing_else(service: Service) -> None:
    for timer_id, user in (("a", "alice"), ("b", "alice"), ("c", "bob"), ("d", "bob")):
        await service.done(update(timer_id, user))
    service.sharing.share("c", "alice", owner="bob")
    await service.done(stop("b"))
    snapshot = await service.snapshot("alice")
    assert {view.timer.timer_id for view in snapshot.views} == {"a", "c"}
    assert set(snapshot.versions) == {"a", "c"}
    assert list(snapshot.gone_timer_ids) == []
    assert {view.timer.timer_id for view in (await service.snapshot("bob")).views} == {"c", "d"}
    nobody = await service.snapshot("nobody")
    assert (list(nobody.views), list(nobody.gone_timer_ids), dict(nobody.versions)) == ([], [], {})


async def test_what_a_client_knows_already_is_left_out(service: Service) -> None:
    version = (await service.done(update())).version
    service.sharing.share("tea", version=7)
    both = timer_pb2.Known(version=version, audience_version=7)
    snapshot = await service.snapshot("alice", tea=both)
    assert list(snapshot.views) == []
    assert snapshot.versions["tea"] == both
    for version_there, audience_version in ((version - 1, 7), (version, 6), (version, 0), (version + 1, 7)):
        known = timer_pb2.Known(version=version_there, audience_version=audience_version)
        assert len((await service.snapshot("alice", tea=known)).views) == 1, known


async def test_a_client_that_does_not_keep_audience_versions_gets_what_was_shared_since(service: Service) -> None:
    version = (await service.done(update())).version
    known = timer_pb2.Known(version=version)
    service.sharing.share("tea", version=version - 1)
    assert len((await service.snapshot("alice", tea=known)).views) == 0
    service.sharing.share("tea", "bob", version=version + 1)
    assert len((await service.snapshot("alice", tea=known)).views) == 1


async def test_what_a_client_knows_and_may_see_no_longer_is_gone(service: Service) -> None:
    for timer_id in ("stopped", "taken", "kept"):
        await service.done(update(timer_id, "bob"))
        service.sharing.share(timer_id, "alice", owner="bob")
    await service.done(stop("stopped", "bob"))
    service.sharing.share("taken", owner="bob")
    known = {timer_id: timer_pb2.Known(version=1) for timer_id in ("stopped", "taken", "kept", "unknown")}
    snapshot = await service.snapshot("alice", **known)
    assert set(snapshot.gone_timer_ids) == {"stopped", "taken", "unknown"}
    assert [view.timer.timer_id for view in snapshot.views] == ["kept"]


async def test_snapshots_of_many_users_come_in_order(service: Service) -> None:
    await service.done(update("a", "alice"))
    await service.done(update("b", "bob"))
    request = timer_pb2.SnapshotRequest(
        items=[timer_pb2.SnapshotItem(user_id=user) for user in ("bob", "nobody", "alice", "bob")]
    )
    results = (await service.stub.Snapshot(request, timeout=5)).results
    assert [[view.timer.timer_id for view in result.views] for result in results] == [["b"], [], ["a"], ["b"]]


async def test_a_user_of_the_most_and_largest_audiences_gets_a_snapshot(service: Service) -> None:
    names = [f"t{number}" for number in range(300)]
    await service.store.save(
        [Save(Timer(timer_id=timer_id, owner="mallory", version=1), expected_version=None) for timer_id in names]
    )
    for timer_id in names:
        service.sharing.share(timer_id, "bob", *(f"{number:0128d}" for number in range(499)), owner="mallory")
    snapshot = await service.snapshot("bob")
    assert {view.timer.timer_id for view in snapshot.views} == set(names)
    request = timer_pb2.SnapshotRequest(items=[timer_pb2.SnapshotItem(user_id=user) for user in ("bob", "carol")])
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await service.stub.Snapshot(request, timeout=10)
    assert may_be_one_items_fault(failure.value)


async def test_who_asks_is_told_what_was_stopped_of_their_own_and_of_what_is_shared_with_them(service: Service) -> None:
    for timer_id, user in (("mine", "alice"), ("live", "alice"), ("shared", "bob"), ("his", "bob"), ("taken", "bob")):
        await service.done(update(timer_id, user))
    service.sharing.share("shared", "alice", owner="bob")
    stopped = [await service.done(stop(timer_id, user)) for timer_id, user in (("mine", "alice"), ("his", "bob"))]
    before = stopped[-1].version + 1
    await service.done(stop("shared", "bob"))
    await service.done(stop("taken", "bob"))

    async def ask(user: str, since_us: int) -> set[str]:
        item = timer_pb2.SnapshotItem(user_id=user, stopped_since_us=since_us)
        (result,) = (await service.stub.Snapshot(timer_pb2.SnapshotRequest(items=[item]), timeout=5)).results
        return set(result.stopped_timer_ids)

    assert await ask("alice", 0) == {"mine", "shared"}
    assert await ask("alice", before) == {"shared"}
    assert await ask("bob", 0) == {"shared", "his", "taken"}
    assert await ask("nobody", 0) == set()
    assert list((await service.snapshot("alice")).stopped_timer_ids) == []


# --- failures -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (rpc_error(grpc.StatusCode.UNAVAILABLE), grpc.StatusCode.UNAVAILABLE),
        (rpc_error(grpc.StatusCode.DEADLINE_EXCEEDED), grpc.StatusCode.DEADLINE_EXCEEDED),
        (rpc_error(grpc.StatusCode.INTERNAL), grpc.StatusCode.UNAVAILABLE),
        (KeyError("alice's token"), grpc.StatusCode.INTERNAL),
    ],
)
async def test_a_sharing_service_that_fails_fails_the_call_and_changes_nothing(
    service: Service, failure: Exception, code: grpc.StatusCode
) -> None:
    await service.done(update(name="Tea"))
    service.sharing.failure = failure
    assert await status_of(service.write(update(name="Coffee"))) is code
    assert await status_of(service.get("tea")) is code
    assert await status_of(service.snapshot("alice")) is code
    service.sharing.failure = None
    assert (await service.get("tea")).view.timer.name == "Tea"


async def test_a_store_that_fails_makes_the_service_unavailable(service: Service) -> None:
    await service.done(update(name="Tea"))
    await service.store._database.write(lambda connection: connection.execute("ALTER TABLE timers RENAME TO away"))
    assert await status_of(service.write(update(name="Coffee"))) is grpc.StatusCode.UNAVAILABLE
    assert await status_of(service.get("tea")) is grpc.StatusCode.UNAVAILABLE
    await service.store._database.write(lambda connection: connection.execute("ALTER TABLE away RENAME TO timers"))
    assert (await service.get("tea")).view.timer.name == "Tea"


# --- what other replicas do meanwhile ---------------------------------------------------------------------------------------


@pytest.fixture
async def other(service: Service) -> AsyncIterator[Service]:
    """A second replica on the same store: what the first one remembers of a timer goes out of date."""
    relay = RecordingRelay[Saved]()
    servicer = TimerServicer(
        service.store, service.sharing.as_stub, relay.as_relay, Telemetry(), max_timers_per_user=MOST_TIMERS
    )
    async with serving(SERVICE, lambda server: timer_pb2_grpc.add_TimerServiceServicer_to_server(servicer, server)) as (
        _,
        channel,
    ):
        yield Service(timer_pb2_grpc.TimerServiceStub(channel), service.store, service.sharing, relay)


async def test_two_replicas_in_turn_lose_nothing(service: Service, other: Service) -> None:
    await service.done(update(total_duration="PT5M"))
    for replica in (other, service, other, service):
        await replica.done(extend())
    assert (await other.get("tea")).view.timer.total_duration == "PT9M"


async def test_a_base_version_is_compared_with_the_stored_one(service: Service, other: Service) -> None:
    first = await service.done(update(name="Tea"))
    second = await other.done(update(name="Coffee"))
    stale = await service.write_one(with_base(update(name="Cocoa"), first.version))
    assert (stale.error.code, stale.current.timer.name) == (CONFLICT, "Coffee")
    await other.done(update(name="Cocoa"))
    await service.done(update(name="Milk"))
    assert (await other.write_one(with_base(update(name="Tea"), second.version))).error.code == CONFLICT
    latest = (await service.get("tea")).view.timer
    assert (await other.done(with_base(update(name="Tea"), latest.version))).base_version == latest.version


async def test_a_command_that_another_replica_has_done_is_not_done_again(service: Service, other: Service) -> None:
    await service.done(update(total_duration="PT5M"))
    done = await other.done(extend(operation_id="once"))
    assert (await service.done(extend(operation_id="once"))).version == done.version
    assert (await service.get("tea")).view.timer.total_duration == "PT6M"


async def test_what_another_replica_stopped_is_stopped(service: Service, other: Service) -> None:
    await service.done(update(total_duration="PT5M"))
    await other.done(stop())
    assert (await service.write_one(update(name="too late"))).error.code == CONFLICT
    assert (await service.write_one(extend())).error.code == NOT_FOUND
    stopped = (await service.get("tea")).view.timer
    assert (await service.done(stop())).version == stopped.version  # it is so already


async def test_a_timer_that_is_written_again_and_again_is_not_read(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    await service.done(update(total_duration="PT5M"))
    monkeypatch.setattr(service.store, "load", None)
    await service.done(extend())
    await service.done(extend())


# --- who is told ------------------------------------------------------------------------------------------------------------


async def test_the_audience_that_was_asked_for_is_told_when_the_commit_follows_soon(service: Service) -> None:
    await service.done(update(name="Tea"))
    (saved,) = service.relay.offered
    assert saved.audience == service.sharing.audiences["tea"]


async def test_the_audience_is_to_be_asked_for_again_when_the_commit_takes_long(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("timer_service.servicer.AUDIENCE_GOOD_FOR", 0.0)
    await service.done(update(name="Tea"))
    (saved,) = service.relay.offered
    assert saved.audience is None


# --- traces ---------------------------------------------------------------------------------------------------------------


async def test_every_item_of_a_batch_goes_on_in_its_own_trace(tmp_path: Path) -> None:
    exporter = InMemorySpanExporter()
    telemetry = Telemetry(Recorder(SimpleSpanProcessor(exporter)))
    sharing, relay = FakeSharing(), RecordingRelay[Saved]()
    parents = [telemetry.begin(semconv.WS_RECEIVE).traceparent for _ in range(2)]
    items = [update(f"timer-{number}") for number in range(3)]
    for item, parent in zip(items, parents, strict=False):
        item.traceparent = parent
    async with open_store(tmp_path) as store:
        servicer = TimerServicer(store, sharing.as_stub, relay.as_relay, telemetry, max_timers_per_user=0)
        async with serving(
            SERVICE, lambda server: timer_pb2_grpc.add_TimerServiceServicer_to_server(servicer, server)
        ) as (_, channel):
            await timer_pb2_grpc.TimerServiceStub(channel).Write(timer_pb2.WriteRequest(items=items), timeout=5)
    spans = exporter.get_finished_spans()
    writes = [span for span in spans if span.name == "timer.write"]
    assert [f"{span.parent.span_id:016x}" for span in writes if span.parent] == [each.split("-")[2] for each in parents]
    inside = []
    for span in writes:
        context = span.get_span_context()
        assert context is not None
        inside.append(f"{context.trace_id:032x}-{context.span_id:016x}")
    (asked,) = sharing.asked
    assert isinstance(asked, sharing_pb2.AuthorizeRequest)
    assert [item.traceparent[3:52] for item in asked.items] == [*inside, ""]
    assert [each.timer.traceparent[3:52] for each in relay.offered] == [*inside, ""]
    (load,) = [span for span in spans if span.name == "store.load"]
    assert len(load.links) == 2
