"""`python -m sharing_service`: runs one replica of the sharing service."""

import asyncio
from contextlib import AsyncExitStack

from proto.connection.v1 import connection_pb2_grpc
from proto.sharing.v1 import sharing_pb2, sharing_pb2_grpc
from runtime.grpc_client import open_channel
from runtime.grpc_server import serve
from runtime.health import Health, service_check
from runtime.lifecycle import background, run
from runtime.metrics_server import serve_metrics
from runtime.outbox import Relay
from runtime.telemetry import Telemetry
from sharing_service.config import SharingSettings
from sharing_service.relay import ShareOutbox
from sharing_service.servicer import SharingServicer
from sharing_service.store import open_store

SERVICE = sharing_pb2.DESCRIPTOR.services_by_name["SharingService"].full_name


async def main(settings: SharingSettings, telemetry: Telemetry, stop: asyncio.Event) -> None:
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(settings))
        channel = await stack.enter_async_context(open_channel(settings.connection_address, settings.tls))
        health = Health(needs={"database": store.check}, uses={"connection": service_check(channel)})
        await stack.enter_async_context(serve_metrics(health, host=settings.host, port=settings.metrics_port))
        relay = Relay(ShareOutbox(store), connection_pb2_grpc.ConnectionServiceStub(channel), telemetry)
        await stack.enter_async_context(background(relay.run()))
        stack.push_async_callback(relay.drain, settings.drain_seconds / 2)
        servicer = SharingServicer(
            store,
            relay,
            telemetry,
            max_members_per_timer=settings.max_members_per_timer,
            max_shares_per_user=settings.max_shares_per_user,
        )
        await stack.enter_async_context(
            serve(
                SERVICE,
                lambda server: sharing_pb2_grpc.add_SharingServiceServicer_to_server(servicer, server),
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
    run("sharing", SharingSettings, main)
