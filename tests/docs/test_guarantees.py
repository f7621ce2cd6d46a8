"""docs/guarantees.md: every test that it names is there, and its numbers are those of the code."""

from pathlib import Path

from connection_service.domain import LEASE
from runtime.grpc_client import CALL_DEADLINE, KEEPALIVE_MS, KEEPALIVE_TIMEOUT_MS
from runtime.operations import MOST, MOST_OF_A_WRITER
from tests.docs.pages import ROOT, table_after
from tests.faults.test_faults import CONVERGES_WITHIN


def test_every_promise_names_a_test_that_is_there() -> None:
    rows = table_after("docs/guarantees.md", "guarantees: checked by tests/docs")
    for _, mechanism, test in rows:
        path, _, name = test.strip("`").partition("::")
        assert f"def {name}(" in Path(ROOT / path).read_text(), mechanism
    promised = {int(number) for row in rows if "to" not in row[0] for number in row[0].split(",")}
    assert promised >= set(range(1, 8)), "a promise has no mechanism"


def test_the_bounds_are_those_of_the_code() -> None:
    page = " ".join((ROOT / "docs/guarantees.md").read_text().split())
    for sentence in (
        f"shows the last state | {CONVERGES_WITHIN:g} s |",
        f"delivered to all who are connected) | {LEASE:g} s |",
        f"until calls pass it by | {(KEEPALIVE_MS + KEEPALIVE_TIMEOUT_MS) / 1_000:g} s |",
        f"| {CALL_DEADLINE:g} s in each",
        f"| {MOST_OF_A_WRITER} of each device, {MOST} in all |",
    ):
        assert sentence in page, sentence
