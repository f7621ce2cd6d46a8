"""Results as JSON files, one per scenario, with the machine they were measured on. Rounds become medians here."""

import json
import os
import platform
import re
import sqlite3
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.scenarios import Scenario
from bench.targets import ROOT, Target

FOLDER = ROOT / "bench" / "results"
SCALING = FOLDER / "scaling"
"""Of `make bench`, and of `python -m bench.scaling`."""

Spread = dict[str, Any]
"""`median`, `least` and `most` of a number over the rounds; for a group of numbers, a Spread of each."""


def machine() -> dict[str, Any]:
    """What this was measured on, and how fast that is."""
    processors = re.findall(r"^model name\s*: (.*)$", _text("/proc/cpuinfo"), re.MULTILINE)
    memory = re.search(r"^MemTotal:\s*(\d+) kB", _text("/proc/meminfo"), re.MULTILINE)
    return {
        "processor": processors[0] if processors else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(int(memory.group(1)) / 2**20, 1) if memory else None,
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_version()} ({call_ns():.0f} ns for the call of a method)",
        "node": _version("node", "--version"),
        "redis": _version("redis-server", "--version"),
        "sqlite": sqlite3.sqlite_version,
        "commit_ms": commit_ms(),
    }


def call_ns() -> float:
    """How long this interpreter takes for the call of a small method, in nanoseconds: the least of ten measurements. Builds of the
    same version differ by half as much again.
    """

    class Counter:
        def __init__(self) -> None:
            self.value = 0

        def add(self, number: int) -> None:
            self.value += number

    add, calls = Counter().add, 100_000
    times = []
    for _ in range(10):
        started = time.perf_counter()
        for number in range(calls):
            add(number)
        times.append(time.perf_counter() - started)
    return min(times) / calls * 1e9


def commit_ms() -> float:
    """How long a commit of one row takes until this disk has it, in milliseconds: the median of 50. A commit alone pays that."""
    times = []
    with tempfile.TemporaryDirectory(prefix="bubble-bench-") as place:
        connection = sqlite3.connect(Path(place) / "commits.sqlite", isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, state TEXT)")
        for _ in range(50):
            started = time.perf_counter()
            connection.execute("INSERT INTO rows (state) VALUES (?)", ("x" * 100,))
            times.append(time.perf_counter() - started)
        connection.close()
    return round(statistics.median(times) * 1_000, 2)


def commit() -> str:
    """The commit that is measured, `-dirty` when something else than documents and results has been changed since."""
    git = ("git", "-C", str(ROOT))
    name = _version(*git, "describe", "--always") or "unknown"
    changed = _version(*git, "status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs", ":!bench/results")
    return f"{name}-dirty" if changed else name


def summary(rounds: Sequence[Mapping[str, Any]]) -> Spread:
    """Each number of the rounds as median, least and most; what is not a number is left out."""
    found: Spread = {}
    for name, first in rounds[0].items():
        values = [each[name] for each in rounds]
        if isinstance(first, Mapping):
            found[name] = summary([{key: value.get(key, 0) for key in first} for value in values])
        elif all(isinstance(value, int | float) for value in values):
            found[name] = {"median": statistics.median(values), "least": min(values), "most": max(values)}
    return found


def faults(rounds: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """All faults of all rounds."""
    total: dict[str, int] = {}
    for each in rounds:
        for name, count in each["faults"].items():
            total[name] = total.get(name, 0) + count
    return total


def save(
    scenario: Scenario,
    rounds: Mapping[str, Sequence[Mapping[str, Any]]],
    targets: Sequence[Target],
    left_out: Mapping[str, str],
    about: Mapping[str, Any],
) -> None:
    """Writes a scenario's file, in place of an older one."""
    measured = [
        {
            "name": target.name,
            "title": target.title,
            "note": target.note,
            "durable": target.durable,
            "peer": target.is_peer,
            "summary": summary(rounds[target.name]),
            "faults": faults(rounds[target.name]),
            "rounds": rounds[target.name],
        }
        for target in targets
        if rounds.get(target.name)
    ]
    document = {
        "name": scenario.name,
        "title": scenario.title,
        "crowd": asdict(scenario.crowd),
        "load": asdict(scenario.load) if scenario.load else None,
        **about,
        "targets": measured,
        "left_out": dict(left_out),
    }
    write(FOLDER, document)


def about() -> dict[str, Any]:
    """What belongs to every document: when, what and where it was measured."""
    return {
        "measured_at": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "commit": commit(),
        "machine": machine(),
    }


def write(folder: Path, document: Mapping[str, Any]) -> None:
    """Writes a document into the file of its name."""
    folder.mkdir(exist_ok=True)
    text = json.dumps(document, indent=1, ensure_ascii=False)
    # One line per innermost group: small, and a change of one figure is a change of one line.
    text = re.sub(r"\{[^{}\[\]]*\}", lambda match: re.sub(r"\s*\n\s*", " ", match.group()), text)
    (folder / f"{document['name']}.json").write_text(text + "\n")


def load_all(folder: Path = FOLDER) -> dict[str, dict[str, Any]]:
    """All documents of a folder, by name."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


def _text(path: str) -> str:
    return Path(path).read_text() if Path(path).exists() else ""


def _version(*command: str) -> str:
    try:
        output = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout.strip()  # noqa: S603
    except OSError:
        return ""
    match = re.search(r"v=(\S+)", output)
    return match.group(1) if match else output
