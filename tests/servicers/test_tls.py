"""Mutual TLS between processes: who has a certificate of the authority is let in, and nobody else."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from proto.sharing.v1 import sharing_pb2
from runtime import tls
from runtime.grpc_client import open_channel
from runtime.grpc_server import serve
from runtime.healthcheck import Unhealthy, check
from tests.certificates import Authority
from tests.servicers.harness import healthy

SERVICE = sharing_pb2.DESCRIPTOR.services_by_name["SharingService"].full_name


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ours")


@pytest.fixture
async def port(ours: Authority) -> AsyncIterator[int]:
    """Of a server whose certificate is made out to `sharing`."""
    certificate = tls.read(*ours.issue("sharing"))
    async with serve(
        SERVICE, lambda _: None, host="127.0.0.1", port=0, check=healthy, drain_seconds=0.2, tls=certificate
    ) as server:
        yield server.port


async def is_answered(port: int, certificate: tls.Tls | None) -> bool:
    async with open_channel(f"127.0.0.1:{port}", certificate) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        code = await stub.Check(health_pb2.HealthCheckRequest(), timeout=2, wait_for_ready=False).code()
        assert code in (grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE)
        return code is grpc.StatusCode.OK


async def test_who_has_a_certificate_of_the_authority_is_let_in(port: int, ours: Authority) -> None:
    assert await is_answered(port, tls.read(*ours.issue("edge"), "sharing"))


async def test_who_found_the_server_by_its_name_reaches_it_by_its_address(port: int, ours: Authority) -> None:
    assert await is_answered(port, tls.read(*ours.issue("edge")).for_host("sharing"))


async def test_a_server_with_another_name_is_not_believed(port: int, ours: Authority) -> None:
    assert not await is_answered(port, tls.read(*ours.issue("edge"), "timer"))
    assert not await is_answered(port, tls.read(*ours.issue("edge")))  # nor by its address, which it has no name for


async def test_who_shows_no_certificate_is_not_let_in(port: int, ours: Authority) -> None:
    assert not await is_answered(port, None)
    options = [("grpc.ssl_target_name_override", "sharing")]
    authority = grpc.ssl_channel_credentials(ours.issue("edge").authority.read_bytes())
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", authority, options=options) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=2)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_neither_side_believes_another_authority(port: int, ours: Authority, tmp_path: Path) -> None:
    theirs = Authority(tmp_path / "theirs").issue("sharing")
    believes_us = theirs._replace(authority=ours.issue("edge").authority)
    assert not await is_answered(port, tls.read(*theirs, "sharing"))
    assert not await is_answered(port, tls.read(*believes_us, "sharing"))


async def test_the_health_check_shows_a_certificate_and_says_what_is_wrong_with_the_servers(
    port: int, ours: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Unhealthy, match="Socket closed"):
        await asyncio.to_thread(check, f"127.0.0.1:{port}")
    for name, value in ours.issue("edge").environment().items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Unhealthy, match="Hostname Verification Check failed"):
        await asyncio.to_thread(check, f"127.0.0.1:{port}")
    monkeypatch.setenv("BUBBLE_GRPC_NAME", "sharing")
    await asyncio.to_thread(check, f"127.0.0.1:{port}")
    monkeypatch.setenv("BUBBLE_GRPC_KEY", "/nowhere")
    with pytest.raises(Unhealthy, match="/nowhere are no certificate and its key: No such file"):
        await asyncio.to_thread(check, f"127.0.0.1:{port}")
