"""`runtime/outbox.py`: delivering what was committed, with fakes, in virtual time."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple, cast

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata

from proto.connection.v1 import connection_pb2, connection_pb2_grpc
from proto.event.v1 import event_pb2
from runtime import outbox
from runtime.errors import Unavailable
from runtime.metrics import CONVERGENCE
from runtime.outbox import (
    EVENTS,
    FAILED,
    GRACE,
    LONGEST_BACKOFF,
    MAX_WAITING,
    PENDING,
    PENDING_AGE,
    SWEEP_INTERVAL,
    SWEEPS,
    Marked,
    Relay,
)
from runtime.telemetry import Telemetry
from tests.unit import virtual_time


class Change(NamedTuple):
    """A version of a timer."""

    timer_id: str
    version: int
    since_us: int = 1
    twice: bool = False


class MemoryOutbox:
    """A store's markers by timer."""

    def __init__(self) -> None:
        self.markers: dict[str, Change] = {}
        self.is_away = False
        self.clearing_takes = 0.0
        self.clearings = 0
        self.cleared: list[Change] = []
        self.pages: list[tuple[int, tuple[int, str]]] = []
        self.settled: list[Change] = []

    def commit(self, *changes: Change) -> None:
        self.markers |= {change.timer_id: change for change in changes}

    def marker(self, change: Change) -> Marked:
        return Marked(change.timer_id, change.version, change.since_us, twice=change.twice)

    async def events(self, changes: Sequence[Change], *, settled: bool = False) -> Sequence[connection_pb2.DeliverItem]:
        self._reach()
        self.settled += [change for change in changes if settled]
        return [
            connection_pb2.DeliverItem(event=event_pb2.Event(event_id=f"{change.timer_id} {change.version}"))
            for change in changes
        ]

    async def list_pending(self, limit: int, after: tuple[int, str]) -> Sequence[Change]:
        self._reach()
        self.pages.append((limit, after))
        found = sorted(self.markers.values(), key=lambda change: (change.since_us, change.timer_id))
        return [change for change in found if (change.since_us, change.timer_id) > after][:limit]

    async def clear(self, changes: Sequence[Change]) -> None:
        self.clearings += 1
        await asyncio.sleep(self.clearing_takes)
        self._reach()
        self.cleared += changes
        for change in changes:
            if self.markers.get(change.timer_id) == change:
                del self.markers[change.timer_id]

    def _reach(self) -> None:
        if self.is_away:
            raise Unavailable("The database can't be reached")


