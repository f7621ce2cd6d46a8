"""`bench/waterfall.py`: Jaeger's JSON to a picture."""

import xml.etree.ElementTree as ET
from typing import Any

from bench.waterfall import draw, spans_of


def span(span_id: str, parent_id: str, process: str, name: str, start: int, duration: int) -> dict[str, Any]:
    """A span as Jaeger's query API has it; only what is read here."""
    references = [{"refType": "CHILD_OF", "traceID": "t", "spanID": parent_id}] if parent_id else []
    return {
        "spanID": span_id,
        "references": references,
        "processID": process,
        "operationName": name,
        "startTime": 1_795_000_000_000_000 + start,
        "duration": duration,
    }


TRACE = {
    "processes": {"p1": {"serviceName": "edge"}, "p2": {"serviceName": "timer"}},
    "spans": [
        span("d", "b", "p2", "store.save", 900, 300),
        span("a", "of-the-phone", "p1", "ws.receive", 0, 1_500),
        span("c", "b", "p2", "store.load", 250, 400),
        span("b", "a", "p2", "timer.write", 200, 1_100),
        span("e", "a", "p1", "<&>", 100, 10),
    ],
}


def test_spans_stand_below_their_parents_in_the_order_of_their_starts() -> None:
    assert [(each.name, each.service, each.depth, each.start) for each in spans_of(TRACE)] == [
        ("ws.receive", "edge", 0, 0),
        ("<&>", "edge", 1, 100),
        ("timer.write", "timer", 1, 200),
        ("store.load", "timer", 2, 250),
        ("store.save", "timer", 2, 900),
    ]


def test_a_bar_is_where_and_as_long_as_its_span_was() -> None:
    picture = ET.fromstring(draw(spans_of(TRACE), "a < b"))  # noqa: S314  # our own
    bars = [each for each in picture.iter("{http://www.w3.org/2000/svg}rect") if each.get("height") == "15"]
    starts, lengths = [[float(each.attrib[name]) for each in bars] for name in ("x", "width")]
    unit = lengths[0] / 1_500
    assert [round((start - starts[0]) / unit, -1) for start in starts] == [0, 100, 200, 250, 900]
    assert [round(length / unit, -1) for length in lengths] == [1_500, 10, 1_100, 400, 300]


def test_every_span_is_named_with_its_duration_and_what_people_notice_is_told() -> None:
    picture = ET.fromstring(draw(spans_of(TRACE), "a < b"))  # noqa: S314  # our own
    texts = [each.text for each in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[0] == "a < b"
    for text in ("ws.receive", "<&>", "timer.write", "1.5 ms", "10 µs", "1.1 ms", "400 µs"):
        assert text in texts
    assert "the sender has its reply: 1.5 ms" in texts
