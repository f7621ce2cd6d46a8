"""Where the system is and who we are there: flags, environment, configuration file, in this order.

A token says who we are. Without one, a development system is asked for one in a user's name (`POST /dev/token`).
"""

import getpass
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

import msgspec

from cli.errors import ExitCode, Problem
from runtime import text

DEFAULT_URL = "http://127.0.0.1:8080"
"""Where `make run` is."""

_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
_PORTS = {"http": 80, "https": 443}


class _File(msgspec.Struct, forbid_unknown_fields=True):
    url: str | None = None
    token: str | None = None
    user: str | None = None


class Access(NamedTuple):
    """What is needed to connect. There is a token, or a user in whose name a development system is asked for one."""

    url: str
    """`http(s)://host[:port][/path]`, without a slash at the end."""
    token: str | None
    user: str
    """Empty when there is a token, which names the user by itself."""
    source: str
    """Where token or user came from, for people."""

    @property
    def socket_url(self) -> str:
        """Where the WebSocket is."""
        return "ws" + self.url.removeprefix("http") + "/ws"

    def is_at(self, url: str) -> bool:
        """Whether that is an address of this system: the same scheme, host and port, whatever the path."""
        return _origin(url) == _origin(self.url)

    @property
    def host(self) -> str:
        """The server as people call it."""
        return urlsplit(self.url).netloc


def find(*, url: str | None, token: str | None, user: str | None, environ: Mapping[str, str] | None = None) -> Access:
    """What flags (None: not given), environment and configuration file say.

    The first that names a URL decides on that. The first that names a token or a user decides on both: `--user bob` is
    bob, also where BUBBLE_TOKEN is alice's. Within the environment, or the file, a token counts for more than a user.
    Raises Problem.
    """
    environ = os.environ if environ is None else environ
    if token and user:
        raise Problem("A token and a user at once: which one is meant?", hint=_ONE_OF, code=ExitCode.USAGE)
    path = config_path(environ)
    kept = _read(path)
    where = url or environ.get("BUBBLE_URL") or kept.url or DEFAULT_URL
    for source, a_token, a_user in (
        ("the command line", token, user),
        ("the environment (BUBBLE_TOKEN, BUBBLE_USER)", environ.get("BUBBLE_TOKEN"), environ.get("BUBBLE_USER")),
        (str(path), kept.token, kept.user),
    ):
        if a_token:
            return Access(_base(where), a_token.strip(), "", source)
        if a_user:
            return Access(_base(where), None, _checked(a_user, source), source)
    return Access(_base(where), None, _login_name(), "your log-in name here")


_ONE_OF = "A token names its user already; --user is for development systems, which give a token to anybody."


def config_path(environ: Mapping[str, str]) -> Path:
    """The configuration file, by the XDG base directory specification."""
    home = environ.get("XDG_CONFIG_HOME", "")
    base = Path(home) if Path(home).is_absolute() else Path(environ.get("HOME") or "~").expanduser() / ".config"
    return base / "bubble" / "config.toml"


def _read(path: Path) -> _File:
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return _File()
    except OSError as error:
        raise Problem(f"{path} can't be read: {error.strerror}.", code=ExitCode.USAGE) from error
    try:
        return msgspec.convert(tomllib.loads(content.decode()), _File)
    except (ValueError, tomllib.TOMLDecodeError) as error:
        raise Problem(
            f"{path} makes no sense: {error}.",
            hint='It may have url, token and user, such as: url = "https://timers.example"',
            code=ExitCode.USAGE,
        ) from error


def _base(url: str) -> str:
    parts = _split(url)
    scheme = _SCHEMES.get(parts.scheme)
    if scheme is None or not parts.hostname:
        raise Problem(f"“{url}” is no address of a server.", hint=f"One looks like {DEFAULT_URL}.", code=ExitCode.USAGE)
    return f"{scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix('/ws')}"


def _origin(url: str) -> tuple[str | None, str | None, int | None]:
    """Scheme, host and port of an address; its scheme is None when it is no address of a server."""
    parts = _split(url)
    scheme = _SCHEMES.get(parts.scheme)
    return scheme, parts.hostname, parts.port or _PORTS.get(scheme or "")


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url.strip() if "://" in url else f"http://{url.strip()}")
        _ = parts.port  # raises when it is none
    except ValueError:
        return urlsplit("")
    return parts


def _checked(user: str, source: str) -> str:
    problem = text.problem_with_id(user)
    if problem:
        raise Problem(f"The user of {source} {problem}.", code=ExitCode.USAGE)
    return user


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "me"
