"""Pieces of the pages that programs write: Markdown tables of medians, and the part of a page between two markers. Pure, but `rewrite`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Document = Mapping[str, Any]


def rows(cells: Sequence[Sequence[str]]) -> str:
    """A table; the first row is its head."""
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return "\n".join([lines[0], "|---" * len(cells[0]) + "|", *lines[1:]])


def spread(value: Mapping[str, float] | None, digits: int) -> str:
    """A median, with the least and the most of the rounds where they differ."""
    if not value:
        return ""
    middle, least, most = (f"{value[name]:,.{digits}f}" for name in ("median", "least", "most"))
    return middle if least == most else f"{middle} ({least} to {most})"


def median(summary: Mapping[str, Any], name: str, digits: int) -> str:
    """The median of one figure, if it was measured."""
    return f"{summary[name]['median']:,.{digits}f}" if name in summary else ""


def latency(values: Mapping[str, Mapping[str, float]], *names: str) -> str:
    """The medians of some percentiles."""
    return ", ".join(f"{values[name]['median']:,.1f}" for name in names if name in values)


def measured(documents: Sequence[Document]) -> str:
    """When, at which commits and on what documents were measured."""
    newest = max(documents, key=lambda document: document["measured_at"])
    machine = newest["machine"]
    runs = sorted({(document["measured_at"], document["commit"]) for document in documents})
    when = "; ".join(f"{at} at `{commit}`" for at, commit in runs)
    return (
        f"Measured {when}, on {machine['cores']} cores ({machine['processor']}), {machine['memory_gib']} GiB, "
        f"{machine['kernel']}, with the load generator on the same cores; Python {machine['python']}"
    )


def part_of(page: Path, begin: str, end: str) -> str:
    """What is between two markers of a page."""
    return page.read_text().partition(begin)[2].partition(end)[0]


def rewrite(page: Path, begin: str, end: str, text: str, *, empty: str) -> None:
    """Puts a text between two markers of a page, or of `empty` when there is no page yet. Raises SystemExit without markers."""
    before, found, rest = (page.read_text() if page.exists() else empty).partition(begin)
    _, ended, after = rest.partition(end)
    if not found or not ended:
        raise SystemExit(f"{page} has lost its markers")
    page.write_text(f"{before}{begin}\n{text}{end}{after}")
