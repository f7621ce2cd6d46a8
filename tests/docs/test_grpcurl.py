"""docs/grpcurl.md, run against a real system: by grpcurl when it is there, and by reflection in any case."""

import asyncio
import json
import os
import re
import shlex
import shutil
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple

import grpc
import pytest
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from proto.connection.v1 import connection_pb2
from proto.sharing.v1 import sharing_pb2
from proto.timer.v1 import timer_pb2
from tests.docs.pages import code_blocks
from tests.system.cluster import Cluster

PAGE = "docs/grpcurl.md"
PORTS = {"50051": "timer", "50052": "sharing", "50053": "connection"}
IN_ORDER = {"results", "statuses", "audiences"}
"""Lists with one answer per item; all others have no order and are abbreviated."""

WITHIN = 8.0
"""Seconds in which an answer must be what the page says: a replica hears of a new lease within a second."""


class Command(NamedTuple):
    """One call of grpcurl, taken apart."""

    address: str
    method: str
    """`list`, or a method's full name."""
    data: str


class Example(NamedTuple):
    """A command of the page and what it says about the answer."""

    command: str
    language: str
    answer: str


Run = Callable[[Command], Awaitable[str]]


def examples(suffix: str) -> list[Example]:
    """The page's examples, with ids of their own."""
    blocks = code_blocks(PAGE)
    assert [block.language for block in blocks[::2]] == ["sh"] * (len(blocks) // 2)
    return [
        Example(
            command.text.replace("by-hand", f"by-hand-{suffix}"),
            answer.language,
            answer.text.replace("by-hand", f"by-hand-{suffix}"),
        )
        for command, answer in zip(blocks[::2], blocks[1::2], strict=True)
    ]


def command_of(example: Example) -> Command:
    """Takes a shell command apart. Fails for anything but one plain call of grpcurl."""
    words = shlex.split(example.command.replace("\\\n", " "))
    assert words[:2] == ["grpcurl", "-plaintext"], example.command
    data = "{}"
    if words[2] == "-d":
        data = words[3]
        del words[2:4]
    _, _, address, method = words
    return Command(address, method, data)


async def run_grpcurl(command: Command) -> str:
    """The answer as grpcurl prints it."""
    program = os.environ.get("GRPCURL") or shutil.which("grpcurl")
    if program is None:
        pytest.fail("grpcurl is gone")
    data = [] if command.method == "list" else ["-d", command.data]
    process = await asyncio.create_subprocess_exec(
        program,
        "-plaintext",
        *data,
        command.address,
        command.method,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return output.decode()


async def run_by_reflection(command: Command) -> str:
    """The same answer, from a client that knows no more of the services than grpcurl does."""
    return await asyncio.to_thread(_call_by_reflection, command)


def _call_by_reflection(command: Command) -> str:
    with grpc.insecure_channel(command.address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        if command.method == "list":
            return "\n".join(database.get_services())
        service, _, name = command.method.rpartition("/")
        method: MethodDescriptor = DescriptorPool(database).FindServiceByName(service).methods_by_name[name]
        request_class = message_factory.GetMessageClass(method.input_type)
        response_class = message_factory.GetMessageClass(method.output_type)
        request = json_format.Parse(command.data, request_class())
        path = f"/{command.method}"
        serialize, deserialize = request_class.SerializeToString, response_class.FromString
        if method.server_streaming:
            call = channel.stream_stream(path, request_serializer=serialize, response_deserializer=deserialize)
            return "\n".join(map(_as_json, call(iter([request]), timeout=WITHIN)))
        unary = channel.unary_unary(path, request_serializer=serialize, response_deserializer=deserialize)
        return _as_json(unary(request, timeout=WITHIN))


def _as_json(message: Message) -> str:
    # Under the names in the protos, as grpcurl prints them: descriptors that come from Python lack those of JSON.
    return json_format.MessageToJson(message, preserving_proto_field_name=True)


def fits(actual: Any, promised: Any, *, in_order: bool = False) -> bool:
    """Whether an answer is what the page says, which may be less than the whole."""
    if isinstance(promised, dict):
        return isinstance(actual, dict) and all(
            key in actual and fits(actual[key], value, in_order=key in IN_ORDER) for key, value in promised.items()
        )
    if isinstance(promised, list):
        if not isinstance(actual, list):
            return False
        if in_order:
            return len(actual) == len(promised) and all(map(fits, actual, promised))
        return all(any(fits(each, wanted) for each in actual) for wanted in promised)
    return bool(actual == promised or (promised == "…" and isinstance(actual, str) and actual))


def answers(output: str) -> list[Any]:
    """The JSON values that were printed one after the other."""
    decoder, values, rest = json.JSONDecoder(), [], output.strip()
    while rest:
        value, end = decoder.raw_decode(rest)
        values.append(value)
        rest = rest[end:].strip()
    return values


def is_as_promised(example: Example, output: str) -> bool:
    """Whether what was printed is what the page says."""
    if example.language == "text":
        return set(example.answer.split()) <= set(output.split())
    return any(fits(answer, json.loads(example.answer)) for answer in answers(output))


@pytest.fixture(scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    """A system with everything at its defaults."""
    running = Cluster(tmp_path_factory.mktemp("grpcurl"), {})
    try:
        await running.start()
        yield running
    finally:
        await running.stop()


RUNNERS: list[Run] = [run_by_reflection]
if os.environ.get("GRPCURL") or shutil.which("grpcurl"):
    RUNNERS.append(run_grpcurl)


@pytest.mark.parametrize("run", RUNNERS)
async def test_every_command_answers_what_the_page_says(cluster: Cluster, run: Run) -> None:
    for example in examples(uuid.uuid4().hex[:6]):
        command = command_of(example)
        host, _, port = command.address.partition(":")
        assert host == "127.0.0.1"
        there = command._replace(address=f"{host}:{cluster.processes[PORTS[port]].port}")
        deadline = time.monotonic() + WITHIN
        while not is_as_promised(example, output := await run(there)):
            assert time.monotonic() < deadline, (
                f"{example.command}\nshould answer\n{example.answer}\nand answers\n{output}"
            )
            await asyncio.sleep(0.2)


async def test_the_repeated_extension_of_the_page_has_no_second_effect(cluster: Cluster) -> None:
    writes = [command_of(each) for each in examples(uuid.uuid4().hex[:6]) if "TimerService/Write" in each.command]
    address = f"127.0.0.1:{cluster.processes['timer'].port}"
    await run_by_reflection(writes[0]._replace(address=address))
    (answer,) = answers(await run_by_reflection(writes[1]._replace(address=address)))
    left = [result["outcome"]["view"]["timer"].get("remaining_duration", "") for result in answer["results"]]
    minutes = [re.match(r"PT(\d+)M", each) for each in left[:3]]
    assert [match and match[1] for match in minutes] == ["4", "5", "5"]


def test_the_page_calls_every_method() -> None:
    called = {command_of(example).method for example in examples("x")}
    for module in (timer_pb2, sharing_pb2, connection_pb2):
        for service in module.DESCRIPTOR.services_by_name.values():
            assert {f"{service.full_name}/{method.name}" for method in service.methods} <= called
