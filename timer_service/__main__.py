"""`python -m timer_service`: runs one replica of the timer service."""

import asyncio
from contextlib import AsyncExitStack

from proto.connection.v1 import connection_pb2_grpc
from proto.sharing.v1 import sharing_pb2_grpc
from proto.timer.v1 import timer_pb2, timer_pb2_grpc
from runtime.exchange import streamed
from runtime.grpc_client import open_channel
from runtime.grpc_server import serve
from runtime.health import Health, service_check
from runtime.lifecycle import background, forever, run
from runtime.metrics_server import serve_metrics
from runtime.outbox import Relay
from runtime.telemetry import Telemetry
from timer_service.config import TimerSettings
from timer_service.purge import PURGE_INTERVAL, Purge
from timer_service.relay import TimerOutbox
from timer_service.servicer import TimerServicer
from timer_service.store import open_store

SERVICE = timer_pb2.DESCRIPTOR.services_by_name["TimerService"].full_name


async def main(settings: TimerSettings, telemetry: Telemetry, stop: asyncio.Event) -> None:
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(settings))
        channels = [
            await stack.enter_async_context(open_channel(address, settings.tls))
            for address in (settings.sharing_address, settings.connection_address)
        ]
        health = Health(
            needs={"database": store.check},
            uses={"sharing": service_check(channels[0]), "connection": service_check(channels[1])},
        )
        await stack.enter_async_context(serve_metrics(health, host=settings.host, port=settings.metrics_port))
        sharing = streamed(sharing_pb2_grpc.SharingServiceStub(channels[0]), "Authorize")
        connections = streamed(connection_pb2_grpc.ConnectionServiceStub(channels[1]), "Deliver")
        relay = Relay(TimerOutbox(store, sharing), connections, telemetry)
        purge = Purge(store, sharing)
        await stack.enter_async_context(background(relay.run(), forever(PURGE_INTERVAL, purge.step)))
        stack.push_async_callback(relay.drain, settings.drain_seconds / 2)
        servicer = TimerServicer(store, sharing, relay, telemetry, max_timers_per_user=settings.max_timers_per_user)
        await stack.enter_async_context(
            serve(
                SERVICE,
                lambda server: timer_pb2_grpc.add_TimerServiceServicer_to_server(servicer, server),
                host=settings.host,
                port=settings.port,
                check=health.check,
                drain_seconds=settings.drain_seconds / 2,
                tls=settings.tls,
            )
        )
        await stop.wait()
        health.drain()


if __name__ == "__main__":
    run("timer", TimerSettings, main)
