"""Forgetting timers whose tombstones have expired."""

from proto.sharing.v1 import sharing_pb2, sharing_pb2_grpc
from runtime.clock import now_us
from runtime.grpc_client import CALL_DEADLINE
from timer_service import domain
from timer_service.domain import TOMBSTONE_US
from timer_service.store.contract import Marker, Save, TimerStore

PURGE_INTERVAL = 60.0
"""Seconds between two looks for expired tombstones."""

_BATCH = 500


class Purge:
    """Removes expired tombstones, and what the sharing service knows of their ids."""

    def __init__(self, store: TimerStore, sharing: "sharing_pb2_grpc.SharingServiceAsyncStub") -> None:
        self._store = store
        self._sharing = sharing

    async def step(self) -> None:
        """One round, in three steps: close the tombstone, so that nobody can bring the timer back; release the id; remove the
        tombstone. A crash in between is repaired by the next round, since the tombstone is still there.
        """
        while tombstones := await self._store.list_tombstones(now_us() - TOMBSTONE_US, _BATCH):
            closed = [domain.purging(tombstone) for tombstone in tombstones]
            saves = [Save(after, before.version) for before, after in zip(tombstones, closed, strict=True)]
            won = await self._store.save(saves)
            markers = [Marker(each.timer_id, each.version) for each, ours in zip(closed, won, strict=True) if ours]
            if not markers:
                return
            request = sharing_pb2.ReleaseRequest(timer_ids=[marker.timer_id for marker in markers])
            await self._sharing.Release(request, timeout=CALL_DEADLINE)
            await self._store.purge(markers)
            if len(tombstones) < _BATCH:
                return
