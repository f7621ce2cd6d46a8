"""The yardstick: a raw broadcast, one `ws.send_str` per delivery, nothing stored. One process, aiohttp on uvloop."""

import json
import os
from collections import defaultdict

import jwt
import uvloop
from aiohttp import WSMsgType, web

groups: dict[str, set[web.WebSocketResponse]] = defaultdict(set)
versions: dict[str, int] = defaultdict(int)


async def socket(request: web.Request) -> web.WebSocketResponse:
    claims = jwt.decode(request.query["token"], os.environ["SECRET"], algorithms=["HS256"])
    user, group = claims["sub"], groups[claims["group"]]
    ws = web.WebSocketResponse(heartbeat=25, compress=False)
    await ws.prepare(request)
    group.add(ws)
    await ws.send_str('{"type":"connected"}')
    try:
        async for message in ws:
            if message.type is not WSMsgType.TEXT:
                break
            update = json.loads(message.data)
            timer = update["timer"]
            version = versions[timer["id"]] = versions[timer["id"]] + 1
            reply = {
                "status": "processed",
                "timerId": timer["id"],
                "version": version,
                "messageId": update["messageId"],
            }
            await ws.send_str(json.dumps(reply, separators=(",", ":")))
            state = {
                "type": "timer",
                "action": "update",
                "timer": {**timer, "version": version},
                "changedBy": user,
                "messageId": update["messageId"],
            }
            text = json.dumps(state, separators=(",", ":"))
            for other in list(group):
                if other is not ws and not other.closed:
                    await other.send_str(text)
    finally:
        group.discard(ws)
    return ws


if __name__ == "__main__":
    uvloop.install()
    application = web.Application()
    application.router.add_get("/ws", socket)
    web.run_app(application, host="127.0.0.1", port=int(os.environ["PORT"]), access_log=None, print=None, backlog=4096)
