"""`bubble token`."""

import asyncio
import os
import time

import aiohttp
import jwt
from pydantic import ValidationError

from cli import access, output
from cli.client import development_token
from cli.errors import BadToken, ExitCode, Problem
from edge.auth import make_token
from edge.config import EdgeSettings
from edge.secret import is_kept, kept_at, signing_secret
from runtime import text
from runtime.settings import describe

HOURS = 12.0
"""How long a token is good by itself; an edge in development mode gives out the same."""

MIN_HOURS = 0.01
"""Half a minute: what is shorter is over before it is of use."""

MAX_HOURS = 8_784.0
"""A year, which may be a leap year: nobody can take a token back, short of taking its secret from all."""

_SIGNERS = ("BUBBLE_JWT_SECRET", "BUBBLE_JWT_SECRET_FILE", "BUBBLE_DEV")  # with any of these, an edge here has a secret


def show(user: str, hours: float | None, url: str | None, *, as_json: bool) -> None:
    """Prints a token for a user. Raises Problem."""
    problem = text.problem_with_id(user)
    if problem:
        raise Problem(f"A user {problem}.", code=ExitCode.USAGE)
    if hours is not None and not MIN_HOURS <= hours <= MAX_HOURS:  # so that NaN is refused, too
        raise Problem(
            f"A token is good for {MIN_HOURS:g} to {MAX_HOURS:g} hours (a year), and not for {hours:g}.",
            hint=f"Leave --hours away for {HOURS:g} hours.",
            code=ExitCode.USAGE,
        )
    token = make(user, hours, url)
    if as_json:
        claims = jwt.decode(token, options={"verify_signature": False})
        expires_at = output.wire_time(int(claims["exp"]) * 1_000_000)
        output.print_json({"token": token, "userId": user, "expiresAt": expires_at})
    else:
        print(token)


def make(user: str, hours: float | None, url: str | None) -> str:
    """Signed here with the secret of the environment; where there is none, a development system is asked. An address that is
    given means that one is asked in any case.
    """
    if not url and any(os.environ.get(variable) for variable in _SIGNERS):
        try:
            settings = EdgeSettings()
        except ValidationError as error:
            raise Problem(f"Wrong settings: {describe(error)}.", code=ExitCode.USAGE) from error
        secret = _secret(settings)
        if secret:
            lifetime = HOURS if hours is None else hours
            return make_token(user, secret, lifetime=lifetime * 3_600, settings=settings)
    place = access.find(url=url, token=None, user=user)
    try:
        token = asyncio.run(_ask(place, user))
    except BadToken as error:
        raise BadToken(
            f"There is no secret here to sign with, and {place.host} gives out no development tokens.",
            hint="Set BUBBLE_JWT_SECRET, or BUBBLE_DEV=1 where the data directory is.",
        ) from error
    if hours is not None:
        expires = jwt.decode(token, options={"verify_signature": False})["exp"]
        if abs(expires - time.time() - hours * 3_600) > 60:
            raise Problem(
                f"{place.host} gives out tokens for {HOURS:g} hours only.",
                hint="Leave --hours away.",
                code=ExitCode.USAGE,
            )
    return token


def _secret(settings: EdgeSettings) -> str:
    """That of an edge in this environment; "" where edges check tokens in another way. Raises Problem."""
    kept = kept_at(settings.data_dir).absolute()
    try:
        secret = signing_secret(settings)
    except OSError as error:
        raise Problem(f"{kept} can't be read: {error.strerror}.", code=ExitCode.TOKEN) from error
    if not secret and is_kept(settings):
        raise BadToken(
            f"There is no secret to sign with in {kept}.",
            hint="A development system makes it when it starts: go to where it runs, or set BUBBLE_DATA_DIR. "
            "Or ask one for a token with --url.",
        )
    return secret


async def _ask(place: access.Access, user: str) -> str:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as http:
        return await development_token(http, place, user)
