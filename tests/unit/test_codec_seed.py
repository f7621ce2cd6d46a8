"""`edge/codec/seed.py` against docs/protocol.md: every request, every malformed one, every frame."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.codec.contract import DecodeError, Welcome
from edge.codec.seed import SeedCodec
from edge.errors import ClientError
from edge.limits import MAX_MESSAGE
from edge.requests import Acknowledge, Authenticate, Ping, Request, Share, Sync, Write
from proto.event.v1 import event_pb2
from proto.timer.v1 import timer_pb2

CODEC = SeedCodec()
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
NOW = 1_795_508_130_123_000
NOW_TEXT = "2026-11-24T08:15:30.123Z"


def decode(message: object) -> Request:
    return CODEC.decode(json.dumps(message).encode())


def refused(message: bytes | object) -> DecodeError:
    with pytest.raises(DecodeError) as refusal:
        CODEC.decode(message if isinstance(message, bytes) else json.dumps(message).encode())
    return refusal.value


def item_of(message: object) -> timer_pb2.WriteItem:
    request = decode(message)
    assert isinstance(request, Write)
    return request.item


# --- requests -------------------------------------------------------------------------------------------------------------


def test_a_whole_update_arrives_exactly_as_it_was_sent() -> None:
    request = decode(
        {
            "type": "timer",
            "action": "update",
            "timer": {
                "id": "tea",
                "userId": "ignored",
                "name": "Grüner Tee 🍵",
                "totalDuration": "PT-5M-3S",
                "remainingDuration": "PT4M59.123456789S",
                "endTime": "2026-11-24T08:20:30.123456789+02:00",
                "colour": {"unknown": [1, 2, 3]},
            },
            "baseVersion": 2**53 - 1,
            "messageId": "m1",
            "traceparent": TRACE,
            "unknown": None,
        }
    )
    assert request == Write(
        item=timer_pb2.WriteItem(
            timer_id="tea",
            base_version=2**53 - 1,
            update=timer_pb2.Update(
                name="Grüner Tee 🍵",
                total_duration="PT-5M-3S",
                remaining_duration="PT4M59.123456789S",
                end_time="2026-11-24T08:20:30.123456789+02:00",
            ),
        ),
        with_timer=False,
        message_id="m1",
        traceparent=TRACE,
    )


@pytest.mark.parametrize(
    "absent", [{}, {"name": None, "totalDuration": None, "remainingDuration": None, "endTime": None}]
)
def test_absent_and_null_fields_of_an_update_are_absent(absent: dict[str, None]) -> None:
    item = item_of(
        {"type": "timer", "action": "update", "timer": {"id": "tea", **absent}, "baseVersion": None, "messageId": None}
    )
    assert item == timer_pb2.WriteItem(timer_id="tea", update=timer_pb2.Update())
    assert not item.HasField("base_version")
    for field in ("name", "total_duration", "remaining_duration", "end_time"):
        assert not item.update.HasField(field)


def test_empty_texts_are_not_absent() -> None:
    item = item_of({"type": "timer", "action": "update", "timer": {"id": "tea", "name": ""}})
    assert item.update.HasField("name")


@pytest.mark.parametrize(
    ("action", "command"),
    [
        ("stop", timer_pb2.WriteItem(timer_id="tea", stop=timer_pb2.Stop())),
        ("start", timer_pb2.WriteItem(timer_id="tea", start=timer_pb2.Start())),
        ("pause", timer_pb2.WriteItem(timer_id="tea", pause=timer_pb2.Pause())),
        ("resume", timer_pb2.WriteItem(timer_id="tea", resume=timer_pb2.Resume())),
        ("extend", timer_pb2.WriteItem(timer_id="tea", extend=timer_pb2.Extend(by="PT1M"))),
    ],
)
def test_a_stop_and_every_intent_name_their_timer(action: str, command: timer_pb2.WriteItem) -> None:
    message = {"type": "timer", "action": action, "timerId": "tea", "messageId": "m1"}
    if action == "extend":
        message["by"] = "PT1M"
    request = decode(message)
    assert request == Write(item=command, with_timer=action != "stop", message_id="m1")
    command.base_version = 0
    assert item_of({**message, "baseVersion": 0}) == command


@pytest.mark.parametrize("action", ["add", "remove"])
def test_a_share_names_the_timer_and_the_user(action: str) -> None:
    assert decode(
        {"type": "share", "action": action, "timerId": "tea", "sharedWithUser": "bob", "messageId": "m1"}
        | {"traceparent": TRACE}
    ) == Share(timer_id="tea", user_id="bob", add=action == "add", message_id="m1", traceparent=TRACE)


def test_a_sync_tells_what_the_client_has() -> None:
    assert decode({"type": "sync", "versions": {"tea": 5, "eggs": 0}, "messageId": "m1"}) == Sync(
        versions={"tea": 5, "eggs": 0}, message_id="m1"
    )
    assert decode({"type": "sync", "versions": {"tea": 5}, "shareVersions": {"tea": 6}}) == Sync(
        versions={"tea": 5}, audience_versions={"tea": 6}
    )
    assert decode({"type": "sync", "versions": {}, "shareVersions": None}) == Sync(versions={})


def test_an_ack_an_auth_and_a_ping() -> None:
    assert decode({"type": "ack", "messageId": "e1"}) == Acknowledge(message_id="e1")
    assert decode({"type": "auth", "token": "abc", "messageId": "m1"}) == Authenticate(token="abc", message_id="m1")
    assert decode({"type": "ping", "messageId": "m1"}) == Ping(message_id="m1")


@pytest.mark.parametrize(
    "timestamp", ["1764000000000", '"now"', "1.5", "null", '{"a": [1, 2]}', "1e999", "12345678901234567890"]
)
def test_a_pings_timestamp_comes_back_exactly_as_it_was(timestamp: str) -> None:
    request = CODEC.decode(f'{{"type":"ping","timestamp": {timestamp} ,"messageId":"m1"}}'.encode())
    assert isinstance(request, Ping)
    pong = CODEC.pong(request.timestamp, NOW, NOW, request.message_id).decode()
    assert f'"timestamp":{timestamp}' in pong
    assert json.loads(pong)["serverTime"] == NOW_TEXT


@pytest.mark.parametrize("message_id", ["", "m", "x" * 128, "ünïcødé 🍵"])
def test_any_reasonable_message_id_is_taken(message_id: str) -> None:
    assert decode({"type": "ping", "messageId": message_id}).message_id == message_id


@pytest.mark.parametrize(
    "traceparent", [5, None, "", "garbage", TRACE.upper(), TRACE + "-x", ["a"], {"a": 1}, "x" * 1_000]
)
def test_a_malformed_traceparent_is_ignored(traceparent: object) -> None:
    request = decode({"type": "timer", "action": "stop", "timerId": "tea", "traceparent": traceparent})
    assert isinstance(request, Write)
    assert request.traceparent == ""


def test_of_a_field_that_is_there_twice_the_last_counts_for_everybody() -> None:
    assert CODEC.decode(b'{"type":"timer","type":"ping"}') == Ping()
    assert CODEC.decode(b'{"type":"ack","messageId":"a","messageId":"b"}') == Acknowledge(message_id="b")


# --- malformed requests ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b" ",
        b"{",
        b'{"type":"ping"',
        b'{"type":"ping",}',
        b'{"type":"ping"}{"type":"ping"}',
        b"{'type':'ping'}",
        b"ping",
        b"\x00",
        b'\xef\xbb\xbf{"type":"ping"}',
        b'{"type":"ping","timestamp":NaN}',
        b'{"type":"ping","timestamp":Infinity}',
        b'{"type":"ping","timestamp":0x10}',
        b'{"type":"ping","timestamp":01}',
        b'{"type":"ping","timestamp":"\t"}',
        b'{"type":"timer","action":"stop","timerId":"\\ud800"}',
        b'{"type":"timer","action":"stop","timerId":"tea","messageId":"\\udfff"}',
        b'{"type":"timer","action":"stop","timerId":"\\x41"}',
    ],
)
def test_what_is_no_json_is_refused(message: bytes) -> None:
    refusal = refused(message)
    assert (refusal.code, refusal.field, refusal.message_id) == (400, "", None)
    assert "JSON" in refusal.message


@pytest.mark.parametrize(
    "message",
    [
        b'{"type":"timer","action":"stop","timerId":"\xff"}',
        b'{"type":"timer","action":"stop","timerId":"\xed\xa0\x80"}',
        b'{"type":"timer","action":"stop","timerId":"\xc0\xaf"}',
        b'{"type":"p\xff"}',
    ],
)
def test_what_is_no_utf_8_is_refused(message: bytes) -> None:
    refusal = refused(message)
    assert (refusal.code, refusal.message) == (400, "The message is not valid UTF-8")


def test_a_pings_timestamp_that_is_no_utf_8_is_refused_rather_than_sent_back() -> None:
    with pytest.raises(DecodeError, match="not valid UTF-8"):
        CODEC.decode(b'{"type":"ping","timestamp":"\xff"}')


@pytest.mark.parametrize("message", [[], [{"type": "ping"}], None, 1, 1.5, "ping", True])
def test_what_is_no_object_is_refused(message: object) -> None:
    refusal = refused(message)
    assert refusal.code == 400
    assert refusal.message.startswith("Expected `object`")


@pytest.mark.parametrize("kind", [None, 1, "", "Timer", "timers", "connected", [], ["timer"], {"timer": 1}, True])
def test_an_unknown_type_is_refused_by_its_known_words(kind: object) -> None:
    refusal = refused({"type": kind, "messageId": "m1"})
    assert (refusal.code, refusal.message, refusal.field) == (400, "Unknown message type", "type")
    assert refusal.message_id == "m1"


@pytest.mark.parametrize("action", [None, 1, "", "Stop", "delete", ["stop"], {"stop": 1}])
def test_an_unknown_action_is_refused_by_its_known_words(action: object) -> None:
    refusal = refused({"type": "timer", "action": action, "timerId": "tea", "messageId": "m1"})
    assert (refusal.code, refusal.message, refusal.field) == (400, "Unknown timer action", "action")
    assert refusal.message_id == "m1"
    assert refused({"type": "share", "action": action, "timerId": "tea", "sharedWithUser": "bob"}).field == "action"


@pytest.mark.parametrize("depth", [1_500, 7_000, 16_000])
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
@pytest.mark.parametrize("where", [b'"timestamp"', b'"unknown"', b'"type"', b'"messageId"'])
def test_deep_nesting_is_refused_and_takes_nothing_down(
    depth: int, opening: bytes, closing: bytes, where: bytes
) -> None:
    depth = min(depth, (MAX_MESSAGE - 100) // (len(opening) + len(closing)))
    for end in (closing, b""):
        assert refused(b'{"type":"ping",' + where + b":" + opening * depth + b"1" + end * depth + b"}").code == 400


def test_a_message_may_have_as_many_bytes_as_the_limit_says_and_not_one_more() -> None:
    frame = b'{"type":"ping","x":"%s"}'
    padding = MAX_MESSAGE - len(frame % b"")
    assert CODEC.decode(frame % (b"x" * padding)) == Ping()
    refusal = refused(frame % (b"x" * (padding + 1)))
    assert (refusal.code, refusal.message_id) == (413, None)


@pytest.mark.parametrize("message_id", [5, 1.5, True, [], {}, ["m1"], "x" * 129, "a\nb", "a\x00", "\u202eb"])
def test_an_impossible_message_id_is_refused_and_not_echoed(message_id: object) -> None:
    for message in ({"type": "ping"}, {"type": "ack"}, {"type": "nonsense"}):
        refusal = refused({**message, "messageId": message_id})
        assert (refusal.code, refusal.field, refusal.message_id) == (400, "messageId", None)


UPDATE = {"type": "timer", "action": "update", "timer": {"id": "tea"}, "messageId": "m1"}
STOP = {"type": "timer", "action": "stop", "timerId": "tea", "messageId": "m1"}
EXTEND = {**STOP, "action": "extend", "by": "PT1M"}
SHARE = {"type": "share", "action": "add", "timerId": "tea", "sharedWithUser": "bob", "messageId": "m1"}
SYNC = {"type": "sync", "versions": {"tea": 5}, "messageId": "m1"}
AUTH = {"type": "auth", "token": "abc", "messageId": "m1"}


def timer_with(**fields: object) -> dict[str, object]:
    return {**UPDATE, "timer": {"id": "tea", **fields}}


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({**UPDATE, "timer": None}, "timer"),
        ({**UPDATE, "timer": []}, "timer"),
        ({**UPDATE, "timer": "tea"}, "timer"),
        ({**UPDATE, "timer": {}}, "id"),
        ({**UPDATE, "timer": {"name": "Tea"}}, "id"),
        (timer_with(id=None), "id"),
        (timer_with(id=5), "id"),
        (timer_with(id=["tea"]), "id"),
        (timer_with(name=5), "name"),
        (timer_with(name={"a": 1}), "name"),
        (timer_with(userId=5), "userId"),
        (timer_with(totalDuration=300), "totalDuration"),
        (timer_with(remainingDuration=300.5), "remainingDuration"),
        (timer_with(endTime=1764000000000), "endTime"),
        (timer_with(endTime=True), "endTime"),
        ({**UPDATE, "baseVersion": "5"}, "baseVersion"),
        ({**UPDATE, "baseVersion": 1.5}, "baseVersion"),
        ({**UPDATE, "baseVersion": -1}, "baseVersion"),
        ({**UPDATE, "baseVersion": 2**53}, "baseVersion"),
        ({**UPDATE, "baseVersion": 10**30}, "baseVersion"),
        ({**UPDATE, "baseVersion": True}, "baseVersion"),
        ({**STOP, "timerId": None}, "timerId"),
        ({**STOP, "timerId": 5}, "timerId"),
        ({**STOP, "timerId": {}}, "timerId"),
        ({**EXTEND, "by": None}, "by"),
        ({**EXTEND, "by": 60}, "by"),
        ({**SHARE, "timerId": None}, "timerId"),
        ({**SHARE, "sharedWithUser": None}, "sharedWithUser"),
        ({**SHARE, "sharedWithUser": ["bob"]}, "sharedWithUser"),
        ({**SYNC, "versions": None}, "versions"),
        ({**SYNC, "versions": []}, "versions"),
        ({**AUTH, "token": None}, "token"),
        ({**AUTH, "token": 5}, "token"),
    ],
)
def test_a_field_of_the_wrong_type_is_refused_by_its_name(message: dict[str, object], field: str) -> None:
    refusal = refused(message)
    assert (refusal.code, refusal.field, refusal.message_id) == (400, field, "m1")


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"versions": {"tea": "5"}}, "versions"),
        ({"versions": {"tea": None}}, "versions"),
        ({"versions": {"tea": -1}}, "versions"),
        ({"shareVersions": {"tea": 1.5}}, "shareVersions"),
    ],
)
def test_a_wrong_version_in_a_sync_is_refused_by_the_name_of_its_field(wrong: dict[str, object], field: str) -> None:
    assert refused({**SYNC, **wrong}).field == field


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (UPDATE, "timer"),
        (STOP, "timerId"),
        (EXTEND, "timerId"),
        (EXTEND, "by"),
        (SHARE, "timerId"),
        (SHARE, "sharedWithUser"),
        (SYNC, "versions"),
        (AUTH, "token"),
    ],
)
def test_a_missing_field_is_refused_by_its_name(message: dict[str, object], field: str) -> None:
    refusal = refused({name: value for name, value in message.items() if name != field})
    assert (refusal.code, refusal.field, refusal.message_id) == (400, field, "m1")
    assert refusal.message == f"{field} is missing"


def test_a_sync_of_more_timers_than_anybody_can_see_is_refused() -> None:
    versions = {f"{number:x}": 1 for number in range(2_001)}
    message = json.dumps({"type": "sync", "versions": versions}, separators=(",", ":")).encode()
    assert len(message) <= MAX_MESSAGE
    refusal = refused(message)
    assert (refusal.code, refusal.field) == (400, "versions")


names = st.sampled_from(
    ["type", "action", "timer", "timerId", "messageId", "id", "by", "versions", "token", "sharedWithUser", "timestamp"]
)
words = st.sampled_from(["timer", "share", "ping", "ack", "auth", "sync", "update", "stop", "extend", "add", "remove"])
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names | st.text(max_size=3), inner, max_size=5),
    max_leaves=15,
)


@given(
    anything
    | st.fixed_dictionaries({"type": words, "action": words}, optional={"timer": anything, "timerId": anything})
)
def test_any_json_is_understood_or_refused_and_never_crashes(message: object) -> None:
    _decode_or_refuse(json.dumps(message).encode())


@given(st.binary(max_size=60) | st.binary(max_size=20).map(lambda tail: b'{"type":"ping","messageId":"' + tail))
def test_any_bytes_are_understood_or_refused_and_never_crash(message: bytes) -> None:
    _decode_or_refuse(message)


def _decode_or_refuse(message: bytes) -> None:
    refusal = None
    try:
        CODEC.decode(message)
    except DecodeError as error:
        refusal = error
    if refusal is not None:
        assert refusal.code == 400
        assert json.loads(CODEC.error(refusal, refusal.message_id))["code"] == 400


# --- frames ---------------------------------------------------------------------------------------------------------------


def running(*, members: tuple[str, ...] = ("bob",)) -> event_pb2.TimerView:
    return event_pb2.TimerView(
        timer=event_pb2.Timer(
            timer_id="tea",
            name="Tea",
            total_duration="PT5M",
            end_time="2026-11-24T08:20:30.123Z",
            run_state=event_pb2.RUN_STATE_RUNNING,
            version=1_764_000_000_123_456,
            changed_by="bob",
        ),
        audience=event_pb2.Audience(owner_id="alice", member_ids=members, version=1_764_000_000_000_001),
    )


def stopped() -> event_pb2.TimerView:
    view = running()
    view.timer.run_state = event_pb2.RUN_STATE_STOPPED
    view.timer.stopped_by = "bob"
    return view


RUNNING = {
    "id": "tea",
    "userId": "alice",
    "name": "Tea",
    "totalDuration": "PT5M",
    "endTime": "2026-11-24T08:20:30.123Z",
    "version": 1764000000123456,
    "sharedWith": ["bob"],
    "shareVersion": 1764000000000001,
}


def welcome(**changes: Any) -> Welcome:
    return Welcome(
        **{
            "connection_id": "9f2c",
            "user_id": "alice",
            "device_id": "pixel",
            "server_time_us": NOW,
            "token_expires_at_us": NOW + 3_600_000_000,
            "ping_interval": 25.0,
            "ping_timeout": 45.0,
            "messages_per_second": 20.0,
            "message_burst": 60.0,
            **changes,
        }
    )


def test_the_first_frame() -> None:
    assert json.loads(CODEC.connected(welcome())) == {
        "type": "connected",
        "status": "connected",
        "connectionId": "9f2c",
        "userId": "alice",
        "deviceId": "pixel",
        "serverTime": NOW_TEXT,
        "tokenExpiresAt": "2026-11-24T09:15:30.123Z",
        "heartbeat": {"intervalMs": 25_000, "timeoutMs": 45_000},
        "limits": {"messageBytes": 16_384, "messagesPerSecond": 20, "messageBurst": 60},
    }


def test_a_token_that_never_expires_has_no_moment() -> None:
    assert "tokenExpiresAt" not in json.loads(CODEC.connected(welcome(token_expires_at_us=0)))
    assert "tokenExpiresAt" not in json.loads(CODEC.authenticated(0, None))


def test_a_snapshot() -> None:
    assert json.loads(CODEC.snapshot([running()], [])) == {"type": "snapshot", "timers": [RUNNING], "gone": []}
    assert json.loads(CODEC.snapshot([], ["eggs"], message_id="m1")) == {
        "type": "snapshot",
        "timers": [],
        "gone": ["eggs"],
        "messageId": "m1",
    }


def test_a_processed_command() -> None:
    assert json.loads(CODEC.processed("tea", 5, "m1")) == {
        "status": "processed",
        "messageId": "m1",
        "timerId": "tea",
        "version": 5,
    }
    assert "messageId" not in json.loads(CODEC.processed("tea", 5, None))
    assert json.loads(CODEC.processed("tea", 5, ""))["messageId"] == ""


def test_a_processed_intent_brings_the_timer() -> None:
    assert json.loads(CODEC.processed_with_timer(running(), 7, "m1")) == {
        "status": "processed",
        "messageId": "m1",
        "timerId": "tea",
        "version": 7,
        "timer": RUNNING,
    }


def test_a_processed_share_brings_the_audience() -> None:
    assert json.loads(CODEC.shared(running(), "m1")) == {
        "status": "processed",
        "messageId": "m1",
        "timerId": "tea",
        "version": 1764000000123456,
        "shareVersion": 1764000000000001,
        "sharedWith": ["bob"],
    }


def test_a_processed_token() -> None:
    assert json.loads(CODEC.authenticated(NOW, "m1")) == {
        "status": "processed",
        "messageId": "m1",
        "tokenExpiresAt": NOW_TEXT,
    }


def test_a_pong() -> None:
    assert json.loads(CODEC.pong(b"1764", NOW - 1_250, NOW, "m1")) == {
        "type": "pong",
        "timestamp": 1764,
        "receivedTime": "2026-11-24T08:15:30.121750Z",
        "serverTime": NOW_TEXT,
        "messageId": "m1",
    }
    assert json.loads(CODEC.pong(b"", NOW, NOW, None)) == {
        "type": "pong",
        "receivedTime": NOW_TEXT,
        "serverTime": NOW_TEXT,
    }


def test_an_update_for_the_others() -> None:
    assert json.loads(CODEC.timer(running(), "e1", NOW)) == {
        "type": "timer",
        "action": "update",
        "timer": RUNNING,
        "changedBy": "bob",
        "messageId": "e1",
        "serverTime": NOW_TEXT,
    }


def test_a_stop_for_the_others() -> None:
    assert json.loads(CODEC.timer(stopped(), "e1", NOW)) == {
        "type": "timer",
        "action": "stop",
        "timerId": "tea",
        "version": 1764000000123456,
        "stoppedBy": "bob",
        "messageId": "e1",
        "serverTime": NOW_TEXT,
    }


def test_a_share_for_a_new_member() -> None:
    assert json.loads(CODEC.share_added(running(), "e1", NOW)) == {
        "type": "share",
        "action": "add",
        "timerId": "tea",
        "sharedBy": "alice",
        "timer": RUNNING,
        "messageId": "e1",
        "serverTime": NOW_TEXT,
    }


def test_a_removal_for_a_former_member() -> None:
    assert json.loads(CODEC.share_removed("tea", "bob", "e1", NOW)) == {
        "type": "share",
        "action": "remove",
        "timerId": "tea",
        "sharedWithUser": "bob",
        "messageId": "e1",
        "serverTime": NOW_TEXT,
    }


def test_a_reconnect() -> None:
    assert json.loads(CODEC.reconnect(1_500)) == {"type": "reconnect", "afterMs": 1_500}


def test_a_bare_error() -> None:
    error = ClientError(400, "Unknown message type")
    assert json.loads(CODEC.error(error, None)) == {"status": "error", "code": 400, "error": "Unknown message type"}


def test_an_error_with_everything() -> None:
    error = ClientError(409, "The timer was stopped a moment ago", field="timerId", retry_after_ms=1_500)
    assert json.loads(CODEC.error(error, "m1", timer_id="tea", current=stopped(), trace_id="4bf9")) == {
        "status": "error",
        "code": 409,
        "error": "The timer was stopped a moment ago",
        "messageId": "m1",
        "field": "timerId",
        "timerId": "tea",
        "retryAfter": 1.5,
        "timer": {**RUNNING, "stoppedBy": "bob"},
        "traceId": "4bf9",
    }


def test_what_a_timer_does_not_have_is_absent_and_never_null() -> None:
    bare = event_pb2.TimerView(
        timer=event_pb2.Timer(timer_id="tea", version=5, run_state=event_pb2.RUN_STATE_IDLE),
        audience=event_pb2.Audience(owner_id="alice", version=3),
    )
    (timer,) = json.loads(CODEC.snapshot([bare], []))["timers"]
    assert timer == {
        "id": "tea",
        "userId": "alice",
        "name": "",
        "version": 5,
        "sharedWith": [],
        "shareVersion": 3,
    }


def test_a_paused_timer_has_only_what_is_left() -> None:
    view = running()
    view.timer.ClearField("end_time")
    view.timer.remaining_duration = "PT4M"
    (timer,) = json.loads(CODEC.snapshot([view], []))["timers"]
    assert timer["remainingDuration"] == "PT4M"
    assert "endTime" not in timer


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_any_name_comes_back_as_it_was(name: str) -> None:
    view = running()
    view.timer.name = name
    frame = CODEC.timer(view, "e1", NOW)
    assert json.loads(frame.decode("utf-8"))["timer"]["name"] == name
