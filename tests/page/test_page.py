"""Runs the page's own tests, which are JavaScript (`node --test`)."""

import shutil
import subprocess
from pathlib import Path

import pytest

PAGE_TESTS = sorted(Path(__file__).parent.glob("*.test.mjs"))


@pytest.mark.parametrize("script", PAGE_TESTS, ids=lambda script: script.name.removesuffix(".test.mjs"))
def test_the_pages_modules(script: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("the page's tests need Node.js")
    result = subprocess.run([node, "--test", str(script)], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
