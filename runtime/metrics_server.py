"""A gRPC service's small HTTP server, for Prometheus, probes and people: `/metrics`, `/healthz`, `/readyz`."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from aiohttp import hdrs, web
from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder

from runtime import logs
from runtime.health import Health

log = logs.get(__name__)


async def metrics(request: web.Request) -> web.Response:
    """All metrics of this process, in the format that the asker understands. In the event loop, not in a thread: what is
    read belongs to the loop, and it takes some milliseconds a few times a minute.
    """
    encode, content_type = choose_encoder(request.headers.get(hdrs.ACCEPT, ""))
    return web.Response(body=encode(REGISTRY), headers={hdrs.CONTENT_TYPE: content_type})


async def alive(_request: web.Request) -> web.Response:
    """The process runs and its event loop turns."""
    return web.json_response({"status": "alive"})


def readiness(reason: str | None, degraded: Mapping[str, str]) -> web.Response:
    """200 when the process does its work, else (there is a reason) 503; in both cases with what is wrong, if anything is."""
    answer: dict[str, object] = {"status": "ready" if reason is None else "not ready"}
    if reason is not None:
        answer["reason"] = reason
    if degraded:
        answer["degraded"] = degraded
    return web.json_response(answer, status=200 if reason is None else 503)


@asynccontextmanager
async def serve_metrics(health: Health, *, host: str, port: int) -> AsyncIterator[int]:
    """Runs the server for the length of the context; gives its port. Port 0 takes a free one. Raises OSError when the port
    can't be had.
    """

    async def ready(_request: web.Request) -> web.Response:
        return readiness(health.not_ready, health.degraded)

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/healthz", alive)
    app.router.add_get("/readyz", ready)
    runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        bound: int = runner.addresses[0][1]
        log.info("metrics", port=bound)
        yield bound
    finally:
        await runner.cleanup()
