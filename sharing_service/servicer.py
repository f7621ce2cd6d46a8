"""The sharing service's RPCs: validate, load, apply, save, answer; then leave it to the relay."""

import time
from collections.abc import AsyncIterator

import grpc

from proto.common.v1 import common_pb2
from proto.event.v1 import event_pb2
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
)
from runtime.grpc_client import CALL_DEADLINE
from runtime.outbox import Relay
from runtime.telemetry import Telemetry, is_sampled
from runtime.text import check_id
from sharing_service import domain
from sharing_service.domain import Role, Share
from sharing_service.relay import audience, fill
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
                if item.claim and item.timer_id not in audiences and item.timer_id not in claims:
                    check_id("timerId", item.timer_id)
                    check_id("userId", item.user_id)
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
        nobody = event_pb2.Audience()
        return sharing_pb2.GetAudienceResponse(
            audiences=[audience(shares[timer_id]) if timer_id in shares else nobody for timer_id in request.timer_ids]
        )

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
            # One after the other: sharing is rare beside updates, and two changes of one timer see each other so.
            for index, (item, traceparent) in enumerate(zip(items, spans.parents(parents), strict=True)):
                with spans[index] as span:
                    try:
                        share = await self._change(_change_from(item, traceparent), deadline)
                        response.results.add(audience=audience(share))
                        span.set({semconv.SHARE_VERSION: share.version})
                    except BubbleError as error:
                        response.results.add(error=error.to_proto())
                        span.fail(
                            common_pb2.ErrorCode.Name(error.code).removeprefix("ERROR_CODE_").lower(), error.message
                        )
        return response

    async def ListShared(
        self,
        request: sharing_pb2.ListSharedRequest,
        context: "Context[sharing_pb2.ListSharedRequest, sharing_pb2.ListSharedResponse]",
    ) -> sharing_pb2.ListSharedResponse:
        check_size(request.user_ids, MAX_USERS)
        response = sharing_pb2.ListSharedResponse()
        for user_id in request.user_ids:
            shares = await self._store.list_shared_with(user_id)
            response.results.add(
                timers=[sharing_pb2.TimerAccess(timer_id=each.timer_id, audience=audience(each)) for each in shares]
            )
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

    async def _change(self, change: domain.Change, deadline: float) -> Share:
        """Nothing is saved after the deadline (by the monotonic clock): its sender has given up and gone on by then."""
        domain.validate(change)
        traces = [change.traceparent]
        for _ in range(_SAVE_ATTEMPTS):
            with self._telemetry.batch_span(semconv.STORE_LOAD, traces, self._database):
                share = (await self._store.load([change.timer_id])).get(change.timer_id)
            if share is None:
                raise NotFound("There is no such timer", field="timerId")
            changed = domain.apply(share, change, now_us(), max_members=self._max_members_per_timer)
            if changed is share:
                return share
            if change.add:
                await self._check_limit_of(change.user_id)
            check_in_time(deadline)
            with self._telemetry.batch_span(semconv.STORE_SAVE, traces, self._database):
                (saved,) = await self._store.save([Save(changed, share.version)])
            if saved:
                self._relay.offer(changed)
                return changed
        raise Overloaded("Too many changes of this timer's members at once")

    async def _check_limit_of(self, user_id: str) -> None:
        most = self._max_shares_per_user
        if most and await self._store.count_shared_with(user_id) >= most:
            raise LimitReached(
                "Too many timers are shared with this user", field="sharedWithUser", retry_after_ms=60_000
            )


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
