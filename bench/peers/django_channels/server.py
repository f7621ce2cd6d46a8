"""Django Channels on uvicorn with uvloop: groups, SQLite before the acknowledgement, Redis between processes.

One file, as small Django projects may be. The ORM is left out, in favour of Channels: it would commit each update alone.
"""

import json
import os
from typing import Any
from urllib.parse import parse_qs

import django
import jwt
from django.conf import settings

settings.configure(
    SECRET_KEY=os.environ["SECRET"],
    INSTALLED_APPS=["channels"],
    ALLOWED_HOSTS=["127.0.0.1"],
    CHANNEL_LAYERS={
        "default": {
            "BACKEND": os.environ.get("CHANNEL_LAYER", "channels_redis.pubsub.RedisPubSubChannelLayer"),
            "CONFIG": {"hosts": [os.environ["REDIS_URL"]]},
        }
    },
)
django.setup()

from channels.exceptions import DenyConnection  # noqa: E402  # Django wants its settings first
from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.urls import path  # noqa: E402
from store import Store  # noqa: E402

store = Store(os.environ["DATABASE"])


class TimerConsumer(AsyncWebsocketConsumer):
    """One device."""

    async def connect(self) -> None:
        token = parse_qs(self.scope["query_string"].decode())["token"][0]
        try:
            claims = jwt.decode(token, os.environ["SECRET"], algorithms=["HS256"])
        except jwt.InvalidTokenError as error:
            raise DenyConnection from error
        self.user, self.group = claims["sub"], claims["group"]
        await self.channel_layer.group_add(self.group, self.channel_name)
        await self.accept()
        await self.send('{"type":"connected"}')

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(self.group, self.channel_name)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        message = json.loads(text_data or "")
        timer = message["timer"]
        version = await store.save(self.user, timer)
        reply = {"status": "processed", "timerId": timer["id"], "version": version, "messageId": message["messageId"]}
        await self.send(json.dumps(reply, separators=(",", ":")))
        state = {
            "type": "timer",
            "action": "update",
            "timer": {**timer, "version": version},
            "changedBy": self.user,
            "messageId": message["messageId"],
        }
        text = json.dumps(state, separators=(",", ":"))
        await self.channel_layer.group_send(
            self.group, {"type": "timer.state", "text": text, "sender": self.channel_name}
        )

    async def timer_state(self, event: dict[str, Any]) -> None:
        if event["sender"] != self.channel_name:
            await self.send(event["text"])


application = ProtocolTypeRouter({"websocket": URLRouter([path("ws", TimerConsumer.as_asgi())])})
