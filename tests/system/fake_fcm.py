"""The parts of Google's APIs that pushes need, on this machine: access tokens for a service account, and FCM HTTP v1."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import jwt
import msgspec
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

PROJECT = "bubble-test"
ACCOUNT = "pusher@bubble-test.example"

_KEY = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)


def fault(status: int, code: str, *, retry_after: str = "", name: str = "") -> web.Response:
    """An error as FCM writes it."""
    details = [{"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code}]
    error = {"code": status, "message": "no", "status": name or code, "details": details}
    headers = {"Retry-After": retry_after} if retry_after else None
    return web.json_response({"error": error}, status=status, headers=headers)


class FakeFcm:
    """What came, and what is answered: `answers` in turn, and then success."""

    def __init__(self) -> None:
        self.url = ""
        self.sent: list[dict[str, Any]] = []
        """The messages of all requests with a good access token, taken or not."""
        self.accepted: list[dict[str, Any]] = []
        self.answers: list[web.Response] = []
        self.by_token: dict[str, web.Response] = {}
        self.tokens_given = 0
        self.token_answers: list[web.Response] = []
        self.good_tokens: set[str] = set()
        self.hangs = asyncio.Event()
        self.hangs.set()
        """Cleared: requests to send wait."""
        self.waiting = 0

    @property
    def credentials(self) -> str:
        """The JSON of the service account."""
        key = _KEY.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        account = {
            "type": "service_account", "project_id": PROJECT, "private_key_id": "k1", "private_key": key.decode(),
            "client_email": ACCOUNT, "token_uri": f"{self.url}/token",
        }  # fmt: skip
        return msgspec.json.encode(account).decode()

    @property
    def data(self) -> list[dict[str, str]]:
        """What was accepted, without what belongs to FCM."""
        return [message["data"] for message in self.accepted]

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
        claims = jwt.decode(
            str(form["assertion"]),
            _KEY.public_key(),
            algorithms=["RS256"],
            audience=f"{self.url}/token",
            issuer=ACCOUNT,
        )
        assert claims["scope"] == "https://www.googleapis.com/auth/firebase.messaging"
        assert 0 < claims["exp"] - time.time() <= 3_600
        if self.token_answers:
            return self.token_answers.pop(0)
        self.tokens_given += 1
        token = f"access-{self.tokens_given}"
        self.good_tokens = {token}
        return web.json_response({"access_token": token, "expires_in": 3_599, "token_type": "Bearer"})

    async def _send(self, request: web.Request) -> web.Response:
        assert request.match_info["project"] == PROJECT
        scheme, _, token = request.headers["Authorization"].partition(" ")
        if scheme != "Bearer" or token not in self.good_tokens:
            return fault(401, "", name="UNAUTHENTICATED")
        message = (await request.json())["message"]
        assert all(isinstance(value, str) for value in message["data"].values())
        self.sent.append(message)
        self.waiting += 1
        await self.hangs.wait()
        self.waiting -= 1
        if message["token"] in self.by_token:
            status = self.by_token[message["token"]]
            return fault(status.status, msgspec.json.decode(status.body or b"{}")["error"]["status"])  # type: ignore[arg-type]
        if self.answers:
            return self.answers.pop(0)
        self.accepted.append(message)
        return web.json_response({"name": f"projects/{PROJECT}/messages/{len(self.accepted)}"})


@asynccontextmanager
async def fake_fcm() -> AsyncIterator[FakeFcm]:
    """One on a free port."""
    fake = FakeFcm()
    app = web.Application()
    app.router.add_post("/token", fake._token)
    app.router.add_post("/v1/projects/{project}/messages:send", fake._send)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield fake
    finally:
        fake.hangs.set()
        await runner.cleanup()
