"""The measured part of docs/scaling.md, from bench/results/scaling: a table for each question, and the sizing with its arithmetic."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bench import results, sizing, tables
from bench.tables import Document
from bench.targets import ROOT

PAGE = ROOT / "docs" / "scaling.md"
BEGIN = "<!-- scaling: from here to its end, this is written by `make scaling` -->"
END = "<!-- scaling: end -->"
_SKELETON = f"# Scaling\n\n{BEGIN}\n{END}\n"

Row = Mapping[str, Any]
Column = tuple[str, Callable[[Row, Row], str]]
"""Its head, and its cell: of a row, beside the first row of the same load."""


def write(order: Sequence[str]) -> None:
    """Writes the page's part anew, from all results that there are, in an order of their names."""
    found = results.load_all(results.SCALING)
    documents = [found[name] for name in order if name in found]
    if documents:
        tables.rewrite(PAGE, BEGIN, END, text(documents), empty=_SKELETON)


def text(documents: Sequence[Document]) -> str:
    """The page's part."""
    parts = [
        f"{tables.measured(documents)}. Medians of the rounds (least to most). {_faults(documents)} {_others(documents)}"
    ]
    for document in documents:
        parts += [f"### {document['title']}", _table(document)]
    by_name = {document["name"]: document for document in documents}
    parts += _conclusions(by_name)
    return "".join(f"{part}\n\n" for part in parts if part)


def _faults(documents: Sequence[Document]) -> str:
    faulty = [
        f"{document['title']}, {row['setup']['title']}: {', '.join(f'{count} {name}' for name, count in row['faults'].items())}"
        for document in documents
        for row in document["rows"]
        if row["faults"]
    ]
    if faulty:
        return f"Faults: {'; '.join(faulty)}."
    return "Nothing was lost: every acknowledged state, or a newer one, arrived on every device of its group, in the order of its versions."


def _others(documents: Sequence[Document]) -> str:
    taken = [each["other_cores"] for document in documents for row in document["rows"] for each in row["rounds"]]
    return (
        f"Anything else on this machine took {statistics.median(taken):.2f} cores in the median of all rounds, {max(taken):.2f} in the "
        "worst; a round that it fell into costs more, and carries less, than it would."
    )


def _load(row: Row) -> str:
    load = row["load"]
    return f"{load['rate']:,.0f} updates/s" if load["rate"] else f"{load['window']} unanswered each"


def _ratio(row: Row, first: Row) -> str:
    """Of CPU time, between neighbours of each round."""
    pairs = zip(row["rounds"], first["rounds"], strict=True)
    ratios = [mine["cpu_us_per_update"] / theirs["cpu_us_per_update"] for mine, theirs in pairs]
    return "" if row is first else tables.spread(_spread(ratios), 2)


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def _of(part: str) -> Column:
    return part, lambda row, _: f"{sizing.cost(row, part):,.0f}"


def _cores(row: Row) -> str:
    used = row["summary"].get("cores_of", {})
    return ", ".join(f"{part} {used[part]['median']:.2f}" for part in sizing.PARTS if part in used)


_COSTS: list[Column] = [
    ("acknowledged updates/s", lambda row, _: tables.spread(row["summary"]["updates_per_s"], 0)),
    ("acknowledged and delivered", lambda row, _: tables.median(row["summary"], "sustained_updates_per_s", 0)),
    ("deliveries/s", lambda row, _: tables.median(row["summary"], "deliveries_per_s", 0)),
    ("CPU µs per update", lambda row, _: tables.spread(row["summary"]["cpu_us_per_update"], 0)),
    ("to the first", _ratio),
    *map(_of, sizing.PARTS),
    ("per delivery", lambda row, _: tables.median(row["summary"], "cpu_us_per_delivery", 1)),
    ("delivered p50, p99 ms", lambda row, _: tables.latency(row["summary"]["delivery_ms"], "p50", "p99")),
]
_AT_REST: Column = ("ms of CPU per s, idle", lambda row, _: f"{sum(row['rest']['idle_cores_of'].values()) * 1_000:.0f}")
_TIMER_AT_REST: Column = ("of that timer", lambda row, _: f"{row['rest']['idle_cores_of']['timer'] * 1_000:.1f}")
_MEMORY: Column = ("edge MB", lambda row, _: f"{row['rest']['resident_bytes_of']['edge'] / 1e6:.0f}")
_LOAD: Column = ("load", lambda row, _: _load(row))
_BUSY: Column = ("cores busy, as measured", lambda row, _: _cores(row))

_MORE: dict[str, list[Column]] = {
    "rate": [_BUSY],
    "stored": [_AT_REST, _TIMER_AT_REST],
    "connections": [_AT_REST, _MEMORY],
}
"""Further columns of some tables."""


def _table(document: Document) -> str:
    rows = document["rows"]
    setups = {row["setup"]["title"] for row in rows}
    loads = {_load(row) for row in rows}
    columns: list[Column] = []
    if len(setups) > 1:
        columns.append((document["axis"], lambda row, _: row["setup"]["title"]))
    if len(loads) > 1:
        columns.append(_LOAD)
    columns += [*_COSTS, *_MORE.get(document["name"], [])]
    firsts: dict[str, Row] = {}
    for row in rows:
        firsts.setdefault(_load(row) if len(setups) > 1 else "", row)
    cells = [[cell(row, firsts[_load(row) if len(setups) > 1 else ""]) for _, cell in columns] for row in rows]
    return tables.rows([[head for head, _ in columns], *cells])


