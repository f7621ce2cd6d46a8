"""What REST takes and gives: the structs that requests are checked against and the OpenAPI document is made of.

What `docs/openapi.json` says is what these say. In answers nothing is ever null: what is not there is left out. In requests an
explicit null counts as absent, and fields that are not known are ignored.
"""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from runtime import text

MAX_USERS = 100
"""Users in one request to share. Each counts as one message against the rate."""

MAX_INVITATION = 2_048
"""Characters of an invitation, which travels in a link. The longest ids make it some 900 long."""

MAX_PUSH_TOKEN = 4_096
"""Characters of a push token, as the connection service takes them."""

_ID = f"1 to {text.MAX_ID} bytes as UTF-8, without control characters"

TimerId = Annotated[
    str, Meta(min_length=1, max_length=text.MAX_ID, description=f"A timer's id: {_ID}.", examples=["tea"])
]
UserId = Annotated[
    str, Meta(min_length=1, max_length=text.MAX_ID, description=f"A user's id: {_ID}.", examples=["bob"])
]
DeviceId = Annotated[
    str, Meta(min_length=1, max_length=text.MAX_ID, description=f"A device's name: {_ID}.", examples=["pixel"])
]
Name = Annotated[str, Meta(max_length=text.MAX_NAME, description="What the timer is called.", examples=["Tea"])]
Duration = Annotated[
    str,
    Meta(
        max_length=text.MAX_TIME_TEXT,
        description="An ISO-8601 duration of at most ten years, as java.time.Duration reads it; kept and given exactly as it came, "
        "but for weeks, which are given in days.",
        examples=["PT5M"],
    ),
]
End = Annotated[
    str,
    Meta(
        max_length=text.MAX_TIME_TEXT,
        description="An ISO-8601 date and time; kept exactly as it came. Without a zone it is by the clock of whoever sends it: see `tz`.",
        examples=["2026-11-24T08:20:30.123"],
    ),
]
Signed = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=MAX_INVITATION,
        description="An invitation: a signed text, good for whoever has it. In a link it stands behind `/#join=`.",
        examples=["eyJhbGciOiJIUzI1NiJ9.eyJ0aW1lciI6InRlYSJ9.c2lnbmF0dXJl"],
    ),
]
Instant = Annotated[
    str,
    Meta(
        max_length=text.MAX_TIME_TEXT,
        description="An ISO-8601 date and time in UTC.",
        examples=["2026-11-24T08:20:30.000Z"],
    ),
]
PushToken = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=MAX_PUSH_TOKEN,
        pattern="^[!-~]+$",
        description="What Firebase Cloud Messaging calls the app on this device.",
        examples=["dEviCe:APA91b"],
    ),
]


class Timer(msgspec.Struct, kw_only=True):
    """A timer as it is given: with `endTime` it runs (until that local time, without a zone), with `remainingDuration` it does not."""

    id: TimerId
    userId: UserId  # noqa: N815  # the names in these structs are those of the protocol
    name: Name
    totalDuration: Duration | UnsetType = UNSET  # noqa: N815
    endTime: End | UnsetType = UNSET  # noqa: N815
    remainingDuration: Duration | UnsetType = UNSET  # noqa: N815
    sharedWith: list[UserId]  # noqa: N815


class TimerChange(msgspec.Struct, kw_only=True):
    """A timer as it is sent: absent fields keep what is stored, but `endTime` (or `timerEnd`, the same) and `remainingDuration`
    describe one thing together. With an end it runs, whatever remaining duration comes beside.
    """

    id: TimerId | None = None
    name: Name | None = None
    totalDuration: Duration | None = None  # noqa: N815
    remainingDuration: Duration | None = None  # noqa: N815
    endTime: End | None = None  # noqa: N815
    timerEnd: End | None = None  # noqa: N815


class ShareRequest(msgspec.Struct, kw_only=True):
    """Share a timer with users. Whoever asks is left out. A timer that is not known is made of `timer`."""

    timerId: TimerId  # noqa: N815
    userIds: Annotated[list[UserId], Meta(max_length=MAX_USERS)]  # noqa: N815
    timer: TimerChange | None = None


class ShareResult(msgspec.Struct, kw_only=True):
    """With whom the timer is shared now, and with whom it could not be."""

    result: Annotated[str, Meta(pattern="^shared$")]
    success: list[UserId]
    failed: list[str]


class RejectRequest(msgspec.Struct, kw_only=True):
    """The timer that whoever asks does not want to see; may be in the query instead."""

    timerId: TimerId | None = None  # noqa: N815


class DeviceRequest(msgspec.Struct, kw_only=True):
    """A device that can be reached by push."""

    deviceId: DeviceId  # noqa: N815
    fcmToken: PushToken  # noqa: N815


class InviteRequest(msgspec.Struct, kw_only=True):
    """The timer that others are to be invited to."""

    timerId: TimerId  # noqa: N815


class InviteResult(msgspec.Struct, kw_only=True):
    """An invitation to a timer. `owner` is who made it, and until `expiresAt` it is good."""

    invitation: Signed
    timerId: TimerId  # noqa: N815
    owner: UserId
    expiresAt: Instant  # noqa: N815


class AcceptRequest(msgspec.Struct, kw_only=True):
    """An invitation that whoever asks has been given."""

    invitation: Signed


class AcceptResult(msgspec.Struct, kw_only=True):
    """The timer that whoever asks is a member of now, and what the invitation said."""

    timerId: TimerId  # noqa: N815
    owner: UserId
    expiresAt: Instant  # noqa: N815


class Result(msgspec.Struct, kw_only=True):
    """It is so now."""

    result: Annotated[str, Meta(pattern="^(rejected|registered|removed)$")]


class Fault(msgspec.Struct, kw_only=True):
    """Why it was refused. `field` names what is wrong in the request; `traceId` is in the server's traces and logs."""

    status: Annotated[str, Meta(pattern="^error$")]
    code: int
    error: str
    field: str | UnsetType = UNSET
    traceId: str  # noqa: N815
