"""What a command line means before any system is asked."""

import pytest
from typer.testing import CliRunner

from cli.__main__ import app
from cli.errors import ExitCode
from runtime.version import VERSION


def test_it_says_which_version_it_is() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"bubble {VERSION}\n")


@pytest.mark.parametrize("arguments", [("start", "Tea", "-5m"), ("extend", "Tea", "-1h30m", "--json")])
def test_a_duration_below_nothing_is_not_called_an_option(arguments: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "120"})
    assert (result.exit_code, result.stdout) == (ExitCode.USAGE, "")
    assert f"A duration must be longer than nothing, and {arguments[2]} is not." in result.stderr


def test_an_option_that_there_is_not_is_still_called_one() -> None:
    result = CliRunner().invoke(app, ["start", "Tea", "5m", "-x"])
    assert result.exit_code == ExitCode.USAGE
    assert "No such option: -x" in result.stderr


def test_behind_two_dashes_a_name_may_begin_as_it_likes() -> None:
    result = CliRunner().invoke(app, ["start", "--url", "ftp://nowhere", "--", "-5m"])
    assert "no address" in result.stderr
