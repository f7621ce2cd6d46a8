"""docs/performance.md, against the results that it shows."""

from bench import chart, report, results, tables
from bench.scenarios import SCENARIOS


def test_the_measured_part_says_what_the_results_say() -> None:
    found = results.load_all()
    documents = [found[scenario.name] for scenario in SCENARIOS if scenario.name in found]
    part = tables.part_of(report.PAGE, report.BEGIN, report.END)
    assert part == f"\n{report.text(documents)}", "run: python -m bench --report"
    assert chart.draw(found) == (report.PLOT.read_text() if found else ""), "run: python -m bench --report"


def test_every_result_is_of_a_scenario_that_there_is() -> None:
    assert set(results.load_all()) <= {scenario.name for scenario in SCENARIOS}
