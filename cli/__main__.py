"""`python -m cli`: the commands."""

import asyncio
import sys
from typing import Annotated

import msgspec
import typer
from pydantic import ValidationError
from rich.console import Console

from cli import doctor as examination
from cli import launcher
from edge.auth import make_token
from edge.config import EdgeSettings
from edge.secret import signing_secret
from runtime.settings import describe

app = typer.Typer(help="Bubble Timer.", no_args_is_help=True, pretty_exceptions_show_locals=False)


@app.command()
def run() -> None:
    """Run the whole system on this machine, with its data in ./data, until Ctrl-C."""
    sys.exit(asyncio.run(launcher.run()))


@app.command()
def token(
    user: Annotated[str, typer.Argument(help="Who the token is for.")],
    hours: Annotated[float, typer.Option(help="How long it is good.")] = 12,
) -> None:
    """Print a development token, signed with the secret that the edge uses in the same environment."""
    try:
        settings = EdgeSettings()
    except ValidationError as error:
        sys.exit(f"wrong settings: {describe(error)}")
    secret = signing_secret(settings)
    if not secret:
        sys.exit("There is no secret to sign with: set BUBBLE_JWT_SECRET, or BUBBLE_DEV=1.")
    typer.echo(make_token(user, secret, lifetime=hours * 3_600, settings=settings))


@app.command()
def doctor(
    at: Annotated[
        list[str] | None,
        typer.Argument(help="HTTP `host:port` of further processes: an edge's port, a service's metrics port."),
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Look at every process: version, health, edges, what is undelivered, and what is wrong. Exits 0 only when all is well."""
    try:
        findings = asyncio.run(examination.examine(at or []))
    except ValidationError as error:
        sys.exit(f"wrong settings: {describe(error)}")
    except ValueError as error:
        sys.exit(str(error))
    well = examination.all_is_well(findings)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode({"well": well, "processes": findings})).decode())
    else:
        examination.show(findings, Console())
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    app()
