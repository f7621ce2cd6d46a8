"""The edge's HTTP: the socket's handshake, the page, health."""

import asyncio
import logging
import socket
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import structlog
from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from edge import metrics
from edge.auth import Identity, Unauthorized, make_token
from edge.codec.seed import SeedCodec
from edge.dialects.app_session import AppSession
from edge.dialects.choice import Dialect, dialect_of
from edge.dialects.devices import Devices
from edge.errors import ClientError, busy
from edge.guard import failure, guarded, refusal
from edge.hub import Hub
from edge.invitations import Invitations
from edge.limits import MAX_FRAME
from edge.local_time import zone_from
from edge.rest.routes import Rest
from edge.session import Session
from runtime import logs, metrics_server, semconv, text
from runtime.health import Health
from runtime.telemetry import well_formed

log = logs.get(__name__)

STATIC = Path(__file__).parent / "static"

UNKNOWN_DEVICE = "unknown"

_SOCKET_BUFFER = 64 * 1024
"""Bytes the kernel may keep for one connection, each way. Without this bound it hides megabytes of a slow reader's backlog,
and keeps megabytes that we do not read from somebody who sends too much."""

_DEV_TOKEN_LIFETIME = 12 * 3_600.0

_SECURITY_HEADERS = {
    # The page is files of ours and a socket to us, and nothing else: nothing inline, no other host, no text that becomes code
    # (`bubble` is the one policy of trusted types, for the addresses of its two workers).
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "worker-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types bubble",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
    "Server": "bubble",  # not which version of what
}


