"""What a command line means before any system is asked."""

from typer.testing import CliRunner

from cli.__main__ import app
from runtime.version import VERSION


def test_it_says_which_version_it_is() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"bubble {VERSION}\n")
