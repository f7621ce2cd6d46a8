"""`bubble`: the commands. What they do is in the other files, which are loaded when they are needed: a person who types a
command does not want to wait for what it does not use.
"""

import io
import itertools
import re
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from cli.access import Access
from cli.completion import complete_timer
from cli.online import Json, Token, Url, User, finish, online, run_async
from runtime.version import VERSION

app = typer.Typer(
    help="Bubble Timer: timers that are the same on every device of everybody who shares them.",
    epilog="Times are written like 25m, 1h30m, 90s or PT25M. Timers are named by their name, or by the beginning of their id.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Which = Annotated[
    str,
    typer.Argument(metavar="TIMER", help="A timer's name, or the beginning of its id.", autocompletion=complete_timer),
]
Duration = Annotated[str, typer.Argument(metavar="DURATION", help="Such as 5m, 1h30m, 90s, PT5M.")]

_TIMERS = "Timers"
_SYSTEM = "The system"


class _TakesDuration(TyperCommand):
    """A command with a duration: one below nothing looks like an option, and "No such option: -5" would help nobody."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for argument in itertools.takewhile(lambda each: each != "--", args):
            if re.match(r"-\d", argument):
                raise typer.BadParameter(f"A duration must be longer than nothing, and {argument} is not.", ctx=ctx)
        return super().parse_args(ctx, args)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"bubble {VERSION}")
        raise typer.Exit


@app.callback()
def bubble(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """What the help says of all commands is in `app`."""


@app.command(rich_help_panel=_TIMERS)
@online
async def watch(
    access: Access,
    *,
    bell: Annotated[bool, typer.Option("--bell", help="Ring the terminal's bell when a timer runs out.")] = False,
    for_: Annotated[str | None, typer.Option("--for", metavar="DURATION", help="End by itself after so long.")] = None,
    as_json: bool,
) -> None:
    """Show all timers live, and what others do, until Ctrl-C. With --json: one object a line for each thing that happens."""
    from cli import output
    from cli import watch as live
    from cli.commands import duration_of

    seconds = None if for_ is None else duration_of(for_) / 1e6
    await live.watch(access, output.Terminal(highlight=False), as_json=as_json, bell=bell, seconds=seconds)


@app.command(cls=_TakesDuration, rich_help_panel=_TIMERS)
@online
async def start(
    access: Access,
    timer: Which,
    duration: Annotated[
        str | None, typer.Argument(metavar="DURATION", help="How long it takes; needed for a new timer.")
    ] = None,
    *,
    share: Annotated[
        list[str] | None, typer.Option("--share", "-s", metavar="USER", help="Share it with them; may be repeated.")
    ] = None,
    new: Annotated[bool, typer.Option("--new", help="Make another one, though there is one of that name.")] = False,
    as_json: bool,
) -> None:
    """Start a timer: a new one, or one there is, from its full length."""
    from cli import commands

    await commands.start(access, timer, duration, share or [], another=new, as_json=as_json)


@app.command(rich_help_panel=_TIMERS)
@online
async def pause(access: Access, timer: Which, *, as_json: bool) -> None:
    """Pause a timer, for everybody."""
    from cli import commands

    await commands.intent(access, timer, "pause", as_json=as_json)


@app.command(rich_help_panel=_TIMERS)
@online
async def resume(access: Access, timer: Which, *, as_json: bool) -> None:
    """Let a paused timer run on."""
    from cli import commands

    await commands.intent(access, timer, "resume", as_json=as_json)


@app.command(cls=_TakesDuration, rich_help_panel=_TIMERS)
@online
async def extend(access: Access, timer: Which, by: Duration, *, as_json: bool) -> None:
    """Give a timer more time. When two people do that at once, both count."""
    from cli import commands

    await commands.intent(access, timer, "extend", by, as_json=as_json)


@app.command(rich_help_panel=_TIMERS)
@online
async def stop(
    access: Access,
    timers: Annotated[
        list[str],
        typer.Argument(metavar="TIMER", help="Names, or beginnings of ids.", autocompletion=complete_timer),
    ],
    *,
    as_json: bool,
) -> None:
    """Stop timers, for everybody: they are gone."""
    from cli import commands

    await commands.stop(access, timers, as_json=as_json)


@app.command(rich_help_panel=_TIMERS)
@online
async def share(
    access: Access,
    timer: Which,
    users: Annotated[list[str], typer.Argument(metavar="USER", help="Who is to see it.")],
    *,
    as_json: bool,
) -> None:
    """Share a timer of yours: they see it, and may pause, extend and stop it."""
    from cli import commands

    await commands.share(access, timer, users, add=True, as_json=as_json)


@app.command(rich_help_panel=_TIMERS)
@online
async def invite(access: Access, timer: Which, *, as_json: bool) -> None:
    """Print a link to a timer of yours: for a day, whoever has it can join."""
    from cli import commands

    await commands.invite(access, timer, as_json=as_json)


@app.command(rich_help_panel=_TIMERS)
@online
async def join(
    access: Access,
    link: Annotated[str, typer.Argument(metavar="LINK", help="As `bubble invite` and the page make them.")],
    *,
    as_json: bool,
) -> None:
    """Join a timer by a link. Everybody who sees the timer sees your name then."""
    from cli import commands

    await commands.join(access, link, as_json=as_json)


@app.command(rich_help_panel=_TIMERS)
@online
async def revoke(
    access: Access,
    timer: Which,
    users: Annotated[list[str], typer.Argument(metavar="USER", help="Who is to see it no longer.")],
    *,
    as_json: bool,
) -> None:
    """Take a timer of yours away from others; or leave one, by naming yourself."""
    from cli import commands

    await commands.share(access, timer, users, add=False, as_json=as_json)


@app.command("list", rich_help_panel=_TIMERS)
@online
async def list_(access: Access, *, as_json: bool) -> None:
    """List your timers, and those that are shared with you."""
    from cli import commands

    await commands.show_list(access, as_json=as_json)


@app.command(rich_help_panel=_SYSTEM)
def run() -> None:
    """Run the whole system on this machine, with its data in ./data, until Ctrl-C."""
    from cli import launcher

    raise typer.Exit(run_async(launcher.run()))


@app.command(rich_help_panel=_SYSTEM)
def token(
    user: Annotated[str, typer.Argument(metavar="USER", help="Who the token is for.")],
    *,
    hours: Annotated[
        float | None, typer.Option(metavar="HOURS", help="How long it is good, a year at most; 12 when not given.")
    ] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Print a token: signed with the secret that an edge uses in this environment, or else from a development system."""
    from cli import tokens

    finish(lambda: tokens.show(user, hours, url, as_json=as_json), as_json=as_json)


