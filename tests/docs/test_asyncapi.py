"""docs/asyncapi.yaml against AsyncAPI's own schema, and against the edge's code, for both dialects. What the edge really sends and
takes: tests/system/test_asyncapi.py and test_asyncapi_app.py.
"""

import inspect
import tomllib
from types import ModuleType
from typing import Any, get_args

import jsonschema
import msgspec
import pytest
from hypothesis import given

from edge import requests
from edge.close_codes import CloseCode
from edge.codec import app, seed
from edge.codec.contract import DecodeError, Welcome
from edge.errors import MEANINGS, ClientError
from edge.requests import Request
from proto.event.v1 import event_pb2
from proto.timer.v1 import timer_pb2
from runtime import text
from tests.docs.asyncapi import Document, Frame, Schema, document, fields_of
from tests.docs.pages import ROOT, table_after
from tests.unit.test_codec_app import CODEC, NOW, codecs, views
from timer_service.domain import MAX_TAGS

# From the npm package @asyncapi/specs 6.11.1, as it is.
ASYNCAPI_SCHEMA = ROOT / "tests/docs/asyncapi_schema/3.0.0.json"

STRUCTS: dict[str, type[msgspec.Struct] | None] = {
    "updateTimer": seed._Update,
    "stopTimer": seed._Intent,
    "startTimer": seed._Intent,
    "pauseTimer": seed._Intent,
    "resumeTimer": seed._Intent,
    "extendTimer": seed._Extend,
    "addMember": seed._Share,
    "removeMember": seed._Share,
    "ping": seed._Ping,
    "authenticate": seed._Auth,
    "sync": seed._Sync,
}
"""What each request is decoded into, the header aside. An `ack` is nothing but header."""

APP_STRUCTS: dict[str, type[msgspec.Struct] | None] = {
    "updateTimer": app._Update,
    "stopTimer": app._Stop,
    "ping": None,
    "acknowledge": None,
}
"""The same of the app's dialect, by what is in the envelope. None: nothing but header."""


def names_of(struct: type[msgspec.Struct]) -> set[str]:
    """The names of a struct's fields."""
    return {field.encode_name for field in msgspec.structs.fields(struct)}


HEADER = names_of(seed._Header)
APP_HEADER = names_of(app._Data)

# What the document says beyond a message's shape: for readers, or checked by the services behind the edge (see the numbers).
BEYOND_SHAPE = {"description", "format", "minLength", "maxLength", "maxProperties", "title", "default"}


@pytest.fixture(scope="module")
def asyncapi() -> Document:
    """The document, of the first dialect."""
    return document()


@pytest.fixture(scope="module", params=["socket", "appSocket"])
def each(request: pytest.FixtureRequest) -> Document:
    """The document, of each dialect."""
    return document(request.param)


@pytest.fixture(scope="module")
def of_the_app() -> Document:
    """The document, of the app's dialect."""
    return document("appSocket")


def shape(schema: Any) -> Any:
    """A schema without what is said beyond the shape, in one of the several ways in which the same can be written."""
    if isinstance(schema, list):
        return sorted((shape(each) for each in schema), key=str)
    if not isinstance(schema, dict):
        return schema
    if "anyOf" in schema:
        kinds = [shape(each) for each in schema["anyOf"] if each != {"type": "null"}]
        assert len(kinds) == 1, schema
        kind: Schema = kinds[0]
        return kind | {"type": sorted([kind["type"], "null"])}
    same = {
        key: {name: shape(field) for name, field in value.items() if not field.get("x-ignored")}
        if key == "properties"
        else shape(value)
        for key, value in schema.items()
        if key not in BEYOND_SHAPE
    }
    return {"required": []} | same if "properties" in same else same


