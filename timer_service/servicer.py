"""The timer service's RPCs: validate, ask who may, load, apply, save, answer; then leave it to the relay."""

import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import grpc

from proto.event.v1 import event_pb2
from proto.sharing.v1 import sharing_pb2, sharing_pb2_grpc
from proto.timer.v1 import timer_pb2, timer_pb2_grpc
from runtime import logs, semconv
from runtime.clock import now_us
from runtime.errors import (
    INTERNAL,
    BubbleError,
    Conflict,
    InvalidArgument,
    LimitReached,
    NotFound,
    Overloaded,
    PermissionDenied,
    check_in_time,
    check_size,
    code_name,
)
from runtime.grpc_client import CALL_DEADLINE
from runtime.outbox import AUDIENCE_GOOD_FOR, Relay
from runtime.telemetry import SpanGroup, Telemetry
from timer_service import convert, domain
from timer_service.audiences import read_audiences
from timer_service.domain import Outcome, State, Timer
from timer_service.places import Places
from timer_service.recent import Recent
from timer_service.relay import Saved
from timer_service.store.contract import Save, TimerStore

log = logs.get(__name__)

MAX_WRITES = 256
MAX_SNAPSHOTS = 64
MAX_KNOWN = 2_000
MAX_STOPPED = 200  # the last ones that a client is told of, if it asks

_SAVE_ATTEMPTS = 10  # each lost round is one that somebody else won, so this many writers at once on one timer pass

_MAY_USE = (sharing_pb2.ROLE_OWNER, sharing_pb2.ROLE_MEMBER)
_NOT_YOURS = PermissionDenied("The timer is not yours", field="timerId").to_proto()
_NOT_FOUND = NotFound("There is no such timer", field="timerId").to_proto()

_TOO_MANY = LimitReached("The owner has too many timers", field="timerId", retry_after_ms=60_000)

Context = grpc.aio.ServicerContext


class _Write:
    """One item of a batch on its way to its result."""

    def __init__(self, request: domain.Request, result: timer_pb2.WriteResult, traceparent: str) -> None:
        self.request = request
        self.result = result
        self.traceparent = traceparent
        """The context for what happens for it, recorded or not."""
        self.audience = event_pb2.Audience()

    @property
    def creates(self) -> bool:
        """Whether it makes the timer if there is none."""
        return isinstance(self.request.command, domain.Update) and not self.request.base_version

    def fail(self, error: BubbleError, current: Timer | None = None) -> None:
        self.result.Clear()  # an earlier round may have ended otherwise
        self.result.error.CopyFrom(error.to_proto())
        if isinstance(error, Conflict) and current is not None:
            self.result.current.CopyFrom(convert.view(current, self.audience))

    def succeed(self, outcome: Outcome) -> None:
        self.result.Clear()
        result = self.result.outcome
        result.base_version, result.version = outcome.base_version, outcome.version
        convert.fill(result.view.timer, outcome.timer)
        result.view.audience.CopyFrom(self.audience)


class _Change(NamedTuple):
    """A timer to be saved, and the writes that made it."""

    timer: Timer
    expected_version: int | None
    audience: event_pb2.Audience
    outcomes: list[tuple[_Write, Outcome]]


