"""The outbox of the sharing service: changed audiences, delivered as `audience_changed` events."""

from collections.abc import Sequence

from proto.common.v1 import common_pb2
from proto.connection.v1 import connection_pb2
from proto.event.v1 import event_pb2
from runtime.event_id import event_id
from runtime.outbox import Marked
from sharing_service.domain import Audience, Share
from sharing_service.store.contract import ShareStore


class ShareOutbox:
    """See `runtime.outbox.Outbox`."""

    def __init__(self, store: ShareStore) -> None:
        self._store = store

    def marker(self, change: Share) -> Marked:
        return Marked(
            change.timer_id, change.version, change.pending_since_us, change.traceparent, twice=bool(change.added)
        )

    async def events(self, changes: Sequence[Share], *, settled: bool = False) -> Sequence[connection_pb2.DeliverItem]:
        return [_item(share, settled=settled) for share in changes]

    async def list_pending(self, limit: int, after: tuple[int, str]) -> Sequence[Share]:
        return await self._store.list_pending(limit, after)

    async def clear(self, changes: Sequence[Share]) -> None:
        await self._store.clear_pending(changes)


def fill(message: event_pb2.Audience, share: Audience) -> None:
    """Makes an empty message an audience. In place, since a message that is given to another one is copied."""
    message.owner_id = share.owner
    message.member_ids.extend(share.members)
    message.version = share.version


def _item(share: Share, *, settled: bool) -> connection_pb2.DeliverItem:
    origin = share.origin
    event = event_pb2.Event(
        event_id=event_id(share.timer_id, 0, share.version),
        audience_changed=event_pb2.AudienceChanged(
            timer_id=share.timer_id,
            added_user_ids=share.added,
            removed_user_ids=share.removed,
            settled=settled,
            timer_name=share.timer_name,
        ),
        origin=common_pb2.Origin(
            user_id=origin.user_id, device_id=origin.device_id, connection_id=origin.connection_id
        ),
        traceparent=share.traceparent,
        committed_at_us=share.pending_since_us,
    )
    fill(event.audience, share)
    return connection_pb2.DeliverItem(event=event, user_ids=[share.owner, *share.members, *share.removed])
