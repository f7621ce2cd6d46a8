"""docs/asyncapi.yaml, read: its messages as JSON schemas that say all that may be in a frame, and nothing else."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import jsonschema
import msgspec

from tests.docs.pages import ROOT

Schema = dict[str, Any]
Frame = dict[str, Any]


class Document:
    """The whole document, and what it says of the messages of one channel, by the names that they have there."""

    def __init__(self, channel: str) -> None:
        self.whole: Schema = msgspec.yaml.decode((ROOT / "docs/asyncapi.yaml").read_bytes())
        self.channel: Schema = self.whole["channels"][channel]
        self.messages: dict[str, Schema] = {
            name: self.resolved(message) for name, message in self.channel["messages"].items()
        }
        """By name, without references."""
        self.operations: dict[str, Schema] = {
            name: operation
            for name, operation in self.whole["operations"].items()
            if operation["channel"] == {"$ref": f"#/channels/{channel}"}
        }
        self.requests = {
            operation["messages"][0]["$ref"].split("/")[-1]: _names(operation.get("reply", {}))
            for operation in self.operations.values()
            if operation["action"] == "receive"
        }
        """What clients send, and for each what may be the answer."""
        self.sent = sorted(
            {name for names in self.requests.values() for name in names}
            | {name for each in self.operations.values() if each["action"] == "send" for name in _names(each)}
        )
        """What clients get."""
        self._validators = {name: jsonschema.Draft7Validator(_strict(self.payload(name))) for name in self.messages}

    def payload(self, name: str) -> Schema:
        """A message's schema."""
        schema: Schema = self.messages[name]["payload"]
        return schema

    def examples(self, name: str) -> list[Frame]:
        """A message's examples."""
        return [example["payload"] for example in self.messages[name].get("examples", [])]

    def problems(self, name: str, frame: Frame) -> list[str]:
        """Why a frame is no such message. A field that the document does not have is a reason, too."""
        return [f"{error.json_path}: {error.message}" for error in self._validators[name].iter_errors(frame)]

    def what_is(self, frame: Frame) -> str:
        """The one message that a frame of the edge is. Fails when it is none, or several."""
        matches = [name for name in self.sent if not self.problems(name, frame)]
        assert len(matches) == 1, f"{frame} is {matches or 'no message of docs/asyncapi.yaml'}"
        return matches[0]

    def fields(self, name: str) -> set[str]:
        """The paths of all fields of a message, such as `timer.version`."""
        return set(_fields(self.payload(name), ""))

    def resolved(self, part: Any) -> Any:
        """The same with everything it refers to in place."""
        if isinstance(part, list):
            return [self.resolved(each) for each in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            target: Any = self.whole
            for step in part["$ref"].removeprefix("#/").split("/"):
                target = target[step]
            return self.resolved(target)
        return {key: self.resolved(value) for key, value in part.items()}


@cache
def document(channel: str = "socket") -> Document:
    """The document of this checkout, as far as it concerns one channel."""
    return Document(channel)


def fields_of(frame: Frame) -> set[str]:
    """The paths of all fields that a frame has."""
    return set(_found(frame, ""))


def _names(operation: Schema) -> list[str]:
    return [reference["$ref"].split("/")[-1] for reference in operation.get("messages", [])]


def _strict(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {key: _strict(value) for key, value in schema.items()}
    return strict | {"additionalProperties": False} if "properties" in schema else strict


def _fields(schema: Schema, path: str) -> Iterator[str]:
    for name, field in schema.get("properties", {}).items():
        yield path + name
        yield from _fields(field, f"{path}{name}.")
    if "items" in schema:
        yield from _fields(schema["items"], path)


def _found(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, dict):
        for name, field in value.items():
            yield path + name
            yield from _found(field, f"{path}{name}.")
    if isinstance(value, list):
        for each in value:
            yield from _found(each, path)
