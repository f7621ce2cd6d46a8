"""The sharing service's RPCs: validate, load, apply, save, answer; then leave it to the relay."""

import time
from collections.abc import AsyncIterator, Mapping

import grpc

from proto.sharing.v1 import sharing_pb2, sharing_pb2_grpc
from runtime import semconv
from runtime.clock import now_us
from runtime.errors import (
    BubbleError,
    InvalidArgument,
    LimitReached,
    NotFound,
    Overloaded,
    check_in_time,
    check_size,
    code_name,
)
from runtime.grpc_client import CALL_DEADLINE
from runtime.outbox import Relay
from runtime.telemetry import Span, Telemetry, is_sampled
from runtime.text import problem_with_id
from sharing_service import domain
from sharing_service.domain import Role, Share
from sharing_service.relay import fill
from sharing_service.store.contract import Save, ShareStore

MAX_ITEMS = 256
MAX_IDS = 1_024
MAX_USERS = 64

_SAVE_ATTEMPTS = 10

_ROLES = {
    Role.OWNER: sharing_pb2.ROLE_OWNER,
    Role.MEMBER: sharing_pb2.ROLE_MEMBER,
    Role.STRANGER: sharing_pb2.ROLE_STRANGER,
}

Context = grpc.aio.ServicerContext


class _Change:
    """One item of a batch on its way to its result."""

    __slots__ = ("_result", "_span", "change")

    def __init__(self, change: domain.Change, result: sharing_pb2.ChangeResult, span: Span) -> None:
        self.change = change
        self._result = result
        self._span = span

    @property
    def is_answered(self) -> bool:
        return self._result.WhichOneof("result") is not None

    def fail(self, error: BubbleError) -> None:
        _fail(self._result, self._span, error)

    def succeed(self, share: Share) -> None:
        fill(self._result.audience, share)
        self._span.set({semconv.SHARE_VERSION: share.version})


