"""Reading the documents: their tables and code blocks."""

import re
import subprocess
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]

_CELL = re.compile(r"(?<!\\)\|")
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced code block."""

    language: str
    text: str


def table_after(page: str, marker: str) -> list[list[str]]:
    """The cells of the rows of the table that follows a marker in a page; the head is left out."""
    _, found, rest = (ROOT / page).read_text().partition(f"<!-- {marker} -->\n")
    assert found, f"{page} has no marker {marker!r}"
    rows = []
    for line in rest.splitlines():
        if not line.startswith("|"):
            break
        rows.append([cell.strip().replace("\\|", "|") for cell in _CELL.split(line)[1:-1]])
    return rows[2:]


def code_blocks(page: str) -> list[Block]:
    """The fenced code blocks of a page, in order."""
    return [Block(*match) for match in _BLOCK.findall((ROOT / page).read_text())]


def without_code(text: str) -> str:
    """A page's text without its code, fenced and inline."""
    return re.sub(r"`[^`]*`", "", _BLOCK.sub("", text))


def tracked_files() -> list[str]:
    """Paths of all files that are, or are about to be, in the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    )
    return sorted(path for path in set(listed.stdout.split("\0")) if path and (ROOT / path).is_file())


def documents() -> list[str]:
    """Paths of all Markdown pages."""
    return [path for path in tracked_files() if path.endswith(".md")]
