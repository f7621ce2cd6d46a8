"""The first dialect: docs/protocol.md, in code.

Decoding has two steps: a small header (type, action, messageId, traceparent) chooses the message's own struct, against which the whole
is then checked. Fields that a struct does not have are skipped without being built.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Annotated, Any

import msgspec

from edge.codec.contract import DecodeError, Welcome
from edge.codec.parsing import parse as _parse
from edge.errors import ClientError
from edge.limits import MAX_MESSAGE
from edge.requests import Acknowledge, Authenticate, Ping, Request, Share, Sync, Write
from proto.event.v1 import event_pb2
from proto.timer.v1 import timer_pb2
from runtime import text
from runtime.iso8601 import format_instant
from runtime.telemetry import well_formed

Version = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]

_MAX_KNOWN = 2_000  # what a snapshot takes (proto/timer/v1)


class _Header(msgspec.Struct):
    type: Any = None
    action: Any = None
    messageId: Any = None  # noqa: N815  # the names in these structs are those of the protocol
    traceparent: Any = None


class _TimerFields(msgspec.Struct, kw_only=True):
    id: str
    userId: str | None = None  # noqa: N815
    name: str | None = None
    totalDuration: str | None = None  # noqa: N815
    remainingDuration: str | None = None  # noqa: N815
    endTime: str | None = None  # noqa: N815


class _Update(msgspec.Struct, kw_only=True):
    timer: _TimerFields
    baseVersion: Version | None = None  # noqa: N815


class _Intent(msgspec.Struct, kw_only=True):
    timerId: str  # noqa: N815
    baseVersion: Version | None = None  # noqa: N815


class _Extend(_Intent, kw_only=True):
    by: str


class _Share(msgspec.Struct, kw_only=True):
    timerId: str  # noqa: N815
    sharedWithUser: str  # noqa: N815


class _Ping(msgspec.Struct, kw_only=True):
    timestamp: msgspec.Raw = msgspec.Raw()


class _Auth(msgspec.Struct, kw_only=True):
    token: str


class _Sync(msgspec.Struct, kw_only=True):
    versions: dict[str, Version]
    shareVersions: dict[str, Version] | None = None  # noqa: N815


_header = msgspec.json.Decoder(_Header).decode
_update = msgspec.json.Decoder(_Update).decode
_intent = msgspec.json.Decoder(_Intent).decode
_extend = msgspec.json.Decoder(_Extend).decode
_share = msgspec.json.Decoder(_Share).decode
_ping = msgspec.json.Decoder(_Ping).decode
_auth = msgspec.json.Decoder(_Auth).decode
_sync = msgspec.json.Decoder(_Sync).decode
_encode = msgspec.json.Encoder().encode
_instant = lru_cache(16)(format_instant)  # the events of a batch are told at one moment


class SeedCodec:
    """See `contract.Codec`."""

    def decode(self, message: bytes) -> Request:
        if len(message) > MAX_MESSAGE:
            raise DecodeError(413, f"The message has more than {MAX_MESSAGE} bytes")
        try:
            message.decode()  # the parser looks only at the texts that it takes
        except UnicodeDecodeError as error:
            raise DecodeError(400, "The message is not valid UTF-8") from error
        header = _parse(_header, message, None)
        traceparent = well_formed(header.traceparent)
        try:
            return _request(header, message, _message_id(header.messageId), traceparent)
        except DecodeError as error:
            error.traceparent = traceparent
            raise

    def connected(self, welcome: Welcome) -> bytes:
        message: dict[str, Any] = {
            "type": "connected",
            "status": "connected",
            "connectionId": welcome.connection_id,
            "userId": welcome.user_id,
            "deviceId": welcome.device_id,
            "serverTime": format_instant(welcome.server_time_us),
        }
        if welcome.token_expires_at_us:
            message["tokenExpiresAt"] = format_instant(welcome.token_expires_at_us)
        message["heartbeat"] = {
            "intervalMs": round(welcome.ping_interval * 1_000),
            "timeoutMs": round(welcome.ping_timeout * 1_000),
        }
        message["limits"] = {
            "messageBytes": MAX_MESSAGE,
            "messagesPerSecond": welcome.messages_per_second,
            "messageBurst": welcome.message_burst,
        }
        return _encode(message)

    def snapshot(
        self, views: Iterable[event_pb2.TimerView], gone: Sequence[str], *, message_id: str | None = None
    ) -> bytes:
        message: dict[str, Any] = {"type": "snapshot", "timers": [_timer(view) for view in views], "gone": gone}
        return _encode(_with_id(message, message_id))

    def processed(self, timer_id: str, version: int, message_id: str | None) -> bytes:
        return _encode(_with_id({"status": "processed", "timerId": timer_id, "version": version}, message_id))

    def processed_with_timer(self, view: event_pb2.TimerView, version: int, message_id: str | None) -> bytes:
        timer = _timer(view)
        message = {"status": "processed", "timerId": timer["id"], "version": version, "timer": timer}
        return _encode(_with_id(message, message_id))

    def shared(self, view: event_pb2.TimerView, message_id: str | None) -> bytes:
        message = {
            "status": "processed",
            "timerId": view.timer.timer_id,
            "version": view.timer.version,
            "shareVersion": view.audience.version,
            "sharedWith": list(view.audience.member_ids),
        }
        return _encode(_with_id(message, message_id))

    def authenticated(self, token_expires_at_us: int, message_id: str | None) -> bytes:
        message = {"status": "processed"}
        if token_expires_at_us:
            message["tokenExpiresAt"] = format_instant(token_expires_at_us)
        return _encode(_with_id(message, message_id))

    def pong(self, timestamp: bytes, received_us: int, server_time_us: int, message_id: str | None) -> bytes:
        message: dict[str, Any] = {"type": "pong"}
        if timestamp:
            message["timestamp"] = msgspec.Raw(timestamp)
        message["receivedTime"] = format_instant(received_us)
        message["serverTime"] = format_instant(server_time_us)
        return _encode(_with_id(message, message_id))

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
        if current is not None:
            message["timer"] = _timer(current)
        if trace_id:
            message["traceId"] = trace_id
        return _encode(_with_id(message, message_id))

    def timer(self, view: event_pb2.TimerView, event_id: str, server_time_us: int, *, traceparent: str = "") -> bytes:
        timer = view.timer
        message: dict[str, Any]
        if timer.run_state == event_pb2.RUN_STATE_STOPPED:
            message = {
                "type": "timer",
                "action": "stop",
                "timerId": timer.timer_id,
                "version": timer.version,
                "stoppedBy": timer.stopped_by,
            }
        else:
            message = {"type": "timer", "action": "update", "timer": _timer(view), "changedBy": timer.changed_by}
        return _event(message, event_id, server_time_us, traceparent)

    def share_added(
        self, view: event_pb2.TimerView, event_id: str, server_time_us: int, *, traceparent: str = ""
    ) -> bytes:
        message = {
            "type": "share",
            "action": "add",
            "timerId": view.timer.timer_id,
            "sharedBy": view.audience.owner_id,
            "timer": _timer(view),
        }
        return _event(message, event_id, server_time_us, traceparent)

    def share_removed(
        self, timer_id: str, user_id: str, event_id: str, server_time_us: int, *, traceparent: str = ""
    ) -> bytes:
        message = {"type": "share", "action": "remove", "timerId": timer_id, "sharedWithUser": user_id}
        return _event(message, event_id, server_time_us, traceparent)

    def reconnect(self, after_ms: int) -> bytes:
        return _encode({"type": "reconnect", "afterMs": after_ms})


def _request(header: _Header, message: bytes, message_id: str | None, traceparent: str) -> Request:
    match header.type:
        case "timer":
            return _timer_request(header.action, message, message_id, traceparent)
        case "share":
            if header.action not in ("add", "remove"):
                raise DecodeError(400, "Unknown share action", field="action", message_id=message_id)
            share = _parse(_share, message, message_id)
            return Share(
                timer_id=share.timerId,
                user_id=share.sharedWithUser,
                add=header.action == "add",
                message_id=message_id,
                traceparent=traceparent,
            )
        case "ping":
            timestamp = bytes(_parse(_ping, message, message_id).timestamp)
            return Ping(timestamp=timestamp, message_id=message_id, traceparent=traceparent)
        case "ack":
            return Acknowledge(message_id=message_id, traceparent=traceparent)
        case "auth":
            token = _parse(_auth, message, message_id).token
            return Authenticate(token=token, message_id=message_id, traceparent=traceparent)
        case "sync":
            sync = _parse(_sync, message, message_id)
            if max(len(sync.versions), len(sync.shareVersions or ())) > _MAX_KNOWN:
                raise DecodeError(
                    400, f"versions has more than {_MAX_KNOWN} timers", field="versions", message_id=message_id
                )
            return Sync(
                versions=sync.versions,
                audience_versions=sync.shareVersions,
                message_id=message_id,
                traceparent=traceparent,
            )
    raise DecodeError(400, "Unknown message type", field="type", message_id=message_id)


def _timer_request(action: object, message: bytes, message_id: str | None, traceparent: str) -> Write:
    envelope: _Update | _Intent
    match action:
        case "update":
            envelope = _parse(_update, message, message_id)
            fields = envelope.timer
            item = timer_pb2.WriteItem(
                timer_id=fields.id,
                update=timer_pb2.Update(
                    name=fields.name,
                    total_duration=fields.totalDuration,
                    end_time=fields.endTime,
                    remaining_duration=fields.remainingDuration,
                ),
            )
        case "stop":
            envelope = _parse(_intent, message, message_id)
            item = timer_pb2.WriteItem(timer_id=envelope.timerId, stop=timer_pb2.Stop())
        case "start":
            envelope = _parse(_intent, message, message_id)
            item = timer_pb2.WriteItem(timer_id=envelope.timerId, start=timer_pb2.Start())
        case "pause":
            envelope = _parse(_intent, message, message_id)
            item = timer_pb2.WriteItem(timer_id=envelope.timerId, pause=timer_pb2.Pause())
        case "resume":
            envelope = _parse(_intent, message, message_id)
            item = timer_pb2.WriteItem(timer_id=envelope.timerId, resume=timer_pb2.Resume())
        case "extend":
            extend = _parse(_extend, message, message_id)
            envelope = extend
            item = timer_pb2.WriteItem(timer_id=extend.timerId, extend=timer_pb2.Extend(by=extend.by))
        case _:
            raise DecodeError(400, "Unknown timer action", field="action", message_id=message_id)
    if envelope.baseVersion is not None:
        item.base_version = envelope.baseVersion
    return Write(
        item=item,
        with_timer=action not in ("update", "stop"),
        message_id=message_id,
        traceparent=traceparent,
    )


def _message_id(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise DecodeError(400, "messageId must be a string", field="messageId")
    problem = text.problem_with(value, longest=text.MAX_ID)
    if problem:
        raise DecodeError(400, f"messageId {problem}", field="messageId")
    return value


def _timer(view: event_pb2.TimerView) -> dict[str, Any]:
    timer, audience = view.timer, view.audience
    message: dict[str, Any] = {"id": timer.timer_id, "userId": audience.owner_id, "name": timer.name}
    if timer.HasField("total_duration"):
        message["totalDuration"] = timer.total_duration
    if timer.HasField("remaining_duration"):
        message["remainingDuration"] = timer.remaining_duration
    if timer.HasField("end_time"):
        message["endTime"] = timer.end_time
    if timer.stopped_by:
        message["stoppedBy"] = timer.stopped_by
    message["version"] = timer.version
    message["sharedWith"] = list(audience.member_ids)
    message["shareVersion"] = audience.version
    return message


def _event(message: dict[str, Any], event_id: str, server_time_us: int, traceparent: str) -> bytes:
    message["messageId"] = event_id
    message["serverTime"] = _instant(server_time_us)
    if traceparent:
        message["traceparent"] = traceparent
    return _encode(message)


def _with_id(message: dict[str, Any], message_id: str | None) -> dict[str, Any]:
    if message_id is not None:
        message["messageId"] = message_id
    return message
