"""`edge/secret.py`."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from edge.config import EdgeSettings
from edge.secret import signing_secret, token_secrets

GIVEN = "a-secret-that-somebody-has-configured"


def settings(data_dir: Path, **variables: str) -> EdgeSettings:
    return EdgeSettings.model_validate({"BUBBLE_DATA_DIR": data_dir, **variables})


def test_a_secret_that_is_configured_is_taken(tmp_path: Path) -> None:
    assert signing_secret(settings(tmp_path, BUBBLE_JWT_SECRET=GIVEN, BUBBLE_DEV="1")) == GIVEN
    assert list(tmp_path.iterdir()) == []


def test_of_several_secrets_one_a_line_all_are_taken_and_the_first_signs(tmp_path: Path) -> None:
    configured = settings(tmp_path, BUBBLE_JWT_SECRET=f"\n {GIVEN} \r\n\n a secret with spaces\n")
    assert token_secrets(configured) == [GIVEN, "a secret with spaces"]
    assert signing_secret(configured) == GIVEN


def test_outside_development_there_is_no_secret_of_its_own(tmp_path: Path) -> None:
    without = settings(tmp_path, BUBBLE_JWKS_URL="keys.json")
    assert signing_secret(without) == ""
    assert token_secrets(without) == []
    assert list(tmp_path.iterdir()) == []


def test_in_development_a_random_secret_is_made_once_and_kept(tmp_path: Path) -> None:
    one, other = settings(tmp_path / "one", BUBBLE_DEV="1"), settings(tmp_path / "other", BUBBLE_DEV="1")
    (secret,) = token_secrets(one)
    assert len(secret) >= 32
    assert token_secrets(one) == [secret]
    assert signing_secret(one) == secret
    assert token_secrets(other) != [secret]


def test_whoever_signs_makes_no_secret_that_no_edge_knows(tmp_path: Path) -> None:
    assert signing_secret(settings(tmp_path / "data", BUBBLE_DEV="1")) == ""
    assert list(tmp_path.iterdir()) == []


def test_nobody_else_can_read_the_kept_secret(tmp_path: Path) -> None:
    token_secrets(settings(tmp_path, BUBBLE_DEV="1"))
    (kept,) = tmp_path.iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_a_secret_that_is_there_is_never_overwritten(tmp_path: Path) -> None:
    configured = settings(tmp_path, BUBBLE_DEV="1")
    (secret,) = token_secrets(configured)
    (kept,) = tmp_path.iterdir()
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda _: token_secrets(configured), range(8))) == [[secret]] * 8
    assert kept.read_text() == secret