class Connections:
    """The connection service: remembers what was delivered when, and answers as told."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.times: dict[str, list[float]] = {}
        self.pending: set[str] = set()
        self.failure: grpc.StatusCode | None = None
        self.takes: dict[str, float] = {}
        self.gate = asyncio.Event()
        self.gate.set()

    async def Deliver(
        self, request: connection_pb2.DeliverRequest, *, timeout: float
    ) -> connection_pb2.DeliverResponse:
        assert timeout > 0
        delivered = [item.event.event_id for item in request.items]
        self.calls.append(delivered)
        for event_id in delivered:
            self.times.setdefault(event_id, []).append(virtual_time.now())
        await self.gate.wait()
        await asyncio.sleep(max(self.takes.get(event_id, 0.0) for event_id in delivered))
        if self.failure is not None:
            raise AioRpcError(self.failure, Metadata(), Metadata(), details="away", debug_error_string="")
        return connection_pb2.DeliverResponse(
            statuses=[
                connection_pb2.DELIVERY_STATUS_PENDING
                if event_id.split()[0] in self.pending
                else connection_pb2.DELIVERY_STATUS_DELIVERED
                for event_id in delivered
            ]
        )


class Running(NamedTuple):
    """A relay that runs, and what is around it."""

    relay: Relay[Change]
    outbox: MemoryOutbox
    connections: Connections

    def save(self, *changes: Change) -> None:
        """Commits changes and offers them, as a servicer does."""
        self.outbox.commit(*changes)
        for change in changes:
            self.relay.offer(change)

    async def until_clear(self, seconds: float) -> None:
        """Waits until no marker is left."""
        async with asyncio.timeout(seconds):
            while self.outbox.markers:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def running() -> AsyncIterator[Running]:
    store, connections = MemoryOutbox(), Connections()
    relay = Relay(store, cast("connection_pb2_grpc.ConnectionServiceAsyncStub", connections), Telemetry())
    task = asyncio.create_task(relay.run())
    try:
        yield Running(relay, store, connections)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def in_virtual_time(test: "Callable[[Running], object]") -> None:
    async def main() -> None:
        async with running() as system:
            result = test(system)
            assert asyncio.iscoroutine(result)
            await result

    virtual_time.run(main())


def test_a_change_is_delivered_at_once_and_its_marker_removed() -> None:
    async def story(system: Running) -> None:
        system.save(Change("tea", 1))
        await system.until_clear(0.1)
        assert system.connections.times == {"tea 1": [0.0]}

    in_virtual_time(story)


def test_changes_that_are_offered_together_share_a_call() -> None:
    async def story(system: Running) -> None:
        system.save(*(Change(f"timer-{number}", 1) for number in range(100)))
        await system.until_clear(0.1)
        assert [len(call) for call in system.connections.calls] == [100]

    in_virtual_time(story)


def test_no_call_is_larger_than_a_batch_and_never_more_than_the_lanes_are_under_way() -> None:
    async def story(system: Running) -> None:
        system.connections.gate.clear()
        system.save(*(Change(f"timer-{number}", 1) for number in range(5 * outbox.BATCH)))
        await asyncio.sleep(0.1)
        assert [len(call) for call in system.connections.calls] == [outbox.BATCH] * outbox.LANES
        system.connections.gate.set()
        await system.until_clear(0.5)
        assert [len(call) for call in system.connections.calls] == [outbox.BATCH] * 5

    in_virtual_time(story)


def test_of_a_timer_that_waits_only_the_newest_change_is_delivered() -> None:
    async def story(system: Running) -> None:
        system.connections.gate.clear()
        system.save(*(Change(f"other-{number}", 1) for number in range(outbox.BATCH * outbox.LANES)))
        await asyncio.sleep(0.1)  # every lane is busy
        for version in (1, 2, 3):
            system.save(Change("tea", version))
        system.relay.offer(Change("tea", 2))  # an older one that comes late changes nothing
        system.connections.gate.set()
        await system.until_clear(0.5)
        assert [call for call in system.connections.calls if any("tea" in event for event in call)] == [["tea 3"]]

    in_virtual_time(story)


def test_a_marker_of_a_newer_change_is_not_removed_by_the_delivery_of_an_older_one() -> None:
    async def story(system: Running) -> None:
        system.connections.gate.clear()
        system.save(Change("tea", 1))
        await asyncio.sleep(0.1)
        system.outbox.commit(Change("tea", 2))  # committed by another replica
        system.connections.gate.set()
        await asyncio.sleep(0.1)
        assert system.outbox.markers == {"tea": Change("tea", 2)}
        await system.until_clear(GRACE + 3 * SWEEP_INTERVAL)
        assert list(system.connections.times) == ["tea 1", "tea 2"]

    in_virtual_time(story)


def test_a_change_that_an_edge_did_not_take_over_keeps_its_marker_and_is_repeated_until_it_does() -> None:
    async def story(system: Running) -> None:
        system.connections.pending = {"tea"}
        system.save(Change("tea", 1), Change("eggs", 1))
        await asyncio.sleep(30)
        assert set(system.outbox.markers) == {"tea"}
        assert len(system.connections.times["eggs 1"]) == 1
        attempts = system.connections.times["tea 1"]
        waits = [later - earlier for earlier, later in itertools.pairwise(attempts)]
        assert waits[0] >= GRACE - 0.1
        assert all(SWEEP_INTERVAL * 0.75 <= wait <= LONGEST_BACKOFF + 2 * SWEEP_INTERVAL for wait in waits)
        assert len(attempts) >= 30 / (LONGEST_BACKOFF + 2 * SWEEP_INTERVAL)
        system.connections.pending.clear()
        await system.until_clear(LONGEST_BACKOFF + 2 * SWEEP_INTERVAL)

    in_virtual_time(story)


def test_what_a_crashed_process_left_behind_is_found_and_delivered() -> None:
    async def story(system: Running) -> None:
        system.outbox.commit(Change("tea", 1), Change("eggs", 7))
        await system.until_clear(GRACE + 3 * SWEEP_INTERVAL)
        assert set(system.connections.times) == {"tea 1", "eggs 7"}

    in_virtual_time(story)


def test_what_is_young_is_left_to_the_replica_that_committed_it() -> None:
    async def story(system: Running) -> None:
        system.outbox.commit(Change("tea", 1))
        for version in range(2, 30):  # always a new change before the last one is old enough
            await asyncio.sleep(GRACE * 0.6)
            system.outbox.commit(Change("tea", version))
        assert system.connections.calls == []

    in_virtual_time(story)


@pytest.mark.parametrize(
    "failure", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.INTERNAL]
)
def test_an_outage_of_the_connection_service_delays_and_loses_nothing(failure: grpc.StatusCode) -> None:
    async def story(system: Running) -> None:
        system.connections.failure = failure
        system.save(*(Change(f"timer-{number}", 1) for number in range(300)))
        await asyncio.sleep(20)
        assert len(system.outbox.markers) == 300
        system.connections.failure = None
        await system.until_clear(LONGEST_BACKOFF + 2 * SWEEP_INTERVAL)

    in_virtual_time(story)


def test_an_outage_of_the_database_delays_and_loses_nothing() -> None:
    async def story(system: Running) -> None:
        system.save(Change("tea", 1))
        system.outbox.is_away = True
        await asyncio.sleep(20)
        assert system.outbox.markers
        system.outbox.is_away = False
        await system.until_clear(GRACE + 3 * SWEEP_INTERVAL)

    in_virtual_time(story)


def test_a_marker_that_could_not_be_removed_is_removed_after_another_delivery() -> None:
    async def story(system: Running) -> None:
        system.connections.gate.clear()
        system.save(Change("tea", 1))
        await asyncio.sleep(0.1)
        system.outbox.is_away = True
        system.connections.gate.set()
        await asyncio.sleep(0.1)
        system.outbox.is_away = False
        await system.until_clear(GRACE + 3 * SWEEP_INTERVAL)
        assert len(system.connections.times["tea 1"]) == 2

    in_virtual_time(story)


def test_the_sweeper_reads_page_after_page() -> None:
    async def story(system: Running) -> None:
        count = 2 * outbox.SWEEP_PAGE + 10
        system.outbox.commit(*(Change(f"timer-{number:05}", 1, since_us=number // 100) for number in range(count)))
        await system.until_clear(GRACE + 4 * SWEEP_INTERVAL)
        assert len(system.connections.times) == count
        assert all(len(times) == 1 for times in system.connections.times.values())
        assert max(map(len, system.connections.calls)) <= outbox.BATCH
        first = system.outbox.pages[:3]
        assert first == [
            (outbox.SWEEP_PAGE, (0, "")),
            (outbox.SWEEP_PAGE, (4, "timer-00499")),
            (outbox.SWEEP_PAGE, (9, "timer-00999")),
        ]

    in_virtual_time(story)


def test_what_waits_is_bounded_and_the_rest_is_left_to_the_sweeper() -> None:
    async def story(system: Running) -> None:
        system.connections.gate.clear()
        changes = [Change(f"timer-{number:05}", 1) for number in range(MAX_WAITING + 500)]
        system.save(*changes)
        assert len(system.relay._waiting) == MAX_WAITING
        system.relay.offer(Change(changes[0].timer_id, 2))  # of one that waits, the newer change still takes its place
        assert len(system.relay._waiting) == MAX_WAITING
        system.outbox.commit(Change(changes[0].timer_id, 2))
        system.connections.gate.set()
        await system.until_clear(GRACE + 4 * SWEEP_INTERVAL)
        assert f"{changes[0].timer_id} 1" not in system.connections.times
        assert f"{changes[-1].timer_id} 1" in system.connections.times

    in_virtual_time(story)


def test_the_sweeper_leaves_alone_what_waits_or_is_under_way() -> None:
    async def story(system: Running) -> None:
        system.connections.gate.clear()  # everything is slow
        changes = [Change(f"timer-{number:05}", 1) for number in range(4 * outbox.BATCH)]
        system.save(*changes)
        await asyncio.sleep(GRACE + 5 * SWEEP_INTERVAL)  # every marker is due
        assert len(system.connections.calls) == outbox.LANES
        system.connections.gate.set()
        await system.until_clear(0.5)
        assert all(len(times) == 1 for times in system.connections.times.values())

    in_virtual_time(story)


def test_what_was_delivered_is_not_repeated_while_the_store_is_slow_to_remove_its_marker() -> None:
    async def story(system: Running) -> None:
        system.outbox.clearing_takes = 4.0
        system.save(Change("tea", 1))
        await system.until_clear(6.0)
        assert len(system.connections.times["tea 1"]) == 1

    in_virtual_time(story)


def test_a_store_that_is_slow_to_remove_markers_slows_deliveries_down_and_their_changes_come_once() -> None:
    async def story(system: Running) -> None:
        system.outbox.clearing_takes = 0.4
        most = 0
        for version in range(1, 11):
            system.save(*(Change(f"timer-{number}", version) for number in range(4_000)))
            await asyncio.sleep(0.1)
            most = max(most, len(system.relay._uncleared))
        assert most <= outbox.MAX_UNCLEARED + outbox.LANES * outbox.BATCH
        await system.until_clear(20)
        assert sum(map(len, system.connections.calls)) < 40_000 / 2  # most were overtaken while they waited
        assert all(f"timer-{number} 10" in system.connections.times for number in range(4_000))

    in_virtual_time(story)


def test_markers_are_removed_many_at_a_time() -> None:
    async def story(system: Running) -> None:
        for number in range(20):
            system.save(Change(f"timer-{number}", 1))
            await asyncio.sleep(outbox.CLEAR_LINGER / 10)
        await system.until_clear(1)
        assert system.outbox.clearings <= 4

    in_virtual_time(story)


def test_a_change_that_is_to_be_told_twice_is_told_again_when_it_is_settled_and_only_then_done() -> None:
    async def story(system: Running) -> None:
        change = Change("tea", 1, twice=True)
        system.save(change)
        await asyncio.sleep(GRACE - 0.1)
        assert len(system.connections.times["tea 1"]) == 1
        assert system.outbox.settled == []
        assert system.outbox.markers == {"tea": change}
        await system.until_clear(GRACE + 2 * SWEEP_INTERVAL)
        first, second = system.connections.times["tea 1"]
        assert second - first >= GRACE > outbox.AUDIENCE_GOOD_FOR
        assert system.outbox.settled == [change]

    in_virtual_time(story)


def test_a_change_that_is_to_be_told_twice_and_was_found_by_its_marker_is_told_once_and_late() -> None:
    async def story(system: Running) -> None:
        change = Change("tea", 1, twice=True)
        system.outbox.commit(change)  # by a process that died
        began = virtual_time.now()
        await system.until_clear(GRACE + 3 * SWEEP_INTERVAL)
        (told,) = system.connections.times["tea 1"]
        assert told - began >= GRACE
        assert system.outbox.settled == [change]

    in_virtual_time(story)


def test_the_marker_of_a_change_that_was_overtaken_is_left_to_the_newer_one() -> None:
    async def story(system: Running) -> None:
        system.connections.gate.clear()
        system.save(Change("tea", 1), Change("eggs", 1))
        system.save(*(Change(f"other-{number}", 1) for number in range(2 * outbox.BATCH)))
        await asyncio.sleep(0.1)  # every lane is busy
        system.save(Change("tea", 2))
        system.connections.gate.set()
        await system.until_clear(0.5)
        assert Change("tea", 1) not in system.outbox.cleared
        assert Change("eggs", 1) in system.outbox.cleared

    in_virtual_time(story)


def test_an_older_change_that_is_taken_over_last_does_not_keep_the_marker_of_the_newer_one() -> None:
    async def story(system: Running) -> None:
        system.connections.takes = {"tea 1": 0.2}
        system.save(Change("tea", 1))
        await asyncio.sleep(0.2 - outbox.CLEAR_LINGER / 2)
        system.save(Change("tea", 2))  # by the other lane, done before the first
        await system.until_clear(0.5)
        assert list(system.connections.times) == ["tea 1", "tea 2"]

    in_virtual_time(story)


def test_nothing_is_remembered_of_an_older_change_that_is_taken_over_last() -> None:
    async def story(system: Running) -> None:
        def entry(version: int) -> outbox._Entry[Change]:
            change = Change("tea", version)
            return outbox._Entry(change, system.outbox.marker(change), 0.0)

        relay = system.relay
        await relay._deliver([entry(2)])
        system.connections.pending = {"tea"}
        await relay._deliver([entry(2)], repeated=True)  # the sweeper had found it before, and it fails
        system.connections.pending = set()
        await relay._deliver([entry(1)])
        await asyncio.sleep(2 * outbox.CLEAR_LINGER)
        assert system.outbox.cleared == [Change("tea", 2)]
        assert relay._uncleared == {}
        assert relay._under_way == {}

    in_virtual_time(story)


def test_draining_waits_until_everything_offered_was_delivered_and_its_markers_removed() -> None:
    async def story(system: Running) -> None:
        system.connections.gate.clear()
        system.save(*(Change(f"timer-{number}", 1) for number in range(500)))
        draining = asyncio.create_task(system.relay.drain(5.0))
        await asyncio.sleep(1)
        assert not draining.done()
        system.connections.gate.set()
        await draining
        assert system.outbox.markers == {}

    in_virtual_time(story)


def test_draining_does_not_wait_for_ever() -> None:
    async def story(system: Running) -> None:
        system.connections.gate.clear()
        system.save(Change("tea", 1))
        await system.relay.drain(5.0)
        assert virtual_time.now() == pytest.approx(5.0, abs=0.1)
        assert system.outbox.markers

    in_virtual_time(story)


# --- what is measured ---------------------------------------------------------------------------------------------------


class Measured:
    """What the relay's metrics have counted since this was made."""

    def __init__(self) -> None:
        self._taken_over = CONVERGENCE.labels("taken_over")
        self._before = self._now()

    def _now(self) -> dict[str, float]:
        counts = {
            f"{attempt} {outcome}": EVENTS.labels(attempt, outcome)._value.get()
            for attempt in ("first", "repeat")
            for outcome in ("delivered", "pending")
        }
        return {**counts, "seconds": self._taken_over.sum, "observations": self._taken_over.count}

    def __getitem__(self, name: str) -> float:
        return self._now()[name] - self._before[name]


