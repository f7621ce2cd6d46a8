"""python-socketio on uvicorn with uvloop: rooms per group, SQLite before the acknowledgement, Redis between processes."""

import os
from typing import Any

import jwt
import socketio
from store import Store

server = socketio.AsyncServer(
    async_mode="asgi",
    client_manager=socketio.AsyncRedisManager(os.environ["REDIS_URL"]),
    transports=["websocket"],
    logger=False,
    engineio_logger=False,
)
application = socketio.ASGIApp(server)
store = Store(os.environ["DATABASE"])
people: dict[str, tuple[str, str]] = {}


@server.event
async def connect(sid: str, environ: dict[str, Any], auth: dict[str, str]) -> None:
    try:
        claims = jwt.decode(auth["token"], os.environ["SECRET"], algorithms=["HS256"])
    except jwt.InvalidTokenError as error:
        raise ConnectionRefusedError("bad token") from error
    people[sid] = claims["sub"], claims["group"]
    await server.enter_room(sid, claims["group"])


@server.event
async def disconnect(sid: str, reason: str) -> None:
    people.pop(sid, None)


@server.event
async def update(sid: str, message: dict[str, Any]) -> dict[str, int]:
    user, group = people[sid]
    timer = message["timer"]
    version = await store.save(user, timer)
    state = {"type": "timer", "action": "update", "timer": {**timer, "version": version}, "changedBy": user}
    await server.emit("timer", state, room=group, skip_sid=sid)
    return {"version": version}
