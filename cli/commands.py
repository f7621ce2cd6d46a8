"""The commands on timers. Each opens a connection, does one thing, and says how it ended."""

import asyncio
import shlex
import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from rich.text import Text

from cli import human, links, output, rest
from cli.access import Access
from cli.client import Client
from cli.errors import ExitCode, NoName, NoSuchTimer, Problem
from cli.news import quoted
from cli.timers import State, Timer
from runtime.iso8601 import format_duration


async def start(
    access: Access, what: str, duration: str | None, share: Sequence[str], *, another: bool, as_json: bool
) -> None:
    """Starts a timer: a new one, or one there is already. One that runs keeps its time; only sharing it is done then."""
    if not what.strip():
        raise NoName
    length = duration_of(duration) if duration is not None else None
    async with Client(access) as client:
        known = None if another else _own_or_only(client, what, creates=length is not None)
        if known is not None and length is not None and known.state(client.now) is State.RUNNING:
            raise await _left_alone(client, what, known, share)
        if known is None and length is None:
            raise NoSuchTimer(what, hint=f"To make one, say how long it takes: `bubble start {shlex.quote(what)} 5m`.")
        timer_id = known.id if known is not None else str(uuid.uuid4())
        commands: list[dict[str, Any]] = []
        if length is not None:
            fields = {"id": timer_id, "totalDuration": format_duration(length)}
            if known is None:
                fields["name"] = what
            commands.append({"type": "timer", "action": "update", "timer": fields})
        # Two commands rather than one with an end: so it starts by the server's clock, whatever ours shows.
        commands.append({"type": "timer", "action": "start", "timerId": timer_id})
        commands += [_share(timer_id, user, add=True) for user in share]
        replies = await _all(client, commands)
        timer = _after(client, timer_id, replies)
        _tell(timer, client.now, output.what_it_does(timer, client.now) + _shared_with(timer), as_json=as_json)


async def _left_alone(client: Client, what: str, timer: Timer, share: Sequence[str]) -> Problem:
    """Why a timer that runs is not started, once it is shared as was asked."""
    replies = await _all(client, [_share(timer.id, user, add=True) for user in share])
    if replies:
        timer = msgspec.structs.replace(timer, shared_with=tuple(replies[-1]["sharedWith"]))
    left = human.clock(timer.left(client.now))
    return Problem(
        f"{quoted(timer)} is running already, and left alone: {left} left." + (_shared_with(timer) if share else ""),
        hint=f"Give it more time with `bubble extend {shlex.quote(what)} 5m`, or start another one with --new.",
    )


async def intent(access: Access, what: str, action: str, by: str | None = None, *, as_json: bool) -> None:
    """Pauses, resumes or extends a timer."""
    more = {"by": format_duration(duration_of(by))} if by is not None else {}
    async with Client(access) as client:
        timer_id = client.conversation.timers.find(what).id
        reply = await client.command({"type": "timer", "action": action, "timerId": timer_id, **more})
        timer = _after(client, timer_id, [reply])
        _tell(timer, client.now, output.what_it_does(timer, client.now), as_json=as_json)


async def stop(access: Access, what: Sequence[str], *, as_json: bool) -> None:
    """Stops timers, for everybody."""
    async with Client(access) as client:
        timers = [client.conversation.timers.find(each) for each in what]
        replies = await _all(client, [{"type": "timer", "action": "stop", "timerId": timer.id} for timer in timers])
        if as_json:
            stopped = zip(timers, replies, strict=True)
            output.print_json({"stopped": [{"id": timer.id, "version": reply["version"]} for timer, reply in stopped]})
        else:
            for timer in timers:
                _say(f"{quoted(timer)} is stopped.")


async def share(access: Access, what: str, users: Sequence[str], *, add: bool, as_json: bool) -> None:
    """Shows a timer to users, or takes it away from them."""
    async with Client(access) as client:
        timer = client.conversation.timers.find(what)
        replies = await _all(client, [_share(timer.id, user, add=add) for user in users])
        me = client.conversation.user_id
        now_shared = tuple(replies[-1]["sharedWith"])
        timer = msgspec.structs.replace(timer, shared_with=now_shared, share_version=replies[-1]["shareVersion"])
        if not add and me in users and timer.user_id != me:
            text = f"You have left {quoted(timer)}."
        else:
            text = f"{quoted(timer)} is shared with {', '.join(timer.members) or 'nobody'}."
        _tell(timer, client.now, text, as_json=as_json)


