"""The rules of access: pure functions. No I/O, no protobuf, no clock of their own."""

from enum import Enum, auto

import msgspec

from runtime import operations, text
from runtime.errors import InvalidArgument, LimitReached, Overloaded, PermissionDenied
from runtime.operations import Operation, Operations

MAX_UNDELIVERED = 1_000
"""Members whose coming or going is still to be delivered. More can't come to be unless deliveries fail for long."""

_ID_OVERHEAD = 3  # bytes that an id costs in a message beside its own


class Role(Enum):
    """What a user is to a timer."""

    OWNER = auto()
    MEMBER = auto()
    STRANGER = auto()


class Origin(msgspec.Struct, frozen=True):
    """The device a change came from."""

    user_id: str
    device_id: str = ""
    connection_id: str = ""


class Audience(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who owns a timer and who may see it. `version` rises with every change of the audience."""

    timer_id: str
    owner: str
    members: tuple[str, ...] = ()
    version: int = 0


class Share(Audience, frozen=True, kw_only=True, omit_defaults=True):
    """The same with all that is stored.

    `timer_name` is what the timer was called when a member was added last, as far as whoever asked for it knew.
    `added` and `removed` are users whose change is still to be delivered, `pending_since_us` (microseconds since 1970) the
    outbox marker that says so. `closed_version` is the version in which the
    owner last removed somebody, 0 = never: invitations that were made before that are no longer good.
    """

    closed_version: int = 0
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    origin: Origin = Origin("")
    operations: Operations = ()
    traceparent: str = ""
    timer_name: str = ""
    pending_since_us: int = 0


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Adding (`add`) or removing (not `add`) one user. `invited_at_version`: the audience's version when the owner made the
    invitation that the user comes with; 0: the owner adds the user by hand.
    """

    timer_id: str
    user_id: str
    add: bool
    origin: Origin
    operation_id: str = ""
    traceparent: str = ""
    invited_at_version: int = 0
    timer_name: str = ""


def validate(change: Change) -> None:
    """Checks everything that needs no stored state. Raises InvalidArgument, naming the field as clients spell it."""
    for field, value in (
        ("timerId", change.timer_id),
        ("sharedWithUser", change.user_id),
        ("userId", change.origin.user_id),
    ):
        text.check_id(field, value)
    problem = text.problem_with(change.operation_id, longest=operations.MAX_ID)
    if problem:
        raise InvalidArgument(f"operationId {problem}", field="operationId")
    problem = text.problem_with(change.timer_name, longest=text.MAX_NAME)
    if problem:
        raise InvalidArgument(f"timerName {problem}", field="timerName")


def claim(timer_id: str, user_id: str, now_us: int) -> Share:
    """The share of a timer that nobody owned before."""
    return Share(timer_id=timer_id, owner=user_id, version=now_us)


def role(audience: Audience, user_id: str) -> Role:
    """What a user is to the timer of this audience."""
    if user_id == audience.owner:
        return Role.OWNER
    return Role.MEMBER if user_id in audience.members else Role.STRANGER


def shortened(audience: Audience, user_id: str, most_bytes: int) -> Audience:
    """An audience with only as many of its members as fit into so many bytes, the first ones; and with the user, if they are one."""
    members = []
    for member in audience.members:
        most_bytes -= len(member.encode()) + _ID_OVERHEAD
        if most_bytes < 0:
            break
        members.append(member)
    if user_id in audience.members and user_id not in members:
        members.append(user_id)
    return Audience(timer_id=audience.timer_id, owner=audience.owner, members=tuple(members), version=audience.version)


def apply(share: Share, change: Change, now_us: int, *, max_members: int) -> Share:
    """The share after a valid change: the same object when it is so already, or when the change is a repeated one (whatever
    came after the first time: a removal is not undone by an old copy of the invitation before it).

    The version of a changed share is `max(now_us, version + 1)`. `max_members` 0 means no limit. Raises PermissionDenied,
    InvalidArgument, LimitReached.
    """
    if operations.find(share.operations, change.operation_id):
        return share  # before its sender's rights are looked at: who has left may repeat that
    actor = change.origin.user_id
    leaves = not change.add and actor == change.user_id
    actors_role = role(share, actor)
    if actors_role is Role.STRANGER:
        raise PermissionDenied("The timer is not yours", field="timerId")
    if actors_role is Role.MEMBER and not leaves:
        raise PermissionDenied("Only the owner can add and remove members", field="timerId")
    if change.user_id == share.owner:
        raise InvalidArgument("The owner can neither be added nor removed", field="sharedWithUser")
    if change.add == (change.user_id in share.members):
        return share
    if change.add and change.invited_at_version and change.invited_at_version < share.closed_version:
        raise PermissionDenied(
            "The invitation is no longer good: its owner has removed somebody since", field="invitation"
        )
    if change.add and max_members and len(share.members) >= max_members:
        raise LimitReached("The timer has too many members", field="sharedWithUser", retry_after_ms=60_000)
    if len(share.added) + len(share.removed) >= MAX_UNDELIVERED:
        raise Overloaded("Too many changes of this timer's members have not been delivered yet")
    others = tuple(member for member in share.members if member != change.user_id)
    added = tuple(user for user in share.added if user != change.user_id)
    removed = tuple(user for user in share.removed if user != change.user_id)
    version = max(now_us, share.version + 1)
    remembered = share.operations
    if change.operation_id:
        writer = operations.writer(actor, change.origin.device_id)
        operation = Operation(change.operation_id, version, share.version, writer)
        remembered = operations.remember(remembered, operation)
    return msgspec.structs.replace(
        share,
        members=(*others, change.user_id) if change.add else others,
        added=(*added, change.user_id) if change.add else added,
        removed=removed if change.add else (*removed, change.user_id),
        version=version,
        closed_version=share.closed_version if change.add or leaves else version,
        origin=change.origin,
        operations=remembered,
        traceparent=change.traceparent,
        timer_name=change.timer_name or share.timer_name,
        pending_since_us=share.pending_since_us or now_us,
    )


def delivered(share: Share) -> Share:
    """The share when all its changes have been delivered."""
    return msgspec.structs.replace(share, added=(), removed=(), pending_since_us=0)
