"""The audiences of many timers, for a snapshot: read in pages, and cut short where they would be too much for one message."""

from collections.abc import Collection
from itertools import islice

from proto.event.v1 import event_pb2
from proto.sharing.v1 import sharing_pb2, sharing_pb2_grpc
from runtime.errors import TooLarge
from runtime.grpc_client import CALL_DEADLINE

PAGE = 128
"""Audiences of one call. The default limits allow 500 members with ids of 128 bytes: then these are 8.4 MB, half of what a
message may have."""

MAX_BYTES = 4 * 1024 * 1024
"""Of all audiences of a call. The default limits allow 164 MB for one user: 2,500 timers of 500 members each. No screen shows
that, and no phone loads it. Without the members those timers are 11 MB at most (`domain.MAX_TAGS_BYTES` sees to it), so with this
a snapshot of any user fits into a message of 16 MiB. A team of a hundred people with a thousand timers, named by UUIDs, has
this much."""


async def read_audiences(
    sharing: "sharing_pb2_grpc.SharingServiceAsyncStub",  # quoted: it exists for type checkers only
    timer_ids: Collection[str],
    users: Collection[str],
) -> dict[str, event_pb2.Audience]:
    """The audiences by timer id, for snapshots of these users.

    When they are more than `MAX_BYTES` together, those of a single user are cut short: each timer has an equal part of the
    bytes, and members that are beyond it are left out, never the user. With more users this raises TooLarge: whoever asked tries
    with fewer, and nobody's snapshot is cut short for somebody else's.
    """
    audiences = await _read(sharing, timer_ids, sharing_pb2.GetAudienceRequest(), MAX_BYTES)
    if audiences is None and len(users) == 1:
        (user_id,) = users
        short = sharing_pb2.GetAudienceRequest(most_bytes=MAX_BYTES // len(timer_ids), user_id=user_id)
        # Beside its part, each has its owner and the user. A sharing service of an older release does not cut them short.
        audiences = await _read(sharing, timer_ids, short, 2 * MAX_BYTES)
    if audiences is None:
        raise TooLarge
    return audiences


async def _read(
    sharing: "sharing_pb2_grpc.SharingServiceAsyncStub",
    timer_ids: Collection[str],
    request: sharing_pb2.GetAudienceRequest,
    most_bytes: int,
) -> dict[str, event_pb2.Audience] | None:
    """The audiences, or None as soon as they are more than so many bytes together."""
    audiences: dict[str, event_pb2.Audience] = {}
    size = 0
    waiting = iter(timer_ids)
    while page := list(islice(waiting, PAGE)):
        request.timer_ids[:] = page
        response = await sharing.GetAudience(request, timeout=CALL_DEADLINE)
        size += response.ByteSize()
        if size > most_bytes:
            return None
        audiences |= zip(page, response.audiences, strict=True)
    return audiences
