"""The audiences of many timers, for a snapshot: read in pages, and cut short where they would be too much for one message."""

from collections.abc import Collection
from itertools import islice

from proto.event.v1 import event_pb2
from proto.sharing.v1 import sharing_pb2, sharing_pb2_grpc
from runtime.errors import TooLarge
from runtime.grpc_client import CALL_DEADLINE

PAGE = 250
"""Audiences of one call. The default limits allow 500 members with ids of 128 bytes: then these are 16.4 MB, which is what a
message may have."""

MAX_BYTES = 4 * 1024 * 1024
"""Of all audiences of a call. The default limits allow 164 MB for one user: 2,500 timers of 500 members each. No screen shows
that, and no phone loads it. Without the members those timers are 11 MB at most (`domain.MAX_TAGS_BYTES` sees to it), so with this
a snapshot of any user fits into a message of 16 MiB. A team of a hundred people with a thousand timers, named by UUIDs, has
this much."""

_OVERHEAD = 3  # bytes that an id costs beside its own


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
    audiences: dict[str, event_pb2.Audience] = {}
    size = 0
    waiting = iter(timer_ids)
    while page := list(islice(waiting, PAGE)):
        request = sharing_pb2.GetAudienceRequest(timer_ids=page)
        response = await sharing.GetAudience(request, timeout=CALL_DEADLINE)
        audiences |= zip(page, response.audiences, strict=True)
        size += response.ByteSize()
        if size > MAX_BYTES:
            if len(users) > 1:
                raise TooLarge
            # At every page: what it has beside the copies is free again then.
            (user_id,) = users
            most = MAX_BYTES // len(timer_ids)
            audiences = {timer_id: _shortened(each, user_id, most) for timer_id, each in audiences.items()}
    return audiences


def _shortened(audience: event_pb2.Audience, user_id: str, most: int) -> event_pb2.Audience:
    """A copy with only as many of the members as fit into `most` bytes, in their order; a member who is the user is among them."""
    short = event_pb2.Audience(owner_id=audience.owner_id, version=audience.version)
    for member in audience.member_ids:
        size = len(member.encode()) + _OVERHEAD
        if member == user_id:
            short.member_ids.append(member)
        elif size <= most:
            short.member_ids.append(member)
            most -= size
    return short
