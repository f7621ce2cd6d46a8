"""The outbox of the timer service: saved timers, delivered as `timer_changed` events."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from proto.connection.v1 import connection_pb2
from proto.event.v1 import event_pb2
from proto.sharing.v1 import sharing_pb2, sharing_pb2_grpc
from runtime.event_id import event_id
from runtime.grpc_client import CALL_DEADLINE
from runtime.outbox import Marked
from timer_service.convert import fill
from timer_service.domain import Timer
from timer_service.store.contract import Marker, TimerStore


class Saved(NamedTuple):
    """A committed state, and its audience where that is known well enough (see `runtime.outbox.Outbox.events`)."""

    timer: Timer
    audience: event_pb2.Audience | None = None


class TimerOutbox:
    """See `runtime.outbox.Outbox`."""

    def __init__(self, store: TimerStore, sharing: "sharing_pb2_grpc.SharingServiceAsyncStub") -> None:
        self._store = store
        self._sharing = sharing

    def marker(self, change: Saved) -> Marked:
        timer = change.timer
        return Marked(timer.timer_id, timer.version, timer.pending_since_us, timer.traceparent)

    async def events(self, changes: Sequence[Saved], *, settled: bool = False) -> Sequence[connection_pb2.DeliverItem]:
        unknown = [change.timer.timer_id for change in changes if change.audience is None]
        read = iter(await self._read_audiences(unknown) if unknown else ())
        return [_item(timer, next(read) if audience is None else audience) for timer, audience in changes]

    async def list_pending(self, limit: int, after: tuple[int, str]) -> Sequence[Saved]:
        return [Saved(timer) for timer in await self._store.list_pending(limit, after)]

    async def clear(self, changes: Sequence[Saved]) -> None:
        await self._store.clear_pending([Marker(timer.timer_id, timer.version) for timer, _ in changes])

    async def _read_audiences(self, timer_ids: Sequence[str]) -> Iterable[event_pb2.Audience]:
        request = sharing_pb2.GetAudienceRequest(timer_ids=timer_ids)
        response = await self._sharing.GetAudience(request, timeout=CALL_DEADLINE)
        return response.audiences


def _item(timer: Timer, audience: event_pb2.Audience) -> connection_pb2.DeliverItem:
    item = connection_pb2.DeliverItem()
    if audience.owner_id:
        item.user_ids.append(audience.owner_id)
        item.user_ids.extend(audience.member_ids)
    event = item.event
    event.event_id = event_id(timer.timer_id, timer.version)
    event.audience.CopyFrom(audience)
    fill(event.timer_changed.timer, timer)
    event.origin.user_id = timer.origin.user_id
    event.origin.device_id = timer.origin.device_id
    event.origin.connection_id = timer.origin.connection_id
    event.traceparent = timer.traceparent
    event.committed_at_us = timer.pending_since_us
    return item
