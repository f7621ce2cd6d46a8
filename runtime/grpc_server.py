"""The gRPC server of every service: health that tells the truth, reflection, errors, keepalive, drain."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeAlias

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as aio_health  # type: ignore[attr-defined]  # the stubs know no asyncio
from grpc_reflection.v1alpha import reflection

from runtime import logs
from runtime.errors import BubbleError, Unavailable, brief, is_too_large
from runtime.grpc_client import KEEPALIVE_MS, KEEPALIVE_TIMEOUT_MS, MESSAGE_LIMIT
from runtime.health import CHECK_INTERVAL, Check
from runtime.metrics import LATENCIES, Histogram
from runtime.pulse import Pulse
from runtime.tls import Tls

log = logs.get(__name__)

CALLS = Histogram(
    "bubble_grpc_server_seconds",
    "How long unary calls took, by method and status (as gRPC names it; CANCELLED: the caller did not wait)",
    ["method", "status"],
    buckets=LATENCIES,
)

_OPTIONS: list[tuple[str, int | str]] = [
    ("grpc.so_reuseport", 0),  # a taken port is an error, not a second server beside the first
    # What the clients' keepalive needs (`grpc_client`): pings every other second, also when nothing is under way.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", KEEPALIVE_MS // 2),
    ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_MS // 2),
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    ("grpc.http2.ping_timeout_ms", KEEPALIVE_TIMEOUT_MS),  # this one decides; by itself it is a minute
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", MESSAGE_LIMIT),
    ("grpc.max_send_message_length", MESSAGE_LIMIT),
]

Context: TypeAlias = Any  # grpc.aio.ServicerContext, which is generic in the stubs only

_STREAM = "Stream"

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class GrpcServer:
    """One service's server. Made by `serve`."""

    def __init__(self, service: str, port: int, server: grpc.aio.Server, health_servicer: Any) -> None:
        self.port = port
        self._service = service
        self._server = server
        self._health = health_servicer
        self._serving = False

    async def set_serving(self, serving: bool) -> None:
        """What the health service answers from now on, for the whole server and for its service."""
        self._serving = serving
        for name in ("", self._service):
            await self._health.set(name, _SERVING if serving else _NOT_SERVING)

    async def watch(self, check: Check) -> None:
        """Keeps the health answer true. Runs until it is cancelled."""
        while True:
            try:
                async with asyncio.timeout(CHECK_INTERVAL):
                    await check()
                healthy = True
            except Exception as error:  # whatever the check met, the answer is the same
                healthy = False
                if self._serving:
                    log.warning("not serving", reason=brief(error))
            if healthy and not self._serving:
                log.info("serving", port=self.port)
            if healthy != self._serving:
                await self.set_serving(healthy)
            await asyncio.sleep(CHECK_INTERVAL)


