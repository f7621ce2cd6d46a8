"""What each request does: from a checked request to an answer, by the services behind the edge. No HTTP here."""

import asyncio
import secrets
from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from edge import errors
from edge.backend import Backend
from edge.errors import ClientError
from edge.invitations import Invitations
from edge.rest.shapes import (
    AcceptRequest,
    AcceptResult,
    DeviceRequest,
    InviteRequest,
    InviteResult,
    RejectRequest,
    Result,
    ShareRequest,
    ShareResult,
    Timer,
    TimerChange,
)
from edge.rest.times import guessed_offset, shape, update
from proto.common.v1 import common_pb2
from proto.connection.v1 import connection_pb2
from proto.event.v1 import event_pb2
from proto.sharing.v1 import sharing_pb2
from proto.timer.v1 import timer_pb2
from runtime import text
from runtime.clock import now_us
from runtime.iso8601 import format_instant


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One request: who asks, what trace it belongs to, and the id in its path, if any.

    `offset`: minutes that the clock of who asks is ahead of UTC, None when that is not known; `default_offset`: what is taken for
    it then.
    """

    user_id: str
    traceparent: str
    offset: int | None
    default_offset: int
    path_id: str = ""

    def origin(self) -> common_pb2.Origin:
        """Where a change comes from. No device and no connection: all devices are told, the one that asks included."""
        return common_pb2.Origin(user_id=self.user_id)

    def shape(self, view: event_pb2.TimerView) -> Timer:
        """A timer as it is given to who asks."""
        return shape(view, self.offset, self.default_offset)


Answer: TypeAlias = Timer | list[Timer] | ShareResult | InviteResult | AcceptResult | Result


async def list_shared(backend: Backend, call: Call) -> list[Timer]:
    """All timers that others share with the caller."""
    snapshot = await backend.snapshot(timer_pb2.SnapshotItem(user_id=call.user_id))
    return [call.shape(view) for view in snapshot.views if view.audience.owner_id != call.user_id]


async def get_timer(backend: Backend, call: Call) -> Timer:
    """A timer that the caller may see."""
    return call.shape(await _view(backend, call, _checked("id", call.path_id)))


async def put_timer(backend: Backend, call: Call, change: TimerChange) -> Timer:
    """Makes a timer, or changes it; the answer is the timer then."""
    timer_id = _checked("id", call.path_id)
    if change.id is not None and change.id != timer_id:
        raise ClientError(400, "id is not the one in the path", field="id")
    guess = guessed_offset(change, now_us()) if call.offset is None else None
    if guess is not None and not await _is_unknown(backend, call, timer_id):
        guess = None  # it may have been given more time than all it had
    result = await backend.write(_write_item(call, timer_id, change, guess))
    if result.HasField("error"):
        raise errors.from_item(result.error)
    return call.shape(result.outcome.view)


async def share(backend: Backend, call: Call, request: ShareRequest) -> ShareResult:
    """Adds members. Who can't be added does not keep the others out; when nobody can for the same reason, that is the answer."""
    timer_id = _checked("timerId", request.timerId)
    if request.timer is not None and request.timer.id not in (None, timer_id):
        raise ClientError(400, "timer.id is not timerId", field="id")
    view = await _view_or_new(backend, call, timer_id, request.timer)
    users = [user_id for user_id in dict.fromkeys(request.userIds) if user_id != call.user_id]
    if not users and view.audience.owner_id != call.user_id:
        raise ClientError(403, "Only the owner can add and remove members", field="timerId")
    items = [
        sharing_pb2.ChangeItem(
            origin=call.origin(),
            timer_id=timer_id,
            add_user_id=user_id,
            traceparent=call.traceparent,
            operation_id=secrets.token_hex(12),
            timer_name=view.timer.name,
        )
        for user_id in users
    ]
    results = await asyncio.gather(*(_changed(backend, item) for item in items))
    refusals = [result for result in results if result is not None]
    if refusals and len(refusals) == len(users) and _is_about_all(refusals):
        raise refusals[0]
    return ShareResult(
        result="shared",
        success=[user_id for user_id, refusal in zip(users, results, strict=True) if refusal is None],
        failed=[user_id for user_id, refusal in zip(users, results, strict=True) if refusal is not None],
    )


async def reject(backend: Backend, call: Call, request: RejectRequest) -> Result:
    """The caller leaves a timer of somebody else. Who is no member (any more) has what they want."""
    timer_id = _checked("timerId", request.timerId or "")
    result = await backend.change(
        sharing_pb2.ChangeItem(
            origin=call.origin(),
            timer_id=timer_id,
            remove_user_id=call.user_id,
            traceparent=call.traceparent,
            operation_id=secrets.token_hex(12),
        )
    )
    if result.HasField("error") and result.error.code != common_pb2.ERROR_CODE_PERMISSION_DENIED:
        raise errors.from_item(result.error)
    return Result(result="rejected")


