"""`runtime/metrics_server.py` over HTTP, beside an event loop that turns, and one that does not."""

import asyncio
import json
import threading
import urllib.error
import urllib.request

import pytest

from runtime import metrics_server
from runtime.health import Health
from runtime.metrics_server import serve_metrics
from tests.servicers.harness import healthy


async def get(port: int, path: str, accept: str = "") -> tuple[int, str, str]:
    """Status, content type and body."""
    return await asyncio.to_thread(_get, port, path, accept)


def _get(port: int, path: str, accept: str = "") -> tuple[int, str, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Accept": accept})
    try:
        with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310  # our own
            return response.status, response.headers["Content-Type"], response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


async def test_it_answers_what_probes_and_prometheus_ask() -> None:
    health = Health(needs={"database": healthy})
    async with serve_metrics(health, host="127.0.0.1", port=0) as port:
        assert await get(port, "/healthz") == (200, "application/json", '{"status": "alive"}')
        status, _, body = await get(port, "/readyz")
        assert (status, json.loads(body)) == (503, {"status": "not ready", "reason": "starting"})
        await health.check()
        status, _, body = await get(port, "/readyz")
        assert (status, json.loads(body)) == (200, {"status": "ready"})
        status, content_type, body = await get(port, "/metrics")
        assert status == 200
        assert content_type.startswith("text/plain")
        assert "\nbubble_ready 1.0\n" in body
        _, content_type, body = await get(port, "/metrics", "application/openmetrics-text; version=1.0.0")
        assert content_type.startswith("application/openmetrics-text")
        assert body.endswith("# EOF\n")
        assert (await get(port, "/"))[0] == 404


async def test_a_port_that_is_taken_is_no_reason_not_to_serve() -> None:
    health = Health(needs={})
    async with serve_metrics(health, host="127.0.0.1", port=0) as port:
        async with serve_metrics(health, host="127.0.0.1", port=port) as other:
            assert other != port
            assert (await get(other, "/healthz"))[0] == 200
    async with serve_metrics(health, host="127.0.0.1", port=port) as again:  # it is free again
        assert again == port
        assert (await get(port, "/healthz"))[0] == 200


async def test_a_loop_that_does_not_turn_is_not_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_server, "PATIENCE", 0.1)
    async with serve_metrics(Health(needs={}), host="127.0.0.1", port=0) as port:
        answers: list[tuple[int, str, str]] = []
        asking = threading.Thread(target=lambda: answers.append(_get(port, "/healthz")))
        asking.start()
        asking.join(10)  # the loop stands still until there is an answer
        ((status, _, body),) = answers
        assert (status, body) == (503, "The event loop does not turn\n")
        assert (await get(port, "/healthz"))[0] == 200


async def test_a_client_that_says_nothing_holds_up_nobody() -> None:
    async with serve_metrics(Health(needs={}), host="127.0.0.1", port=0) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        assert (await get(port, "/healthz"))[0] == 200
        writer.close()
        await writer.wait_closed()
