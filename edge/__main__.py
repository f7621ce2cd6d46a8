"""`python -m edge`: runs one edge."""

import asyncio
from contextlib import AsyncExitStack

from aiohttp import web

from edge import gauges
from edge.app import Edge
from edge.auth import TokenVerifier
from edge.backend import Backend
from edge.close_codes import CloseCode
from edge.config import EdgeSettings
from edge.delivery import Delivery
from edge.hub import Hub
from edge.presence import Presence
from edge.secret import token_secrets
from edge.sessions import Sessions
from edge.tracing import Tracing
from proto.connection.v1 import connection_pb2_grpc
from proto.sharing.v1 import sharing_pb2_grpc
from proto.timer.v1 import timer_pb2_grpc
from runtime import logs
from runtime.exchange import streamed
from runtime.grpc_client import open_channel
from runtime.health import Health, service_check
from runtime.lifecycle import background, run
from runtime.pulse import Pulse
from runtime.telemetry import Telemetry

log = logs.get(__name__)


async def main(settings: EdgeSettings, telemetry: Telemetry, stop: asyncio.Event) -> None:
    async with AsyncExitStack() as stack:
        timers, sharing, connections = [
            await stack.enter_async_context(open_channel(address, settings.tls))
            for address in (settings.timer_address, settings.sharing_address, settings.connection_address)
        ]
        registrar = connection_pb2_grpc.ConnectionServiceStub(connections)
        writer = streamed(timer_pb2_grpc.TimerServiceStub(timers), "Write")
        backend = Backend(writer, sharing_pb2_grpc.SharingServiceStub(sharing), registrar)
        sessions = Sessions()
        delivery = Delivery(sessions, backend, telemetry)
        stack.push_async_callback(delivery.close)
        presence = Presence(
            settings.connection_address,
            settings.tls,
            registrar,
            backend,
            deliver=delivery.deliver,
            supersede=sessions.supersede,
            on_lease_lost=lambda: sessions.close_all(CloseCode.RESTARTING),
        )
        tracing, pulse = Tracing(telemetry, settings), Pulse()
        verifier = TokenVerifier(settings, *token_secrets(settings))
        hub = Hub(settings, verifier, sessions, backend, presence, delivery, tracing, pulse)
        health = Health(
            needs={"connection": presence.check},
            uses={"timer": service_check(timers), "sharing": service_check(sharing)},
        )
        gauges.watch(sessions, presence, delivery)
        stack.push_async_callback(presence.leave)
        await stack.enter_async_context(background(presence.run(), sessions.run(), pulse.run(), health.watch()))
        stack.push_async_callback(backend.close)
        runner = Edge(hub, health, token_secrets(settings)).runner()
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, settings.host, settings.port, backlog=4096)
        await site.start()
        log.info("listening", host=settings.host, port=runner.addresses[0][1])
        await stop.wait()
        # Stop accepting, tell clients to reconnect, finish what is under way; the contexts then close the rest.
        health.drain()
        await site.stop()
        await sessions.drain(settings.drain_seconds / 2)


if __name__ == "__main__":
    run("edge", EdgeSettings, main)
