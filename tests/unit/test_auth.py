"""`edge/auth.py`: which tokens are good, and for whom."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from edge.auth import Identity, TokenVerifier, Unauthorized, make_token
from edge.config import EdgeSettings

SECRET = "a-secret-of-more-than-thirty-two-bytes"
OTHER_SECRET = "another-secret-of-more-than-32-bytes"


class Keys(NamedTuple):
    """Two pairs of keys and the set that publishes them."""

    rsa: rsa.RSAPrivateKey
    ec: ec.EllipticCurvePrivateKey

    def document(self, *, without: str = "") -> dict[str, Any]:
        keys: list[dict[str, Any]] = [
            {**RSAAlgorithm.to_jwk(self.rsa.public_key(), as_dict=True), "kid": "rsa-1", "alg": "RS256", "use": "sig"},
            {**ECAlgorithm.to_jwk(self.ec.public_key(), as_dict=True), "kid": "ec-1", "use": "sig"},
        ]
        return {"keys": [key for key in keys if key["kid"] != without]}

    def rs256(self, key_id: str | None = "rsa-1", **changes: Any) -> str:
        return jwt.encode(claims(**changes), self.rsa, algorithm="RS256", headers=_header(key_id))

    def es256(self, key_id: str | None = "ec-1", **changes: Any) -> str:
        return jwt.encode(claims(**changes), self.ec, algorithm="ES256", headers=_header(key_id))


def _header(key_id: str | None) -> dict[str, Any]:
    return {} if key_id is None else {"kid": key_id}


class KeyServer:
    """Publishes a key set on a local port, counts how often it is asked, and may be slow or broken."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document: object = document
        self.status = 200
        self.requests = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def answer(self, _request: web.Request) -> web.Response:
        self.requests += 1
        await self.gate.wait()
        return web.json_response(self.document, status=self.status)


@asynccontextmanager
async def listening(server: KeyServer) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/.well-known/jwks.json", server.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/.well-known/jwks.json"
    finally:
        await runner.cleanup()


