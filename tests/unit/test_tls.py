"""`runtime/tls.py`, and the settings that name its files: what does not fit together is told at the start."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from runtime import tls
from runtime.grpc_client import open_channel
from runtime.settings import ProcessSettings, describe
from tests.certificates import Authority, Files


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Authority(tmp_path / "ours").issue("timer")


def refusal(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> str:
    """What the settings say is wrong."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError) as refused:
        ProcessSettings()
    return describe(refused.value)


def test_without_certificates_nothing_is_encrypted() -> None:
    assert ProcessSettings().tls is None


def test_a_certificate_its_key_and_its_authority_are_read(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in files.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("BUBBLE_GRPC_NAME", "bubble.internal")
    read = ProcessSettings().tls
    assert read is not None
    assert (read.certificate, read.key, read.authority) == tuple(path.read_bytes() for path in files)
    assert read.name == "bubble.internal"


@pytest.mark.parametrize("missing", ["BUBBLE_GRPC_CERT", "BUBBLE_GRPC_KEY", "BUBBLE_GRPC_CA"])
def test_two_files_of_the_three_are_not_enough(files: Files, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    environment = files.environment()
    del environment[missing]
    problem = refusal(monkeypatch, environment)
    assert problem == "BUBBLE_GRPC_CERT, BUBBLE_GRPC_KEY and BUBBLE_GRPC_CA belong together"


def test_a_file_that_is_not_there_is_named(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = refusal(monkeypatch, files.environment() | {"BUBBLE_GRPC_CA": "/nowhere/ca.pem"})
    assert problem == "/nowhere/ca.pem has no certificate of an authority: No such file or directory"


def test_a_key_of_another_certificate_is_refused(files: Files, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = Authority(tmp_path / "theirs").issue("timer")
    problem = refusal(monkeypatch, files.environment() | {"BUBBLE_GRPC_KEY": str(other.key)})
    assert problem == f"{files.certificate} and {other.key} are no certificate and its key: KEY_VALUES_MISMATCH"


def test_a_key_with_a_password_is_refused_and_nobody_is_asked_for_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    locked = Authority(tmp_path / "ours").issue("timer", password="sesame")
    assert "are no certificate and its key: " in refusal(monkeypatch, locked.environment())


def test_several_addresses_need_a_name_that_all_have(files: Files) -> None:
    with pytest.raises(ValueError, match="BUBBLE_GRPC_NAME"):
        open_channel("10.0.0.1:50051,10.0.0.2:50051", tls.read(*files))


def test_a_name_that_is_set_counts_for_more_than_the_one_that_was_resolved(files: Files) -> None:
    assert tls.read(*files).for_host("timer").name == "timer"
    assert tls.read(*files, "bubble.internal").for_host("timer").name == "bubble.internal"