class _NoForeignBytes(logging.Filter):
    """Keeps out of the log what aiohttp says of requests that it can't parse: it repeats them, tokens included."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


logging.getLogger("aiohttp.server").addFilter(_NoForeignBytes())


class Edge:
    """The handlers."""

    def __init__(self, hub: Hub, health: Health, secrets: Sequence[str]) -> None:
        self._hub = hub
        self._health = health
        self._secret = next(iter(secrets), "")  # the first one signs
        per_minute = hub.settings.invitations_per_minute
        self._invitations = Invitations(hub.backend, secrets, per_minute=per_minute)
        self._seed = SeedCodec()
        self._devices = Devices()
        self._default_zone = zone_from(hub.settings.app_time_zone) or 0
        self._origins = {origin.strip() for origin in hub.settings.allowed_origins.split(",") if origin.strip()}

    def application(self) -> web.Application:
        """The routes."""
        # No middlewares: their coroutines live as long as a socket does, and are half a kilobyte for each.
        app = web.Application(client_max_size=64 * 1024)
        app.on_response_prepare.append(_secure)
        app.router.add_get("/ws", self.connect)
        app.router.add_get("/prod/", self.connect)
        app.router.add_get("/", self.page_or_socket)
        app.router.add_static("/static", STATIC)
        app.router.add_get("/config", guarded(self.config))
        Rest(self._hub, self._invitations, self._origin_is_fine, self._devices, default_zone=self._default_zone).add_to(
            app.router
        )
        app.router.add_get("/healthz", guarded(_alive))
        app.router.add_get("/readyz", guarded(self.ready))
        app.router.add_get("/metrics", guarded(_metrics))
        if self._hub.settings.dev:
            app.router.add_post("/dev/token", guarded(self.dev_token))
        return app

    def runner(self) -> web.AppRunner:
        """What runs the application."""
        return web.AppRunner(
            self.application(),
            handle_signals=False,
            access_log=None,
            shutdown_timeout=1.0,
            auto_decompress=False,  # a small body must not become a large one
        )

    async def page_or_socket(self, request: web.Request) -> web.StreamResponse:
        """The published app has its socket where a browser finds the page."""
        if request.headers.get(hdrs.UPGRADE, "").lower() == "websocket":
            return await self.connect(request)
        return web.FileResponse(STATIC / "index.html")

    async def connect(self, request: web.Request) -> web.StreamResponse:
        """The handshake, then the session. What only the handshake needs is gone when the session begins."""
        try:
            response, session = await self._shake_hands(request)
        except Exception as error:
            return failure(request, error)
        if session is not None:
            code = await session.run()
            metrics.disconnected(code)
            log.debug("connection ended", close_code=code.code, reason=code.reason)
        return response

    async def _shake_hands(self, request: web.Request) -> tuple[web.StreamResponse, Session | None]:
        """The answer to a handshake, and the session where that is an open socket. Whoever may not in learns so before anything
        else is done.
        """
        try:
            identity = await self._hub.verifier.verify(_token(request))
        except Unauthorized as error:
            return self._refuse(request, error)
        device_id = request.query.get("deviceId") or request.headers.get("DeviceId") or UNKNOWN_DEVICE
        problem = text.problem_with_id(device_id)
        if problem:
            return self._refuse(request, ClientError(400, f"deviceId {problem}"), identity)
        try:
            dialect = dialect_of(request.query, request.headers)
        except ClientError as error:
            return self._refuse(request, error, identity, device_id)
        if not self._origin_is_fine(request):
            return self._refuse(request, ClientError(403, "This origin may not connect"), identity, device_id)
        why_not = self._not_ready()
        most = self._hub.settings.max_connections
        if why_not is None and most and len(self._hub.sessions) >= most:
            why_not = "the edge is full"
        if why_not is not None:
            return self._refuse(request, busy(f"Not now: {why_not}"), identity, device_id)
        ws = web.WebSocketResponse(
            autoping=False, autoclose=False, compress=False, max_msg_size=MAX_FRAME, decode_text=False, timeout=2.0
        )
        if not ws.can_prepare(request).ok:
            no_socket = ClientError(400, "This address takes WebSockets only")
            return self._refuse(request, no_socket, identity, device_id)
        await ws.prepare(request)
        metrics.CONNECTS.labels("101").inc()
        transport = request.transport
        if transport is None:
            return ws, None  # gone already
        _bound_kernel_buffers(transport)
        structlog.contextvars.bind_contextvars(user_id=identity.user_id, device_id=device_id)
        session: Session
        if dialect is Dialect.APP:
            zone = zone_from(request.query.get("tz") or request.headers.get("tz") or "")
            session = AppSession(
                self._hub, ws, transport, self._devices, identity, device_id, zone=zone, default_zone=self._default_zone
            )
        else:
            resumes = request.query.get("resume") == "1"
            session = Session(self._hub, ws, transport, self._seed, identity, device_id, resumes=resumes)
        return ws, session

    def _refuse(
        self, request: web.Request, error: ClientError, identity: Identity | None = None, device_id: str = ""
    ) -> tuple[web.Response, None]:
        """Answers a handshake with an error."""
        metrics.CONNECTS.labels(str(error.code)).inc()

        def describe() -> semconv.Attributes:
            attributes: dict[str, semconv.Value] = {semconv.HTTP_STATUS: error.code}
            if identity is not None:
                attributes[semconv.USER_ID] = identity.user_id
            if device_id:
                attributes[semconv.DEVICE_ID] = device_id
            return attributes

        client_parent = well_formed(request.headers.get("traceparent"))
        traceparent = self._hub.tracing.refused(semconv.WS_CONNECT, error, client_parent, describe)
        log.debug(
            "connection refused",
            status=error.code,
            reason=error.message,
            user_id=identity.user_id if identity is not None else None,
            device_id=device_id or None,
            **logs.about(traceparent),
        )
        return refusal(error.code, error.message, traceparent, retry_after_ms=error.retry_after_ms), None

    async def config(self, _request: web.Request) -> web.Response:
        """What the page must know."""
        return web.json_response({"dev": self._hub.settings.dev, "invitations": self._invitations.possible})

    async def ready(self, _request: web.Request) -> web.Response:
        """200 when connections are taken; else 503 and why."""
        return _response(metrics_server.readiness(self._not_ready(), self._health.degraded))

    async def dev_token(self, request: web.Request) -> web.Response:
        """Development mode only: a token for whoever one says one is."""
        try:
            user_id = msgspec.json.decode(await request.read(), type=dict[str, str]).get("user", "")
        except msgspec.DecodeError:
            return refusal(400, "Send a JSON object with `user`")
        problem = text.problem_with_id(user_id)
        if problem:
            return refusal(400, f"user {problem}")
        token = make_token(user_id, self._secret, lifetime=_DEV_TOKEN_LIFETIME, settings=self._hub.settings)
        return web.json_response({"token": token, "userId": user_id})

    def _not_ready(self) -> str | None:
        return "the edge is draining" if self._health.draining else self._hub.presence.not_ready

    def _origin_is_fine(self, request: web.Request) -> bool:
        """Browsers say where a page came from: pages of strangers must not use their visitors' tokens."""
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is None or "*" in self._origins or origin in self._origins:
            return True
        try:
            return urlsplit(origin).netloc == request.host
        except ValueError:  # no address at all
            return False


async def _alive(_request: web.Request) -> web.Response:
    return _response(metrics_server.alive())


async def _metrics(request: web.Request) -> web.Response:
    return _response(metrics_server.metrics(request.headers.get(hdrs.ACCEPT, "")))


def _response(answer: metrics_server.Answer) -> web.Response:
    return web.Response(status=answer.status, body=answer.body, headers={hdrs.CONTENT_TYPE: answer.content_type})


async def _secure(_request: web.Request, response: web.StreamResponse) -> None:
    if isinstance(response, web.WebSocketResponse):
        response.headers[hdrs.SERVER] = _SECURITY_HEADERS["Server"]
    else:
        response.headers.update(_SECURITY_HEADERS)


def _token(request: web.Request) -> str:
    token = request.query.get("token")
    if token:
        return token
    scheme, _, rest = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    return rest.strip() if scheme.lower() == "bearer" else scheme


def _bound_kernel_buffers(transport: asyncio.Transport) -> None:
    sock = transport.get_extra_info("socket")
    if sock is None:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SOCKET_BUFFER)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _SOCKET_BUFFER // 4)
