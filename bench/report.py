"""Results as a page and a plot: docs/performance.md between its markers, and docs/performance.svg."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from bench import chart, results, tables
from bench.goals import judged
from bench.scenarios import SCENARIOS
from bench.tables import Document
from bench.targets import ROOT, TARGETS

PAGE = ROOT / "docs" / "performance.md"
PLOT = ROOT / "docs" / "performance.svg"
BEGIN = "<!-- bench: from here to its end, this is written by `make bench` -->"
END = "<!-- bench: end -->"

_SKELETON = f"# Performance\n\n{BEGIN}\n{END}\n"

_KEEPS_UP = 0.9  # of what is due is delivered by a system that is not overrun

Cell = Callable[[Mapping[str, Any]], str]


def write() -> None:
    """Writes the page's part and the plot anew, from all results that there are."""
    found = results.load_all()
    documents = [found[scenario.name] for scenario in SCENARIOS if scenario.name in found]
    if not documents:
        return
    tables.rewrite(PAGE, BEGIN, END, text(documents), empty=_SKELETON)
    drawn = chart.draw({document["name"]: document for document in documents})
    if drawn:
        PLOT.write_text(drawn)


def text(documents: Sequence[Document]) -> str:
    """The page's part."""
    if not documents:
        return ""
    parts = [
        _machine(documents),
        _goals(documents),
        "![Throughput, CPU time and latency, side by side](performance.svg)",
    ]
    for document in documents:
        table = _under_load(document) if document["load"] else _connections(document)
        parts += [f"### {document['title'].capitalize()}", table, _remarks(document)]
    parts += ["### CPU time of ours, by process", _processes(documents)]
    ahead = [line for document in documents for line in _ahead(document)]
    if ahead:
        parts += ["### Where another system is ahead", "\n".join(ahead), _reasons(documents)]
    parts += ["### How each system was set up", _setups(documents)]
    return "".join(f"{part}\n\n" for part in parts if part)


def _machine(documents: Sequence[Document]) -> str:
    machine = max(documents, key=lambda document: document["measured_at"])["machine"]
    rounds = max(len(target["rounds"]) for document in documents for target in document["targets"])
    return (
        f"{tables.measured(documents)}, Node.js {machine['node'] or '(none)'}, Redis {machine['redis'] or '(none)'}, "
        f"SQLite {machine['sqlite']}. A commit of one row takes {machine['commit_ms']} ms until this disk has it. "
        f"Medians of up to {rounds} rounds in turns (least to most)."
    )


def _goals(documents: Sequence[Document]) -> str:
    rows = [["what it should reach", "goal", "measured", "reached"]]
    for goal, figure, limit, met in judged({document["name"]: document for document in documents}):
        bound = f"{'at least' if goal.at_least else 'at most'} {limit:,.{goal.digits}f} {goal.unit}"
        rows.append([goal.what, bound, f"{figure:,.{goal.digits}f} {goal.unit}", "yes" if met else "no"])
    return tables.rows(rows) if len(rows) > 1 else ""


def _under_load(document: Document) -> str:
    columns: list[tuple[str, Cell]] = [
        ("acknowledged updates/s", lambda s: tables.spread(s["updates_per_s"], 0)),
        ("acknowledged and delivered", lambda s: tables.median(s, "sustained_updates_per_s", 0)),
        ("deliveries/s", lambda s: tables.spread(s["deliveries_per_s"], 0)),
        ("CPU µs per update", lambda s: tables.median(s, "cpu_us_per_update", 0)),
        ("CPU µs per delivery", lambda s: tables.spread(s.get("cpu_us_per_delivery"), 1)),
        ("acknowledged p50, p99 ms", lambda s: tables.latency(s["reply_ms"], "p50", "p99")),
        ("delivered p50, p99, p99.9 ms", lambda s: tables.latency(s["delivery_ms"], "p50", "p99", "p99.9")),
        ("generator µs per delivery", lambda s: tables.median(s, "generator_us_per_delivery", 1)),
    ]
    return _table(document, columns)


def _connections(document: Document) -> str:
    columns: list[tuple[str, Cell]] = [
        ("connects/s", lambda s: tables.spread(s["connects_per_s"], 0)),
        ("connected p50, p99 ms", lambda s: tables.latency(s["connect_ms"], "p50", "p99")),
        ("CPU µs per connect", lambda s: tables.median(s, "cpu_us_per_connect", 0)),
        ("KB per connection", lambda s: f"{s['bytes_per_connection']['median'] / 1_000:.1f}"),
        ("of that", lambda s: _memory(s["bytes_per_connection_of"])),
        ("cores when idle", lambda s: tables.median(s, "idle_cores", 3)),
    ]
    return _table(document, columns)


