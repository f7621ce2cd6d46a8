"""What goes wrong, as a person reads it: a sentence, a hint, and the exit code of the process. docs/cli.md has the table."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What the process ends with. 2 is what typer ends with when a command line makes no sense."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    TOKEN = 4
    NOT_FOUND = 5
    NOT_YOURS = 6
    BUSY = 7
    INTERRUPTED = 130


MEANINGS = {
    ExitCode.DONE: "done",
    ExitCode.FAILED: "refused for another reason than those below, or `doctor` or `load` found something wrong",
    ExitCode.USAGE: "the command line or the configuration makes no sense",
    ExitCode.UNREACHABLE: "the server can't be reached, or does not answer",
    ExitCode.TOKEN: "the token is missing, wrong or has expired",
    ExitCode.NOT_FOUND: "there is no such timer, or the name fits several",
    ExitCode.NOT_YOURS: "the timer is not yours, or only its owner may do that",
    ExitCode.BUSY: "too many requests, or the server is overloaded: later, it may work",
    ExitCode.INTERRUPTED: "Ctrl-C",
}


class Problem(Exception):
    """A command can't be done. `message` is one sentence; `hint`, which may be empty, says what to do about it."""

    def __init__(self, message: str, *, hint: str = "", code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code


class Unreachable(Problem):
    """There is no connection to be had, for now."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint, code=ExitCode.UNREACHABLE)


class BadToken(Problem):
    """The server does not take the token, and never will."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint, code=ExitCode.TOKEN)


class Busy(Problem):
    """The server takes no more for now. `retry_after` in seconds, as the server said."""

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        hint = f"Try again in {max(round(retry_after), 1)} s."
        super().__init__(message, hint=hint, code=ExitCode.BUSY)
        self.retry_after = retry_after


class NoSuchTimer(Problem):
    """No timer has that name or id."""

    def __init__(self, what: str, *, hint: str) -> None:
        super().__init__(f"There is no timer “{what}”.", hint=hint, code=ExitCode.NOT_FOUND)


class NoName(Problem):
    """A timer is to be named, and the name is empty."""

    def __init__(self) -> None:
        super().__init__(
            "The timer's name is empty.", hint="Is it a variable of your shell that is not set?", code=ExitCode.USAGE
        )


def refusal(code: int, error: str, *, field: str = "", retry_after: float = 0.0, trace_id: str = "") -> Problem:
    """What the server's error reply to a command means. `code`, `error` and the rest: docs/protocol.md, "Errors"."""
    sentence = error.rstrip(".") + "."
    match code:
        case 400 | 403 if field == "invitation":
            exit_code = ExitCode.USAGE if code == 400 else ExitCode.NOT_YOURS
            return Problem(sentence, hint="Ask whoever sent the link for a new one.", code=exit_code)
        case 401:
            return BadToken(sentence, hint="Get a new token, and set it with --token, BUBBLE_TOKEN or the config file.")
        case 403:
            # Told to members, of what only the owner may, and to strangers: the server says which.
            hint = "Who sees a timer is up to its owner: `bubble list` shows who that is." if field == "timerId" else ""
            return Problem(sentence, hint=hint, code=ExitCode.NOT_YOURS)
        case 404 if field:
            return Problem(
                sentence,
                hint="It may have been stopped a moment ago: `bubble list` shows what there is.",
                code=ExitCode.NOT_FOUND,
            )
        case 409:
            return Problem(
                f"Somebody else changed it at the same moment: {sentence}", hint="Look at it, and try again."
            )
        case 429 | 503:
            return Busy(sentence, retry_after=retry_after)
        case 500 if trace_id:  # the only one that a log always has (docs/operations.md, "Logs")
            return Problem(sentence, hint=f"Whoever runs the system finds it in the log under the trace {trace_id}.")
    return Problem(sentence)
