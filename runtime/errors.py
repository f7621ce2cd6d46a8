"""The errors of the domain, and the one mapping from them to gRPC.

A fault of one item of a batch travels as `bubble.common.v1.Error` inside the response; a fault of a whole call travels as
a gRPC status, set by the interceptor in `runtime.grpc_server`. What a client reads is the edge's business
(`edge/errors.py`).
"""

import time
from collections.abc import Sized
from typing import ClassVar

import grpc

from proto.common.v1 import common_pb2

_TOO_LARGE = "larger than max"
"""gRPC's own words, and so ours for the same."""


class BubbleError(Exception):
    """Something that was refused for a reason its sender may be told.

    `message` is one English sentence without secrets; `field` names the part of the request at fault, as clients spell it.
    """

    code: ClassVar[common_pb2.ErrorCode.ValueType] = common_pb2.ERROR_CODE_INTERNAL
    status: ClassVar[grpc.StatusCode] = grpc.StatusCode.INTERNAL

    def __init__(self, message: str, *, field: str = "", retry_after_ms: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.retry_after_ms = retry_after_ms

    def to_proto(self) -> common_pb2.Error:
        """The error as one item's answer."""
        return common_pb2.Error(
            code=self.code, message=self.message, field=self.field, retry_after_ms=self.retry_after_ms
        )


class InvalidArgument(BubbleError):
    """The request itself is wrong; sending it again is useless."""

    code = common_pb2.ERROR_CODE_INVALID_ARGUMENT
    status = grpc.StatusCode.INVALID_ARGUMENT


class PermissionDenied(BubbleError):
    """The thing exists and is not the caller's to see or change."""

    code = common_pb2.ERROR_CODE_PERMISSION_DENIED
    status = grpc.StatusCode.PERMISSION_DENIED


class NotFound(BubbleError):
    """There is no such thing."""

    code = common_pb2.ERROR_CODE_NOT_FOUND
    status = grpc.StatusCode.NOT_FOUND


class Conflict(BubbleError):
    """The request was made for another version of the thing."""

    code = common_pb2.ERROR_CODE_CONFLICT
    status = grpc.StatusCode.FAILED_PRECONDITION


class LimitReached(BubbleError):
    """A limit of a user or timer is reached until something else is removed."""

    code = common_pb2.ERROR_CODE_LIMIT_REACHED
    status = grpc.StatusCode.RESOURCE_EXHAUSTED


class Overloaded(BubbleError):
    """Too much is under way. Nothing was done; trying again after `retry_after_ms` is worthwhile."""

    code = common_pb2.ERROR_CODE_OVERLOADED
    status = grpc.StatusCode.RESOURCE_EXHAUSTED

    def __init__(self, message: str, *, retry_after_ms: int = 1_000) -> None:
        super().__init__(message, retry_after_ms=retry_after_ms)


class TooLarge(BubbleError):
    """The answer to all of a batch would be larger than a message may be; a smaller batch may do."""

    code = common_pb2.ERROR_CODE_OVERLOADED
    status = grpc.StatusCode.RESOURCE_EXHAUSTED

    def __init__(self) -> None:
        super().__init__(f"The answer would be {_TOO_LARGE}")


class Unavailable(BubbleError):
    """Something this process depends on can't be reached. What was asked for may have happened."""

    code = common_pb2.ERROR_CODE_OVERLOADED
    status = grpc.StatusCode.UNAVAILABLE

    def __init__(self, message: str, *, retry_after_ms: int = 1_000) -> None:
        super().__init__(message, retry_after_ms=retry_after_ms)


def code_name(code: common_pb2.ErrorCode.ValueType) -> str:
    """A code as traces name it."""
    return common_pb2.ErrorCode.Name(code).removeprefix("ERROR_CODE_").lower()


def check_size(items: Sized, most: int) -> None:
    """Raises InvalidArgument when a batch is too long."""
    if len(items) > most:
        raise InvalidArgument(f"At most {most} items in a batch")


def check_in_time(deadline: float) -> None:
    """Raises Unavailable after a moment of the monotonic clock."""
    if time.monotonic() > deadline:
        raise Unavailable("This took too long, and was not done")


def is_too_large(error: grpc.aio.AioRpcError) -> bool:
    """Whether a call failed because its request or its answer is larger than a message may be. Other exhaustion does not go away
    with less in a call.
    """
    return error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and _TOO_LARGE in (error.details() or "")


def may_be_one_items_fault(error: BaseException) -> bool:
    """Whether a batch may have failed for one of its items, or for being too large: smaller ones may do better."""
    if not isinstance(error, grpc.aio.AioRpcError):
        return False
    return is_too_large(error) or error.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.INVALID_ARGUMENT)


def brief(error: BaseException) -> str:
    """An error in one line, for a log."""
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return str(error) or repr(error)


INTERNAL = common_pb2.Error(code=common_pb2.ERROR_CODE_INTERNAL, message="Internal server error")
"""The answer to whatever nobody expected. The log has the rest."""
