"""Two edges and two of each service: what must hold across them."""

import asyncio
from collections.abc import Callable

import grpc
import pytest

from proto.connection.v1 import connection_pb2, connection_pb2_grpc
from tests.faults.conftest import SystemWith
from tests.faults.system import System
from tests.system.client import Client

Unique = Callable[[str], str]

MOST = 3

REAPED_WITHIN = 60.0
"""Seconds: a lease lasts 15 and orphans are looked for every 15; the rest is for busy machines."""


async def _enter(port: int, user: str, device: str) -> Client | None:
    """A connected client; None when the user has too many connections."""
    client = Client(port, user, device)
    try:
        await client.__aenter__()
    except AssertionError as error:
        if "closed 4409" not in str(error):
            raise
        return None
    return client


async def test_a_users_limit_holds_across_replicas_and_a_dead_edges_places_come_back(
    system_with: SystemWith, unique: Unique, mongodb_uri: str
) -> None:
    ann = unique("ann")
    async with system_with(BUBBLE_MAX_CONNECTIONS_PER_USER=str(MOST)) as system:
        ports = system.edge_ports()
        if len(ports) < 2:
            pytest.skip("SQLite has one of each")
        storm = await asyncio.gather(*(_enter(ports[number % 2], ann, f"device-{number}") for number in range(12)))
        inside = [client for client in storm if client is not None]
        assert len(inside) <= MOST
        while len(inside) < MOST:  # of several that race for the last place, all may be refused
            inside += [client for client in [await _enter(ports[0], ann, "late")] if client is not None]
        for port in ports:
            assert await _enter(port, ann, "one too many") is None
        for client in inside:
            await client.__aexit__(None, None, None)
        # All at the edge that is to die; the rows of those who left go soon, not at once.
        async with asyncio.timeout(REAPED_WITHIN):
            inside = []
            while len(inside) < MOST:
                inside += [client for client in [await _enter(ports[0], ann, "again")] if client is not None]
        await system.processes["edge-0"].kill()
        assert await _enter(ports[1], ann, "survivor") is None
        async with asyncio.timeout(REAPED_WITHIN):
            while (survivor := await _enter(ports[1], ann, "survivor")) is None:
                await asyncio.sleep(0.5)
        assert await _edges(system) == 1
        for client in (*inside, survivor):
            await client.__aexit__(None, None, None)


async def _edges(system: System) -> int:
    """How many edges have a lease."""
    port = system.processes[system.running("connection")[0]].port
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = connection_pb2_grpc.ConnectionServiceStub(channel)
        return len((await stub.ListEdges(connection_pb2.ListEdgesRequest(), timeout=5)).edges)