def age() -> float:
    """How old the oldest pending change is said to be."""
    (family,) = PENDING_AGE.collect()
    return family.samples[0].value


def test_convergence_is_from_the_offer_to_the_last_edges_acknowledgement() -> None:
    async def story(system: Running) -> None:
        measured = Measured()
        system.connections.gate.clear()
        system.save(Change("tea", 1), Change("eggs", 1))
        await asyncio.sleep(0.5)
        assert measured["observations"] == 0
        system.connections.gate.set()
        await system.until_clear(0.1)
        assert measured["observations"] == 2
        assert measured["seconds"] == pytest.approx(1.0)
        assert (measured["first delivered"], measured["first pending"]) == (2, 0)

    in_virtual_time(story)


def test_what_an_edge_did_not_take_over_counts_from_its_commit_when_it_does() -> None:
    async def story(system: Running) -> None:
        measured = Measured()
        system.connections.pending = {"tea"}
        system.save(Change("tea", 1))
        await asyncio.sleep(10)
        assert measured["observations"] == 0
        assert age() == pytest.approx(10)
        assert PENDING._value.get() == 1
        repeats = measured["repeat pending"]
        assert repeats == len(system.connections.times["tea 1"]) - 1 > 0
        assert measured["first pending"] == 1
        system.connections.pending.clear()
        await system.until_clear(LONGEST_BACKOFF + 2 * SWEEP_INTERVAL)
        assert (measured["observations"], measured["repeat delivered"]) == (1, 1)
        assert measured["seconds"] == pytest.approx(system.connections.times["tea 1"][-1])
        await asyncio.sleep(2 * SWEEP_INTERVAL)
        assert age() == 0
        assert PENDING._value.get() == 0

    in_virtual_time(story)


