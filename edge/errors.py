"""What clients read when something is refused: the one mapping from the errors behind the edge to JSON codes."""

import asyncio
import random

import grpc

from proto.common.v1 import common_pb2
from runtime.errors import BubbleError

MEANINGS = {
    400: "the message is malformed, or a field is missing or wrong",
    401: "the token has expired or is bad",
    403: "not yours to see or change",
    404: "there is no such timer",
    409: "the timer has another version, or was stopped a moment ago",
    413: "the message is too long",
    429: "too many messages, invitations, timers, members or shares",
    500: "something unexpected",
    503: "overloaded, or a part of the system is away",
}
"""Every code that a client can get. docs/protocol.md has the same table."""

_CODES = {
    common_pb2.ERROR_CODE_INVALID_ARGUMENT: 400,
    common_pb2.ERROR_CODE_PERMISSION_DENIED: 403,
    common_pb2.ERROR_CODE_NOT_FOUND: 404,
    common_pb2.ERROR_CODE_CONFLICT: 409,
    common_pb2.ERROR_CODE_LIMIT_REACHED: 429,
    common_pb2.ERROR_CODE_OVERLOADED: 503,
    common_pb2.ERROR_CODE_INTERNAL: 500,
}

_BUSY = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
)


RETRY_AFTER = 1_000
"""Milliseconds: what is overloaded or away is worth another try after this at the earliest."""

_RETRY_SPREAD = 3  # and after so many times this at the latest, drawn for each: or all come back at the same moment


class ClientError(Exception):
    """A refusal as a client reads it. `retry_after_ms` 0: trying again is useless."""

    def __init__(self, code: int, message: str, *, field: str = "", retry_after_ms: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field
        self.retry_after_ms = retry_after_ms


def from_item(error: common_pb2.Error) -> ClientError:
    """The error of one item of a batch."""
    return _client_error(error.code, error.message, error.field, error.retry_after_ms)


def from_exception(error: BaseException) -> ClientError:
    """Whatever a call behind the edge raised."""
    if isinstance(error, ClientError):
        return error
    if isinstance(error, BubbleError):
        return _client_error(error.code, error.message, error.field, error.retry_after_ms)
    if isinstance(error, asyncio.CancelledError | TimeoutError) or (
        isinstance(error, grpc.aio.AioRpcError) and error.code() in _BUSY
    ):
        return busy("The system is busy, please try again")
    return ClientError(500, "Internal server error")


def busy(message: str, retry_after_ms: int = RETRY_AFTER) -> ClientError:
    """503: what was asked for may be asked for again after `retry_after_ms`, or somewhat later."""
    return ClientError(503, message, retry_after_ms=round(retry_after_ms * random.uniform(1, _RETRY_SPREAD)))


def too_many(what: str, wait: float) -> ClientError:
    """429: more came than may; the next one may after so many seconds."""
    return ClientError(429, f"Too many {what}", retry_after_ms=max(round(wait * 1_000), 1))


def _client_error(code: common_pb2.ErrorCode.ValueType, message: str, field: str, retry_after_ms: int) -> ClientError:
    if code == common_pb2.ERROR_CODE_OVERLOADED:
        return busy(message, retry_after_ms or RETRY_AFTER)
    return ClientError(_CODES.get(code, 500), message, field=field, retry_after_ms=retry_after_ms)


def is_expected(error: BaseException) -> bool:
    """Whether an error is one of those that happen in a healthy program; the others belong in the log, whole."""
    return from_exception(error).code != 500
