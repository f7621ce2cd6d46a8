"""The HTTP of REST: routes, who asks, how often, from where, and how errors look."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
from aiohttp import hdrs, web
from multidict import CIMultiDict

from edge import errors, metrics
from edge.auth import Identity
from edge.dialects.devices import Devices
from edge.errors import ClientError, busy, too_many
from edge.guard import guarded, retry_after
from edge.hub import Hub
from edge.invitations import Invitations
from edge.limits import MAX_MESSAGE
from edge.local_time import offset_of, zone_from
from edge.rest import handlers
from edge.rest.handlers import Answer, Call
from edge.rest.openapi import document
from edge.rest.rates import UserRates
from edge.rest.shapes import (
    AcceptRequest,
    DeviceRequest,
    Fault,
    InviteRequest,
    RejectRequest,
    ShareRequest,
    TimerChange,
)
from runtime import logs, semconv
from runtime.clock import now_us
from runtime.errors import brief
from runtime.telemetry import NO_SPAN, Span, trace_id, unrecorded, well_formed

log = logs.get(__name__)

PREFIXES = ("", "/prod")

MAX_UNDER_WAY = 1_000
"""Requests of all users that are under way at once at this edge; more are refused with 503."""

BODY_WITHIN = 10.0
"""Seconds in which a request's body must be there."""

_JSON = "application/json"
_PREFLIGHT_GOOD_FOR = 600  # seconds a browser need not ask again

OriginIsFine = Callable[[web.Request], bool]
Work = Callable[[Call, Any], Awaitable[Answer]]


class Route(NamedTuple):
    """One kind of request. `takes`: the struct of its body, if it has one."""

    method: str
    path: str
    work: Work
    takes: type[msgspec.Struct] | None = None
    changes: bool = True


