"""docs/openapi.json, against the code that it is made of, and against a running system by schemathesis."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from openapi_spec_validator import validate

from edge.dialects.devices import Devices
from edge.invitations import Invitations
from edge.rest import routes, shapes
from edge.rest.openapi import document
from edge.rest.routes import Rest
from tests.docs.pages import ROOT
from tests.system.client import token
from tests.system.cluster import Cluster

PAGE = ROOT / "docs/openapi.json"


def test_the_document_that_is_kept_is_the_one_that_is_served() -> None:
    assert json.loads(PAGE.read_text()) == document(), ".venv/bin/python -m edge.rest.openapi > docs/openapi.json"


def test_it_is_openapi() -> None:
    validate(document())


def test_it_has_every_route_and_no_other_with_the_struct_that_checks_its_body() -> None:
    class Settings:
        messages_per_second, message_burst = 20.0, 60.0

    class Hub:
        settings, backend = Settings(), None

    rest = Rest(Hub(), Invitations(Hub.backend, []), lambda _: True, Devices(), default_zone=0)  # type: ignore[arg-type]
    served = {(route.path, route.method.lower()): route.takes for route in rest._routes}
    described: dict[tuple[str, str], Any] = {}
    for path, operations in document()["paths"].items():
        for method, operation in operations.items():
            body = operation.get("requestBody")
            name = body["content"]["application/json"]["schema"]["$ref"].rsplit("/", 1)[1] if body else None
            described[path, method] = getattr(shapes, name) if name else None
    assert described == served


def test_every_struct_of_rest_is_in_it() -> None:
    structs = {
        name for name, each in vars(shapes).items()
        if isinstance(each, type) and issubclass(each, msgspec.Struct) and each.__module__ == shapes.__name__
    }  # fmt: skip
    assert set(document()["components"]["schemas"]) == structs


def test_every_path_is_served_under_every_server() -> None:
    assert [server["url"].rstrip("/") for server in document()["servers"]] == list(routes.PREFIXES)


@pytest.mark.one_store
@pytest.mark.timeout(300)
async def test_a_running_system_does_what_the_document_says(
    cluster: Cluster, unique: Callable[[str], str], tmp_path: Path
) -> None:
    # Left out is what a schema can't say: that a text of 64 characters is a duration, that an id has 128 *bytes*. So a request
    # that fits the schema may be refused (with a status that the document has, which is checked).
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "run", str(PAGE),
        "--url", f"http://127.0.0.1:{cluster.edge_port}",
        "--header", f"Authorization: Bearer {token(unique('alice'))}",
        "--checks", "all", "--exclude-checks", "positive_data_acceptance",
        "--max-examples", "25", "--seed", "7", "--suppress-health-check", "all", "--request-timeout", "20",
        "--no-color", "--warnings", "off",
    ]  # fmt: skip
    result = await asyncio.to_thread(
        subprocess.run, command, cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False
    )
    print(result.stdout[-3_000:])
    assert result.returncode == 0, result.stdout[-6_000:] + result.stderr[-2_000:]
    assert cluster.crashes() == []
