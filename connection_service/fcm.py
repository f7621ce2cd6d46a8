"""Firebase Cloud Messaging, HTTP v1, as a `PushSender`: data messages for Android, authorised by a service account (RFC 7523)."""

import asyncio
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Self

import aiohttp
import jwt
import msgspec

from connection_service.push_sender import LANES, TIMEOUT, Attempt, Message, Outcome
from runtime import logs
from runtime.errors import brief

log = logs.get(__name__)

ACTION = "accept"
"""What the app is to offer to whoever gets the push."""

LONGEST_RETRY_AFTER = 3_600.0
"""Seconds; whoever asks for more is asked again after that."""

_SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_ASSERTION_LIFETIME = 3_600  # seconds, the most that is allowed
_EARLY = 60.0  # seconds before its end in which an access token is not used any more
_MOST_READ = 64 * 1_024  # bytes of an answer
_DEFAULT_PAUSE = 60.0  # seconds after a 429 that does not say how long, as FCM's documentation has it
_NEVER_TAKEN = frozenset(("INVALID_ARGUMENT", "SENDER_ID_MISMATCH"))


class Credentials(msgspec.Struct, frozen=True):
    """Of a service account, as the console gives them out: the fields that are used here."""

    project_id: str
    client_email: str
    private_key: str
    token_uri: str
    private_key_id: str = ""

    def assertion(self, now: float) -> str:
        """A signed wish for an access token. Raises ValueError when the key is none."""
        claims = {
            "iss": self.client_email, "scope": _SCOPE, "aud": self.token_uri,
            "iat": int(now), "exp": int(now) + _ASSERTION_LIFETIME,
        }  # fmt: skip
        try:
            return jwt.encode(claims, self.private_key, algorithm="RS256", headers={"kid": self.private_key_id})
        except (jwt.PyJWTError, TypeError) as error:
            raise ValueError("private_key is no RSA key") from error


def read_credentials(text: str) -> Credentials:
    """From the JSON of a service account. Raises ValueError, never with a part of the text."""
    try:
        credentials = msgspec.json.decode(text, type=Credentials)
    except msgspec.DecodeError:
        raise ValueError(
            "not the JSON of a service account (project_id, client_email, private_key, token_uri)"
        ) from None
    try:
        credentials.assertion(time.time())
    except ValueError:
        raise ValueError("private_key is no RSA key") from None
    return credentials


class FcmSender:
    """See `PushSender`. Use as a context manager."""

    def __init__(self, credentials: Credentials, url: str) -> None:
        self._address = f"{url.rstrip('/')}/v1/projects/{credentials.project_id}/messages:send"
        self._tokens = _AccessTokens(credentials)
        self._client: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=LANES), timeout=aiohttp.ClientTimeout(total=TIMEOUT / 2)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._client is not None:
            await self._client.close()

    async def send(self, message: Message) -> Attempt:
        assert self._client is not None, "not entered"  # noqa: S101  # a mistake of ours, not a condition
        try:
            async with asyncio.timeout(TIMEOUT):
                return await self._send(self._client, message)
        except _Refused as error:
            return error.attempt
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            return Attempt(outcome=Outcome.FAILED, reason=brief(error))

    async def _send(self, client: aiohttp.ClientSession, message: Message) -> Attempt:
        access_token = await self._tokens.get(client)
        async with client.post(
            self._address,
            data=msgspec.json.encode(_body(message)),
            headers={"Authorization": f"Bearer {access_token}", "Content-Type": "application/json"},
            allow_redirects=False,
        ) as response:
            answer = await response.content.read(_MOST_READ)
            if response.status == 200:
                return Attempt(outcome=Outcome.ACCEPTED)
            if response.status == 401:
                self._tokens.forget(access_token)
            return _attempt(response, answer)


class _Refused(Exception):
    """No access token was given."""

    def __init__(self, attempt: Attempt) -> None:
        super().__init__(attempt.reason)
        self.attempt = attempt


class _AccessTokens:
    """The access token that is good now; asked for by one, waited for by all."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._token = ""
        self._good_until = float("-inf")
        self._asking = asyncio.Lock()

    def forget(self, token: str) -> None:
        """The token was refused."""
        if token == self._token:
            self._good_until = float("-inf")

    async def get(self, client: aiohttp.ClientSession) -> str:
        async with self._asking:
            if time.monotonic() >= self._good_until:
                await self._ask(client)
            return self._token

    async def _ask(self, client: aiohttp.ClientSession) -> None:
        asked_at = time.monotonic()
        form = {"grant_type": _GRANT, "assertion": self._credentials.assertion(time.time())}
        async with client.post(self._credentials.token_uri, data=form, allow_redirects=False) as response:
            answer = await response.content.read(_MOST_READ)
            if response.status != 200:
                attempt = _attempt(response, answer)
                reason = f"no access token: {attempt.reason}"
                raise _Refused(Attempt(outcome=Outcome.FAILED, retry_after=attempt.retry_after, reason=reason))
        given = msgspec.json.decode(answer, type=_AccessToken)
        self._token, self._good_until = given.access_token, asked_at + max(given.expires_in - _EARLY, 0)


class _AccessToken(msgspec.Struct):
    access_token: str
    expires_in: float


class _Detail(msgspec.Struct):
    errorCode: str = ""  # noqa: N815  # as the API spells it


class _Error(msgspec.Struct):
    status: str = ""
    details: list[_Detail] = []


class _ErrorAnswer(msgspec.Struct):
    error: _Error = msgspec.field(default_factory=_Error)


def _body(message: Message) -> dict[str, Any]:
    # All values of `data` are texts. High priority: a phone that sleeps shows it now; later than an hour, nobody wants it.
    return {
        "message": {
            "token": message.token,
            "data": {
                "timerId": message.timer_id,
                "timerName": message.timer_name,
                "sharerName": message.sharer_name,
                "action": ACTION,
            },
            "android": {"priority": "HIGH", "ttl": "3600s"},
        }
    }


def _attempt(response: aiohttp.ClientResponse, answer: bytes) -> Attempt:
    """What an answer other than 200 means."""
    try:
        error = msgspec.json.decode(answer, type=_ErrorAnswer).error
    except msgspec.DecodeError:
        error = _Error()  # what stands in between (a proxy) may answer anything
    code = next((detail.errorCode for detail in error.details if detail.errorCode), error.status)
    reason = f"{response.status} {code}".strip()
    if code == "UNREGISTERED":
        return Attempt(outcome=Outcome.UNREGISTERED, reason=reason)
    if code in _NEVER_TAKEN and response.status in (400, 403):
        return Attempt(outcome=Outcome.REFUSED, reason=reason)
    pause = _retry_after(response.headers.get("Retry-After", ""))
    if response.status == 429:
        pause = pause or _DEFAULT_PAUSE
    return Attempt(outcome=Outcome.FAILED, retry_after=min(pause, LONGEST_RETRY_AFTER), reason=reason)


def _retry_after(text: str) -> float:
    """Seconds, from a number or a date; 0 when it is neither."""
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    return max((until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds(), 0.0)
