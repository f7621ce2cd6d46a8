"""docs/asyncapi.yaml against AsyncAPI's own schema, and against the edge's code. What the edge really sends and takes:
tests/system/test_asyncapi.py.
"""

import inspect
import tomllib
from typing import Any, get_args

import jsonschema
import msgspec
import pytest

from edge import requests
from edge.close_codes import CloseCode
from edge.codec import seed
from edge.codec.contract import DecodeError
from edge.errors import MEANINGS
from proto.timer.v1 import timer_pb2
from runtime import text
from tests.docs.asyncapi import Document, Schema, document
from tests.docs.pages import ROOT, table_after

# From the npm package @asyncapi/specs 6.11.1, as it is.
ASYNCAPI_SCHEMA = ROOT / "tests/docs/asyncapi_schema/3.0.0.json"

STRUCTS: dict[str, type[msgspec.Struct]] = {
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

HEADER = {field.encode_name for field in msgspec.structs.fields(seed._Header)}

# What the document says beyond a message's shape: for readers, or checked by the services behind the edge (see the numbers).
BEYOND_SHAPE = {"description", "format", "minLength", "maxLength", "maxProperties", "title", "default"}


@pytest.fixture(scope="module")
def asyncapi() -> Document:
    """The document."""
    return document()


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
        key: {name: shape(field) for name, field in value.items()} if key == "properties" else shape(value)
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


def test_every_payload_is_a_valid_json_schema(asyncapi: Document) -> None:
    for name in asyncapi.messages:
        jsonschema.Draft7Validator.check_schema(asyncapi.payload(name))


def test_the_schema_of_asyncapi_would_find_a_mistake(asyncapi: Document) -> None:
    schema = msgspec.json.decode(ASYNCAPI_SCHEMA.read_bytes())
    broken = asyncapi.whole | {"operations": {"x": {"action": "shout", "channel": {"$ref": "#/channels/socket"}}}}
    assert list(jsonschema.Draft7Validator(schema).iter_errors(broken))


def test_every_message_belongs_to_the_channel_and_to_an_operation(asyncapi: Document) -> None:
    assert sorted(asyncapi.whole["channels"]["socket"]["messages"]) == sorted(asyncapi.messages)
    assert sorted([*asyncapi.requests, *asyncapi.sent]) == sorted(asyncapi.messages)


def test_its_version_is_that_of_the_project(asyncapi: Document) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert asyncapi.whole["info"]["version"] == project["version"]


@pytest.mark.parametrize("name", STRUCTS)
def test_a_request_has_the_fields_that_the_codec_takes(asyncapi: Document, name: str) -> None:
    documented = asyncapi.payload(name)
    assert set(documented["properties"]) >= HEADER - {"action"}
    body = {
        **documented,
        "properties": {key: value for key, value in documented["properties"].items() if key not in HEADER},
        "required": [key for key in documented["required"] if key not in HEADER],
    }
    assert shape(body) == shape_of_struct(STRUCTS[name])


def test_every_struct_of_the_codec_is_documented() -> None:
    structs = {
        struct
        for _, struct in inspect.getmembers(seed, inspect.isclass)
        if issubclass(struct, msgspec.Struct) and struct.__module__ == seed.__name__
    }
    parts = {seed._Header, seed._TimerFields}
    assert structs == set(STRUCTS.values()) | parts


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


def test_the_examples_are_what_the_document_says_of_them(asyncapi: Document) -> None:
    for name in asyncapi.messages:
        assert asyncapi.examples(name), name
        for example in asyncapi.examples(name):
            assert asyncapi.problems(name, example) == [], name
            if name in asyncapi.sent:
                assert asyncapi.what_is(example) == name


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


def test_the_close_codes_are_those_of_the_edge(asyncapi: Document) -> None:
    listed = asyncapi.whole["channels"]["socket"]["x-close-codes"]
    assert [(each["code"], each["reason"], each["mayRetry"]) for each in listed] == [
        (code.code, code.reason, code.may_retry) for code in CloseCode
    ]


def test_the_close_codes_ask_for_the_pauses_of_the_protocol(asyncapi: Document) -> None:
    pauses = {"half a minute": 30, "a minute": 60}
    for row, each in zip(
        table_after("docs/protocol.md", "close codes: checked by tests/docs"),
        asyncapi.whole["channels"]["socket"]["x-close-codes"],
        strict=True,
    ):
        expected = next((pause for words, pause in pauses.items() if words in row[2]), None)
        assert each.get("retryAfterSeconds") == expected, row


def test_the_errors_are_those_of_the_edge(asyncapi: Document) -> None:
    code = asyncapi.payload("error")["properties"]["code"]
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
    for name in ("timerFields", "timer", "refusedTimer"):
        fields = schemas[name]["properties"]
        assert fields["name"]["maxLength"] == text.MAX_NAME
        for field in ("totalDuration", "remainingDuration", "endTime"):
            assert fields[field]["maxLength"] == text.MAX_TIME_TEXT
    assert asyncapi.payload("extendTimer")["properties"]["by"]["maxLength"] == text.MAX_TIME_TEXT
    sync = asyncapi.payload("sync")["properties"]
    assert sync["versions"]["maxProperties"] == sync["shareVersions"]["maxProperties"] == seed._MAX_KNOWN