class SharingServicer(sharing_pb2_grpc.SharingServiceServicer):
    """See `proto/sharing/v1/sharing.proto`."""

    def __init__(
        self,
        store: ShareStore,
        relay: Relay[Share],
        telemetry: Telemetry,
        *,
        max_members_per_timer: int,
        max_shares_per_user: int,
    ) -> None:
        self._store = store
        self._relay = relay
        self._telemetry = telemetry
        self._max_members_per_timer = max_members_per_timer
        self._max_shares_per_user = max_shares_per_user
        self._database = {semconv.DB_SYSTEM: store.system, semconv.DB_COLLECTION: "shares"}

    async def Authorize(
        self,
        request: sharing_pb2.AuthorizeRequest,
        context: "Context[sharing_pb2.AuthorizeRequest, sharing_pb2.AuthorizeResponse]",
    ) -> sharing_pb2.AuthorizeResponse:
        items = request.items
        check_size(items, MAX_ITEMS)
        parents = [item.traceparent for item in items]
        with self._telemetry.spans(
            semconv.SHARING_AUTHORIZE,
            parents,
            lambda index: {
                semconv.USER_ID: items[index].user_id,
                semconv.TIMER_ID: items[index].timer_id,
                semconv.BATCH_SIZE: len(items),
            },
        ) as spans:
            traces = spans.parents(parents)
            with self._telemetry.batch_span(semconv.STORE_LOAD, traces, self._database):
                audiences = await self._store.load_audiences({item.timer_id for item in items})
            # Of several claims in one batch the first wins, as if they had come one after the other.
            claims: dict[str, Share] = {}
            for item in items:
                if item.claim and item.timer_id not in audiences and item.timer_id not in claims and _is_possible(item):
                    claims[item.timer_id] = domain.claim(item.timer_id, item.user_id, now_us())
            if claims:
                with self._telemetry.batch_span(semconv.STORE_SAVE, traces, self._database):
                    audiences |= await self._claimed(claims)
            response = sharing_pb2.AuthorizeResponse()
            for item in items:
                found = audiences.get(item.timer_id)
                if found is None:
                    response.results.add()
                else:
                    fill(response.results.add(role=_ROLES[domain.role(found, item.user_id)]).audience, found)
            for index, span in spans.recorded():
                role = sharing_pb2.Role.Name(response.results[index].role)
                span.set({semconv.ROLE: role.removeprefix("ROLE_").lower()})
        return response

    def AuthorizeStream(
        self,
        request_iterator: AsyncIterator[sharing_pb2.AuthorizeRequest],
        context: "Context[sharing_pb2.AuthorizeRequest, sharing_pb2.AuthorizeResponse]",
    ) -> AsyncIterator[sharing_pb2.AuthorizeResponse]:
        raise NotImplementedError  # the server makes it out of the method above (runtime/grpc_server.py)

    async def GetAudience(
        self,
        request: sharing_pb2.GetAudienceRequest,
        context: "Context[sharing_pb2.GetAudienceRequest, sharing_pb2.GetAudienceResponse]",
    ) -> sharing_pb2.GetAudienceResponse:
        check_size(request.timer_ids, MAX_IDS)
        shares = await self._store.load_audiences(set(request.timer_ids))
        response = sharing_pb2.GetAudienceResponse()
        for timer_id in request.timer_ids:
            message = response.audiences.add()
            found = shares.get(timer_id)
            if found is not None:
                if request.most_bytes > 0:
                    found = domain.shortened(found, request.user_id, request.most_bytes)
                fill(message, found)
        return response

    async def Change(
        self,
        request: sharing_pb2.ChangeRequest,
        context: "Context[sharing_pb2.ChangeRequest, sharing_pb2.ChangeResponse]",
    ) -> sharing_pb2.ChangeResponse:
        items = request.items
        check_size(items, MAX_ITEMS)
        response = sharing_pb2.ChangeResponse()
        deadline = time.monotonic() + CALL_DEADLINE
        parents = [item.traceparent for item in items]
        with self._telemetry.spans(
            semconv.SHARING_CHANGE, parents, lambda index: _attributes(items[index], len(items))
        ) as spans:
            waiting = []
            for index, (item, traceparent) in enumerate(zip(items, spans.parents(parents), strict=True)):
                result = response.results.add()
                try:
                    change = _change_from(item, traceparent)
                    domain.validate(change)
                except BubbleError as error:
                    _fail(result, spans[index], error)
                else:
                    waiting.append(_Change(change, result, spans[index]))
            # In rounds, each with one change of a timer, so that a change sees those before it.
            while waiting:
                by_timer: dict[str, _Change] = {}
                later = [each for each in waiting if by_timer.setdefault(each.change.timer_id, each) is not each]
                await self._change(by_timer, deadline)
                waiting = later
        return response

    async def ListShared(
        self,
        request: sharing_pb2.ListSharedRequest,
        context: "Context[sharing_pb2.ListSharedRequest, sharing_pb2.ListSharedResponse]",
    ) -> sharing_pb2.ListSharedResponse:
        check_size(request.user_ids, MAX_USERS)
        shared = await self._store.list_shared_with(set(request.user_ids))
        audiences: Mapping[str, domain.Audience] = {}
        if not request.without_audiences:
            audiences = await self._store.load_audiences({timer_id for ids in shared.values() for timer_id in ids})
        response = sharing_pb2.ListSharedResponse()
        for user_id in request.user_ids:
            timers = response.results.add().timers
            for timer_id in shared[user_id]:
                if request.without_audiences:
                    timers.add(timer_id=timer_id)
                elif timer_id in audiences:  # it may have been forgotten a moment ago
                    fill(timers.add(timer_id=timer_id).audience, audiences[timer_id])
        return response

    async def Release(
        self,
        request: sharing_pb2.ReleaseRequest,
        context: "Context[sharing_pb2.ReleaseRequest, sharing_pb2.ReleaseResponse]",
    ) -> sharing_pb2.ReleaseResponse:
        check_size(request.timer_ids, MAX_IDS)
        await self._store.delete(set(request.timer_ids))
        return sharing_pb2.ReleaseResponse()

    async def _claimed(self, claims: dict[str, Share]) -> dict[str, Share]:
        """The shares after all claims were tried: ours where we won, somebody else's where we lost."""
        won = await self._store.save([Save(share, None) for share in claims.values()])
        lost = {timer_id for timer_id, ours in zip(claims, won, strict=True) if not ours}
        return claims | (await self._store.load(lost) if lost else {})

    async def _change(self, by_timer: Mapping[str, _Change], deadline: float) -> None:
        """Answers changes of different timers. Who loses a race loads and tries again."""
        left = by_timer
        try:
            for _ in range(_SAVE_ATTEMPTS):
                left = await self._try(left, deadline)
                if not left:
                    return
            raise Overloaded("Too many changes of this timer's members at once")
        except BubbleError as error:
            for each in left.values():
                if not each.is_answered:
                    each.fail(error)

    async def _try(self, by_timer: Mapping[str, _Change], deadline: float) -> dict[str, _Change]:
        """One attempt; returns those that lost. Nothing is saved after the deadline (by the monotonic clock): the sender has given
        up and gone on by then. Raises what concerns all that it has not answered.
        """
        traces = [each.change.traceparent for each in by_timer.values()]
        with self._telemetry.batch_span(semconv.STORE_LOAD, traces, self._database):
            shares = await self._store.load(by_timer.keys())
        changed = self._changed(by_timer, shares)
        await self._refuse_for_crowded(changed, by_timer)
        if not changed:
            return {}
        check_in_time(deadline)
        traces = [by_timer[timer_id].change.traceparent for timer_id in changed]
        with self._telemetry.batch_span(semconv.STORE_SAVE, traces, self._database):
            saved = await self._store.save(
                [Save(share, shares[timer_id].version) for timer_id, share in changed.items()]
            )
        lost = {}
        for (timer_id, share), won in zip(changed.items(), saved, strict=True):
            if won:
                self._relay.offer(share)
                by_timer[timer_id].succeed(share)
            else:
                lost[timer_id] = by_timer[timer_id]
        return lost

    def _changed(self, by_timer: Mapping[str, _Change], shares: Mapping[str, Share]) -> dict[str, Share]:
        """What is to be saved. Changes that nothing is to be saved for are answered."""
        changed = {}
        now = now_us()
        for timer_id, each in by_timer.items():
            share = shares.get(timer_id)
            try:
                if share is None:
                    raise NotFound("There is no such timer", field="timerId")
                after = domain.apply(share, each.change, now, max_members=self._max_members_per_timer)
            except BubbleError as error:
                each.fail(error)
            else:
                if after is share:
                    each.succeed(share)
                else:
                    changed[timer_id] = after
        return changed

    async def _refuse_for_crowded(self, changed: dict[str, Share], by_timer: Mapping[str, _Change]) -> None:
        """Takes out the changes that would add users to more timers than they may be members of, and answers these."""
        most = self._max_shares_per_user
        adding = {timer_id: by_timer[timer_id] for timer_id in changed if by_timer[timer_id].change.add}
        if not most or not adding:
            return
        counts = await self._store.count_shared_with({each.change.user_id for each in adding.values()})
        for timer_id in changed.keys() - adding.keys():
            user_id = by_timer[timer_id].change.user_id
            if user_id in counts:  # who is removed in the same commit has a place more
                counts[user_id] -= 1
        for timer_id, each in adding.items():
            if counts[each.change.user_id] >= most:
                del changed[timer_id]
                each.fail(
                    LimitReached(
                        "Too many timers are shared with this user", field="sharedWithUser", retry_after_ms=60_000
                    )
                )
            counts[each.change.user_id] += 1


