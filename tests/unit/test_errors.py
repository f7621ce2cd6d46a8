"""`runtime/errors.py` and `edge/errors.py`: every error has one gRPC status and one code that clients read."""

import asyncio

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata

from edge import errors
from edge.errors import ClientError, from_exception, from_item, is_expected
from proto.common.v1 import common_pb2
from runtime.errors import (
    INTERNAL,
    BubbleError,
    Conflict,
    InvalidArgument,
    LimitReached,
    NotFound,
    Overloaded,
    PermissionDenied,
    TooLarge,
    Unavailable,
)


def rpc_error(code: grpc.StatusCode) -> AioRpcError:
    return AioRpcError(code, Metadata(), Metadata(), details="the secret host is 10.0.0.7", debug_error_string="")


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (InvalidArgument("wrong"), grpc.StatusCode.INVALID_ARGUMENT, 400),
        (PermissionDenied("wrong"), grpc.StatusCode.PERMISSION_DENIED, 403),
        (NotFound("wrong"), grpc.StatusCode.NOT_FOUND, 404),
        (Conflict("wrong"), grpc.StatusCode.FAILED_PRECONDITION, 409),
        (LimitReached("wrong"), grpc.StatusCode.RESOURCE_EXHAUSTED, 429),
        (Overloaded("wrong"), grpc.StatusCode.RESOURCE_EXHAUSTED, 503),
        (TooLarge(), grpc.StatusCode.RESOURCE_EXHAUSTED, 503),
        (Unavailable("wrong"), grpc.StatusCode.UNAVAILABLE, 503),
        (BubbleError("wrong"), grpc.StatusCode.INTERNAL, 500),
    ],
)
def test_each_error_of_the_domain_has_one_status_and_one_code(
    error: BubbleError, status: grpc.StatusCode, code: int
) -> None:
    assert error.status is status
    assert from_exception(error).code == code
    assert from_item(error.to_proto()).code == code


def test_an_error_keeps_its_message_field_and_delay_on_its_way_to_the_client() -> None:
    error = from_item(LimitReached("Too many", field="timerId", retry_after_ms=60_000).to_proto())
    assert (error.code, error.message, error.field, error.retry_after_ms) == (429, "Too many", "timerId", 60_000)


def test_those_who_are_refused_together_do_not_all_come_back_together() -> None:
    moments = {from_exception(Overloaded("x")).retry_after_ms for _ in range(100)}
    assert len(moments) > 50
    assert 1_000 <= min(moments) < max(moments) <= 3_000


def test_an_overload_that_names_no_time_gets_one() -> None:
    assert from_item(Overloaded("x", retry_after_ms=0).to_proto()).retry_after_ms >= 1_000


@pytest.mark.parametrize("error", [Overloaded("x"), Unavailable("x")])
def test_what_may_pass_says_when_to_try_again(error: BubbleError) -> None:
    assert from_exception(error).retry_after_ms > 0


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
    ],
)
def test_a_service_that_is_away_is_503_and_worth_another_try(code: grpc.StatusCode) -> None:
    error = from_exception(rpc_error(code))
    assert error.code == 503
    assert error.retry_after_ms >= 1_000
    assert "10.0.0.7" not in error.message


@pytest.mark.parametrize("error", [TimeoutError(), asyncio.CancelledError()])
def test_an_answer_that_does_not_come_is_503(error: BaseException) -> None:
    assert from_exception(error).code == 503


@pytest.mark.parametrize(
    "error",
    [
        rpc_error(grpc.StatusCode.INTERNAL),
        rpc_error(grpc.StatusCode.UNKNOWN),
        rpc_error(grpc.StatusCode.UNIMPLEMENTED),
        rpc_error(grpc.StatusCode.INVALID_ARGUMENT),
        KeyError("token"),
        ValueError("mongodb://admin:password@10.0.0.7"),
    ],
)
def test_whatever_nobody_expected_is_a_bare_500(error: Exception) -> None:
    refusal = from_exception(error)
    assert (refusal.code, refusal.message, refusal.field) == (500, "Internal server error", "")
    assert not is_expected(error)


def test_an_unknown_kind_of_a_newer_service_is_500() -> None:
    assert from_item(common_pb2.Error(message="new")).code == 500
    assert from_item(INTERNAL).message == "Internal server error"


def test_a_refusal_for_clients_passes_unchanged() -> None:
    refusal = ClientError(413, "long")
    assert from_exception(refusal) is refusal
    assert is_expected(refusal)


def test_every_code_that_errors_are_mapped_to_has_a_meaning() -> None:
    kinds = [kind for kind in common_pb2.ErrorCode.values() if kind != common_pb2.ERROR_CODE_UNSPECIFIED]
    codes = {from_item(common_pb2.Error(code=kind)).code for kind in kinds}
    assert codes <= set(errors.MEANINGS)
    assert len(codes) == len(kinds)