class TimerServicer(timer_pb2_grpc.TimerServiceServicer):
    """See `proto/timer/v1/timer.proto`."""

    def __init__(
        self,
        store: TimerStore,
        sharing: "sharing_pb2_grpc.SharingServiceAsyncStub",
        relay: Relay[Saved],
        telemetry: Telemetry,
        *,
        max_timers_per_user: int,
    ) -> None:
        self._store = store
        self._sharing = sharing
        self._relay = relay
        self._telemetry = telemetry
        self._places = Places(store, max_timers_per_user)
        self._recent = Recent()
        self._database = {semconv.DB_SYSTEM: store.system, semconv.DB_COLLECTION: "timers"}

    async def Write(
        self, request: timer_pb2.WriteRequest, context: "Context[timer_pb2.WriteRequest, timer_pb2.WriteResponse]"
    ) -> timer_pb2.WriteResponse:
        items = request.items
        check_size(items, MAX_WRITES)
        response = timer_pb2.WriteResponse()
        parents = [item.traceparent for item in items]
        with self._telemetry.spans(
            semconv.TIMER_WRITE, parents, lambda index: _attributes(items[index], len(items))
        ) as spans:
            writes = []
            for index, span in spans.recorded():
                items[index].traceparent = span.traceparent
            for item, traceparent in zip(items, spans.parents(parents), strict=True):
                result = response.results.add()
                try:
                    writes.append(_Write(convert.request_from(item), result, traceparent))
                except InvalidArgument as error:
                    result.error.CopyFrom(error.to_proto())
            if writes:
                await self._write(writes, time.monotonic() + CALL_DEADLINE)
            if spans:
                _tell(spans, items, response.results)
        return response

    def WriteStream(
        self,
        request_iterator: AsyncIterator[timer_pb2.WriteRequest],
        context: "Context[timer_pb2.WriteRequest, timer_pb2.WriteResponse]",
    ) -> AsyncIterator[timer_pb2.WriteResponse]:
        raise NotImplementedError  # the server makes it out of the method above (runtime/grpc_server.py)

    async def Get(
        self, request: timer_pb2.GetRequest, context: "Context[timer_pb2.GetRequest, timer_pb2.GetResponse]"
    ) -> timer_pb2.GetResponse:
        check_size(request.items, MAX_WRITES)
        timer_ids = [item.timer_id for item in request.items]
        # The audience first: whoever is added after it has been read gets an event for that, and reads again.
        audiences = await self._sharing.GetAudience(
            sharing_pb2.GetAudienceRequest(timer_ids=timer_ids), timeout=CALL_DEADLINE
        )
        timers = await self._store.load(set(timer_ids))
        response = timer_pb2.GetResponse()
        for item, audience in zip(request.items, audiences.audiences, strict=True):
            timer = timers.get(item.timer_id)
            if timer is None or not audience.owner_id:
                response.results.add(error=_NOT_FOUND)
            elif item.user_id and item.user_id != audience.owner_id and item.user_id not in audience.member_ids:
                response.results.add(error=_NOT_YOURS)
            else:
                response.results.add(view=convert.view(timer, audience))
        return response

    async def Snapshot(
        self,
        request: timer_pb2.SnapshotRequest,
        context: "Context[timer_pb2.SnapshotRequest, timer_pb2.SnapshotResponse]",
    ) -> timer_pb2.SnapshotResponse:
        check_size(request.items, MAX_SNAPSHOTS)
        if any(len(item.known) > MAX_KNOWN for item in request.items):
            raise InvalidArgument(f"At most {MAX_KNOWN} known timers", field="versions")
        user_ids = [item.user_id for item in request.items]
        users = set(user_ids)
        timers = {timer.timer_id: timer for timer in await self._store.list_live(users)}
        shared = await self._sharing.ListShared(
            sharing_pb2.ListSharedRequest(user_ids=user_ids, without_audiences=True), timeout=CALL_DEADLINE
        )
        timer_ids = timers.keys() | {access.timer_id for each in shared.results for access in each.timers}
        audiences = await read_audiences(self._sharing, timer_ids, users)
        timers |= await self._store.load(audiences.keys() - timers.keys())
        visible: dict[str, list[event_pb2.TimerView]] = defaultdict(list)
        for timer_id, audience in audiences.items():
            timer = timers.get(timer_id)
            if timer is not None and timer.state is not State.STOPPED:
                view = convert.view(timer, audience)
                for user_id in {audience.owner_id, *audience.member_ids} & users:
                    visible[user_id].append(view)
        response = timer_pb2.SnapshotResponse()
        for item, each in zip(request.items, shared.results, strict=True):
            snapshot = _user_snapshot(item.known, visible[item.user_id])
            if item.HasField("stopped_since_us"):
                shared_timers = (timers.get(access.timer_id) for access in each.timers)
                snapshot.stopped_timer_ids.extend(await self._stopped(item, shared_timers))
            response.results.append(snapshot)
        return response

    async def _stopped(self, item: timer_pb2.SnapshotItem, shared: Iterable[Timer | None]) -> list[str]:
        own = await self._store.list_stopped(item.user_id, item.stopped_since_us, MAX_STOPPED)
        others = (timer for timer in shared if timer is not None and timer.state is State.STOPPED)
        return [timer.timer_id for timer in (*own, *others) if timer.stopped_at_us >= item.stopped_since_us]

    async def _write(self, writes: Sequence[_Write], deadline: float) -> None:
        timer_ids = {write.request.timer_id for write in writes}
        recent = self._recent.find(timer_ids)
        current = recent | await self._load(timer_ids - recent.keys(), writes)
        # Before anything is claimed: an id that was claimed for nothing would stay so.
        async with self._places.reserved(_creatable(writes, current)) as room:
            welcome = _welcome(writes, current, room)
            if welcome:
                asked_at = time.monotonic()
                await self._apply(await self._authorized(welcome), current, recent.keys(), asked_at, deadline)

    async def _load(self, timer_ids: Collection[str], writes: Sequence[_Write]) -> dict[str, Timer]:
        if not timer_ids:
            return {}
        traces = [write.request.traceparent for write in writes]
        with self._telemetry.batch_span(semconv.STORE_LOAD, traces, self._database):
            return await self._store.load(timer_ids)

    async def _authorized(self, writes: Sequence[_Write]) -> list[_Write]:
        """Those of the writes whose users may; the others get their error."""
        answers = await self._sharing.Authorize(
            sharing_pb2.AuthorizeRequest(
                items=[
                    sharing_pb2.AuthorizeItem(
                        timer_id=write.request.timer_id,
                        user_id=write.request.origin.user_id,
                        claim=write.creates,
                        traceparent=write.traceparent,
                    )
                    for write in writes
                ]
            ),
            timeout=CALL_DEADLINE,
        )
        allowed = []
        for write, answer in zip(writes, answers.results, strict=True):
            if answer.role in _MAY_USE:
                write.audience = answer.audience
                allowed.append(write)
            elif answer.role == sharing_pb2.ROLE_STRANGER:
                write.result.error.CopyFrom(_NOT_YOURS)
            else:
                write.result.error.CopyFrom(_NOT_FOUND)
        return allowed

    async def _apply(
        self,
        writes: Sequence[_Write],
        current: dict[str, Timer],
        unconfirmed: Collection[str],
        asked_at: float,
        deadline: float,
    ) -> None:
        """Folds the writes into their timers and saves these; who loses a race loads and tries again.

        `unconfirmed`: those of the current timers that may be out of date (see `recent`). `asked_at`: when the sharing service
        was asked for the audiences, which are good for the delivery if the commit follows soon (see `runtime.outbox`). Nothing is saved after the deadline,
        by the monotonic clock. Its sender has given up by then and gone on, and what was loaded may not remember any more
        that the command has happened. (What was loaded before can't be saved after all: compare-and-set sees to that.)
        """
        by_timer: dict[str, list[_Write]] = defaultdict(list)
        for write in writes:
            by_timer[write.request.timer_id].append(write)
        for _ in range(_SAVE_ATTEMPTS):
            async with self._places.reserved(_revivable(by_timer, current)) as room:
                changes = self._folded(by_timer, current, unconfirmed, room)
                if changes:
                    check_in_time(deadline)
                    saved = await self._save(changes, writes)
                    in_time = time.monotonic() - asked_at < AUDIENCE_GOOD_FOR
                    for change, won in zip(changes, saved, strict=True):
                        timer_id = change.timer.timer_id
                        if won:
                            _succeed(change.outcomes)
                            self._recent.saved(change.timer)
                            self._relay.offer(Saved(change.timer, change.audience if in_time else None))
                            del by_timer[timer_id]
                        else:
                            self._recent.forget(timer_id)
            if not by_timer:
                return
            current, unconfirmed = await self._load(by_timer.keys(), writes), ()
        log.warning("gave up on contended timers", count=len(by_timer))
        for its_writes in by_timer.values():
            for write in its_writes:
                write.fail(Overloaded("Too many changes of this timer at once"))

    def _folded(
        self,
        by_timer: dict[str, list[_Write]],
        current: Mapping[str, Timer],
        unconfirmed: Collection[str],
        room: dict[str, float],
    ) -> list[_Change]:
        """What is to be saved. Timers that need not be are answered, and removed from `by_timer`."""
        changes = []
        for timer_id, its_writes in list(by_timer.items()):
            timer = current.get(timer_id)
            folded, outcomes, all_change = _fold(timer, its_writes, room)
            if not all_change and timer_id in unconfirmed:
                self._recent.forget(timer_id)
            elif folded is None or folded is timer:
                _succeed(outcomes)
                del by_timer[timer_id]
            else:
                audience = its_writes[-1].audience
                changes.append(_Change(folded, timer.version if timer else None, audience, outcomes))
        return changes

    async def _save(self, changes: Sequence[_Change], writes: Sequence[_Write]) -> list[bool]:
        traces = [write.request.traceparent for write in writes]
        with self._telemetry.batch_span(semconv.STORE_SAVE, traces, self._database):
            return await self._store.save([Save(change.timer, change.expected_version) for change in changes])


