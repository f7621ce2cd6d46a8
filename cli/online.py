"""What all commands that talk to a system share: their options, their errors, their exit codes."""

import asyncio
import inspect
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, TypeVar

import typer

from cli.errors import ExitCode, Problem

Url = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Address of the system. Else BUBBLE_URL, the config file, http://127.0.0.1:8080."),
]
Token = Annotated[
    str | None, typer.Option(metavar="TOKEN", help="Token that says who you are. Else BUBBLE_TOKEN, the config file.")
]
User = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Who to be on a development system, which needs no token. Else BUBBLE_USER, your log-in name.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, errors too.")]

_SHARED = {"url": Url, "token": Token, "user": User}

Result = TypeVar("Result")


def online(function: Callable[..., Coroutine[Any, Any, int | None]]) -> Callable[..., None]:
    """Makes a command of `async def f(access, ..., *, as_json)`: the options that say where and who come instead of
    `access`, and whatever goes wrong becomes a sentence and an exit code.
    """

    def command(*, url: str | None, token: str | None, user: str | None, as_json: bool, **arguments: Any) -> None:
        def run() -> int | None:
            from cli import access

            place = access.find(url=url, token=token, user=user)
            return run_async(function(place, **arguments, as_json=as_json))

        finish(run, as_json=as_json)

    own = [
        parameter
        for parameter in inspect.signature(function).parameters.values()
        if parameter.name not in ("access", "as_json")
    ]
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in _SHARED.items()
    ]
    as_json = inspect.Parameter("as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Json)
    # Typer reads the signature, and the annotations on their own.
    parameters = [*own, *shared, as_json]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # typing knows no such thing
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__name__, command.__doc__ = function.__name__, function.__doc__
    return command


def run_async(work: Coroutine[Any, Any, Result]) -> Result:
    """Runs it to its end. Ctrl-C and SIGTERM end it early, but in order: a terminal is left as it was."""

    async def main() -> Result:
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(work)
        if hasattr(signal, "SIGTERM") and sys.platform != "win32":
            loop.add_signal_handler(signal.SIGTERM, task.cancel, _TERMINATED)
        try:
            return await task
        except asyncio.CancelledError as error:
            if error.args == (_TERMINATED,):
                raise SystemExit(128 + signal.SIGTERM) from None
            raise
        finally:
            task.cancel()  # Ctrl-C cancels us, not it
            await asyncio.gather(task, return_exceptions=True)

    return asyncio.run(main())


_TERMINATED = "SIGTERM"


def finish(run: Callable[[], int | None], *, as_json: bool) -> None:
    """Runs a command and ends with its exit code."""
    try:
        code = run() or ExitCode.DONE
        sys.stdout.flush()
    except Problem as problem:
        from cli.output import print_problem

        print_problem(problem, as_json=as_json)
        code = problem.code
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    except BrokenPipeError:
        from cli.output import nobody_reads

        nobody_reads()
        code = ExitCode.DONE
    raise typer.Exit(code)