@pytest.fixture(scope="session")
def keys() -> Keys:
    return Keys(rsa.generate_private_key(65_537, 2_048), ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture
async def key_server(keys: Keys) -> KeyServer:
    return KeyServer(keys.document())


@pytest.fixture
async def by_url(key_server: KeyServer) -> AsyncIterator[TokenVerifier]:
    async with listening(key_server) as url:
        yield verifier(secret="", BUBBLE_JWKS_URL=url)


def verifier(*, secret: str = SECRET, **variables: str) -> TokenVerifier:
    return TokenVerifier(EdgeSettings.model_validate({"BUBBLE_DEV": "1", **variables}), secret)


def claims(**changes: Any) -> dict[str, Any]:
    """Those of a good token; None takes one away."""
    all_claims = {"sub": "alice", "exp": int(time.time()) + 600} | changes
    return {name: value for name, value in all_claims.items() if value is not None}


def token(secret: str = SECRET, **changes: Any) -> str:
    return jwt.encode(claims(**changes), secret, algorithm="HS256")


def by_hand(header: dict[str, Any], payload: object, key: bytes | None = None) -> str:
    """A token that no library would make."""
    parts = [_encoded(json.dumps(header).encode()), _encoded(json.dumps(payload).encode())]
    if key is not None:
        parts.append(_encoded(hmac.new(key, ".".join(parts).encode(), hashlib.sha256).digest()))
    return ".".join(parts) if key is not None else ".".join([*parts, ""])


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


async def refused(checks: TokenVerifier, bad: str) -> Unauthorized:
    with pytest.raises(Unauthorized) as refusal:
        await checks.verify(bad)
    assert refusal.value.code == 401
    return refusal.value


# --- a shared secret ------------------------------------------------------------------------------------------------------


async def test_a_good_token_says_who_and_until_when() -> None:
    expires_at = int(time.time()) + 60
    assert await verifier().verify(token(exp=expires_at)) == Identity("alice", float(expires_at))


async def test_a_token_without_an_end_is_good_for_ever() -> None:
    assert (await verifier().verify(token(exp=None))).expires_at == float("inf")


async def test_an_expired_token_is_refused_and_told_so() -> None:
    assert "expired" in (await refused(verifier(), token(exp=int(time.time()) - 1))).message


async def test_a_token_that_is_not_good_yet_is_refused() -> None:
    await refused(verifier(), token(nbf=int(time.time()) + 600))


async def test_a_token_of_another_secret_is_refused() -> None:
    await refused(verifier(), token(OTHER_SECRET))


async def test_while_one_secret_replaces_another_tokens_of_both_are_good() -> None:
    expires_at = int(time.time()) + 60
    checks = TokenVerifier(EdgeSettings.model_validate({"BUBBLE_DEV": "1"}), OTHER_SECRET, SECRET)
    for secret in (SECRET, OTHER_SECRET):
        assert await checks.verify(token(secret, exp=expires_at)) == Identity("alice", float(expires_at))
    await refused(checks, token("a-third-secret-of-more-than-thirty-two-bytes"))


@pytest.mark.parametrize("secret", [SECRET, OTHER_SECRET])
async def test_among_several_secrets_the_reason_of_a_refusal_is_the_same(secret: str) -> None:
    checks = TokenVerifier(EdgeSettings.model_validate({"BUBBLE_DEV": "1"}), OTHER_SECRET, SECRET)
    assert "expired" in (await refused(checks, token(secret, exp=int(time.time()) - 1))).message


async def test_a_token_that_somebody_has_changed_is_refused() -> None:
    header, _, signature = token().split(".")
    forged = _encoded(json.dumps(claims(sub="mallory")).encode())
    await refused(verifier(), f"{header}.{forged}.{signature}")


@pytest.mark.parametrize(
    "bad",
    ["", ".", "..", "...", "a.b.c", "Bearer x", "null", "🍵.🍵.🍵", "\ud800", "e30.e30.", "x" * 10_000, "bm8.e30.e30"],
)
async def test_what_is_no_token_is_refused(bad: str) -> None:
    assert ("missing" in (await refused(verifier(), bad)).message) is (bad == "")


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", ""])
async def test_an_unsigned_token_is_refused(algorithm: str, keys: Keys, tmp_path: Path) -> None:
    unsigned = by_hand({"alg": algorithm, "typ": "JWT"}, claims())
    path = tmp_path / "keys.json"
    path.write_text(json.dumps(keys.document()))
    for checks in (verifier(), verifier(secret=""), verifier(BUBBLE_JWKS_URL=str(path))):
        await refused(checks, unsigned)


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
async def test_another_algorithm_with_the_right_secret_is_refused(algorithm: str) -> None:
    long_secret = SECRET * 2
    other = jwt.encode(claims(), long_secret, algorithm=algorithm)
    assert "not accepted" in (await refused(verifier(secret=long_secret), other)).message


@pytest.mark.parametrize(
    "header", [{}, {"alg": None}, {"alg": ["HS256"]}, {"alg": {"a": 1}}, {"alg": "HS256", "kid": 5}]
)
async def test_a_malformed_header_is_refused(header: dict[str, Any]) -> None:
    await refused(verifier(), by_hand(header, claims(), SECRET.encode()))


@pytest.mark.parametrize("payload", [[], "alice", 5, None, ["sub"]])
async def test_claims_that_are_no_object_are_refused(payload: object) -> None:
    await refused(verifier(), by_hand({"alg": "HS256"}, payload, SECRET.encode()))


@pytest.mark.parametrize("expires_at", ["soon", [], {}, True, ""])
async def test_an_end_that_is_no_number_is_refused(expires_at: object) -> None:
    if expires_at is True:  # a second after 1970
        expires_at = 1
    await refused(verifier(), by_hand({"alg": "HS256"}, claims(exp=expires_at), SECRET.encode()))


async def test_an_infinite_end_is_refused_or_means_for_ever() -> None:
    endless = by_hand({"alg": "HS256"}, claims(exp=float("inf")), SECRET.encode())
    try:
        identity = await verifier().verify(endless)
    except Unauthorized:
        return
    assert identity.expires_at == float("inf")


async def test_without_a_secret_no_token_of_a_secret_is_good() -> None:
    checks = verifier(secret="")
    await refused(checks, token())
    await refused(checks, by_hand({"alg": "HS256"}, claims(), b""))


async def test_a_token_made_for_development_is_good_here() -> None:
    settings = EdgeSettings.model_validate(
        {"BUBBLE_DEV": "1", "BUBBLE_JWT_ISSUER": "https://issuer", "BUBBLE_JWT_AUDIENCE": "bubble"}
    )
    made = make_token("alice", SECRET, lifetime=60, settings=settings)
    identity = await TokenVerifier(settings, SECRET).verify(made)
    assert identity.user_id == "alice"
    assert identity.expires_at == pytest.approx(time.time() + 60, abs=5)


# --- issuer, audience, user -----------------------------------------------------------------------------------------------


async def test_the_issuer_must_be_the_configured_one() -> None:
    checks = verifier(BUBBLE_JWT_ISSUER="https://issuer")
    await checks.verify(token(iss="https://issuer"))
    for wrong in ("https://issuer/", "https://evil", "", None):
        await refused(checks, token(iss=wrong))


async def test_the_audience_must_have_the_configured_one() -> None:
    checks = verifier(BUBBLE_JWT_AUDIENCE="bubble")
    await checks.verify(token(aud="bubble"))
    await checks.verify(token(aud=["other", "bubble"]))
    for wrong in ("bubbles", ["other"], [], None):
        await refused(checks, token(aud=wrong))


async def test_issuer_and_audience_are_not_checked_unless_configured() -> None:
    await verifier().verify(token(iss="anybody", aud=["anything"]))


async def test_the_first_claim_that_is_there_names_the_user() -> None:
    checks = verifier()
    assert (await checks.verify(token(**{"cognito:username": "ally"}))).user_id == "ally"
    assert (await checks.verify(token())).user_id == "alice"
    checks = verifier(BUBBLE_JWT_USER_CLAIMS=" email , sub ")
    assert (await checks.verify(token(**{"cognito:username": "ally"}))).user_id == "alice"
    assert (await checks.verify(token(email="alice@example.org"))).user_id == "alice@example.org"


@pytest.mark.parametrize("changes", [{"sub": None}, {"sub": ""}])
async def test_a_token_that_names_nobody_is_refused(changes: dict[str, Any]) -> None:
    await refused(verifier(), token(**changes))


@pytest.mark.parametrize("user_id", ["x" * 129, "a\x00b", "a\nb", "\u202eecila"])
async def test_a_token_that_names_an_impossible_user_is_refused(user_id: str) -> None:
    assert "impossible user" in (await refused(verifier(), token(sub=user_id))).message


# --- key sets -------------------------------------------------------------------------------------------------------------


async def test_tokens_of_both_kinds_of_keys_are_good_by_a_key_set_in_a_file(keys: Keys, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps(keys.document()))
    for location in (str(path), f"file://{path}"):
        checks = verifier(secret="", BUBBLE_JWKS_URL=location)
        assert (await checks.verify(keys.rs256())).user_id == "alice"
        assert (await checks.verify(keys.es256())).user_id == "alice"


async def test_tokens_of_both_kinds_of_keys_are_good_by_a_key_server(
    keys: Keys, by_url: TokenVerifier, key_server: KeyServer
) -> None:
    for _ in range(3):
        assert (await by_url.verify(keys.rs256())).user_id == "alice"
        assert (await by_url.verify(keys.es256())).user_id == "alice"
    assert key_server.requests == 1


async def test_the_other_claims_of_such_tokens_are_checked_too(keys: Keys, by_url: TokenVerifier) -> None:
    await refused(by_url, keys.rs256(exp=int(time.time()) - 1))
    await refused(by_url, keys.es256(sub=None))


async def test_a_secret_and_a_key_set_may_be_used_side_by_side(keys: Keys, key_server: KeyServer) -> None:
    async with listening(key_server) as url:
        checks = verifier(BUBBLE_JWKS_URL=url)
        await checks.verify(token())
        assert key_server.requests == 0
        await checks.verify(keys.rs256())


async def test_a_token_of_another_key_under_a_known_name_is_refused(keys: Keys, by_url: TokenVerifier) -> None:
    stranger = Keys(rsa.generate_private_key(65_537, 2_048), ec.generate_private_key(ec.SECP256R1()))
    await refused(by_url, stranger.rs256())
    await refused(by_url, stranger.es256())
    await by_url.verify(keys.rs256())


async def test_a_public_key_is_never_taken_for_a_secret(keys: Keys, key_server: KeyServer) -> None:
    pem = keys.rsa.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    document = json.dumps(keys.document()["keys"][0]).encode()
    async with listening(key_server) as url:
        for checks in (verifier(secret="", BUBBLE_JWKS_URL=url), verifier(BUBBLE_JWKS_URL=url)):
            for key in (pem, pem.strip(), document):
                await refused(checks, by_hand({"alg": "HS256", "kid": "rsa-1"}, claims(), key))
                await refused(checks, by_hand({"alg": "RS256", "kid": "rsa-1"}, claims(), key))


async def test_a_key_of_one_kind_is_never_used_for_the_other(keys: Keys, by_url: TokenVerifier) -> None:
    await refused(by_url, keys.rs256(key_id="ec-1"))
    await refused(by_url, keys.es256(key_id="rsa-1"))


async def test_a_key_that_a_token_brings_itself_is_not_trusted(by_url: TokenVerifier, keys: Keys) -> None:
    stranger = rsa.generate_private_key(65_537, 2_048)
    headers = {
        "kid": "rsa-1",
        "jwk": RSAAlgorithm.to_jwk(stranger.public_key(), as_dict=True),
        "jku": "http://127.0.0.1:9/keys.json",
    }
    await refused(by_url, jwt.encode(claims(), stranger, algorithm="RS256", headers=headers))
    await by_url.verify(keys.rs256())


async def test_a_token_that_names_no_key_is_good_if_there_is_only_one(keys: Keys, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps(keys.document(without="ec-1")))
    await verifier(BUBBLE_JWKS_URL=str(path)).verify(keys.rs256(key_id=None))
    path.write_text(json.dumps(keys.document()))
    await refused(verifier(BUBBLE_JWKS_URL=str(path)), keys.rs256(key_id=None))


async def test_unknown_keys_do_not_hammer_the_key_server(
    keys: Keys, by_url: TokenVerifier, key_server: KeyServer
) -> None:
    await by_url.verify(keys.rs256())
    for number in range(50):
        await refused(by_url, keys.rs256(key_id=f"unknown-{number}"))
    results = await asyncio.gather(
        *(by_url.verify(keys.rs256(key_id=f"unknown-{number}")) for number in range(50)), return_exceptions=True
    )
    assert all(isinstance(result, Unauthorized) for result in results)
    assert key_server.requests == 1


async def test_a_key_that_was_added_since_is_found_after_a_while(
    keys: Keys, by_url: TokenVerifier, key_server: KeyServer
) -> None:
    key_server.document = keys.document(without="ec-1")
    await by_url.verify(keys.rs256())
    await refused(by_url, keys.es256())
    key_server.document = keys.document()
    pass_time(by_url, 11)
    await by_url.verify(keys.es256())
    assert key_server.requests == 2


async def test_a_key_that_was_taken_back_is_good_no_longer_after_a_while(
    keys: Keys, by_url: TokenVerifier, key_server: KeyServer
) -> None:
    await by_url.verify(keys.rs256())
    key_server.document = keys.document(without="rsa-1")
    await by_url.verify(keys.rs256())
    pass_time(by_url, 301)
    await refused(by_url, keys.rs256())
    await by_url.verify(keys.es256())


@pytest.mark.parametrize(
    ("status", "document"), [(500, {}), (200, {}), (200, {"keys": []}), (200, []), (200, {"keys": [{"kty": "new"}]})]
)
async def test_while_the_key_server_is_broken_known_keys_stay_good(
    keys: Keys, by_url: TokenVerifier, key_server: KeyServer, status: int, document: object
) -> None:
    await by_url.verify(keys.rs256())
    key_server.status, key_server.document = status, document
    pass_time(by_url, 301)
    await by_url.verify(keys.rs256())
    assert key_server.requests == 2


async def test_a_key_server_that_is_away_means_401_and_not_a_crash(keys: Keys, tmp_path: Path) -> None:
    for location in ("http://127.0.0.1:9/keys.json", str(tmp_path / "missing.json"), "http://[", "ftp://127.0.0.1/x"):
        await refused(verifier(secret="", BUBBLE_JWKS_URL=location), keys.rs256())


async def test_everybody_who_comes_while_the_keys_are_being_read_waits_for_them(
    keys: Keys, by_url: TokenVerifier, key_server: KeyServer
) -> None:
    key_server.gate.clear()
    first = asyncio.create_task(by_url.verify(keys.rs256()))
    await until(lambda: key_server.requests == 1)
    others = [asyncio.create_task(by_url.verify(keys.es256())) for _ in range(5)]
    await asyncio.sleep(0)
    key_server.gate.set()
    results = await asyncio.gather(first, *others, return_exceptions=True)
    assert [result for result in results if not isinstance(result, Identity)] == []
    assert key_server.requests == 1


def pass_time(checks: TokenVerifier, seconds: float) -> None:
    """As if the key set had been read so much earlier."""
    assert checks._keys is not None
    checks._keys._read_at -= seconds


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)
