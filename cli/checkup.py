"""`bubble doctor --url`: a system as its users meet it, from anywhere: is it ready, does it let us in, how far away is it."""

import asyncio
import time

import aiohttp
import msgspec
from rich.text import Text

from cli import output
from cli.access import Access
from cli.client import Client, unreachable
from cli.clock import local_now
from cli.conversation import FIRST_PINGS, PONG_WITHIN, Connected, Happening
from cli.errors import ExitCode, Problem

PATIENCE = 5.0
"""Seconds the system may take to say how it is."""

CLOCK_APART = 1_000_000
"""Microseconds by which this machine's clock may differ from the server's before that is worth a word."""


class Check(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    name: str
    well: bool
    told: str
    hint: str = ""


async def examine(access: Access) -> list[Check]:
    """What is found; a system that can't be reached at all is not asked further."""
    checks = [await _readiness(access)]
    if checks[0].hint:
        return checks
    seen: list[Connected] = []

    def happened(happening: Happening) -> None:
        if isinstance(happening, Connected):
            seen.append(happening)

    began = time.perf_counter()
    try:
        async with Client(access, lasting=True, on_happening=happened) as client:
            took = time.perf_counter() - began
            count = len(client.conversation.timers)
            until = f", until {seen[-1].token_expires_at}" if seen[-1].token_expires_at else ""
            checks.append(Check("token", well=True, told=f"good for {client.conversation.user_id}{until}"))
            checks.append(
                Check("timers", well=True, told=f"{count}, there {took * 1_000:.0f} ms after we asked to be connected")
            )
            checks += await _distance(client)
    except Problem as problem:
        name = "token" if problem.code == ExitCode.TOKEN else "connection"
        checks.append(Check(name, well=False, told=problem.message, hint=problem.hint))
    return checks


async def _readiness(access: Access) -> Check:
    timeout = aiohttp.ClientTimeout(total=PATIENCE)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as http, http.get(f"{access.url}/readyz") as response:
            readiness = msgspec.json.decode(await response.read(), type=dict[str, object])
    except msgspec.DecodeError:
        return Check("server", well=True, told="it does not say how it is: a proxy may keep /readyz to itself")
    except (aiohttp.ClientError, OSError) as error:
        problem = unreachable(access, error)
        return Check("server", well=False, told=problem.message, hint=problem.hint)
    degraded = readiness.get("degraded")
    if isinstance(degraded, dict) and degraded:
        return Check(
            "server", well=False, told="; ".join(f"it can't use {name}: {why}" for name, why in degraded.items())
        )
    status = str(readiness.get("status", "not ready"))
    reason = f": {readiness['reason']}" if readiness.get("reason") else ""
    return Check("server", well=response.status == 200, told=f"{status}{reason}")


async def _distance(client: Client) -> list[Check]:
    clock = client.conversation.clock
    deadline = local_now() + PONG_WITHIN
    while clock.samples < FIRST_PINGS and local_now() < deadline:
        await asyncio.sleep(0.05)
    error = clock.error(local_now())
    if error is None or clock.samples < FIRST_PINGS:
        return [Check("answers", well=False, told=f"pings are not answered within {PONG_WITHIN:g} s")]
    apart = time.time_ns() // 1_000 - client.now
    checks = [Check("answers", well=True, told=f"within {2 * error / 1_000:.1f} ms, at best")]
    direction = "ahead of" if apart > 0 else "behind"
    told = f"this machine's is {abs(apart) / 1e6:.3f} s {direction} the server's (± {error / 1_000:.1f} ms)"
    if abs(apart) > CLOCK_APART:
        told += "; countdowns are corrected for that"
    return [*checks, Check("clock", well=True, told=told)]


async def show(access: Access, *, as_json: bool) -> int:
    """Examines, prints, and returns the exit code."""
    checks = await examine(access)
    well = all(check.well for check in checks)
    if as_json:
        output.print_json({"well": well, "url": access.url, "checks": checks})
        return 0 if well else 1
    console = output.Terminal(highlight=False, soft_wrap=True)
    console.print(Text(access.url, style="bold"))
    for check in checks:
        mark = ("✓ ", "green") if check.well else ("✗ ", "bold red")
        console.print(Text.assemble(mark, check.name.ljust(12), check.told))
        if check.hint:
            console.print(Text(f"  {check.hint}", style="dim"))
    return 0 if well else 1
