"""The OpenAPI document of REST, made of the structs that requests are checked against.

It is served at `/openapi.json` and kept as `docs/openapi.json`: `.venv/bin/python -m edge.rest.openapi >
docs/openapi.json`, which a test compares.
"""

import sys
from typing import Any

import msgspec

from edge.errors import MEANINGS
from edge.limits import MAX_MESSAGE
from edge.rest.shapes import (
    AcceptRequest,
    AcceptResult,
    DeviceId,
    DeviceRequest,
    Fault,
    InviteRequest,
    InviteResult,
    RejectRequest,
    Result,
    ShareRequest,
    ShareResult,
    Timer,
    TimerChange,
    TimerId,
)
from runtime.version import VERSION

_SHAPES = (
    Timer, TimerChange, ShareRequest, ShareResult, RejectRequest, InviteRequest, InviteResult, AcceptRequest, AcceptResult,
    DeviceRequest, Result, Fault,
)  # fmt: skip
_ALWAYS = (401, 403, 429, 500, 503)

Json = dict[str, Any]


def document() -> Json:
    """The whole document."""
    (timer_id, device_id), components = _schemas()
    timer_path = _parameter("path", "id", timer_id)
    device_path = _parameter("path", "deviceId", device_id)
    timer_query = _parameter("query", "timerId", timer_id)
    zone = _parameter(
        "query",
        "tz",
        {"type": "string", "maxLength": 64, "examples": ["Europe/Berlin"]},
        "The time zone, or the offset from UTC, of whoever asks: that of local times in request and answer; may be a header instead. "
        "Default: that of the device that the header `DeviceId` names, if the edge knows it; else `BUBBLE_APP_TIME_ZONE`.",
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Bubble Timer",
            "version": VERSION,
            "description": "Shared timers for whoever holds no socket. What changes here is delivered to all sockets, and what "
            "changes there is seen here. All requests may be repeated.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}, {"url": "/prod"}],
        "security": [{"token": []}],
        "tags": [{"name": "timers"}, {"name": "invitations"}, {"name": "devices"}],
        "paths": {
            "/timers/shared": {
                "get": _operation(
                    "listShared",
                    "All timers that others share with you, those that are stopped excepted.",
                    "timers",
                    {"type": "array", "items": _reference("Timer")},
                    parameters=[zone],
                    faults=(400,),
                ),
                "post": _operation(
                    "share",
                    "Shares a timer of yours. You are left out; who is a member already counts as success. A timer that is not "
                    "known is made of `timer`, whichever comes first: this, or the update by the socket.",
                    "timers",
                    _reference("ShareResult"),
                    body="ShareRequest",
                    parameters=[zone],
                    faults=(400, 404, 409, 413),
                ),
                "delete": _operation(
                    "reject",
                    "You leave a timer that somebody shares with you. Name it in the query or in the body.",
                    "timers",
                    _reference("Result"),
                    body="RejectRequest",
                    body_is_needed=False,
                    parameters=[timer_query],
                    faults=(400, 404, 413),
                ),
            },
            "/timers/{id}": {
                "get": _operation(
                    "getTimer",
                    "A timer of yours, or one that is shared with you.",
                    "timers",
                    _reference("Timer"),
                    parameters=[timer_path, zone],
                    faults=(400, 404),
                ),
                "post": _operation(
                    "putTimer",
                    "Makes a timer, which is yours then, or changes one that you may see.",
                    "timers",
                    _reference("Timer"),
                    body="TimerChange",
                    parameters=[timer_path, zone],
                    faults=(400, 404, 409, 413),
                ),
            },
            "/invitations": {
                "post": _operation(
                    "invite",
                    "An invitation to a timer of yours, for a day: whoever has it may join. It ends when you remove somebody. "
                    "Where the server has nothing to sign with there are none (404).",
                    "invitations",
                    _reference("InviteResult"),
                    body="InviteRequest",
                    faults=(400, 404, 413),
                ),
            },
            "/invitations/accept": {
                "post": _operation(
                    "acceptInvitation",
                    "You join the timer that an invitation is for; everybody who sees it sees your name. Whoever sees it already "
                    "is answered as done.",
                    "invitations",
                    _reference("AcceptResult"),
                    body="AcceptRequest",
                    faults=(400, 404, 413),
                ),
            },
            "/device-tokens": {
                "post": _operation(
                    "registerDevice",
                    "This device is told by push of timers that are shared with you while you have no connection. A device has "
                    "one token, a token one device: the last that was registered.",
                    "devices",
                    _reference("Result"),
                    body="DeviceRequest",
                    faults=(400, 413),
                ),
            },
            "/device-tokens/{deviceId}": {
                "delete": _operation(
                    "removeDevice",
                    "This device is not told by push any more.",
                    "devices",
                    _reference("Result"),
                    parameters=[device_path],
                    faults=(400,),
                ),
            },
        },
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "The token of the socket, with or without `Bearer `.",
                }
            },
        },
    }


def _schemas() -> tuple[list[Json], Json]:
    """The schemas of ids, and those of all structs by name."""
    schemas, components = msgspec.json.schema_components((TimerId, DeviceId, *_SHAPES), ref_template=_REFERENCE)
    return list(schemas[:2]), dict(components)


_REFERENCE = "#/components/schemas/{name}"


def _reference(name: str) -> Json:
    return {"$ref": _REFERENCE.format(name=name)}


def _content(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}


def _parameter(place: str, name: str, schema: Json, description: str = "") -> Json:
    parameter: Json = {"in": place, "name": name, "required": place == "path", "schema": schema}
    return parameter | ({"description": description} if description else {})


def _operation(
    name: str,
    summary: str,
    tag: str,
    answer: Json,
    *,
    faults: tuple[int, ...],
    body: str = "",
    body_is_needed: bool = True,
    parameters: list[Json] | None = None,
) -> Json:
    responses: Json = {"200": {"description": "Done.", "content": _content(answer)}}
    for code in sorted({*faults, *_ALWAYS}):
        responses[str(code)] = {
            "description": MEANINGS[code].capitalize() + ".",
            "content": _content(_reference("Fault")),
        }
        if code in (429, 503):
            responses[str(code)]["headers"] = {
                "Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}
            }
    operation: Json = {"operationId": name, "summary": summary, "tags": [tag], "responses": responses}
    if parameters:
        operation["parameters"] = parameters
    if body:
        operation["requestBody"] = {
            "required": body_is_needed,
            "description": f"At most {MAX_MESSAGE} bytes.",
            "content": _content(_reference(body)),
        }
    return operation


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(document()), indent=2) + b"\n")