class Rest:
    """The requests of one edge."""

    def __init__(
        self,
        hub: Hub,
        invitations: Invitations,
        origin_is_fine: OriginIsFine,
        devices: Devices,
        *,
        default_zone: ZoneInfo | int,
    ) -> None:
        """`devices`: whose clocks are known; `default_zone`: of those whose is not."""
        self._hub = hub
        self._origin_is_fine = origin_is_fine
        self._devices = devices
        self._default_zone = default_zone
        settings = hub.settings
        self._rates = UserRates(settings.messages_per_second, settings.message_burst)
        self._under_way = 0
        self._document = msgspec.json.encode(document())
        backend = hub.backend
        self._routes = [
            Route("GET", "/timers/shared", lambda call, _: handlers.list_shared(backend, call), changes=False),
            Route("POST", "/timers/shared", lambda call, body: handlers.share(backend, call, body), ShareRequest),
            Route("DELETE", "/timers/shared", lambda call, body: handlers.reject(backend, call, body), RejectRequest),
            Route("GET", "/timers/{id}", lambda call, _: handlers.get_timer(backend, call), changes=False),
            Route("POST", "/timers/{id}", lambda call, body: handlers.put_timer(backend, call, body), TimerChange),
            Route("POST", "/invitations", lambda call, body: handlers.invite(invitations, call, body), InviteRequest),
            Route(
                "POST",
                "/invitations/accept",
                lambda call, body: handlers.accept(invitations, call, body),
                AcceptRequest,
            ),
            Route(
                "POST",
                "/device-tokens",
                lambda call, body: handlers.register_device(backend, call, body),
                DeviceRequest,
            ),
            Route("DELETE", "/device-tokens/{deviceId}", lambda call, _: handlers.remove_device(backend, call)),
        ]

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Adds the routes. Fixed paths come before those with an id in them."""
        router.add_get("/openapi.json", guarded(self._openapi))
        for prefix in PREFIXES:
            paths = dict.fromkeys(route.path for route in self._routes)
            for path in paths:
                resource = router.add_resource(prefix + path)
                for route in self._routes:
                    if route.path == path:
                        resource.add_route(route.method, guarded(self._handler(route)))
                resource.add_route(hdrs.METH_OPTIONS, guarded(self._preflight))
                resource.add_route(hdrs.METH_ANY, guarded(self._wrong_method))
            for first in dict.fromkeys(path.split("/")[1] for path in paths):
                router.add_route(hdrs.METH_ANY, f"{prefix}/{first}{{rest:(/.*)?}}", guarded(self._nothing_there))

    async def _openapi(self, request: web.Request) -> web.Response:
        return web.Response(body=self._document, content_type=_JSON, headers=self._cors(request))

    async def _preflight(self, request: web.Request) -> web.Response:
        """A browser asks whether a page of another origin may. It sends no token with that."""
        headers = self._cors(request)
        if hdrs.ACCESS_CONTROL_ALLOW_ORIGIN not in headers:
            return self._fault(request, ClientError(403, "This origin may not ask"), unrecorded())
        headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = ", ".join(_methods(request))
        headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = "authorization, content-type, deviceid, traceparent, tz"
        headers[hdrs.ACCESS_CONTROL_MAX_AGE] = str(_PREFLIGHT_GOOD_FOR)
        return web.Response(status=204, headers=headers)

    async def _wrong_method(self, request: web.Request) -> web.Response:
        methods = [*_methods(request), hdrs.METH_OPTIONS]
        response = self._fault(request, ClientError(405, f"This path takes {', '.join(methods)}"), unrecorded())
        response.headers[hdrs.ALLOW] = ", ".join(methods)
        return response

    async def _nothing_there(self, request: web.Request) -> web.Response:
        return self._fault(request, ClientError(404, "There is no such path"), unrecorded())

    def _handler(self, route: Route) -> Callable[[web.Request], Awaitable[web.Response]]:
        kind = f"{route.method} {route.path}"

        async def handle(request: web.Request) -> web.Response:
            began = time.monotonic()
            response = await self._answer(route, kind, request)
            outcome = "processed" if response.status == 200 else str(response.status)
            metrics.REST.labels(kind, outcome).observe(time.monotonic() - began)
            return response

        return handle

    async def _answer(self, route: Route, kind: str, request: web.Request) -> web.Response:
        began = time.monotonic()
        client_parent = well_formed(request.headers.get("traceparent"))
        tracing = self._hub.tracing
        identity: Identity | None = None
        span: Span = NO_SPAN
        traceparent = unrecorded(client_parent)

        def describe() -> semconv.Attributes:
            about: dict[str, semconv.Value] = {semconv.ACTION: kind, semconv.EDGE_ID: self._hub.presence.edge_id}
            return about | ({semconv.USER_ID: identity.user_id} if identity is not None else {})

        try:
            identity = await self._hub.verifier.verify(_token(request))  # before any other work
            self._admit(route, request, identity)
            if tracing.follows(identity.user_id, "") or tracing.wants(client_parent):
                span = tracing.telemetry.begin(semconv.HTTP_RECEIVE, client_parent=client_parent, attributes=describe())
                traceparent = span.traceparent
            call = Call(
                user_id=identity.user_id,
                traceparent=traceparent,
                offset=self._offset(request, identity.user_id),
                default_offset=offset_of(self._default_zone, now_us()),
                path_id=next(iter(request.match_info.values()), ""),
            )
            self._under_way += 1
            try:
                body = await self._body(route, request)
                if isinstance(body, ShareRequest):
                    self._rates.charge(identity.user_id, len(body.userIds))
                answer = await route.work(call, body)
            finally:
                self._under_way -= 1
            if span.recorded:
                span.set({semconv.HTTP_STATUS: 200})
            return web.Response(body=msgspec.json.encode(answer), content_type=_JSON, headers=self._cors(request))
        except Exception as error:
            refusal = errors.from_exception(error)
            if span.recorded:
                span.set({semconv.HTTP_STATUS: refusal.code})
                span.fail(str(refusal.code), refusal.message)
            else:
                traceparent = tracing.refused(
                    semconv.HTTP_RECEIVE, refusal, traceparent, describe, waited=time.monotonic() - began
                )
            if refusal.code == 500:
                log.error("request failed", exc_info=error, **logs.about(traceparent))
            elif refusal.code == 503:
                log.warning("request failed", error=brief(error), **logs.about(traceparent))
            return self._fault(request, refusal, traceparent)
        finally:
            span.end()

    def _admit(self, route: Route, request: web.Request, identity: Identity) -> None:
        """Raises what a request is refused with before it is read."""
        if not self._origin_is_fine(request):
            raise ClientError(403, "This origin may not ask")
        now = time.monotonic()
        wait = self._rates.wait(identity.user_id, now)
        if wait:
            raise too_many("requests", wait)
        if route.changes and self._hub.pulse.skipped(now):
            raise busy("The edge was stopped for a while")
        if self._under_way >= MAX_UNDER_WAY:
            raise busy("Too many requests are under way")

    def _offset(self, request: web.Request, user_id: str) -> int | None:
        """How many minutes the clock of who asks is ahead of UTC: as it says, else as its device has shown at its socket."""
        named = request.query.get("tz") or request.headers.get("tz")
        if not named:
            device_id = request.query.get("deviceId") or request.headers.get("DeviceId") or ""
            return self._devices.offset((user_id, device_id))
        zone = zone_from(named)
        if zone is None:
            raise ClientError(400, "tz is neither a time zone nor an offset such as +02:00", field="tz")
        return offset_of(zone, now_us())

    async def _body(self, route: Route, request: web.Request) -> msgspec.Struct | None:
        """The checked body. Of a DELETE, it may be in the query instead."""
        if route.takes is None:
            return None
        if route.takes is RejectRequest and "timerId" in request.query:
            return RejectRequest(timerId=request.query["timerId"])
        if (request.content_length or 0) > MAX_MESSAGE:
            raise ClientError(413, f"The body has more than {MAX_MESSAGE} bytes")
        try:
            async with asyncio.timeout(BODY_WITHIN):
                data = bytearray()
                async for part in request.content.iter_any():
                    data += part
                    if len(data) > MAX_MESSAGE:
                        raise ClientError(413, f"The body has more than {MAX_MESSAGE} bytes")
        except TimeoutError:
            raise ClientError(400, "The body did not come in time") from None
        except (ConnectionError, web.RequestPayloadError):
            raise ClientError(400, "The body broke off") from None  # which perhaps nobody reads
        if route.takes is RejectRequest and not data:
            raise ClientError(400, "timerId is missing", field="timerId")
        return _decoded(bytes(data), route.takes)

    def _cors(self, request: web.Request) -> CIMultiDict[str]:
        headers = CIMultiDict({"Vary": "Origin"})
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is not None and self._origin_is_fine(request):
            headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
            headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = "Retry-After"
        return headers

    def _fault(self, request: web.Request, error: ClientError, traceparent: str) -> web.Response:
        headers = self._cors(request)
        if error.retry_after_ms:
            headers["Retry-After"] = retry_after(error.retry_after_ms)
        if error.code == 401:
            headers[hdrs.WWW_AUTHENTICATE] = "Bearer"
        fault = Fault(status="error", code=error.code, error=error.message, traceId=trace_id(traceparent))
        if error.field:
            fault.field = error.field
        return web.Response(status=error.code, body=msgspec.json.encode(fault), content_type=_JSON, headers=headers)


def _methods(request: web.Request) -> list[str]:
    """What is done at the path of a request, preflights excepted."""
    routes = request.match_info.route.resource or ()
    return sorted({route.method for route in routes} - {hdrs.METH_OPTIONS, hdrs.METH_ANY})


def _token(request: web.Request) -> str:
    """Of the header, with or without `Bearer `; "" when there is none."""
    given = request.headers.get(hdrs.AUTHORIZATION, "")
    scheme, _, rest = given.partition(" ")
    return rest.strip() if scheme.lower() == "bearer" else given


def _decoded(data: bytes, wanted: type[msgspec.Struct]) -> msgspec.Struct:
    try:
        data.decode()  # the parser looks only at the texts that it takes
        return msgspec.json.decode(data, type=wanted)
    except UnicodeDecodeError:
        raise ClientError(400, "The body is not valid UTF-8") from None
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at `$")
        path = place.rstrip("`").strip(".").split(".")[-1].split("[")[0]
        missing = message.split("`")[1] if "missing required field" in message else ""
        if missing:
            raise ClientError(400, f"{missing} is missing", field=missing) from None
        raise ClientError(400, f"{path}: {message}" if path else message, field=path) from None
    except msgspec.DecodeError as error:
        raise ClientError(400, f"The body is not valid JSON: {error}") from None
    except RecursionError:
        raise ClientError(400, "The body is nested too deeply") from None
