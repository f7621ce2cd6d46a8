"""A service on a free port, and what stands for the services behind it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar, cast

import grpc
from grpc.aio import AioRpcError, Metadata

from proto.event.v1 import event_pb2
from proto.sharing.v1 import sharing_pb2, sharing_pb2_grpc
from runtime.grpc_server import GrpcServer, serve
from runtime.health import Check
from runtime.outbox import Relay

Change = TypeVar("Change")


async def healthy() -> None:
    """A health check that finds nothing wrong."""


@asynccontextmanager
async def serving(
    service: str,
    register: Callable[[grpc.aio.Server], None],
    *,
    check: Check = healthy,
    drain_seconds: float = 0.2,
) -> AsyncIterator[tuple[GrpcServer, grpc.aio.Channel]]:
    """A server on a free port and a plain channel to it, one that repeats nothing."""
    async with serve(service, register, host="127.0.0.1", port=0, check=check, drain_seconds=drain_seconds) as server:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=options) as channel:
            yield server, channel


def rpc_error(code: grpc.StatusCode, details: str = "10.0.0.7 is away") -> AioRpcError:
    """What a stub raises when the service behind it fails."""
    return AioRpcError(code, Metadata(), Metadata(), details=details, debug_error_string="")


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Waits until something is so. Raises TimeoutError when it never is."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


class RecordingRelay(Generic[Change]):
    """Remembers what it was offered."""

    def __init__(self) -> None:
        self.offered: list[Change] = []

    def offer(self, change: Change) -> None:
        self.offered.append(change)

    @property
    def as_relay(self) -> Relay[Change]:
        return cast("Relay[Change]", self)


class FakeSharing:
    """The sharing service in memory: owners and members, and calls that fail as told."""

    def __init__(self) -> None:
        self.audiences: dict[str, event_pb2.Audience] = {}
        self.failure: Exception | None = None
        self.cuts_short = True
        """Whether it can, as those of older releases can not."""
        self.asked: list[Any] = []

    @property
    def as_stub(self) -> "sharing_pb2_grpc.SharingServiceAsyncStub":
        return cast("sharing_pb2_grpc.SharingServiceAsyncStub", self)

    def share(self, timer_id: str, *members: str, owner: str = "alice", version: int = 1) -> None:
        self.audiences[timer_id] = event_pb2.Audience(owner_id=owner, member_ids=members, version=version)

    async def Authorize(
        self, request: sharing_pb2.AuthorizeRequest, *, timeout: float
    ) -> sharing_pb2.AuthorizeResponse:
        self._reach(request, timeout)
        response = sharing_pb2.AuthorizeResponse()
        for item in request.items:
            if item.claim and item.timer_id not in self.audiences:
                self.share(item.timer_id, owner=item.user_id)
            audience = self.audiences.get(item.timer_id)
            if audience is None:
                response.results.add()
            else:
                response.results.add(role=_role(audience, item.user_id), audience=audience)
        return response

    async def GetAudience(
        self, request: sharing_pb2.GetAudienceRequest, *, timeout: float
    ) -> sharing_pb2.GetAudienceResponse:
        self._reach(request, timeout)
        response = sharing_pb2.GetAudienceResponse()
        for timer_id in request.timer_ids:
            audience = response.audiences.add()
            audience.CopyFrom(self.audiences.get(timer_id, event_pb2.Audience()))
            if request.most_bytes and audience.ByteSize() > request.most_bytes and self.cuts_short:
                audience.member_ids[:] = [request.user_id]
        return response

    async def ListShared(
        self, request: sharing_pb2.ListSharedRequest, *, timeout: float
    ) -> sharing_pb2.ListSharedResponse:
        self._reach(request, timeout)
        return sharing_pb2.ListSharedResponse(
            results=[
                sharing_pb2.SharedTimers(
                    timers=[
                        sharing_pb2.TimerAccess(
                            timer_id=timer_id, audience=None if request.without_audiences else audience
                        )
                        for timer_id, audience in self.audiences.items()
                        if user in audience.member_ids
                    ]
                )
                for user in request.user_ids
            ]
        )

    async def Release(self, request: sharing_pb2.ReleaseRequest, *, timeout: float) -> sharing_pb2.ReleaseResponse:
        self._reach(request, timeout)
        for timer_id in request.timer_ids:
            self.audiences.pop(timer_id, None)
        return sharing_pb2.ReleaseResponse()

    def _reach(self, request: Any, timeout: float) -> None:
        assert timeout > 0, "a call without a deadline"
        self.asked.append(request)
        if self.failure is not None:
            raise self.failure


def _role(audience: event_pb2.Audience, user_id: str) -> sharing_pb2.Role.ValueType:
    if user_id == audience.owner_id:
        return sharing_pb2.ROLE_OWNER
    return sharing_pb2.ROLE_MEMBER if user_id in audience.member_ids else sharing_pb2.ROLE_STRANGER


def kinds(results: Sequence[Any]) -> list[str | None]:
    """Which of its alternatives each result is."""
    return [result.WhichOneof("result") for result in results]
