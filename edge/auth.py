"""Who a token says its bearer is."""

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import msgspec

from edge.config import EdgeSettings
from edge.errors import ClientError
from runtime import logs, text
from runtime.errors import brief

log = logs.get(__name__)

_SHARED_SECRET = "HS256"  # noqa: S105  # the name of an algorithm
_PUBLIC_KEY = ("RS256", "ES256")
_KEYS_FRESH = 300.0  # seconds a key set is used before it is read again
_KEYS_RETRY = 10.0  # seconds between two reads at least, however many unknown keys arrive
_YEAR_10000 = 253_402_300_800.0  # where dates can't be written any more
_LEEWAY = 0.0  # `exp` is meant as it is written


class Unauthorized(ClientError):
    """The token is missing, malformed, badly signed, expired, or not meant for us."""

    def __init__(self, message: str) -> None:
        super().__init__(401, message, field="token")


class Identity(msgspec.Struct, frozen=True):
    """Who somebody is, and until when (seconds since 1970; infinity: for ever)."""

    user_id: str
    expires_at: float


class TokenVerifier:
    """Checks tokens against shared secrets, any of which will do, and one key set, whichever are configured."""

    def __init__(self, settings: EdgeSettings, *secrets: str) -> None:
        self._secrets = [secret for secret in secrets if secret]
        self._keys = KeySet(settings.jwks_url) if settings.jwks_url else None
        self._issuer = settings.jwt_issuer or None
        self._audience = settings.jwt_audience or None
        self._user_claims = [claim.strip() for claim in settings.jwt_user_claims.split(",") if claim.strip()]

    async def verify(self, token: str) -> Identity:
        """The bearer of a good token. Raises Unauthorized."""
        if not token:
            raise Unauthorized("The token is missing")
        try:
            header = jwt.get_unverified_header(token)
            algorithm = header.get("alg")
            if algorithm == _SHARED_SECRET and self._secrets:
                claims = self._decode_by_secret(token)
            elif algorithm in _PUBLIC_KEY and self._keys is not None:
                claims = self._decode(token, await self._keys.find(header.get("kid"), algorithm), algorithm)
            else:
                raise Unauthorized("The token is signed in a way that is not accepted here")
        except jwt.ExpiredSignatureError as error:
            raise Unauthorized("The token has expired") from error
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise Unauthorized("The token is not valid") from error
        expires_at = float(claims.get("exp", "inf"))
        # Milliseconds for seconds is a common mistake; such a token is good for thousands of years either way.
        return Identity(self._user(claims), expires_at if expires_at < _YEAR_10000 else float("inf"))

    def _decode_by_secret(self, token: str) -> dict[str, Any]:
        *others, last = self._secrets
        for secret in others:
            with suppress(jwt.InvalidSignatureError):  # checked before everything else that is in a token
                return self._decode(token, secret, _SHARED_SECRET)
        return self._decode(token, last, _SHARED_SECRET)

    def _decode(self, token: str, key: Any, algorithm: str) -> dict[str, Any]:
        return jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            issuer=self._issuer,
            audience=self._audience,
            leeway=_LEEWAY,
            options={"verify_aud": self._audience is not None, "verify_iss": self._issuer is not None},
        )

    def _user(self, claims: Mapping[str, Any]) -> str:
        for claim in self._user_claims:
            user_id = claims.get(claim)
            if isinstance(user_id, str) and user_id:
                if text.problem_with_id(user_id):
                    raise Unauthorized("The token names an impossible user")
                return user_id
        raise Unauthorized("The token names no user")


class KeySet:
    """A JSON Web Key Set (RFC 7517), from a URL or a file, read again when it is old or a key is missing in it."""

    def __init__(self, location: str) -> None:
        self._location = location
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()

    async def find(self, key_id: str | None, algorithm: str) -> jwt.PyJWK:
        """The key of this id, or the only key when tokens name none. Raises Unauthorized."""
        key = self._look_up(key_id)
        if key is None or time.monotonic() - self._read_at > _KEYS_FRESH:
            await self._read()
            key = self._look_up(key_id)
        if key is None:
            raise Unauthorized("The token is signed with an unknown key")
        if key.algorithm_name != algorithm:
            raise Unauthorized("The token is signed in a way that is not accepted here")
        return key

    def _look_up(self, key_id: str | None) -> jwt.PyJWK | None:
        if key_id is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(key_id)

    async def _read(self) -> None:
        """Reads the set, unless that was done or tried just now. If it can't be read, the old one stays."""
        async with self._reading:
            if time.monotonic() - self._read_at < _KEYS_RETRY:
                return
            try:
                keys = jwt.PyJWKSet.from_dict(await self._document()).keys
                self._keys = {key.key_id: key for key in keys}
            except (OSError, ValueError, TypeError, jwt.PyJWTError, aiohttp.ClientError, TimeoutError) as error:
                log.warning("key set can't be read", location=self._location, error=brief(error))
            finally:
                self._read_at = time.monotonic()

    async def _document(self) -> dict[str, Any]:
        if "://" not in self._location or self._location.startswith("file://"):
            path = Path(self._location.removeprefix("file://"))
            document: dict[str, Any] = msgspec.json.decode(await asyncio.to_thread(path.read_bytes), type=dict)
            return document
        timeout = aiohttp.ClientTimeout(total=5)
        async with (
            aiohttp.ClientSession(timeout=timeout, raise_for_status=True) as client,
            client.get(self._location) as response,
        ):
            return msgspec.json.decode(await response.read(), type=dict)


def make_token(user_id: str, secret: str, *, lifetime: float, settings: EdgeSettings | None = None) -> str:
    """A token for development and tests, good for `lifetime` seconds."""
    claims: dict[str, Any] = {"sub": user_id, "iat": int(time.time()), "exp": int(time.time() + lifetime)}
    if settings is not None and settings.jwt_issuer:
        claims["iss"] = settings.jwt_issuer
    if settings is not None and settings.jwt_audience:
        claims["aud"] = settings.jwt_audience
    return jwt.encode(claims, secret, algorithm=_SHARED_SECRET)
