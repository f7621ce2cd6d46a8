"""Forgetting timers whose tombstones have expired."""

from proto.sharing.v1 import sharing_pb2, sharing_pb2_grpc
from runtime.clock import now_us
from runtime.grpc_client import CALL_DEADLINE
from timer_service.domain import TOMBSTONE_US
from timer_service.store.contract import TimerStore

PURGE_INTERVAL = 60.0
"""Seconds between two looks for expired tombstones."""

_BATCH = 500


class Purge:
    """Removes expired tombstones, and before them what the sharing service knows of their ids."""

    def __init__(self, store: TimerStore, sharing: "sharing_pb2_grpc.SharingServiceAsyncStub") -> None:
        self._store = store
        self._sharing = sharing

    async def step(self) -> None:
        """One round. A crash between the two removals is repaired by the next round, since the tombstone is still there."""
        while tombstones := await self._store.list_tombstones(now_us() - TOMBSTONE_US, _BATCH):
            request = sharing_pb2.ReleaseRequest(timer_ids=[marker.timer_id for marker in tombstones])
            await self._sharing.Release(request, timeout=CALL_DEADLINE)
            await self._store.purge(tombstones)
            if len(tombstones) < _BATCH:
                return
