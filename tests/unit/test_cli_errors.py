"""What a person reads when the server refuses something."""

import pytest

from cli.errors import ExitCode, refusal

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize("code", [400, 403, 404, 409, 413, 418])
def test_nobody_is_sent_to_look_for_what_no_log_has(code: int) -> None:
    assert TRACE not in refusal(code, "No", trace_id=TRACE).hint


def test_a_fault_of_the_server_names_the_trace_that_its_log_has() -> None:
    problem = refusal(500, "Internal server error", trace_id=TRACE)
    assert problem.message == "Internal server error."
    assert f"in the log under the trace {TRACE}" in problem.hint
    assert refusal(500, "Internal server error").hint == ""


@pytest.mark.parametrize("said", ["Only the owner can invite", "The timer is not yours"])
def test_whoever_may_not_is_told_just_what_the_server_said(said: str) -> None:
    problem = refusal(403, said, field="timerId")
    assert (problem.message, problem.code) == (f"{said}.", ExitCode.NOT_YOURS)
    assert "up to its owner" in problem.hint
    assert refusal(403, "This origin may not ask").hint == ""
