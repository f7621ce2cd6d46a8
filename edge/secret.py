"""The secrets of the tokens: given, or, in development mode, one that is made once and kept beside the data."""

import os
import secrets
from pathlib import Path

from edge.config import EdgeSettings


def token_secrets(settings: EdgeSettings) -> list[str]:
    """The configured secrets, one a line; in development mode without any, that of the data directory; else none.

    All of them are good for checking a token: while one is replaced by another, both are in use. The first one signs.
    """
    return [_kept_secret(settings.data_dir)] if is_kept(settings) else _configured(settings)


def signing_secret(settings: EdgeSettings) -> str:
    """The secret to sign a token with; none: "". Makes none, since no edge would know it. Raises OSError."""
    if is_kept(settings):
        path = kept_at(settings.data_dir)
        return path.read_text().strip() if path.exists() else ""
    return next(iter(_configured(settings)), "")


def is_kept(settings: EdgeSettings) -> bool:
    """Whether the secret is the one that an edge makes by itself, in development mode."""
    return settings.dev and settings.jwt_secret is None


def kept_at(data_dir: Path) -> Path:
    """Where that one is."""
    return data_dir / "development-secret"


def _configured(settings: EdgeSettings) -> list[str]:
    given = settings.jwt_secret.get_secret_value() if settings.jwt_secret is not None else ""
    return [line.strip() for line in given.splitlines() if line.strip()]


def _kept_secret(data_dir: Path) -> str:
    path = kept_at(data_dir)
    data_dir.mkdir(parents=True, exist_ok=True)
    # Written beside and linked into place: of two processes that start at once, both read the same whole secret.
    if not path.exists():
        draft = data_dir / f".development-secret-{os.getpid()}"
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_urlsafe(48))
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_text().strip()