def _is_possible(item: sharing_pb2.AuthorizeItem) -> bool:
    return problem_with_id(item.timer_id) is None and problem_with_id(item.user_id) is None


def _fail(result: sharing_pb2.ChangeResult, span: Span, error: BubbleError) -> None:
    result.error.CopyFrom(error.to_proto())
    span.fail(code_name(error.code), error.message)


def _attributes(item: sharing_pb2.ChangeItem, batch_size: int) -> semconv.Attributes:
    """What a span says of a change before it is done."""
    origin, adds = item.origin, item.WhichOneof("change") == "add_user_id"
    return {
        semconv.ACTION: "share.add" if adds else "share.remove",
        semconv.USER_ID: origin.user_id,
        semconv.DEVICE_ID: origin.device_id,
        semconv.CONNECTION_ID: origin.connection_id,
        semconv.TIMER_ID: item.timer_id,
        semconv.MEMBER_ID: item.add_user_id if adds else item.remove_user_id,
        semconv.BATCH_SIZE: batch_size,
    }


def _change_from(item: sharing_pb2.ChangeItem, traceparent: str) -> domain.Change:
    kind = item.WhichOneof("change")
    if kind is None:
        raise InvalidArgument("The change is missing", field="action")
    return domain.Change(
        timer_id=item.timer_id,
        user_id=item.add_user_id if kind == "add_user_id" else item.remove_user_id,
        add=kind == "add_user_id",
        origin=domain.Origin(item.origin.user_id, item.origin.device_id, item.origin.connection_id),
        operation_id=item.operation_id,
        timer_name=item.timer_name,
        # It is stored with the share, so only when there is something to go on with.
        traceparent=traceparent if is_sampled(traceparent) else "",
        invited_at_version=item.invited_at_version,
    )
