"""`python -m connection_service`: runs one replica of the connection service."""

import asyncio
from contextlib import AsyncExitStack

from connection_service import gauges
from connection_service.config import ConnectionSettings
from connection_service.domain import LEASE, POLL_INTERVAL
from connection_service.leases import Leases
from connection_service.servicer import ConnectionServicer
from connection_service.store import open_store
from proto.connection.v1 import connection_pb2, connection_pb2_grpc
from runtime.grpc_server import serve
from runtime.health import Health
from runtime.lifecycle import background, forever, run
from runtime.metrics_server import serve_metrics
from runtime.telemetry import Telemetry

SERVICE = connection_pb2.DESCRIPTOR.services_by_name["ConnectionService"].full_name


async def main(settings: ConnectionSettings, telemetry: Telemetry, stop: asyncio.Event) -> None:
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(settings))
        health = Health(needs={"database": store.check})
        await stack.enter_async_context(serve_metrics(health, host=settings.host, port=settings.metrics_port))
        leases = Leases(store)
        sender = None
        if settings.fcm_credentials is not None:
            from connection_service.fcm import FcmSender, read_credentials  # as in its settings

            credentials = read_credentials(settings.fcm_credentials.get_secret_value())
            sender = await stack.enter_async_context(FcmSender(credentials, settings.fcm_url))
        servicer = ConnectionServicer(
            store, leases, telemetry, max_connections_per_user=settings.max_connections_per_user, sender=sender
        )
        if servicer.pushes is not None:
            await stack.enter_async_context(background(servicer.pushes.run()))
        await stack.enter_async_context(
            background(forever(POLL_INTERVAL, servicer.follow_leases), forever(LEASE, leases.remove_orphans))
        )
        await stack.enter_async_context(
            serve(
                SERVICE,
                lambda server: connection_pb2_grpc.add_ConnectionServiceServicer_to_server(servicer, server),
                host=settings.host,
                port=settings.port,
                check=health.check,
                drain_seconds=settings.drain_seconds / 2,
                tls=settings.tls,
            )
        )
        stack.callback(servicer.end_streams)
        gauges.watch(servicer, leases)
        await stop.wait()
        health.drain()


if __name__ == "__main__":
    run("connection", ConnectionSettings, main)
