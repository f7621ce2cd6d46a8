"""The version that processes tell is that of the project."""

import tomllib
from pathlib import Path

from runtime.version import VERSION


def test_the_version_is_that_of_the_project() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert project["project"]["version"] == VERSION
