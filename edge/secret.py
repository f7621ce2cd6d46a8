"""The secret of the tokens: given, or, in development mode, made once and kept beside the data."""

import os
import secrets
from pathlib import Path

from edge.config import EdgeSettings


def token_secret(settings: EdgeSettings) -> str:
    """The configured secret; in development mode without one, that of the data directory; else none ("")."""
    if settings.jwt_secret is not None:
        return settings.jwt_secret.get_secret_value()
    return _kept_secret(settings.data_dir) if settings.dev else ""


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