def _attributes(item: timer_pb2.WriteItem, batch_size: int) -> semconv.Attributes:
    """What a span says of a command before it is done."""
    origin = item.origin
    return {
        semconv.ACTION: f"timer.{item.WhichOneof('command')}",
        semconv.USER_ID: origin.user_id,
        semconv.DEVICE_ID: origin.device_id,
        semconv.CONNECTION_ID: origin.connection_id,
        semconv.TIMER_ID: item.timer_id,
        semconv.BATCH_SIZE: batch_size,
    }


def _tell(spans: SpanGroup, items: Sequence[timer_pb2.WriteItem], results: Sequence[timer_pb2.WriteResult]) -> None:
    """What spans say of commands when they are done."""
    for index, span in spans.recorded():
        timer_id, result = items[index].timer_id, results[index]
        if result.HasField("error"):
            error = result.error
            span.fail(code_name(error.code), error.message)
            continue
        version = result.outcome.version
        span.set({semconv.VERSION: version, semconv.BASE_VERSION: result.outcome.base_version})
        of_timer = (each for item, each in zip(items, results, strict=True) if item.timer_id == timer_id)
        latest = max(each.outcome.version for each in of_timer)
        if version < latest:  # folded: only the last state of the batch is saved and delivered
            span.set({semconv.REPLACED_BY: latest})


