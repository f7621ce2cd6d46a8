"""`runtime/logs.py`: the schema, the limits, and what is taken out."""

import io
import json
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from runtime import logs

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl"

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lines]:
    """Logging as a process sets it up; gives the lines that were written."""
    output = io.StringIO()
    hooks = (sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.setattr(sys, "stderr", output)
    logs.configure("edge", level="debug")
    yield lambda: [json.loads(line) for line in output.getvalue().splitlines()]
    sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning = hooks
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def test_a_line_has_the_required_fields_and_those_it_was_given(written: Lines) -> None:
    log = logs.get("edge.app")
    log.info("listening", host="127.0.0.1", port=8080)
    (line,) = written()
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "level": "info", "service": "edge", "module": "edge.app", "event": "listening", "host": "127.0.0.1", "port": 8080
    }  # fmt: skip


def test_a_field_that_is_not_documented_does_not_get_out_and_none_is_no_value(written: Lines) -> None:
    logs.get("x").info("y", payload="secret", reason=None, count=3)
    (line,) = written()
    assert line.keys() == {"timestamp", "level", "service", "module", "event", "count"}


def test_texts_are_bounded(written: Lines) -> None:
    logs.get("x").info("y", error="e" * 10_000)
    try:
        raise ValueError("v" * 20_000)
    except ValueError:
        logs.get("x").exception("z")
    first, second = written()
    assert len(first["error"]) == logs.LONGEST
    assert len(second["exception"]) == logs.LONGEST_TRACEBACK


def test_a_line_of_a_library_has_the_same_schema(written: Lines) -> None:
    logging.getLogger("aiohttp.server").error("Error handling request from %s", "1.2.3.4", extra={"token": TOKEN})
    (line,) = written()
    assert line.keys() == {"timestamp", "level", "service", "module", "event"}
    assert (line["module"], line["level"]) == ("aiohttp.server", "error")
    assert line["event"] == "Error handling request from 1.2.3.4"


@pytest.mark.parametrize(
    "text",
    [
        f"GET /ws?token={TOKEN}&deviceId=x",
        f"GET /ws?deviceId=x&token={TOKEN[6:]} HTTP/1.1",
        f"Authorization: Bearer {TOKEN}",
        f"authorization: {TOKEN[6:]}",
        f'{{"type":"auth","token":"{TOKEN[6:]}"}}',
        f"b'GET /x?token={TOKEN}'",
        f"mongodb://admin:{TOKEN[6:]}@db/",
        TOKEN,
        TOKEN[:30],
    ],
)
def test_what_looks_like_a_token_or_a_password_is_taken_out_everywhere(written: Lines, text: str) -> None:
    logging.getLogger("some.library").error(text)
    logs.get("x").error("y", error=text)
    try:
        raise ValueError(text)
    except ValueError:
        logs.get("x").exception("z")
    output = json.dumps(written())
    assert len(written()) == 3
    assert TOKEN[6:30] not in output
    assert "c2lnbmF0dXJl" not in output


def test_ordinary_sentences_stay_as_they_are() -> None:
    for text in ("The token has expired", "The token is another user's", "key set can't be read: https://idp/keys"):
        assert logs.without_secrets(text) == text


def test_the_same_warning_is_written_three_times_and_then_counted(written: Lines) -> None:
    for _ in range(100):
        logs.get("edge.attach").warning("replica lost", error="x")
    logs.get("edge.attach").warning("something else")
    for _ in range(100):
        logs.get("edge.attach").info("info is not limited")
    assert [line["event"] for line in written()][:5] == ["replica lost"] * 3 + ["something else", "info is not limited"]
    assert len(written()) == 104


def test_a_crash_is_not_left_out_for_warnings_of_the_same_event_nor_for_other_crashes(written: Lines) -> None:
    log = logs.get("edge.conversation")
    for _ in range(10):
        log.warning("request failed", error="503")
        log.error("request failed", exc_info=ValueError("a"))
        log.error("request failed", exc_info=KeyError("b"))
    assert [line["level"] for line in written()] == ["warning", "error", "error"] * 3
    assert {line["exception"].splitlines()[-1] for line in written() if "exception" in line} == {
        "ValueError: a", "KeyError: 'b'"
    }  # fmt: skip


def test_the_next_line_says_how_many_were_left_out() -> None:
    now = 0.0
    limiter = logs.Limiter(lambda: now)
    assert [limiter.left_out("m", "e") for _ in range(6)] == [0, 0, 0, None, None, None]
    now = logs.REFILL
    assert [limiter.left_out("m", "e") for _ in range(3)] == [3, None, None]
    now = logs.REFILL * 100
    assert [limiter.left_out("m", "e") for _ in range(4)] == [2, 0, 0, None]


def test_an_hour_of_an_outage_is_some_hundred_lines() -> None:
    now = 0.0
    limiter = logs.Limiter(lambda: now)
    written = 0
    for _ in range(36_000):
        now += 0.1
        written += limiter.left_out("m", "e") is not None
    assert written <= 3_600 / logs.REFILL + logs.BURST


def test_lines_of_libraries_are_limited_by_their_template(written: Lines) -> None:
    for number in range(100):
        logging.getLogger("pymongo.topology").warning("server %s is away", number)
    assert len(written()) == 3


def test_events_that_nobody_knows_do_not_fill_the_memory() -> None:
    limiter = logs.Limiter()
    for number in range(10_000):
        assert limiter.left_out("m", f"e{number}") == 0
    assert len(limiter._events) <= 1_000


def test_lines_are_about_the_messages_that_are_bound(written: Lines) -> None:
    log = logs.get("x")
    first, second = f"00-{TRACE}-00f067aa0ba902b7-01", f"00-{'1' * 32}-00f067aa0ba902b7-00"
    with logs.traces([first, "", first]):
        log.info("one")
        log.info("its own", **logs.about(second))
    with logs.traces([first, second]):
        log.info("two")
    with logs.traces(f"00-{number:032x}-00f067aa0ba902b7-00" for number in range(1, 100)):
        log.info("many")
    log.info("none", **logs.about(""))
    one, own, two, many, none = written()
    assert (one["trace_id"], own["trace_id"]) == (TRACE, "1" * 32)
    assert two["trace_ids"] == [TRACE, "1" * 32]
    assert len(many["trace_ids"]) == logs.MOST_TRACES
    assert not {"trace_id", "trace_ids"} & none.keys()


def test_what_python_would_print_is_a_line_of_the_log(written: Lines) -> None:
    sys.excepthook(ValueError, ValueError("a"), None)
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
    warnings.showwarning("careful", UserWarning, "file.py", 1)
    crashed, in_thread, warned = written()
    assert (crashed["event"], crashed["level"]) == ("uncaught exception", "critical")
    assert "ValueError: a" in crashed["exception"]
    assert "ZeroDivisionError" in in_thread["exception"]
    assert (warned["level"], warned["error"]) == ("warning", "UserWarning: careful")
