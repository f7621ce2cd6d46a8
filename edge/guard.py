"""What a handler raises, as an answer.

A wrapper and no middleware: aiohttp keeps the coroutines of middlewares for as long as a socket is open, which is half a
kilobyte for each.
"""

from collections.abc import Awaitable, Callable

from aiohttp import hdrs, web

from runtime import logs
from runtime.telemetry import trace_id, unrecorded, well_formed

log = logs.get(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def guarded(handler: Handler) -> Handler:
    """The handler, its errors answered as ours are."""

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except Exception as error:
            return failure(request, error)

    return answer


def failure(request: web.Request, error: Exception) -> web.Response:
    """The answer to a request that ended with an error. Raises those of aiohttp, which are answers themselves."""
    if isinstance(error, web.HTTPException):
        raise error
    if isinstance(error, ConnectionError):
        return refusal(400, "The client has gone")  # which nobody reads: it went before it was answered
    traceparent = unrecorded(well_formed(request.headers.get("traceparent")))
    log.error("request crashed", path=request.path, exc_info=error, **logs.about(traceparent))
    return refusal(500, "Internal server error", traceparent)


def refusal(status: int, message: str, traceparent: str = "", *, retry_after_ms: int = 0) -> web.Response:
    """An error as the answers of all our addresses have it."""
    return web.json_response(
        {"status": "error", "code": status, "error": message, "traceId": trace_id(traceparent or unrecorded())},
        status=status,
        headers={hdrs.RETRY_AFTER: retry_after(retry_after_ms)} if retry_after_ms else None,
    )


def retry_after(milliseconds: int) -> str:
    """The header's text: whole seconds, at least one."""
    return str(max(round(milliseconds / 1_000), 1))
