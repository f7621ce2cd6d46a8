"""What a call's events become on their way to the edges: messages that are no larger than a message may be."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from proto.connection.v1 import connection_pb2
from runtime.grpc_client import MESSAGE_LIMIT
from runtime.text import MAX_ID

MAX_BYTES = MESSAGE_LIMIT // 2
"""Of one message, as far as can be told cheaply. One that is too large would end the stream of its edge, for everybody there."""

_ID = MAX_ID + 3  # an id and what it costs beside itself
_REST = 16 * 1024  # a timer and whatever else has a limit that does not depend on the number of people


class Batch:
    """One message to an edge, and the numbers of the events in it."""

    __slots__ = ("events", "response", "size")

    def __init__(self) -> None:
        self.response = connection_pb2.AttachResponse()
        self.events: list[int] = []
        self.size = 0


class Batches:
    """The messages to all edges, each edge's in the order of the events."""

    def __init__(self) -> None:
        self._by_edge: dict[str, list[Batch]] = defaultdict(list)

    def add(self, edge_id: str, number: int, item: connection_pb2.DeliverItem, connection_ids: Sequence[str]) -> None:
        """An event, by its number, for these connections (at least one) of an edge."""
        size = _most_bytes(item, connection_ids)
        batches = self._by_edge[edge_id]
        if not batches or batches[-1].size + size > MAX_BYTES:
            batches.append(Batch())
        batch = batches[-1]
        batch.size += size
        batch.events.append(number)
        # In place: a message that is given to another one is copied.
        batch.response.batch.deliveries.add(event=item.event, connection_ids=connection_ids)

    def __iter__(self) -> Iterator[tuple[str, Batch]]:
        for edge_id, batches in self._by_edge.items():
            for batch in batches:
                yield edge_id, batch


def _most_bytes(item: connection_pb2.DeliverItem, connection_ids: Sequence[str]) -> int:
    """How large an event is at most; to know exactly would cost as much as to send it. It names whoever gets it at most twice: in
    the audience, and as added or removed. Names of connections are all of one length, but for those that a tool has made.
    """
    return _REST + 2 * len(item.user_ids) * _ID + len(connection_ids) * (len(connection_ids[0]) + 3)
