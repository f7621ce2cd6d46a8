"""The outbox of the timer service: saved timers, delivered as `timer_changed` events."""

from collections.abc import Sequence

from proto.common.v1 import common_pb2
from proto.connection.v1 import connection_pb2
from proto.event.v1 import event_pb2
from proto.sharing.v1 import sharing_pb2, sharing_pb2_grpc
from runtime.event_id import event_id
from runtime.grpc_client import CALL_DEADLINE
from runtime.outbox import Marked
from timer_service.convert import timer_message
from timer_service.domain import Timer
from timer_service.store.contract import Marker, TimerStore


class TimerOutbox:
    """See `runtime.outbox.Outbox`."""

    def __init__(self, store: TimerStore, sharing: "sharing_pb2_grpc.SharingServiceAsyncStub") -> None:
        self._store = store
        self._sharing = sharing

    def marker(self, change: Timer) -> Marked:
        return Marked(change.timer_id, change.version, change.pending_since_us, change.traceparent)

    async def events(self, changes: Sequence[Timer]) -> Sequence[connection_pb2.DeliverItem]:
        response = await self._sharing.GetAudience(
            sharing_pb2.GetAudienceRequest(timer_ids=[timer.timer_id for timer in changes]), timeout=CALL_DEADLINE
        )
        return [_item(timer, audience) for timer, audience in zip(changes, response.audiences, strict=True)]

    async def list_pending(self, limit: int, after: tuple[int, str]) -> Sequence[Timer]:
        return await self._store.list_pending(limit, after)

    async def clear(self, changes: Sequence[Timer]) -> None:
        await self._store.clear_pending([Marker(timer.timer_id, timer.version) for timer in changes])


def _item(timer: Timer, audience: event_pb2.Audience) -> connection_pb2.DeliverItem:
    origin = timer.origin
    event = event_pb2.Event(
        event_id=event_id(timer.timer_id, timer.version),
        audience=audience,
        timer_changed=event_pb2.TimerChanged(timer=timer_message(timer)),
        origin=common_pb2.Origin(
            user_id=origin.user_id, device_id=origin.device_id, connection_id=origin.connection_id
        ),
        traceparent=timer.traceparent,
        committed_at_us=timer.pending_since_us,
    )
    recipients = [audience.owner_id, *audience.member_ids] if audience.owner_id else []
    return connection_pb2.DeliverItem(event=event, user_ids=recipients)