def _conclusions(found: Mapping[str, Document]) -> list[str]:
    parts: list[str] = []
    if "rate" in found:
        parts += ["### What one core carries", _one_core(found["rate"]["rows"])]
    if "members" in found:
        parts += ["### What a delivery costs", _deliveries(found["members"]["rows"])]
    if "edges" in found:
        parts += ["### What an edge more costs an update", _edges(found["edges"]["rows"])]
    if "connections" in found:
        parts += ["### What an idle connection costs", _idle(found["connections"]["rows"])]
    if {"rate", "edges", "connections"} <= found.keys():
        measured = (found[name]["rows"] for name in ("rate", "edges", "connections"))
        parts += ["### A million connections", _million(*measured)]
    return parts


def _one_core(rows: sizing.Rows) -> str:
    cells = [["updates/s of groups of 8 that one core carries", *sizing.PARTS]]
    cells += [
        [f"with batches as at {_load(row)}", *(f"{1e6 / sizing.cost(row, part):,.0f}" for part in sizing.PARTS)]
        for row in rows
    ]
    return f"1,000,000 µs / CPU µs per update of the first table.\n\n{tables.rows(cells)}"


def _deliveries(rows: sizing.Rows) -> str:
    cells = [["CPU µs of an update with n deliveries", "fixed", "+ n times"]]
    for part in ("", *sizing.PARTS):
        found = sizing.by_deliveries(rows, part)
        cells.append([part or "together", _whole(found.fixed), f"{found.each:.1f}"])
    return f"The line nearest to the rows of *members* by relative error.\n\n{tables.rows(cells)}"


def _edges(rows: sizing.Rows) -> str:
    cells = [["CPU µs of an update whose audience is at k edges", "load", "fixed", "+ k times"]]
    loads = {row["load"]["rate"]: _load(row) for row in rows}
    cells += [
        [part, title, *map(_whole, sizing.by_edges(rows, part, rate))]
        for part in sizing.HOLD_CONNECTIONS
        for rate, title in loads.items()
    ]
    return f"The lines nearest to the rows of *edges*.\n\n{tables.rows(cells)}"


def _whole(number: float) -> str:
    return f"{round(number):,}"  # without a minus before 0


def _idle(rows: sizing.Rows) -> str:
    parts = sizing.HOLD_CONNECTIONS
    cells = [["of one more idle connection", *parts]]
    cells.append(["CPU µs per second", *(f"{sizing.by_idle(rows, part, 'idle_cores_of') * 1e6:.1f}" for part in parts)])
    cells.append(["KB of memory", *(f"{sizing.by_idle(rows, part, 'resident_bytes_of') / 1e3:.1f}" for part in parts)])
    return f"Between the first and the last row of *idle connections*.\n\n{tables.rows(cells)}"


_ACTIVITY = {3_600: "once an hour", 600: "every 10 min", 60: "every minute"}
"""How often each person changes a timer, by its seconds."""


def _million(rates: sizing.Rows, edges: sizing.Rows, idle: sizing.Rows) -> str:
    plans = [sizing.plan(sizing.CONNECTIONS / seconds, rates=rates, edges=edges, idle=idle) for seconds in _ACTIVITY]
    costs = [["CPU µs per update", "at one edge", f"+ at {sizing.GROUP - 2} more", "together"]]
    for part in sizing.PARTS:
        planned = sizing.planned(part, rates=rates, edges=edges)
        costs.append([part, *map(_whole, (*planned, planned.together))])
    cells = [[f"{sizing.CONNECTIONS:,} connections, each changes a timer", *_ACTIVITY.values()]]
    cells.append(["updates/s", *(f"{each.updates:,.0f}" for each in plans)])
    cells += [
        [f"{part}: cores, so processes", *(f"{each.cores[part]:.1f}, {each.processes[part]}" for each in plans)]
        for part in sizing.PARTS
    ]
    cells.append(["MongoDB: document writes/s", *(f"{each.writes:,.0f}" for each in plans)])
    cells.append([f"shards, if one takes {sizing.OF_A_SHARD:,} /s (assumed)", *(f"{each.shards}" for each in plans)])
    edge_memory, routing_memory = (
        sizing.by_idle(idle, part, "resident_bytes_of") * count / 1e9
        for part, count in (("edge", sizing.MOST_OF_AN_EDGE), ("connection", sizing.CONNECTIONS))
    )
    cells.append(["GB of an edge, beside what it starts with", *[f"{edge_memory:.1f}"] * len(plans)])
    cells.append(["GB of each connection replica, the same", *[f"{routing_memory:.1f}"] * len(plans)])
    return (
        f"Groups of {sizing.GROUP}, each person at another edge. *At one edge* is the row of the first table that carried most, *at "
        f"{sizing.GROUP - 2} more* is the line of *edges* under the closed loop.\n\n{tables.rows(costs)}\n\n"
        f"cores = updates/s x CPU µs together / 1,000,000 + connections x idle CPU. processes = cores / {sizing.BUSY} (so that one may be away), "
        f"rounded up; at least {sizing.AT_LEAST}; of edges one per {sizing.MOST_OF_AN_EDGE:,} connections at least. "
        f"Document writes = updates x {sizing.WRITES}.\n\n{tables.rows(cells)}"
    )
