"""docs/scaling.md, against the results that it shows."""

from bench import results, scaling_report, tables
from bench.scaling import PARTS


def test_the_measured_part_says_what_the_results_say() -> None:
    found = results.load_all(results.SCALING)
    documents = [found[part.name] for part in PARTS if part.name in found]
    part = tables.part_of(scaling_report.PAGE, scaling_report.BEGIN, scaling_report.END)
    assert part == f"\n{scaling_report.text(documents)}", "run: python -m bench.scaling --report"


def test_every_result_is_of_a_part_that_there_is_and_nothing_was_lost() -> None:
    found = results.load_all(results.SCALING)
    assert set(found) <= {part.name for part in PARTS}
    assert not [row["setup"] for document in found.values() for row in document["rows"] if row["faults"]]
