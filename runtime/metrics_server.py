"""A gRPC service's small HTTP server, for Prometheus, probes and people: `/metrics`, `/healthz`, `/readyz`.

The standard library's, on a thread of its own, rather than aiohttp, which would make a service start half as slowly again
and take 11 MB: how fast a service is back after a crash is what people wait for. The thread only speaks HTTP; answers are
made in the event loop, which all that is measured belongs to, and whose turning is what `/healthz` is about.
"""

import asyncio
import json
import socketserver
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from socket import AF_INET, AF_INET6
from typing import Any, NamedTuple
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder

from runtime import logs
from runtime.errors import brief
from runtime.health import Health

log = logs.get(__name__)

PATIENCE = 5.0
"""Seconds an answer may take, and a client to ask for it."""

_POLL = 0.25  # seconds within which the thread notices that it is to end


class Answer(NamedTuple):
    """An HTTP answer."""

    status: int
    content_type: str
    body: bytes


def metrics(accept: str) -> Answer:
    """All metrics of this process, in the format that the asker understands. Takes some milliseconds."""
    encode, content_type = choose_encoder(accept)
    return Answer(200, content_type, encode(REGISTRY))


def alive() -> Answer:
    """The process runs and its event loop turns."""
    return _json(200, {"status": "alive"})


def readiness(reason: str | None, degraded: Mapping[str, str]) -> Answer:
    """200 when the process does its work, else (there is a reason) 503; in both cases with what is wrong, if anything is."""
    answer: dict[str, object] = {"status": "ready" if reason is None else "not ready"}
    if reason is not None:
        answer["reason"] = reason
    if degraded:
        answer["degraded"] = degraded
    return _json(200 if reason is None else 503, answer)


@asynccontextmanager
async def serve_metrics(health: Health, *, host: str, port: int) -> AsyncIterator[int]:
    """Runs the server for the length of the context; gives its port. Port 0 takes a free one.

    A port that is taken is no reason not to serve: then it takes a free one, too, and says so. So several replicas run on one
    machine, and so do several systems whose owners have only chosen ports for what they call.
    """
    loop = asyncio.get_running_loop()

    async def answer(path: str, accept: str) -> Answer:
        match path:
            case "/metrics":
                return metrics(accept)
            case "/healthz":
                return alive()
            case "/readyz":
                return readiness(health.not_ready, health.degraded)
        return Answer(404, "text/plain", b"There are /metrics, /healthz and /readyz\n")

    def application(environ: Mapping[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        asked = answer(environ["PATH_INFO"], environ.get("HTTP_ACCEPT", ""))
        try:
            given = asyncio.run_coroutine_threadsafe(asked, loop).result(PATIENCE)
        except TimeoutError:
            given = Answer(503, "text/plain", b"The event loop does not turn\n")
        head = [("Content-Type", given.content_type), ("Content-Length", str(len(given.body)))]
        start_response(f"{given.status} {'OK' if given.status == 200 else 'not'}", head)
        return [given.body]

    try:
        server = _Server(host, port)
    except OSError as error:
        log.warning("metrics port is taken, a free one will do", port=port, error=brief(error))
        server = _Server(host, 0)
    server.set_app(application)
    thread = threading.Thread(target=server.serve_forever, args=(_POLL,), name="metrics", daemon=True)
    thread.start()
    try:
        log.info("metrics", port=server.server_port)
        yield server.server_port
    finally:
        await asyncio.to_thread(server.shutdown)  # the loop must turn meanwhile: a request may wait for it
        server.server_close()


class _Handler(WSGIRequestHandler):
    timeout = PATIENCE

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # named by the library
        """Probes come every few seconds: not for the log."""


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, host: str, port: int) -> None:
        self.address_family = AF_INET6 if ":" in host else AF_INET
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        # Not HTTPServer's, which asks the DNS for the name of this host, and may wait for it.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away; what is wrong on our side is logged where it happens."""


def _json(status: int, answer: Mapping[str, object]) -> Answer:
    return Answer(status, "application/json", json.dumps(answer).encode())
