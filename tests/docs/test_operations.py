"""docs/operations.md, against the spans and log lines that there are."""

import ast
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge import traced, tracing
from runtime import logs, semconv, telemetry
from runtime.settings import ProcessSettings
from tests.docs.pages import ROOT, code_blocks, table_after

PACKAGES = ("edge", "timer_service", "sharing_service", "connection_service", "runtime")
JSON_TYPES = {str: "string", int: "number", float: "number", list: "array"}


def test_every_span_is_there_with_its_attributes() -> None:
    listed = [
        (name.strip("`"), kind, tuple(re.findall("`(.*?)`", attributes)))
        for name, _, kind, attributes in table_after("docs/operations.md", "spans: checked by tests/docs")
    ]
    assert listed == [(each.name, each.kind.name.lower(), each.attributes) for each in semconv.SPANS]


def test_every_field_of_a_log_line_is_there_with_its_type() -> None:
    for marker, fields in (("always", logs.REQUIRED), ("sometimes", logs.OPTIONAL)):
        table = table_after("docs/operations.md", f"log fields, {marker}: checked by tests/docs")
        assert [(name.strip("`"), kind) for name, kind, _ in table] == [
            (name, JSON_TYPES[kind]) for name, kind in fields.items()
        ]


def test_the_numbers_in_the_text_are_those_of_the_code() -> None:
    page = " ".join((ROOT / "docs/operations.md").read_text().split())
    for sentence in (
        f"nothing came back within {traced.ACK_WITHIN:g} s",
        f"more than {traced.MOST_UNACKNOWLEDGED} deliveries of this connection",
        f"up to {tracing.ASKED_PER_SECOND} times a second per edge",
        f"up to {tracing.ERRORS_PER_SECOND} a second per edge",
        f"takes at most {telemetry.FLUSH_WITHIN:g} s at its end",
    ):
        assert sentence in page, sentence
    assert (logs.BURST, logs.REFILL, logs.MOST_TRACES) == (3, 10, 8)  # spelt out in words there


def log_calls() -> Iterator[tuple[Path, ast.Call]]:
    """Every call of a logger in the product."""
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Attribute)
                    and isinstance(node.func.value, ast.Name)
                    and node.func.value.id == "log"
                ):
                    yield path, node


def test_our_own_lines_use_documented_fields_only_and_constant_events() -> None:
    seen = 0
    for path, call in log_calls():
        seen += 1
        assert isinstance(call.func, ast.Attribute)
        fields = {keyword.arg for keyword in call.keywords if keyword.arg is not None}
        assert fields <= logs.OPTIONAL.keys() | {"exc_info"}, f"{path}:{call.lineno}"
        (event,) = call.args
        assert isinstance(event, ast.Constant | ast.Name), f"{path}:{call.lineno}: events are constant texts"
    assert seen > 30


def test_spans_and_attributes_are_named_in_one_file_only() -> None:
    names = {each.name for each in semconv.SPANS} | {name for each in semconv.SPANS for name in each.attributes}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            if path.name == "semconv.py":
                continue
            tree = ast.parse(path.read_text())
            # A metric of the calls that a span is about has a name of its own, which may be the same.
            metrics = [node.value for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "metric"]
            for node in ast.walk(tree):
                if isinstance(node, ast.Constant) and node not in metrics:
                    assert node.value not in names, f"{path}:{node.lineno} spells {node.value!r}"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl here")
def test_the_certificates_that_are_made_by_hand_fit_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = [block.text for block in code_blocks("docs/operations.md")]
    (commands,) = (text for text in blocks if "openssl x509" in text)
    (settings,) = (text for text in blocks if text.startswith("BUBBLE_GRPC_CERT="))
    subprocess.run(["sh", "-ec", commands], cwd=tmp_path, check=True, capture_output=True)
    monkeypatch.chdir(tmp_path)
    for line in settings.splitlines():
        monkeypatch.setenv(*line.split("=", 1))
    certificates = ProcessSettings().tls
    assert certificates is not None
    assert certificates.name == "bubble.internal"
    verified = ["openssl", "verify", "-CAfile", "ca.pem", "-verify_hostname", certificates.name, "service.pem"]
    subprocess.run(verified, cwd=tmp_path / "certificates", check=True, capture_output=True)