@app.command(rich_help_panel=_SYSTEM)
def doctor(
    at: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="HOST:PORT",
            help="HTTP `host:port` of further processes: an edge's port, a service's metrics port.",
        ),
    ] = None,
    *,
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="Look at this system from outside, as its users meet it.")
    ] = None,
    token: Token = None,
    user: User = None,
    as_json: Json = False,
) -> None:
    """Look at every process: version, health, edges, what is undelivered, and what is wrong. Exits 0 only when all is well."""
    from cli import access, checkup
    from cli import doctor as examination

    if url is not None:
        finish(
            lambda: run_async(checkup.show(access.find(url=url, token=token, user=user), as_json=as_json)),
            as_json=as_json,
        )
    finish(lambda: examination.main(at or [], as_json=as_json), as_json=as_json)


@app.command(rich_help_panel=_SYSTEM)
def connections(
    users: Annotated[list[str], typer.Argument(metavar="USER", help="Whose connections.")],
    *,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="gRPC address of the connection service. Else BUBBLE_CONNECTION_ADDRESS, 127.0.0.1:50053.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List who is connected, with which devices, to which edges. For those who run the system: asks inside, by gRPC."""
    from cli import connections as presence

    finish(lambda: run_async(presence.show(users, address, as_json=as_json)), as_json=as_json)


@app.command(rich_help_panel=_SYSTEM)
@online
async def load(
    access: Access,
    *,
    devices: Annotated[
        int, typer.Option(metavar="N", min=2, max=500, help="How many devices, each with a timer.")
    ] = 16,
    group: Annotated[int, typer.Option(metavar="N", min=1, max=60, help="So many people share their timers.")] = 8,
    rate: Annotated[float, typer.Option(metavar="N", min=0.1, max=18, help="Updates a second of each device.")] = 5.0,
    for_: Annotated[str, typer.Option("--for", metavar="DURATION", help="How long.")] = "10s",
    as_json: bool,
) -> int:
    """Put a small load on a system, and see what it does. Exits 0 only when nothing was lost or refused."""
    from cli import load as test
    from cli import output
    from cli.commands import duration_of

    return await test.run(
        access,
        devices=devices,
        group=group,
        rate=rate,
        seconds=duration_of(for_) / 1e6,
        console=output.Terminal(highlight=False),
        as_json=as_json,
    )


def main() -> None:
    """The command line, under its name."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without Unicode shows question marks, and goes on
    app(prog_name="bubble")


if __name__ == "__main__":
    main()