def test_a_change_that_replaces_a_waiting_one_has_its_age() -> None:
    async def story(system: Running) -> None:
        system.connections.gate.clear()
        system.save(*(Change(f"other-{number}", 1) for number in range(outbox.BATCH * outbox.LANES)))
        await asyncio.sleep(0.1)  # every lane is busy
        system.save(Change("tea", 1))
        await asyncio.sleep(1)  # less than what the sweeper leaves to the relay
        system.save(Change("tea", 2))
        system.connections.gate.set()
        await system.until_clear(0.1)
        assert system.connections.times["tea 2"] == [pytest.approx(1.1)]
        assert measured["seconds"] == pytest.approx(outbox.BATCH * outbox.LANES * 1.1 + 1.0)

    measured = Measured()
    in_virtual_time(story)


def test_the_age_of_what_is_pending_goes_on_rising_while_the_sweeper_can_not_look() -> None:
    async def story(system: Running) -> None:
        system.connections.pending = {"tea"}
        system.save(Change("tea", 1))
        await asyncio.sleep(5)
        failed = SWEEPS.labels("failed")._value.get()
        system.outbox.is_away = True
        await asyncio.sleep(20)
        assert age() == pytest.approx(25)
        assert SWEEPS.labels("failed")._value.get() > failed

    in_virtual_time(story)


def test_a_call_that_fails_is_counted() -> None:
    async def story(system: Running) -> None:
        failed = FAILED._value.get()
        system.connections.failure = grpc.StatusCode.UNAVAILABLE
        system.save(Change("tea", 1))
        await asyncio.sleep(0.1)
        assert FAILED._value.get() == failed + 1

    in_virtual_time(story)