async def invite(access: Access, what: str, *, as_json: bool) -> None:
    """Prints a link by which others join a timer."""
    async with Client(access) as client:
        timer = client.conversation.timers.find(what)
    answer = await rest.post(access, "/invitations", {"timerId": timer.id})
    link = links.link_of(access, answer["invitation"])
    if as_json:
        output.print_json({"link": link, **answer})
        return
    print(link)  # alone, so that it can go anywhere through a pipe
    until = datetime.fromisoformat(answer["expiresAt"]).astimezone()
    output.print_note(
        f"Until {until:%a %H:%M}, whoever has it can join {quoted(timer)}; removing somebody from the timer ends it."
    )


async def join(access: Access, link: str, *, as_json: bool) -> None:
    """Accepts an invitation, and shows the timer it is for."""
    answer = await rest.post(access, "/invitations/accept", {"invitation": links.invitation_of(link, access)})
    # Only now, so that the timer is among the first ones that come: there is nothing to wait for.
    async with Client(access) as client:
        timer = client.conversation.timers.get(answer["timerId"])
        if timer is None:
            raise Problem(
                "You have joined, but the timer is gone already.",
                hint="It was stopped, or its owner has removed you since.",
                code=ExitCode.NOT_FOUND,
            )
        is_own = timer.user_id == client.conversation.user_id
        joined = "That is a timer of your own." if is_own else f"You have joined a timer of {timer.owner}."
        _tell(timer, client.now, f"{joined} {output.what_it_does(timer, client.now)}", as_json=as_json)


async def show_list(access: Access, *, as_json: bool) -> None:
    """Prints all timers."""
    async with Client(access) as client:
        timers, now = list(client.conversation.timers), client.now
        if as_json:
            output.print_json(
                {
                    "userId": client.conversation.user_id,
                    "serverTime": output.wire_time(now),
                    "timers": [output.described(timer, now) for timer in timers],
                }
            )
        elif timers:
            console = output.Terminal(highlight=False)
            console.print(output.table(timers, now, console.width))
        else:
            _say("No timers. Try: bubble start Tea 5m")


def duration_of(text: str) -> int:
    """Microseconds. Raises Problem."""
    try:
        return human.parse_duration(text)
    except ValueError as error:
        raise Problem(str(error), code=ExitCode.USAGE) from error


def _own_or_only(client: Client, what: str, *, creates: bool) -> Timer | None:
    """The timer to start. Where a length is given, only one of our own with just this name or id is taken again: what merely
    begins like it is another one.
    """
    if not creates:
        try:
            return client.conversation.timers.find(what)
        except NoSuchTimer:
            return None
    me = client.conversation.user_id
    fits = [timer for timer in client.conversation.timers if timer.user_id == me and (what in (timer.id, timer.name))]
    if len(fits) > 1:
        return client.conversation.timers.find(what)  # which says so
    return fits[0] if fits else None


async def _all(client: Client, commands: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The replies to commands that are sent at once; they take effect in their order. Raises the first Problem, when all
    have been answered.
    """
    results = await asyncio.gather(*(client.command(command) for command in commands), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results  # type: ignore[return-value]  # none is an exception


def _share(timer_id: str, user: str, *, add: bool) -> dict[str, Any]:
    return {"type": "share", "action": "add" if add else "remove", "timerId": timer_id, "sharedWithUser": user}


def _after(client: Client, timer_id: str, replies: Sequence[dict[str, Any]]) -> Timer:
    """The timer as the replies, and whatever came meanwhile, leave it."""
    known = client.conversation.timers.get(timer_id)
    if known is not None:
        return known
    states = [reply["timer"] for reply in replies if "timer" in reply]
    return msgspec.convert(states[-1], Timer)


def _shared_with(timer: Timer) -> str:
    return f" Shared with {', '.join(timer.members)}." if timer.shared_with else ""


def _tell(timer: Timer, now: int, text: str, *, as_json: bool) -> None:
    if as_json:
        output.print_json({"timer": output.described(timer, now)})
    else:
        _say(text)


def _say(text: str) -> None:
    output.Terminal(highlight=False, soft_wrap=True).print(Text(text))
