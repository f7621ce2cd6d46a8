"""Runs the page's own tests, which are JavaScript (`node --test`), and holds a rule that the page shares with the server."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from runtime import text

ROOT = Path(__file__).parents[2]
PAGE_TESTS = sorted(Path(__file__).parent.glob("*.test.mjs"))


CHANGED = """
import { printable } from './edge/static/text.js';
const isChanged = (code) => printable(String.fromCodePoint(code)) !== String.fromCodePoint(code);
console.log(JSON.stringify([...Array(0x110000).keys()].filter(isChanged)));
"""


def node(*arguments: str) -> str:
    """What Node.js prints, run where the repository is."""
    program = shutil.which("node")
    if program is None:
        pytest.skip("the page's tests need Node.js")
    result = subprocess.run([program, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.parametrize("script", PAGE_TESTS, ids=lambda script: script.name.removesuffix(".test.mjs"))
def test_the_pages_modules(script: Path) -> None:
    node("--test", str(script))


def test_the_page_replaces_just_the_characters_that_the_server_refuses() -> None:
    refused = [code for code in range(0x110000) if text.problem_with(chr(code), longest=1)]
    assert json.loads(node("--input-type=module", "--eval", CHANGED)) == refused
