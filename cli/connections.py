"""`bubble connections`: who is connected where, as the connection service knows it.

This is for whoever runs the system: the socket's protocol tells nobody such things, so the connection service is asked by
gRPC, at BUBBLE_CONNECTION_ADDRESS, which only the machines of the system can reach. It checks no token; where the services
ask for certificates, the one of BUBBLE_GRPC_CERT is shown.
"""

import os
import time
from typing import Any

import grpc
from pydantic import ValidationError
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from cli import human, output
from cli.errors import ExitCode, Problem, Unreachable
from cli.screen import colour
from proto.connection.v1 import connection_pb2, connection_pb2_grpc
from runtime import text
from runtime.grpc_client import open_channel
from runtime.settings import ProcessSettings, describe

DEADLINE = 5.0
"""Seconds the service may take."""

MOST_USERS = 64
"""So many users may be asked for at once (proto/connection/v1)."""


async def show(users: list[str], address: str | None, *, as_json: bool) -> None:
    """Prints the connections of users; without an address, by the settings that an edge would use here. Raises Problem."""
    for user in users:
        problem = text.problem_with_id(user)
        if problem:
            raise Problem(f"A user {problem}.", code=ExitCode.USAGE)
    if len(users) > MOST_USERS:
        raise Problem(f"At most {MOST_USERS} users can be asked for at once.", code=ExitCode.USAGE)
    found = sorted(
        await _ask(users, address or _configured_address()), key=lambda each: (each.user_id, each.registered_at_us)
    )
    if as_json:
        output.print_json({"connections": [_described(each) for each in found]})
        return
    console = output.Terminal(highlight=False)
    if not found:
        console.print(Text(f"No connections of {', '.join(users)}."))
        return
    console.print(_table(found, time.time_ns() // 1_000))


def _configured_address() -> str:
    port = os.environ.get("BUBBLE_CONNECTION_PORT") or "50053"  # of the system that `make run` runs here
    return os.environ.get("BUBBLE_CONNECTION_ADDRESS") or f"127.0.0.1:{port}"


async def _ask(users: list[str], address: str) -> list[connection_pb2.Connection]:
    hint = (
        "Connections are known inside the system only: run this where the connection service can be reached, "
        "with BUBBLE_CONNECTION_ADDRESS=host:port. Outside, `bubble watch` shows what there is to see."
    )
    try:
        channel = open_channel(address, ProcessSettings().tls)
    except ValidationError as error:
        raise Problem(f"{describe(error)}.", code=ExitCode.USAGE) from error
    except ValueError as error:
        raise Problem(f"BUBBLE_CONNECTION_ADDRESS: {error}.", code=ExitCode.USAGE) from error
    async with channel:
        stub = connection_pb2_grpc.ConnectionServiceStub(channel)
        request = connection_pb2.ListConnectionsRequest(user_ids=users)
        try:
            # A person does not want to wait for a service that does not run; a restart they can repeat by hand.
            response = await stub.ListConnections(request, timeout=DEADLINE, wait_for_ready=False)
        except grpc.aio.AioRpcError as error:
            why = "does not answer" if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED else "can't be reached"
            if error.code() not in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE):
                raise Problem(f"The connection service at {address} refused: {error.details()}.") from error
            raise Unreachable(f"The connection service at {address} {why}.", hint=hint) from error
    return list(response.connections)


def _described(connection: connection_pb2.Connection) -> dict[str, Any]:
    return {
        "connectionId": connection.connection_id,
        "userId": connection.user_id,
        "deviceId": connection.device_id,
        "edgeId": connection.edge_id,
        "registeredAt": output.wire_time(connection.registered_at_us),
    }


def _table(connections: list[connection_pb2.Connection], now: int) -> Table:
    result = Table(header_style="bold", box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for column in ("user", "device", "for", "edge", "connection"):
        result.add_column(column, overflow="ellipsis", no_wrap=True)
    for each in connections:
        result.add_row(
            Text(human.printable(each.user_id), style=colour(each.user_id)),
            Text(human.printable(each.device_id)),
            Text(human.span(max(now - each.registered_at_us, 0))),
            Text(human.printable(each.edge_id)),
            Text(each.connection_id, style="dim"),
        )
    return result