async def invite(invitations: Invitations, call: Call, request: InviteRequest) -> InviteResult:
    """An invitation to a timer of the caller's, to be handed on as a link."""
    signed, made = await invitations.make(_checked("timerId", request.timerId), call.user_id)
    return InviteResult(invitation=signed, timerId=made.timer_id, owner=made.owner, expiresAt=_written(made.expires_at))


async def accept(invitations: Invitations, call: Call, request: AcceptRequest) -> AcceptResult:
    """The caller becomes a member of the timer that an invitation is for."""
    accepted = await invitations.accept(request.invitation, call.user_id, call.traceparent)
    return AcceptResult(timerId=accepted.timer_id, owner=accepted.owner, expiresAt=_written(accepted.expires_at))


async def register_device(backend: Backend, call: Call, request: DeviceRequest) -> Result:
    """Keeps a device's push token."""
    device_id = _checked("deviceId", request.deviceId)
    if device_id == "unknown":
        raise ClientError(400, "deviceId must name the device", field="deviceId")
    await backend.register_device(
        connection_pb2.RegisterDeviceItem(user_id=call.user_id, device_id=device_id, push_token=request.fcmToken)
    )
    return Result(result="registered")


async def remove_device(backend: Backend, call: Call) -> Result:
    """Forgets a device's push token."""
    device_id = _checked("deviceId", call.path_id)
    await backend.unregister_device(connection_pb2.UnregisterDeviceItem(user_id=call.user_id, device_id=device_id))
    return Result(result="removed")


async def _view(backend: Backend, call: Call, timer_id: str) -> event_pb2.TimerView:
    """Raises ClientError 403 and 404; a stopped timer is none."""
    result = await backend.get(timer_id, call.user_id)
    if result.HasField("error"):
        raise errors.from_item(result.error)
    if result.view.timer.run_state == event_pb2.RUN_STATE_STOPPED:
        raise ClientError(404, "The timer is stopped", field="timerId")
    return result.view


async def _view_or_new(backend: Backend, call: Call, timer_id: str, new: TimerChange | None) -> event_pb2.TimerView:
    """The timer, made of `new` if it is not known. An update by the socket may make it at the same moment: that one counts."""
    try:
        return await _view(backend, call, timer_id)
    except ClientError as error:
        if error.code != 404 or new is None:
            raise
    item = _write_item(call, timer_id, new, guessed_offset(new, now_us()))
    item.base_version = 0
    result = await backend.write(item)
    if result.HasField("outcome"):
        return result.outcome.view
    if result.error.code != common_pb2.ERROR_CODE_CONFLICT:
        raise errors.from_item(result.error)
    return await _view(backend, call, timer_id)


async def _is_unknown(backend: Backend, call: Call, timer_id: str) -> bool:
    return (await backend.get(timer_id, call.user_id)).error.code == common_pb2.ERROR_CODE_NOT_FOUND


def _write_item(call: Call, timer_id: str, change: TimerChange, guess: int | None) -> timer_pb2.WriteItem:
    """`guess`: the offset of who asks, for want of a better one."""
    offset = guess if call.offset is None else call.offset
    return timer_pb2.WriteItem(
        origin=call.origin(),
        timer_id=timer_id,
        update=update(change, offset, call.default_offset),
        traceparent=call.traceparent,
        operation_id=secrets.token_hex(12),  # for repeats of our own channel
    )


async def _changed(backend: Backend, item: sharing_pb2.ChangeItem) -> ClientError | None:
    """Why a change was refused, or None. What is unexpected is raised."""
    try:
        result = await backend.change(item)
    except Exception as error:
        if not errors.is_expected(error):
            raise
        return errors.from_exception(error)
    return errors.from_item(result.error) if result.HasField("error") else None


def _is_about_all(refusals: Sequence[ClientError]) -> bool:
    """Whether everybody was refused for one reason, and that is none of theirs: no right, no timer, or not now."""
    codes = {refusal.code for refusal in refusals}
    return len(codes) == 1 and not codes & {400}


def _written(seconds: float) -> str:
    return format_instant(int(seconds * 1_000_000))


def _checked(field: str, value: str) -> str:
    problem = text.problem_with_id(value)
    if problem is not None:
        raise ClientError(400, f"{field} {problem}", field=field)
    return value
