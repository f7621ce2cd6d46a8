"""`bench/results.py`, `bench/report.py` and `bench/chart.py`: from rounds to a page."""

import xml.etree.ElementTree as ET
from typing import Any

from bench import chart, report
from bench.results import faults, summary


def a_round(updates: float, cpu: float, p50: float, **others: Any) -> dict[str, Any]:
    return {
        "updates_per_s": updates,
        "sustained_updates_per_s": updates,
        "deliveries_per_s": updates * 7,
        "cpu_us_per_update": cpu * 7,
        "cpu_us_per_delivery": cpu,
        "cpu_us_per_update_of": {"edge": cpu},
        "generator_us_per_delivery": 1.0,
        "reply_ms": {"p50": p50, "p99": p50 * 2},
        "delivery_ms": {"p50": p50, "p99": p50 * 2, "p99.9": p50 * 3},
        "faults": {},
        **others,
    }


def a_target(name: str, *rounds: dict[str, Any], durable: bool = True) -> dict[str, Any]:
    return {
        "name": name,
        "title": f"The {name} <system>",
        "note": "n",
        "durable": durable,
        "peer": name not in ("bubble", "raw"),
        "summary": summary(rounds),
        "faults": faults(rounds),
        "rounds": list(rounds),
    }


def a_document(*targets: dict[str, Any], rate: float = 0.0) -> dict[str, Any]:
    machine = {"processor": "P", "cores": 2, "memory_gib": 4, "kernel": "L", "python": "3", "node": "", "redis": "7"}
    return {
        "name": "groups-8-open-500" if rate else "groups-8-closed-8",
        "title": "groups",
        "load": {"rate": rate},
        "measured_at": "2026-01-01",
        "commit": "abc",
        "machine": {**machine, "sqlite": "3", "commit_ms": 1},
        "targets": list(targets),
        "left_out": {"x": "needs\nY"},
    }


def test_rounds_become_medians_with_their_least_and_most() -> None:
    found = summary([a_round(10, 1, 5), a_round(30, 3, 1), a_round(20, 2, 9)])
    assert found["updates_per_s"] == {"median": 20, "least": 10, "most": 30}
    assert found["delivery_ms"]["p50"] == {"median": 5, "least": 1, "most": 9}


def test_a_figure_that_is_missing_in_a_round_has_no_median() -> None:
    assert "cpu_us_per_delivery" not in summary([a_round(10, 1, 5), a_round(0, 1, 5, cpu_us_per_delivery=None)])


def test_faults_of_all_rounds_are_told() -> None:
    rounds = [a_round(1, 1, 1, faults={"missing": 2}), a_round(1, 1, 1), a_round(1, 1, 1, faults={"missing": 1})]
    assert faults(rounds) == {"missing": 3}
    page = report.text([a_document(a_target("bubble", *rounds))])
    assert "Faults: The bubble <system>: 3 missing." in page
    assert "Every acknowledged state arrived" not in page


def test_the_page_says_in_which_figures_another_system_is_ahead_and_in_which_not() -> None:
    ours, slower, cheaper = a_round(100, 10, 5), a_round(50, 20, 9), a_round(50, 4, 9)
    page = report.text([a_document(a_target("bubble", ours), a_target("slow", slower), a_target("cheap", cheaper))])
    ahead = page.partition("### Where another system is ahead")[2].partition("###")[0]
    assert "µs of CPU per delivery: ours 10.0; The cheap <system> 4.0." in ahead
    assert "updates/s" not in ahead
    assert "The slow" not in ahead


def test_latency_is_compared_at_fixed_rates_and_throughput_in_closed_loops() -> None:
    ours, quicker = a_round(500, 10, 5), a_round(500.1, 11, 1)
    closed = report.text([a_document(a_target("bubble", ours), a_target("quick", quicker))])
    at_a_rate = report.text([a_document(a_target("bubble", ours), a_target("quick", quicker), rate=500)])
    assert "(p50)" not in closed.partition("ahead")[2]
    assert "acknowledged and delivered: ours" in closed
    assert "(p50): ours 5.0" in at_a_rate
    assert "acknowledged and delivered: ours" not in at_a_rate


def test_a_system_that_acknowledges_faster_than_it_delivers_is_ahead_only_by_what_it_delivers() -> None:
    ours, overrun = a_round(100, 10, 5), a_round(300, 11, 9, sustained_updates_per_s=90)
    page = report.text([a_document(a_target("bubble", ours), a_target("overrun", overrun))])
    assert "### Where another system is ahead" not in page
    assert "The overrun <system> acknowledges faster than it delivers: 30% of" in page


def test_a_goal_is_reached_or_not_and_left_out_when_its_figures_are() -> None:
    ours, socketio, raw = a_round(9_000, 10, 5), a_round(8_000, 9, 9), a_round(12_000, 9, 9)
    targets = [a_target("bubble", ours), a_target("socketio", socketio), a_target("raw", raw)]
    page = report.text([a_document(*targets)])
    assert "| durable updates, 8 unanswered each | at least 10,000 /s | 9,000 /s | no |" in page
    assert "| the same, against Socket.IO on Node | at least 8,000 /s | 9,000 /s | yes |" in page
    assert "| CPU time per delivery, against Socket.IO on Node | at most 9.0 µs | 10.0 µs | no |" in page
    assert "| deliveries, against the raw broadcast | at least 80 % | 75 % | no |" in page
    alone = report.text([a_document(a_target("bubble", ours))])
    assert "against" not in alone
    assert "at least 10,000 /s" in alone


def test_what_was_left_out_is_told_with_its_reason() -> None:
    assert "`x` was left out: needs Y." in report.text([a_document(a_target("bubble", a_round(1, 1, 1)))])


def test_without_results_there_is_no_text() -> None:
    assert report.text([]) == ""


def test_the_plot_is_an_image_with_a_bar_for_each_system_that_has_the_figure() -> None:
    without = a_target("none", a_round(1, 1, 1, cpu_us_per_delivery=None))
    targets = [a_target("bubble", a_round(100, 10, 5)), a_target("other", a_round(50, 4, 9), durable=False), without]
    drawn = ET.fromstring(chart.draw({"groups-8-closed-8": a_document(*targets)}))  # noqa: S314  # our own
    bars = [each.get("class") for each in drawn.iter("{http://www.w3.org/2000/svg}rect")]
    assert bars == ["panel", "ours", "memory", "theirs", "ours", "memory"]
    assert chart.draw({}) == ""
