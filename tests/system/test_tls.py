"""A system whose processes talk over mutual TLS."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.certificates import Authority
from tests.system.client import Client
from tests.system.cluster import Cluster
from tests.system.shell import Shell

pytestmark = pytest.mark.one_store


async def test_with_certificates_everything_works_and_nobody_without_one_is_answered(
    own_cluster: Callable[..., Awaitable[Cluster]], unique: Callable[[str], str], tmp_path: Path
) -> None:
    certificates = Authority(tmp_path / "authority").issue("bubble.internal").environment()
    certificates["BUBBLE_GRPC_NAME"] = "bubble.internal"
    cluster = await own_cluster(**certificates)
    other_edge = await cluster.start_another_edge()
    address = f"127.0.0.1:{cluster.processes['connection'].port}"
    shell = Shell(tmp_path, {"BUBBLE_CONNECTION_ADDRESS": address})
    async with (
        Client(cluster.edge_port, unique("alice"), "phone") as alice,
        Client(other_edge, unique("bob"), "phone") as bob,
    ):
        timer_id = unique("tea")
        await alice.done(type="timer", action="update", timer={"id": timer_id, "name": "Tea"})
        await alice.done(type="share", action="add", timerId=timer_id, sharedWithUser=bob.user)
        await bob.expect(lambda message: message.get("type") == "share" and message["timerId"] == timer_id)
        await alice.done(type="timer", action="stop", timerId=timer_id)
        await bob.expect(lambda message: message.get("action") == "stop" and message["timerId"] == timer_id)
        shown = await shell.done("connections", bob.user, "--json", **certificates)
        assert [each["deviceId"] for each in shown.data["connections"]] == ["phone"]
        assert "can't be reached" in (await shell.run("connections", bob.user)).err
    async with grpc.aio.insecure_channel(address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=2)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert cluster.crashes() == []
