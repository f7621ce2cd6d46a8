"""`edge/codec/app.py` against docs/app-dialect.md: never null, and every text as it came."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.codec.app import AppCodec, app_codec, stop
from edge.codec.contract import DecodeError, Welcome
from edge.errors import ClientError
from edge.java_time import java_duration
from edge.limits import MAX_MESSAGE
from edge.requests import Acknowledge, Ping, Request, SharedWrite, Write
from proto.event.v1 import event_pb2
from proto.timer.v1 import timer_pb2
from runtime.iso8601 import parse_duration
from tests.system.app_client import Unbearable, read, timer_from

CODEC = app_codec(None, 0)
NOW = 1_795_508_130_123_000


def decode(**data: object) -> Request:
    return CODEC.decode(json.dumps({"action": "sendmessage", "data": data}).encode())


def refused(**data: object) -> DecodeError:
    with pytest.raises(DecodeError) as refusal:
        decode(**data)
    return refusal.value


def update(timer: dict[str, object], **more: object) -> SharedWrite:
    request = decode(type="updateTimer", reason="who knows", timer={"id": "tea", **timer}, **more)
    assert isinstance(request, SharedWrite)
    return request


# --- what it sends --------------------------------------------------------------------------------------------------------


def test_a_whole_update_arrives_exactly_as_it_was_sent() -> None:
    request = update(
        {
            "userId": "whoever",
            "name": "Grüner Tee 🍵",
            "totalDuration": "PT-5M-3S",
            "timerEnd": "2026-11-24T08:20:30.123456789",
            "sharedWith": ["ignored"],
            "tags": ["hot", "kitchen"],
            "colour": {"unknown": [None]},
        },
        shareWith=["alice", " bob ", "", "alice"],
    )
    assert request == SharedWrite(
        item=timer_pb2.WriteItem(
            timer_id="tea",
            update=timer_pb2.Update(
                name="Grüner Tee 🍵",
                total_duration="PT-5M-3S",
                local_end=event_pb2.LocalEnd(text="2026-11-24T08:20:30.123456789"),
                tags=timer_pb2.Tags(values=["hot", "kitchen"]),
            ),
        ),
        share_with=("alice", "bob"),
    )


def test_what_is_left_does_not_count_beside_an_end_and_its_sender_must_see_that() -> None:
    both = update({"timerEnd": "2026-11-24T08:20", "remainingDuration": "PT3M"})
    assert both.must_see
    assert not both.item.update.HasField("remaining_duration")
    paused = update({"remainingDuration": "PT3M"})
    assert not paused.must_see
    assert paused.item.update.remaining_duration == "PT3M"


def test_absent_and_null_fields_are_absent() -> None:
    for absent in ({}, dict.fromkeys(("name", "totalDuration", "remainingDuration", "timerEnd", "tags"))):
        request = update(absent)
        assert request == SharedWrite(
            item=timer_pb2.WriteItem(timer_id="tea", update=timer_pb2.Update()), share_with=None
        )
    assert update({}, shareWith=[]).share_with == ()
    assert update({"tags": []}).item.update.HasField("tags")


def test_an_end_with_a_zone_is_an_instant() -> None:
    item = update({"timerEnd": "2026-11-24T08:20:30+02:00"}).item
    assert item.update == timer_pb2.Update(end_time="2026-11-24T08:20:30+02:00")


def test_a_stop_names_its_timer_in_one_of_two_places() -> None:
    expected = Write(item=timer_pb2.WriteItem(timer_id="tea", stop=timer_pb2.Stop()))
    assert decode(type="stopTimer", shareWith=["bob"], timerId="tea", timer={"id": "tea", "name": "x"}) == expected
    assert decode(type="stopTimer", timer={"id": "tea"}) == expected
    assert refused(type="stopTimer", shareWith=[]).field == "timerId"


def test_a_ping_and_an_acknowledgement() -> None:
    assert decode(type="ping", timestamp=123, direct=True) == Ping(timestamp=b"123")
    assert decode(type="acknowledge", messageId="e1") == Acknowledge(message_id="e1")


@given(
    st.one_of(
        st.none(), st.integers(), st.lists(st.text()), st.text(max_size=200), st.dictionaries(st.text(), st.none())
    )
)
def test_an_acknowledgement_is_never_refused(message_id: object) -> None:
    assert isinstance(decode(type="acknowledge", messageId=message_id), Acknowledge)


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({}, "type"),
        ({"type": "dance"}, "type"),
        ({"type": "updateTimer"}, "timer"),
        ({"type": "updateTimer", "timer": {}}, "id"),
        ({"type": "updateTimer", "timer": {"id": 7}}, "id"),
        ({"type": "updateTimer", "timer": {"id": "x", "timerEnd": "x" * 70}}, "timerEnd"),
        ({"type": "updateTimer", "timer": {"id": "x", "timerEnd": "2026-02-30T00:00Z"}}, "timerEnd"),
        ({"type": "updateTimer", "timer": {"id": "x"}, "shareWith": "bob"}, "shareWith"),
        ({"type": "updateTimer", "timer": {"id": "x"}, "shareWith": ["x"] * 1_001}, "shareWith"),
    ],
)
def test_what_is_malformed_is_refused_with_the_field_at_fault(data: dict[str, object], field: str) -> None:
    refusal = refused(**data)
    assert (refusal.code, refusal.field) == (400, field)


def test_too_long_a_message_and_bytes_that_are_no_text_are_refused() -> None:
    for message, code in ((b"x" * (MAX_MESSAGE + 1), 413), (b"\xff", 400), (b"{", 400), (b'{"action":"dance"}', 400)):
        with pytest.raises(DecodeError) as refusal:
            CODEC.decode(message)
        assert refusal.value.code == code


# --- what it reads --------------------------------------------------------------------------------------------------------

ids = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20)
durations = st.from_regex(
    re.compile(r"[+-]?P(?=[0-9T+-])([+-]?[0-9]{1,3}W)?([+-]?[0-9]{1,3}D)?(T(?=[0-9+-])([+-]?[0-9]{1,3}H)?([+-]?[0-9]{1,3}M)?([+-]?[0-9]{1,3}([.,][0-9]{0,9})?S)?)?", re.ASCII | re.IGNORECASE),
    fullmatch=True,
)  # fmt: skip
ends = st.builds(
    lambda when, fraction, zone: f"{when.isoformat(timespec='seconds')}{'.' + fraction if fraction else ''}{zone}",
    st.datetimes(),
    st.text("0123456789", max_size=9),
    st.sampled_from(["", "Z", "+02:00", "-11:45", "+14:00"]),
)


@st.composite
def views(draw: st.DrawFn) -> event_pb2.TimerView:
    """Whatever the services may send."""
    timer = event_pb2.Timer(
        timer_id=draw(ids), name=draw(st.text(max_size=20)), version=draw(st.integers(0, 2**53 - 1)),
        changed_by=draw(ids), tags=draw(st.lists(ids, max_size=3)),
    )  # fmt: skip
    if draw(st.booleans()):
        timer.total_duration = draw(durations)
    if draw(st.booleans()):
        timer.remaining_duration = draw(durations)
    if draw(st.booleans()):
        timer.end_time = draw(ends)
        if draw(st.booleans()):
            timer.local_end.text = draw(st.datetimes()).isoformat(timespec="seconds")
            if draw(st.booleans()):
                timer.local_end.utc_offset_minutes = draw(st.integers(-1_080, 1_080))
    audience = event_pb2.Audience(owner_id=draw(ids), member_ids=draw(st.lists(ids, max_size=4)))
    return event_pb2.TimerView(timer=timer, audience=audience)


codecs = st.builds(
    app_codec, st.one_of(st.none(), st.sampled_from([-720, -210, 0, 345, 840])), st.sampled_from([0, 60])
)


@given(views(), codecs)
def test_every_timer_can_be_read_by_the_strictest_of_parsers(view: event_pb2.TimerView, codec: AppCodec) -> None:
    message = read(codec.timer(view, "e1", NOW).decode())
    shown = timer_from(message["timer"])
    timer = view.timer
    assert message == {"type": "updateTimer", "timer": message["timer"], "messageId": "e1"}
    assert (shown.id, shown.name, shown.user_id) == (timer.timer_id, timer.name, view.audience.owner_id)
    assert shown.shared_with == {view.audience.owner_id, *view.audience.member_ids}
    assert shown.tags == set(timer.tags)
    assert (shown.end is not None) == timer.HasField("end_time")
    assert shown.end is None or shown.remaining is None
    if timer.HasField("total_duration") and "W" not in timer.total_duration.upper():
        assert shown.total == timer.total_duration
    if timer.HasField("local_end") and codec is app_codec(None, 0):
        assert shown.end == timer.local_end.text


@given(st.lists(views(), max_size=5), codecs)
def test_every_snapshot_too(listed: list[event_pb2.TimerView], codec: AppCodec) -> None:
    message = read(codec.snapshot(listed, [], message_id="s1").decode())
    assert message["type"] == "activeTimerList"
    assert [timer_from(each).id for each in message["timerList"]] == [view.timer.timer_id for view in listed]


def test_the_parser_in_these_tests_is_strict() -> None:
    good = {"id": "a", "userId": "b", "name": "c", "sharedWith": [], "tags": []}
    timer_from(good)
    for bad in (
        {"name": None},
        {"sharedWith": None},
        {"tags": "x"},
        {"totalDuration": "P1W"},
        {"remainingDuration": "null"},
        {"totalDuration": "PT"},
        {"timerEnd": "2026-11-24T08:20:30Z"},
        {"timerEnd": "2026-11-24T08:20:30+02:00"},
        {"timerEnd": "2026-11-24"},
    ):
        with pytest.raises(Unbearable):
            timer_from(good | bad)
    for name in good:
        with pytest.raises(Unbearable):
            timer_from({key: value for key, value in good.items() if key != name})
    for text in ('{"a":null}', '{"a":[{"b":null}]}', "[]"):
        with pytest.raises(Unbearable):
            read(text)


@given(durations)
def test_a_duration_without_weeks_stays_as_it_is_and_with_weeks_as_long_as_it_is(duration: str) -> None:
    assert parse_duration(java_duration(duration)) == parse_duration(duration)
    if "W" not in duration.upper():
        assert java_duration(duration) == duration


def test_an_idle_timer_is_one_that_is_paused_with_all_of_its_time() -> None:
    view = event_pb2.TimerView(timer=event_pb2.Timer(timer_id="tea", total_duration="PT5M"))
    timer = json.loads(CODEC.timer(view, "e1", NOW))["timer"]
    assert (timer["totalDuration"], timer["remainingDuration"]) == ("PT5M", "PT5M")


@pytest.mark.parametrize(
    ("written", "reader", "default", "expected"),
    [
        (120, 120, 0, "2026-11-24T10:20"),
        (120, None, 0, "2026-11-24T10:20"),  # not known: as it came
        (None, 60, 0, "2026-11-24T10:20"),
        (120, 60, 0, "2026-11-24T09:20"),
        (120, -210, 0, "2026-11-24T04:50"),
    ],
)
def test_a_local_end_stays_as_it_is_unless_both_offsets_are_known_and_differ(
    written: int | None, reader: int | None, default: int, expected: str
) -> None:
    timer = event_pb2.Timer(timer_id="tea", end_time="2026-11-24T10:20+02:00")
    timer.local_end.text = "2026-11-24T10:20"
    if written is not None:
        timer.local_end.utc_offset_minutes = written
    message = json.loads(app_codec(reader, default).timer(event_pb2.TimerView(timer=timer), "e1", NOW))
    assert message["timer"]["timerEnd"] == expected


def test_an_instant_is_shown_by_the_devices_clock_or_by_the_default() -> None:
    view = event_pb2.TimerView(timer=event_pb2.Timer(timer_id="tea", end_time="2026-11-24T23:20:30.5Z"))
    for codec, expected in (
        (app_codec(None, 0), "2026-11-24T23:20:30.5"),
        (app_codec(None, 60), "2026-11-25T00:20:30.5"),
        (app_codec(-60, 60), "2026-11-24T22:20:30.5"),
    ):
        assert json.loads(codec.timer(view, "e1", NOW))["timer"]["timerEnd"] == expected


def test_stops_and_removals_take_a_timer_away() -> None:
    stopped = event_pb2.Timer(timer_id="tea", run_state=event_pb2.RUN_STATE_STOPPED, stopped_by="bob")
    expected = {"type": "stopTimer", "timerId": "tea", "messageId": "e1"}
    message = json.loads(CODEC.timer(event_pb2.TimerView(timer=stopped), "e1", NOW))
    assert message == expected | {"stoppedByUserId": "bob", "stoppedByUserName": "bob"}
    message = json.loads(CODEC.share_removed("tea", "carol", "e1", NOW))
    assert message == expected | {"stoppedByUserId": "", "stoppedByUserName": ""} == json.loads(stop("tea", "e1", ""))


@pytest.mark.parametrize(
    ("timestamp", "expected"), [(b"123", 123), (b"", NOW // 1_000), (b"null", NOW // 1_000), (b'"x"', "x")]
)
def test_a_pong_has_the_pings_timestamp_or_one_of_its_own(timestamp: bytes, expected: object) -> None:
    assert json.loads(CODEC.pong(timestamp, NOW, NOW, None)) == {"type": "pong", "timestamp": expected}


def test_what_the_app_is_not_to_read_has_no_type_and_is_no_servers_error() -> None:
    welcome = Welcome(
        connection_id="c", user_id="alice", device_id="pixel", server_time_us=NOW, token_expires_at_us=0,
        ping_interval=25, ping_timeout=45, messages_per_second=20, message_burst=60,
    )  # fmt: skip
    view = event_pb2.TimerView(timer=event_pb2.Timer(timer_id="tea", version=5))
    refusal = ClientError(503, "busy", field="x", retry_after_ms=1_500)
    frames: list[dict[str, Any]] = [
        read(frame.decode())
        for frame in (
            CODEC.connected(welcome),
            CODEC.processed("tea", 5, None),
            CODEC.processed_with_timer(view, 5, "m"),
            CODEC.shared(view, None),
            CODEC.authenticated(0, None),
            CODEC.error(refusal, None, timer_id="tea", current=view, trace_id="t"),
            CODEC.error(ClientError(400, "wrong"), "m"),
            CODEC.reconnect(5),
        )
    ]
    for frame in frames:
        assert "type" not in frame
        assert "message" not in frame
    assert frames[5] == {
        "status": "error", "code": 503, "error": "busy", "field": "x", "timerId": "tea", "retryAfter": 1.5, "traceId": "t",
    }  # fmt: skip
    assert app_codec(60, 0) is app_codec(60, 0)