def shape_of_struct(struct: type[msgspec.Struct]) -> Any:
    """The shape that msgspec checks."""
    if any(field.type is msgspec.Raw for field in msgspec.structs.fields(struct)):  # of which msgspec makes no schema
        fields = [(each.encode_name, Any, None) for each in msgspec.structs.fields(struct) if each.type is msgspec.Raw]
        struct = msgspec.defstruct(struct.__name__, fields, bases=(struct,))
    (whole,), definitions = msgspec.json.schema_components([struct], ref_template="#/{name}")

    def resolved(part: Any) -> Any:
        if isinstance(part, list):
            return [resolved(each) for each in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            return resolved(definitions[part["$ref"].removeprefix("#/")])
        return {key: resolved(value) for key, value in part.items()}

    return shape(resolved(whole))


def test_it_is_a_valid_asyncapi_document(asyncapi: Document) -> None:
    schema = msgspec.json.decode(ASYNCAPI_SCHEMA.read_bytes())
    problems = [
        f"{error.json_path}: {error.message}"
        for error in jsonschema.Draft7Validator(schema).iter_errors(asyncapi.whole)
    ]
    assert problems == []


def test_every_payload_is_a_valid_json_schema(each: Document) -> None:
    for name in each.messages:
        jsonschema.Draft7Validator.check_schema(each.payload(name))


def test_the_schema_of_asyncapi_would_find_a_mistake(asyncapi: Document) -> None:
    schema = msgspec.json.decode(ASYNCAPI_SCHEMA.read_bytes())
    broken = asyncapi.whole | {"operations": {"x": {"action": "shout", "channel": {"$ref": "#/channels/socket"}}}}
    assert list(jsonschema.Draft7Validator(schema).iter_errors(broken))


def test_every_message_belongs_to_an_operation(each: Document) -> None:
    assert sorted([*each.requests, *each.sent]) == sorted(each.messages)


def test_every_message_and_operation_belongs_to_one_channel(asyncapi: Document) -> None:
    channels = [document(name) for name in asyncapi.whole["channels"]]
    of_channels = [message["$ref"].split("/")[-1] for one in channels for message in one.channel["messages"].values()]
    assert sorted(of_channels) == sorted(asyncapi.whole["components"]["messages"])
    assert sorted(name for one in channels for name in one.operations) == sorted(asyncapi.whole["operations"])


def test_its_version_is_that_of_the_project(asyncapi: Document) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert asyncapi.whole["info"]["version"] == project["version"]


def body_of(payload: Schema, header: set[str]) -> Schema:
    """What a request has beside its header."""
    return {
        **payload,
        "properties": {key: value for key, value in payload["properties"].items() if key not in header},
        "required": [key for key in payload["required"] if key not in header],
    }


class _Nothing(msgspec.Struct):
    """The body of a request that is nothing but header."""


@pytest.mark.parametrize("name", STRUCTS)
def test_a_request_has_the_fields_that_the_codec_takes(asyncapi: Document, name: str) -> None:
    documented = asyncapi.payload(name)
    assert set(documented["properties"]) >= HEADER - {"action"}
    assert shape(body_of(documented, HEADER)) == shape_of_struct(STRUCTS[name] or _Nothing)


@pytest.mark.parametrize("name", APP_STRUCTS)
def test_a_request_of_the_app_has_the_fields_that_its_codec_takes(of_the_app: Document, name: str) -> None:
    envelope = of_the_app.payload(name)
    assert set(envelope["properties"]) == names_of(app._Envelope)
    body = body_of(envelope["properties"]["data"], APP_HEADER)
    assert shape(body) == shape_of_struct(APP_STRUCTS[name] or _Nothing)


@pytest.mark.parametrize(
    ("module", "structs", "parts"),
    [
        (seed, STRUCTS, {seed._Header, seed._TimerFields}),
        (app, APP_STRUCTS, {app._Envelope, app._Data, app._TimerFields, app._StoppedTimer}),
    ],
)
def test_every_struct_of_the_codec_is_documented(
    module: ModuleType, structs: dict[str, type[msgspec.Struct] | None], parts: set[type[msgspec.Struct]]
) -> None:
    found = {
        struct
        for _, struct in inspect.getmembers(module, inspect.isclass)
        if issubclass(struct, msgspec.Struct) and struct.__module__ == module.__name__
    }
    assert found == {struct for struct in structs.values() if struct is not None} | parts


def test_the_examples_of_requests_are_all_that_can_be_asked(asyncapi: Document) -> None:
    codec = seed.SeedCodec()
    asked = {
        codec.decode(msgspec.json.encode(each)).kind for name in asyncapi.requests for each in asyncapi.examples(name)
    }
    commands = {f"timer.{field.name}" for field in timer_pb2.WriteItem.DESCRIPTOR.oneofs_by_name["command"].fields}
    others = {
        kind.kind
        for kind in get_args(requests.Request)
        if isinstance(kind.kind, str)  # of the others, it depends on the request
    }
    assert asked == commands | others | {"share.add", "share.remove"}


def test_the_examples_of_the_apps_requests_are_all_that_it_can_ask(of_the_app: Document) -> None:
    asked: dict[str, list[Request]] = {
        name: [CODEC.decode(msgspec.json.encode(example)) for example in of_the_app.examples(name)]
        for name in of_the_app.requests
    }
    assert set(asked) == set(APP_STRUCTS)
    assert {name: {type(request) for request in made} for name, made in asked.items()} == {
        "updateTimer": {requests.SharedWrite},
        "stopTimer": {requests.Write},
        "ping": {requests.Ping},
        "acknowledge": {requests.Acknowledge},
    }


def test_the_examples_are_what_the_document_says_of_them(each: Document) -> None:
    for name in each.messages:
        assert each.examples(name), name
        for example in each.examples(name):
            assert each.problems(name, example) == [], name
            if name in each.sent:
                assert each.what_is(example) == name


def what_the_app_is_sent(view: event_pb2.TimerView, codec: app.AppCodec) -> dict[str, list[bytes]]:
    """Everything that the codec makes, by what the document calls it."""
    welcome = Welcome(
        connection_id="c", user_id="alice", device_id="pixel", server_time_us=NOW, token_expires_at_us=NOW,
        ping_interval=25, ping_timeout=45, messages_per_second=20, message_burst=60,
    )  # fmt: skip
    gone = event_pb2.TimerView(
        timer=event_pb2.Timer(timer_id="tea", run_state=event_pb2.RUN_STATE_STOPPED, stopped_by="bob")
    )
    refusal = ClientError(503, "busy", field="x", retry_after_ms=1_500)
    return {
        "connected": [codec.connected(welcome)],
        "timerList": [codec.snapshot([], []), codec.snapshot([view, view], ["gone"], message_id="s")],
        "timerUpdated": [codec.timer(view, "e", NOW), codec.share_added(view, "e", NOW)],
        "timerStopped": [
            codec.timer(gone, "e", NOW),
            codec.share_removed("tea", "bob", "e", NOW),
            app.stop("tea", "e", ""),
        ],
        "pong": [codec.pong(given, NOW, NOW, None) for given in (b"1", b'"x"', b"null", b"[null]", b"")],
        "processed": [
            codec.processed("tea", 5, None),
            codec.processed_with_timer(view, 5, "m"),
            codec.shared(view, None),
        ],
        "error": [
            codec.error(refusal, "m", timer_id="tea", current=view, trace_id="4bf92f3577b34da6a3ce929d0e0e4736"),
            codec.error(ClientError(400, "wrong"), None, trace_id="4bf92f3577b34da6a3ce929d0e0e4736"),
        ],
    }


@given(views(), codecs)
def test_whatever_the_apps_codec_makes_is_in_the_document(view: event_pb2.TimerView, codec: app.AppCodec) -> None:
    made = what_the_app_is_sent(view, codec)
    documented = document("appSocket")
    assert sorted(made) == documented.sent
    for name, frames in made.items():
        for frame in frames:
            assert documented.what_is(msgspec.json.decode(frame)) == name


def test_every_field_of_the_document_is_made_by_the_apps_codec(of_the_app: Document) -> None:
    seen: dict[str, set[str]] = {}
    for state in (event_pb2.Timer(end_time="2036-11-24T10:20Z"), event_pb2.Timer(remaining_duration="PT1M")):
        view = event_pb2.TimerView(
            timer=event_pb2.Timer(timer_id="tea", name="Tea", total_duration="PT5M", tags=["x"]),
            audience=event_pb2.Audience(owner_id="alice"),
        )
        view.timer.MergeFrom(state)
        for name, frames in what_the_app_is_sent(view, CODEC).items():
            seen.setdefault(name, set()).update(*(fields_of(msgspec.json.decode(frame)) for frame in frames))
    assert seen == {name: of_the_app.fields(name) for name in of_the_app.sent}


def test_what_the_app_can_not_bear_is_in_no_message(of_the_app: Document) -> None:
    timer: Frame = {"id": "tea", "userId": "alice", "name": "Tea", "sharedWith": [], "tags": []}
    message: Frame = {"type": "updateTimer", "timer": timer, "messageId": "e"}
    assert of_the_app.what_is(message) == "timerUpdated"
    unbearable: list[Frame] = [
        *({field: None} for field in (*timer, "totalDuration", "remainingDuration", "timerEnd")),
        {"timerEnd": "2036-11-24T10:20Z"},
        {"timerEnd": "2036-11-24T10:20", "remainingDuration": "PT1M"},
        {"totalDuration": "P1W"},
        {"mood": "good"},
    ]
    for bad in unbearable:
        with pytest.raises(AssertionError, match="is no message"):
            of_the_app.what_is(message | {"timer": timer | bad})
    for field in timer:
        with pytest.raises(AssertionError, match="is no message"):
            of_the_app.what_is(message | {"timer": {key: value for key, value in timer.items() if key != field}})


def test_a_field_that_is_not_in_the_document_is_found_wherever_it_is(asyncapi: Document) -> None:
    (_, snapshot) = asyncapi.examples("snapshot")
    assert asyncapi.what_is(snapshot) == "snapshot"
    for frame in (snapshot | {"mood": "good"}, snapshot | {"timers": [snapshot["timers"][0] | {"mood": "good"}]}):
        with pytest.raises(AssertionError, match="is no message"):
            asyncapi.what_is(frame)


@pytest.mark.parametrize("name", STRUCTS)
def test_what_the_document_forbids_the_codec_refuses(asyncapi: Document, name: str) -> None:
    codec = seed.SeedCodec()
    (example, *_) = asyncapi.examples(name)
    for field in asyncapi.payload(name)["required"]:
        with pytest.raises(DecodeError):
            codec.decode(msgspec.json.encode({key: value for key, value in example.items() if key != field}))
    for field, schema in asyncapi.payload(name)["properties"].items():
        if "type" in schema and field != "traceparent":  # a malformed traceparent is ignored
            with pytest.raises(DecodeError):
                codec.decode(msgspec.json.encode(example | {field: True}))


@pytest.mark.parametrize("name", APP_STRUCTS)
def test_what_the_document_forbids_the_apps_codec_refuses(of_the_app: Document, name: str) -> None:
    (example, *_) = of_the_app.examples(name)
    envelope = of_the_app.payload(name)
    bad = [{key: value for key, value in example.items() if key != field} for field in envelope["required"]]
    bad.append(example | {"action": "dance"})
    data, schema = example["data"], envelope["properties"]["data"]
    bad += [
        example | {"data": {key: value for key, value in data.items() if key != field}} for field in schema["required"]
    ]
    bad += [example | {"data": data | {field: True}} for field, part in schema["properties"].items() if "type" in part]
    for message in bad:
        with pytest.raises(DecodeError):
            CODEC.decode(msgspec.json.encode(message))


def test_the_close_codes_are_those_of_the_edge(each: Document) -> None:
    listed = each.channel["x-close-codes"]
    assert [(each["code"], each["reason"], each["mayRetry"]) for each in listed] == [
        (code.code, code.reason, code.may_retry) for code in CloseCode
    ]


def test_the_close_codes_ask_for_the_pauses_of_the_protocol(asyncapi: Document) -> None:
    pauses = {"half a minute": 30, "a minute": 60}
    for row, each in zip(
        table_after("docs/protocol.md", "close codes: checked by tests/docs"),
        asyncapi.channel["x-close-codes"],
        strict=True,
    ):
        expected = next((pause for words, pause in pauses.items() if words in row[2]), None)
        assert each.get("retryAfterSeconds") == expected, row


def test_the_errors_are_those_of_the_edge(each: Document) -> None:
    code = each.payload("error")["properties"]["code"]
    assert [each["const"] for each in code["oneOf"]] == list(MEANINGS)


def test_the_timer_of_a_refusal_is_a_timer_that_may_be_stopped(asyncapi: Document) -> None:
    timer, refused = (
        asyncapi.resolved(asyncapi.whole["components"]["schemas"][name]) for name in ("timer", "refusedTimer")
    )
    assert refused["required"] == timer["required"]
    assert refused["properties"] == timer["properties"] | {"stoppedBy": timer["properties"]["id"]}


def test_the_numbers_are_those_of_the_code(asyncapi: Document) -> None:
    schemas = asyncapi.whole["components"]["schemas"]
    assert schemas["id"]["maxLength"] == text.MAX_ID
    assert schemas["requestId"]["maxLength"] == text.MAX_ID
    for name in ("timerFields", "timer", "refusedTimer", "appTimerFields", "appTimer"):
        fields = schemas[name]["properties"]
        assert fields["name"]["maxLength"] == text.MAX_NAME
        for field in {"totalDuration", "remainingDuration", "endTime"} & fields.keys():
            assert fields[field]["maxLength"] == text.MAX_TIME_TEXT
    assert asyncapi.payload("extendTimer")["properties"]["by"]["maxLength"] == text.MAX_TIME_TEXT
    sync = asyncapi.payload("sync")["properties"]
    assert sync["versions"]["maxProperties"] == sync["shareVersions"]["maxProperties"] == seed._MAX_KNOWN
    assert schemas["appTimerFields"]["properties"]["timerEnd"]["maxLength"] == text.MAX_TIME_TEXT
    assert schemas["appTimerFields"]["properties"]["tags"]["description"] == f"At most {MAX_TAGS}."
