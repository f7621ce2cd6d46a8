"""The dialect of the published Android app: docs/app-dialect.md, in code.

What the app reads is read by a parser that forgives little: an explicit null, a missing array or a time with a zone ends its
connection, and in a snapshot that is an endless loop. So nothing here is ever null, and every text of time is one that
java.time takes.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Annotated, Any

import msgspec

from edge.codec.contract import DecodeError, Welcome
from edge.codec.parsing import parse
from edge.errors import ClientError
from edge.java_time import is_local, java_duration, shown_end
from edge.limits import MAX_MESSAGE
from edge.requests import Acknowledge, Ping, Request, SharedWrite, Write
from proto.event.v1 import event_pb2
from proto.timer.v1 import timer_pb2
from runtime.iso8601 import format_instant

MAX_SHARE_WITH = 1_000
"""Users in one `shareWith`: twice what a timer takes by default."""

_Names = Annotated[tuple[str, ...], msgspec.Meta(max_length=MAX_SHARE_WITH)]


class _Envelope(msgspec.Struct):
    action: Any = None
    data: msgspec.Raw = msgspec.Raw()


class _Data(msgspec.Struct):
    type: Any = None
    messageId: Any = None  # noqa: N815  # the names in these structs are those of the protocol
    timestamp: msgspec.Raw = msgspec.Raw()


class _TimerFields(msgspec.Struct, kw_only=True):
    id: str
    name: str | None = None
    totalDuration: str | None = None  # noqa: N815
    remainingDuration: str | None = None  # noqa: N815
    timerEnd: str | None = None  # noqa: N815
    tags: tuple[str, ...] | None = None


class _Update(msgspec.Struct, kw_only=True):
    timer: _TimerFields
    shareWith: _Names | None = None  # noqa: N815


class _StoppedTimer(msgspec.Struct):
    id: str = ""


class _Stop(msgspec.Struct, kw_only=True):
    timerId: str | None = None  # noqa: N815
    timer: _StoppedTimer | None = None


_encode = msgspec.json.Encoder().encode
_envelope = msgspec.json.Decoder(_Envelope).decode
_data = msgspec.json.Decoder(_Data).decode
_update = msgspec.json.Decoder(_Update).decode
_stop = msgspec.json.Decoder(_Stop).decode


class AppCodec:
    """See `contract.Codec`. One for each pair of offsets (`app_codec`), so that frames are shared by devices that read the same.

    An update that it decodes has the device's own text in `local_end` and no `end_time`: what instant that is depends on what
    is known of the device by then, so the conversation adds it.
    """

    def __init__(self, offset: int | None, default_offset: int) -> None:
        """`offset`: of the device, in minutes ahead of UTC; None when it is not known. Then it is taken to be that of whoever
        wrote a local time, and for what has no local time, the default.
        """
        self._offset = offset
        self._default_offset = default_offset

    def decode(self, message: bytes) -> Request:
        if len(message) > MAX_MESSAGE:
            raise DecodeError(413, f"The message has more than {MAX_MESSAGE} bytes")
        try:
            message.decode()  # the parser looks only at the texts that it takes
        except UnicodeDecodeError as error:
            raise DecodeError(400, "The message is not valid UTF-8") from error
        envelope = parse(_envelope, message, None)
        raw = bytes(envelope.data)
        if envelope.action != "sendmessage" or not raw:
            raise DecodeError(400, "Send {action: 'sendmessage', data: {...}}", field="action")
        data = parse(_data, raw, None)
        match data.type:
            case "updateTimer":
                return _updated(parse(_update, raw, None))
            case "stopTimer":
                return _stopped(parse(_stop, raw, None))
            case "ping":
                return Ping(timestamp=bytes(data.timestamp))
            case "acknowledge":
                # Never refused, whatever its id is: an answer to it would be one to what the app did not ask.
                return Acknowledge(message_id=data.messageId if isinstance(data.messageId, str) else None)
        raise DecodeError(400, "Unknown message type", field="type")

    # --- what the app reads: it has a `type` --------------------------------------------------------------------------

    def snapshot(
        self, views: Iterable[event_pb2.TimerView], gone: Sequence[str], *, message_id: str | None = None
    ) -> bytes:
        timers = [self._timer(view) for view in views]
        return _encode({"type": "activeTimerList", "timerList": timers, "messageId": message_id or ""})

    def pong(self, timestamp: bytes, received_us: int, server_time_us: int, message_id: str | None) -> bytes:
        if not timestamp or timestamp[:1] in b"n{[":  # none, or something in which there may be a null
            timestamp = b"%d" % (server_time_us // 1_000)
        return _encode({"type": "pong", "timestamp": msgspec.Raw(timestamp)})

    def timer(self, view: event_pb2.TimerView, event_id: str, server_time_us: int, *, traceparent: str = "") -> bytes:
        timer = view.timer
        if timer.run_state == event_pb2.RUN_STATE_STOPPED:
            return stop(timer.timer_id, event_id, timer.stopped_by)
        return _encode({"type": "updateTimer", "timer": self._timer(view), "messageId": event_id})

    def share_added(
        self, view: event_pb2.TimerView, event_id: str, server_time_us: int, *, traceparent: str = ""
    ) -> bytes:
        return self.timer(view, event_id, server_time_us)

    def share_removed(
        self, timer_id: str, user_id: str, event_id: str, server_time_us: int, *, traceparent: str = ""
    ) -> bytes:
        return stop(timer_id, event_id, "")

    # --- what it does not read: it has none ---------------------------------------------------------------------------

    def connected(self, welcome: Welcome) -> bytes:
        return _encode(
            {
                "status": "connected",
                "connectionId": welcome.connection_id,
                "userId": welcome.user_id,
                "deviceId": welcome.device_id,
                "serverTime": format_instant(welcome.server_time_us),
            }
        )

    def processed(self, timer_id: str, version: int, message_id: str | None) -> bytes:
        return _encode({"status": "processed", "timerId": timer_id, "version": version})

    def processed_with_timer(self, view: event_pb2.TimerView, version: int, message_id: str | None) -> bytes:
        return self.processed(view.timer.timer_id, version, message_id)

    def shared(self, view: event_pb2.TimerView, message_id: str | None) -> bytes:
        return self.processed(view.timer.timer_id, view.timer.version, message_id)

    def authenticated(self, token_expires_at_us: int, message_id: str | None) -> bytes:
        return _encode({"status": "processed"})

    def error(
        self,
        error: ClientError,
        message_id: str | None,
        *,
        timer_id: str = "",
        current: event_pb2.TimerView | None = None,
        trace_id: str = "",
    ) -> bytes:
        message: dict[str, Any] = {"status": "error", "code": error.code, "error": error.message}
        if error.field:
            message["field"] = error.field
        if timer_id:
            message["timerId"] = timer_id
        if error.retry_after_ms:
            message["retryAfter"] = error.retry_after_ms / 1_000
        if trace_id:
            message["traceId"] = trace_id
        return _encode(message)

    def reconnect(self, after_ms: int) -> bytes:
        return _encode({"status": "restarting", "afterMs": after_ms})

    # --- timers -------------------------------------------------------------------------------------------------------

    def _timer(self, view: event_pb2.TimerView) -> dict[str, Any]:
        timer, audience = view.timer, view.audience
        message: dict[str, Any] = {"id": timer.timer_id, "userId": audience.owner_id, "name": timer.name}
        total = java_duration(timer.total_duration) if timer.HasField("total_duration") else None
        if total is not None:
            message["totalDuration"] = total
        # With both, the app shows a running timer as a paused one; with neither, as one that can't be started.
        if timer.HasField("end_time"):
            message["timerEnd"] = shown_end(timer, self._offset, self._default_offset)
        elif timer.HasField("remaining_duration"):
            message["remainingDuration"] = java_duration(timer.remaining_duration)
        elif total is not None:
            message["remainingDuration"] = total
        message["sharedWith"] = [audience.owner_id, *audience.member_ids]
        message["tags"] = list(timer.tags)
        return message


@lru_cache(maxsize=256)
def app_codec(offset: int | None, default_offset: int) -> AppCodec:
    """The codec for these offsets, the same one each time."""
    return AppCodec(offset, default_offset)


def stop(timer_id: str, message_id: str, stopped_by: str) -> bytes:
    """A timer is not to be shown any longer. `stopped_by` is empty when nobody has stopped it."""
    message = {"type": "stopTimer", "timerId": timer_id, "messageId": message_id}
    return _encode(message | {"stoppedByUserId": stopped_by, "stoppedByUserName": stopped_by})


def _updated(message: _Update) -> SharedWrite:
    fields = message.timer
    update = timer_pb2.Update(name=fields.name, total_duration=fields.totalDuration)
    if fields.timerEnd is not None:  # then it runs, and what is left does not count
        if _is_local(fields.timerEnd):
            update.local_end.text = fields.timerEnd
        else:
            update.end_time = fields.timerEnd
    elif fields.remainingDuration is not None:
        update.remaining_duration = fields.remainingDuration
    if fields.tags is not None:
        update.tags.values.extend(fields.tags)
    share_with = message.shareWith
    if share_with is not None:
        share_with = tuple(dict.fromkeys(name for each in share_with if (name := each.strip())))
    return SharedWrite(
        item=timer_pb2.WriteItem(timer_id=fields.id, update=update),
        share_with=share_with,
        must_see=fields.timerEnd is not None and fields.remainingDuration is not None,  # that is shown as paused
    )


def _stopped(message: _Stop) -> Write:
    timer_id = message.timerId or (message.timer.id if message.timer is not None else "")
    if not timer_id:
        raise DecodeError(400, "timerId is missing", field="timerId")
    return Write(item=timer_pb2.WriteItem(timer_id=timer_id, stop=timer_pb2.Stop()))


def _is_local(end: str) -> bool:
    try:
        return is_local(end)
    except ValueError as error:
        raise DecodeError(400, f"timerEnd is {error}", field="timerEnd") from error