@asynccontextmanager
async def serve(
    service: str,
    register: Callable[[grpc.aio.Server], None],
    *,
    host: str,
    port: int,
    check: Check,
    drain_seconds: float,
    tls: Tls | None = None,
) -> AsyncIterator[GrpcServer]:
    """Runs a server for `service` (its full name) for the length of the context.

    `register` adds the servicer. Port 0 takes a free one. On leaving: answers NOT_SERVING, takes no new calls, waits up to
    `drain_seconds` for those under way, then cuts them. Raises OSError when the port can't be had.
    """
    pulse = Pulse()
    interceptor = _Interceptor(pulse)
    server = grpc.aio.server(interceptors=[interceptor], options=_OPTIONS)
    register(server)
    health_servicer = aio_health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    reflection.enable_server_reflection((service, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    address = f"{host}:{port}" if ":" not in host else f"[{host}]:{port}"
    try:
        if tls is None:
            bound = server.add_insecure_port(address)
        else:
            bound = server.add_secure_port(address, tls.for_server())
    except RuntimeError as error:
        raise OSError(f"can't listen on {address}: is the port taken?") from error
    running = GrpcServer(service, bound, server, health_servicer)
    await running.set_serving(False)
    await server.start()
    tasks = [asyncio.create_task(running.watch(check), name="health"), asyncio.create_task(pulse.run(), name="pulse")]
    try:
        yield running
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await running.set_serving(False)
        interceptor.drain()
        await server.stop(drain_seconds)


class _Interceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    """Maps what a handler raises to a gRPC status: our own errors by their kind, everything else to a bare INTERNAL.

    Calls that may have waited while this process was stopped are refused: their callers repeat what they still want. Methods
    called `<Method>Stream` are made out of the unary `<Method>`.
    """

    def __init__(self, pulse: Pulse) -> None:
        self._pulse = pulse
        self._draining = False
        self._idle: set[asyncio.Task[Any]] = set()

    def drain(self) -> None:
        """Ends the streams of unary methods: at once where nothing is asked, else after the answer."""
        self._draining = True
        for task in self._idle:
            task.cancel()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or not method.startswith("/bubble."):
            return handler
        coding = (handler.request_deserializer, handler.response_serializer)
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(self._answering(method, handler.unary_unary), *coding)
        if method.endswith(_STREAM):
            unary_method = method.removesuffix(_STREAM)
            servicer = handler.stream_stream.__self__  # whose method of that name is not implemented, and not called
            answer = self._answering(unary_method, getattr(servicer, unary_method.rsplit("/", 1)[-1]))
            return grpc.stream_stream_rpc_method_handler(partial(self._exchange, answer), *coding)
        return grpc.stream_stream_rpc_method_handler(partial(_converse, method, handler.stream_stream), *coding)

    def _answering(self, method: str, unary: Any) -> Any:
        label = ".".join(method.rsplit(".", 1)[-1].split("/"))  # /bubble.timer.v1.TimerService/Write
        succeeded = CALLS.labels(label, "OK")

        async def answer(request: Any, context: Context) -> Any:
            began = time.monotonic()
            token = logs.bind_traces(partial(_traceparents, request))
            try:
                if self._pulse.skipped(began):
                    raise Unavailable("This process was stopped for a while")
                response = await unary(request, context)
            except asyncio.CancelledError:
                CALLS.labels(label, "CANCELLED").observe(time.monotonic() - began)
                # The deadline is the caller's, so this may be all that this process ever says of a slow dependency.
                log.warning("call cut off: its deadline has passed, or its caller is gone", method=method)
                raise
            except Exception as error:  # mapped, and logged whole when it is not ours
                CALLS.labels(label, _status_of(error).name).observe(time.monotonic() - began)
                await _abort(context, method, error)
            else:
                succeeded.observe(time.monotonic() - began)
                return response
            finally:
                logs.unbind_traces(token)

        return answer

    async def _exchange(self, answer: Any, requests: Any, context: Context) -> AsyncIterator[Any]:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # for mypy: gRPC runs it in one
        reading = aiter(requests)
        while not self._draining:
            self._idle.add(task)
            try:
                request = await anext(reading)
            except StopAsyncIteration:
                return
            except asyncio.CancelledError:
                if self._draining:
                    return
                raise
            finally:
                self._idle.discard(task)
            yield await answer(request, context)


async def _converse(method: str, stream: Any, requests: Any, context: Context) -> AsyncIterator[Any]:
    try:
        async for response in stream(requests, context):
            yield response
    except Exception as error:  # mapped, and logged whole when it is not ours
        await _abort(context, method, error)


def _status_of(error: Exception) -> grpc.StatusCode:
    """The status that a caller gets for what a handler raised."""
    if isinstance(error, BubbleError):
        return error.status
    if isinstance(error, grpc.aio.AioRpcError):
        # A service behind this one failed: its callers may try again, as they would with that one.
        passed_on = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED)
        return error.code() if error.code() in passed_on else grpc.StatusCode.UNAVAILABLE
    return grpc.StatusCode.INTERNAL


def _traceparents(request: Any) -> Iterator[str]:
    """The trace contexts of the items of a request, where it has such."""
    for item in getattr(request, "items", ()):
        source = item.event if hasattr(item, "event") else item
        yield getattr(source, "traceparent", "")


async def _abort(context: Context, method: str, error: Exception) -> None:
    if isinstance(error, grpc.aio.AbortError):
        raise error
    if isinstance(error, BubbleError):
        if error.status in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL):
            log.warning("call failed", method=method, error=error.message)
        await context.abort(_status_of(error), error.message)
    if isinstance(error, grpc.aio.AioRpcError):
        log.warning("call failed behind", method=method, code=error.code().name, details=error.details())
        # gRPC's own words for what is too large go on, since whoever hears them sends less at once.
        known = error.details() if is_too_large(error) else None
        await context.abort(_status_of(error), known or "A service behind this one can't be reached or is overloaded")
    log.error("call crashed", method=method, exc_info=error)
    await context.abort(_status_of(error), "Internal server error")