def _table(document: Document, columns: Sequence[tuple[str, Cell]]) -> str:
    rows = [["system", *(name for name, _ in columns)]]
    for target in document["targets"]:
        name = target["title"] + ("" if target["durable"] else " *")
        rows.append([name, *(cell(target["summary"]) for _, cell in columns)])
    return tables.rows(rows)


def _remarks(document: Document) -> str:
    remarks = []
    if any(not target["durable"] for target in document["targets"]):
        remarks.append("\\* keeps nothing on disk.")
    faulty = [
        f"{target['title']}: {', '.join(f'{count} {name}' for name, count in target['faults'].items())}"
        for target in document["targets"]
        if target["faults"]
    ]
    if document["load"]:
        remarks.append(
            "Faults: " + "; ".join(faulty) + "."
            if faulty
            else "Every acknowledged state arrived on every device of its group, in the order of its versions, on all systems."
        )
    elif faulty:
        remarks.append("Faults: " + "; ".join(faulty) + ".")
    for target in document["targets"]:
        remarks += _allowed(document, target)
    for name, reason in document["left_out"].items():
        remarks.append(f"`{name}` was left out: {' '.join(reason.split())[:300]}.")
    return " ".join(remarks)


def _allowed(document: Document, target: Mapping[str, Any]) -> Iterable[str]:
    summary = target["summary"]
    if document["load"]:
        share = summary["sustained_updates_per_s"]["median"] / max(summary["updates_per_s"]["median"], 1)
        if share < _KEEPS_UP:
            yield (
                f"{target['title']} acknowledges faster than it delivers: {share:.0%} of what was acknowledged meanwhile was "
                "delivered meanwhile, the rest later."
            )
    for name, words in (
        ("refused", "updates refused with 503"),
        ("superseded", "states superseded by newer ones"),
        ("turned_away", "connects answered with 503, and tried again"),
    ):
        most = summary.get(name, {}).get("most", 0)
        if most:
            yield f"{target['title']}: {most:,} {words}, in one round at most."


def _processes(documents: Sequence[Document]) -> str:
    parts = ["edge", "timer", "sharing", "connection"]
    rows = [["µs per update", *parts, "together", "per delivery"]]
    for document in documents:
        ours = next((target for target in document["targets"] if target["name"] == "bubble"), None)
        if ours and document["load"]:
            costs = ours["summary"]["cpu_us_per_update_of"]
            rows.append(
                [
                    document["title"],
                    *(tables.median(costs, part, 0) for part in parts),
                    tables.median(ours["summary"], "cpu_us_per_update", 0),
                    tables.median(ours["summary"], "cpu_us_per_delivery", 1),
                ]
            )
    return tables.rows(rows) if len(rows) > 1 else ""


_COMPARED: list[tuple[str, Callable[[Mapping[str, Any]], Any], bool, bool]] = [
    # what, where it is, whether more is better, whether it is for open loops only
    ("updates/s acknowledged and delivered", lambda s: s["sustained_updates_per_s"], True, False),
    ("µs of CPU per delivery", lambda s: s.get("cpu_us_per_delivery"), False, False),
    ("ms until half are delivered (p50)", lambda s: s["delivery_ms"].get("p50"), False, True),
    ("ms until 99 % are delivered (p99)", lambda s: s["delivery_ms"].get("p99"), False, True),
]


def _ahead(document: Document) -> Iterable[str]:
    """One line for each figure in which a peer is better than ours; the yardstick is none."""
    ours = next((target for target in document["targets"] if target["name"] == "bubble"), None)
    if ours is None or not document["load"]:
        return
    is_open = bool(document["load"]["rate"])
    for what, find, more, only_open in _COMPARED:
        mine = find(ours["summary"])
        if mine is None or (only_open and not is_open) or (more and is_open):
            continue
        better = []
        for target in document["targets"]:
            theirs = find(target["summary"])
            if theirs and target["peer"] and (theirs["median"] > mine["median"]) == more:
                better.append(f"{target['title']} {theirs['median']:,.{0 if more else 1}f}")
        if better:
            figure = f"{mine['median']:,.{0 if more else 1}f}"
            yield f"- {document['title']}, {what}: ours {figure}; {', '.join(better)}."


def _reasons(documents: Sequence[Document]) -> str:
    measured = {target["name"] for document in documents for target in document["targets"]}
    lines = [f"- {kind.title}: {kind.why_ahead}" for kind in TARGETS if kind.why_ahead and kind.name in measured]
    return "Why, where they are:\n\n" + "\n".join(lines) if lines else ""


def _setups(documents: Sequence[Document]) -> str:
    seen = {target["title"]: target["note"] for document in documents for target in document["targets"]}
    return "\n".join(f"- {title}: {note}." for title, note in seen.items())


def _memory(values: Mapping[str, Mapping[str, float]]) -> str:
    return ", ".join(f"{part} {value['median'] / 1_000:.1f}" for part, value in values.items())
