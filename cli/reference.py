"""The part of docs/cli.md that lists every command: `python -m cli.reference` writes it anew, from what typer knows.

A test holds the page against it.
"""

import html
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "cli.md"

BEGIN = "<!-- commands: written by python -m cli.reference -->\n"
END = "<!-- commands: end -->\n"

_SHARED = ("--url URL", "--token TOKEN", "--user NAME", "--json")
_OPTION = re.compile(r"^\* `(?P<name>[^`]+)`: .*\n", re.MULTILINE)


def reference() -> str:
    """Every command with its arguments and options; of those that all have, only the names."""
    made = subprocess.run(
        [sys.executable, "-m", "typer", "cli.__main__", "utils", "docs", "--name", "bubble"],
        capture_output=True,
        text=True,
        check=True,
        cwd=PAGE.parents[1],
    ).stdout
    sections = html.unescape(made).split("\n## ")[1:]
    return "\n".join(_section(section) for section in sections)


def _section(section: str) -> str:
    """One command: typer's section, shorter."""
    text = re.sub(r" <[a-z\[\]]+>`", "`", section)  # types say nothing here that names don't
    text = text.replace("**Usage**:\n\n```console\n$ ", "```\n").replace("{", "").replace("}", "")
    shared = [option for option in _SHARED if f"* `{option}`" in text]
    drop = (*shared, "--help")
    text = _OPTION.sub(lambda match: "" if match["name"] in drop else match[0], text)
    text = text.replace("\n\n**Options**:\n\n", "\n" if "**Arguments**" in text else "\n\n").replace(
        "**Arguments**:\n\n", ""
    )
    text = text.replace("  [required]", "").rstrip()
    if shared:
        bullets = "\n" if text.endswith("```") else ""
        text += f"{bullets}\n* and " + ", ".join(f"`{option}`" for option in shared)
    return f"### {text}\n"


def main() -> None:
    """Writes it into the page."""
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(before + BEGIN + "\n" + reference() + "\n" + END + after)


if __name__ == "__main__":
    main()
