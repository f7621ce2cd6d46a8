"""`bench/sizing.py` and `bench/scaling_report.py`: from measured rows to a page."""

from typing import Any

import pytest

from bench import scaling_report
from bench.results import faults, summary
from bench.scaling import PARTS
from bench.sizing import MOST_OF_AN_EDGE, by_deliveries, by_edges, by_idle, line, plan, planned

US = {"edge": 100.0, "timer": 80.0, "sharing": 20.0, "connection": 30.0}


def a_row(title: str, *totals: float, rate: float = 0.0, each: float = 1.0, **setup: Any) -> dict[str, Any]:
    """A row whose rounds cost `totals`, and each part `each` times its usual."""
    rounds = [
        {
            "updates_per_s": 1_000.0,
            "sustained_updates_per_s": setup.get("carried", 1_000.0),
            "deliveries_per_s": 7_000.0,
            "deliveries_per_update": setup.get("deliveries", 7.0),
            "cpu_us_per_update": total,
            "cpu_us_per_delivery": total / 7,
            "cpu_us_per_update_of": {part: us * each for part, us in US.items()},
            "cores_of": dict.fromkeys(US, 0.5),
            "other_cores": setup.get("others", 0.0),
            "delivery_ms": {"p50": 1.0, "p99": 2.0},
            "faults": setup.get("faults", {}),
        }
        for total in totals
    ]
    idle = setup.get("idle", 0)
    return {
        "setup": {"title": title, "edges": setup.get("edges", 1), "idle": idle},
        "load": {"window": 8, "rate": rate},
        "rest": {
            "idle_cores_of": dict.fromkeys(US, 0.01 + idle * 1e-6),
            "resident_bytes_of": dict.fromkeys(US, 80e6 + idle * 20e3),
        },
        "summary": summary(rounds),
        "faults": faults(rounds),
        "rounds": rounds,
    }


EDGES = [a_row(str(edges), 200, each=edges, edges=edges) for edges in (1, 2, 4)]
RATES = [
    a_row("", 200, rate=rate, each=1_000 / rate, carried=carried)
    for rate, carried in ((500, 500), (1_000, 990), (2_000, 800))
]
IDLE = [a_row(str(idle), 200, idle=idle) for idle in (100, 5_000)]


def a_document(name: str, *rows: dict[str, Any]) -> dict[str, Any]:
    machine = {"processor": "P", "cores": 2, "memory_gib": 4, "kernel": "L", "python": "3"}
    return {"name": name, "title": name.title(), "axis": "of it", "measured_at": "2026-01-01", "commit": "abc",
            "machine": machine, "rows": list(rows)}  # fmt: skip


def test_a_line_goes_through_points_that_lie_on_one() -> None:
    assert line([(1, 12), (7, 24), (499, 1_008)]) == pytest.approx((10, 2))


def test_a_line_takes_small_costs_as_seriously_as_large_ones() -> None:
    found = line([(1, 12), (7, 24), (499, 2_000)])
    assert found.fixed + found.each == pytest.approx(12, rel=0.5)


def test_costs_by_deliveries_edges_and_idle_connections_are_read_from_the_rows() -> None:
    rows = [a_row("", 10 + 3 * deliveries, deliveries=deliveries) for deliveries in (1.0, 7.0, 49.0)]
    assert by_deliveries(rows) == pytest.approx((10, 3))
    assert by_edges(EDGES, "edge") == pytest.approx((0, 100))
    assert by_idle(IDLE, "edge", "resident_bytes_of") == pytest.approx(20e3)


def test_a_plan_counts_updates_and_idle_connections_and_leaves_room() -> None:
    assert planned("edge", rates=RATES, edges=EDGES) == pytest.approx((100, 600))
    assert planned("timer", rates=RATES, edges=EDGES) == pytest.approx((80, 0))
    found = plan(10_000, rates=RATES, edges=EDGES, idle=IDLE)
    assert found.cores["edge"] == pytest.approx(10_000 * 700 / 1e6 + 1)
    assert found.processes == {"edge": 50, "timer": 2, "sharing": 2, "connection": 6}
    assert (found.writes, found.shards) == (20_000, 2)


def test_a_plan_has_two_of_everything_and_room_for_all_connections() -> None:
    found = plan(
        0.001, rates=RATES, edges=EDGES, idle=[a_row("", 1, idle=100), {**a_row("", 1), "setup": {"idle": 200}}]
    )
    assert found.processes == {"edge": 1_000_000 // MOST_OF_AN_EDGE, "timer": 2, "sharing": 2, "connection": 2}


def test_ratios_are_between_neighbours_of_a_round() -> None:
    page = scaling_report.text([a_document("stored", a_row("1", 100, 200, 300), a_row("2", 110, 240, 270))])
    assert "| 1.10 (0.90 to 1.20) |" in page


def test_the_page_says_what_else_kept_the_cores_busy() -> None:
    rows = [a_row(str(others), 100, others=others) for others in (0.1, 0.2, 0.7)]
    assert "took 0.20 cores in the median of all rounds, 0.70 in the worst" in scaling_report.text(
        [a_document("stored", *rows)]
    )


def test_the_page_says_what_was_lost() -> None:
    assert "Nothing was lost" in scaling_report.text([a_document("stored", a_row("1", 100))])
    lossy = scaling_report.text([a_document("stored", a_row("1", 100, faults={"missing": 3}))])
    assert "Faults: Stored, 1: 3 missing." in lossy
    assert "Nothing was lost" not in lossy


def test_the_page_has_a_table_for_every_part_and_says_what_follows() -> None:
    documents = {
        "rate": a_document("rate", *RATES),
        "edges": a_document("edges", *EDGES),
        "connections": a_document("connections", *IDLE),
        "members": a_document("members", *(a_row("", 1, deliveries=number) for number in (1.0, 7.0))),
    }
    page = scaling_report.text([documents.get(part.name, a_document(part.name, a_row("1", 1))) for part in PARTS])
    for head in ("Rate", "Edges", "Stored", "A million connections", "What one core carries", "What a delivery costs"):
        assert f"### {head}" in page
    assert "| edge | 100 | 600 | 700 |" in page
