"""What the shell offers for a TIMER: the names of those there are. Typer does the rest."""

import asyncio

import typer

PATIENCE = 1.5
"""Seconds: who presses Tab does not wait longer."""


def complete_timer(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Names that begin so, each with what its timer does. Nothing when there is no system: a Tab never complains."""
    from cli import access, output
    from cli.client import Client

    given = context.params

    async def names() -> list[tuple[str, str]]:
        place = access.find(url=given.get("url"), token=given.get("token"), user=given.get("user"))
        async with asyncio.timeout(PATIENCE), Client(place) as client:
            return [
                (timer.title, output.what_it_does(timer, client.now))
                for timer in client.conversation.timers
                if timer.title.casefold().startswith(incomplete.casefold())
            ]

    try:
        return asyncio.run(names())
    except Exception:  # whatever it is: the line being typed is not the place to say so
        return []
