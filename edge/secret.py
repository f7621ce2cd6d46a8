"""The secrets of the tokens: given, or, in development mode, one that is made once and kept beside the data."""

import os
import secrets
from pathlib import Path

from edge.config import EdgeSettings


def token_secrets(settings: EdgeSettings) -> list[str]:
    """The configured secrets, one a line; in development mode without any, that of the data directory; else none.

    All of them are good for checking a token: while one is replaced by another, both are in use. The first one signs.
    """
    if settings.jwt_secret is not None:
        return [line.strip() for line in settings.jwt_secret.get_secret_value().splitlines() if line.strip()]
    return [_kept_secret(settings.data_dir)] if settings.dev else []


def signing_secret(settings: EdgeSettings) -> str:
    """The secret to sign a token with; none: ""."""
    return next(iter(token_secrets(settings)), "")


def _kept_secret(data_dir: Path) -> str:
    path = data_dir / "development-secret"
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