def _is_new(write: _Write, current: Mapping[str, Timer]) -> bool:
    return write.creates and write.request.timer_id not in current


def _creatable(writes: Sequence[_Write], current: Mapping[str, Timer]) -> Counter[str]:
    """How many new timers of their senders these may make, by sender."""
    new = {(write.request.origin.user_id, write.request.timer_id) for write in writes if _is_new(write, current)}
    return Counter(user_id for user_id, _ in new)


def _welcome(writes: Sequence[_Write], current: Mapping[str, Timer], room: dict[str, float]) -> list[_Write]:
    """Those for whose timers there is room; the others get their error."""
    creating: set[str] = set()
    welcome = []
    for write in writes:
        timer_id, user_id = write.request.timer_id, write.request.origin.user_id
        if _is_new(write, current) and timer_id not in creating:
            if room[user_id] <= 0:
                write.fail(_TOO_MANY)
                continue
            room[user_id] -= 1
            creating.add(timer_id)
        welcome.append(write)
    return welcome


def _revivable(by_timer: Mapping[str, Sequence[_Write]], current: Mapping[str, Timer]) -> Counter[str]:
    """How many stopped timers are among these, by owner: bringing one back counts as a new one of its owner."""
    return Counter(
        its_writes[0].audience.owner_id
        for timer_id, its_writes in by_timer.items()
        if timer_id in current and current[timer_id].state is State.STOPPED
    )


def _fold(
    timer: Timer | None, writes: Sequence[_Write], room: dict[str, float]
) -> tuple[Timer | None, list[tuple[_Write, Outcome]], bool]:
    """The timer after all writes, what each of those that are not refused led to, and whether every one changed something. A
    refused one has its error.
    """
    outcomes = []
    all_change = True
    now = now_us()
    for write in writes:
        owner = write.audience.owner_id
        try:
            outcome = domain.apply(timer, write.request, owner, now)
            if timer is not None and timer.state is State.STOPPED and outcome.timer is not timer:
                if room.get(owner, 1) <= 0:  # not in it: stopped in this very batch, so there is a place
                    raise _TOO_MANY
                room[owner] = room.get(owner, 1) - 1
        except BubbleError as error:
            write.fail(error, timer)
            all_change = False
        except Exception:
            log.exception("a write crashed", timer_id=write.request.timer_id, **logs.about(write.traceparent))
            write.result.error.CopyFrom(INTERNAL)
            all_change = False
        else:
            all_change = all_change and outcome.timer is not timer
            timer = outcome.timer
            outcomes.append((write, outcome))
    return timer, outcomes, all_change


def _succeed(outcomes: Sequence[tuple[_Write, Outcome]]) -> None:
    for write, outcome in outcomes:
        write.succeed(outcome)


def _user_snapshot(
    known: Mapping[str, timer_pb2.Known], views: Sequence[event_pb2.TimerView]
) -> timer_pb2.UserSnapshot:
    snapshot = timer_pb2.UserSnapshot()
    for view in views:
        timer, audience_version = view.timer, view.audience.version
        versions = snapshot.versions[timer.timer_id]
        versions.version = timer.version
        versions.audience_version = audience_version
        # `in` before `[]`: a protobuf map makes what is asked for.
        if timer.timer_id not in known or not _is_current(known[timer.timer_id], timer.version, audience_version):
            snapshot.views.append(view)
    snapshot.gone_timer_ids.extend(timer_id for timer_id in known if timer_id not in snapshot.versions)
    return snapshot


def _is_current(known: timer_pb2.Known, version: int, audience_version: int) -> bool:
    if known.HasField("audience_version"):
        return known.version == version and known.audience_version == audience_version
    return known.version == version and audience_version <= version
