"""`bubble token`: what is signed here, and with what. Beside a system: `tests/system/test_cli.py`."""

import time
from pathlib import Path

import jwt
import pytest

from cli import tokens
from cli.errors import ExitCode, Problem
from edge.config import EdgeSettings
from edge.secret import token_secrets

SECRET = "a-secret-that-somebody-has-configured"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a directory without a system, with nothing set."""
    monkeypatch.chdir(tmp_path)
    for variable in ("BUBBLE_JWT_SECRET", "BUBBLE_JWT_SECRET_FILE", "BUBBLE_DEV", "BUBBLE_DATA_DIR"):
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.parametrize("hours", [0.0, -1.0, 1e-9, 8_785.0, 1e9, float("inf"), float("nan")])
def test_a_token_that_is_good_for_no_time_or_for_ever_is_refused(
    hours: float, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BUBBLE_JWT_SECRET", SECRET)
    with pytest.raises(Problem, match="not for ") as refused:
        tokens.show("alice", hours, None, as_json=False)
    assert refused.value.code == ExitCode.USAGE
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("hours", "good_for"), [(None, 12.0), (0.01, 0.01), (0.5, 0.5), (8_784.0, 8_784.0)])
def test_a_token_is_good_for_as_long_as_was_asked(
    hours: float | None, good_for: float, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BUBBLE_JWT_SECRET", SECRET)
    tokens.show("alice", hours, None, as_json=False)
    claims = jwt.decode(capsys.readouterr().out.strip(), SECRET, algorithms=["HS256"])
    assert abs(claims["exp"] - time.time() - good_for * 3_600) < 30


def test_where_no_development_system_has_been_nothing_is_signed_and_nothing_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUBBLE_DEV", "1")
    with pytest.raises(Problem, match="no secret to sign with") as refused:
        tokens.make("alice", None, None)
    assert str(tmp_path / "data" / "development-secret") in refused.value.message
    assert "BUBBLE_DATA_DIR" in refused.value.hint
    assert refused.value.code == ExitCode.TOKEN
    assert list(tmp_path.iterdir()) == []


def test_the_secret_that_a_development_system_has_made_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUBBLE_DEV", "1")
    (secret,) = token_secrets(EdgeSettings())
    assert jwt.decode(tokens.make("alice", None, None), secret, algorithms=["HS256"])["exp"]


def test_a_secret_that_can_not_be_read_is_told_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUBBLE_DEV", "1")
    (tmp_path / "data" / "development-secret").mkdir(parents=True)
    with pytest.raises(Problem, match="can't be read: Is a directory"):
        tokens.make("alice", None, None)
