"""What others did, in a sentence. Pure; the page has the same sentences (`edge/static/news.js`)."""

from cli import human
from cli.conversation import Changed, Gone, Happening, Shared, Stopped, Unshared
from cli.timers import Change, State, Timer

_NOTEWORTHY = human.SECOND  # a difference of less is a matter of clocks


def sentence(happening: Happening, *, me: str, now: int) -> str:
    """One line about it; empty when there is nothing worth telling. `now` by the server's clock."""
    match happening:
        case Shared(change, by):
            return f"{_who(by, me)} shared {quoted(change.after)}" + (" with you" if by != me else "")
        case Stopped(timer, by):
            return f"{_who(by, me)} stopped {quoted(timer)}"
        case Unshared(timer):
            return f"{quoted(timer)} is not shared with you any more"
        case Gone(timer):
            return f"{quoted(timer)} was stopped, or is not shared with you any more"
        case Changed(change, by):
            return _changed(change, _who(by, me), now)
    return ""


def quoted(timer: Timer) -> str:
    """A timer's name in a sentence."""
    return f"“{timer.title}”"


def _who(user: str, me: str) -> str:
    if not user:
        return "somebody"
    return "you" if user == me else human.printable(user)


def _changed(change: Change, who: str, now: int) -> str:
    before, after = change.before, change.after
    title = quoted(after)
    if before is None:
        return f"{who} made {title}" + (" and started it" if after.state(now) is State.RUNNING else "")
    joined = [user for user in after.members if user not in before.members]
    left = [user for user in before.members if user not in after.members]
    if joined:
        return f"{title} is now shared with {', '.join(joined)}"
    if left:
        return f"{', '.join(left)} no longer sees {title}"
    if after.name != before.name:
        return f"{who} renamed {quoted(before)} to {title}"
    return _run_state(before, after, who, now)


def _run_state(before: Timer, after: Timer, who: str, now: int) -> str:
    title = quoted(after)
    was, is_ = before.state(now), after.state(now)
    if is_ is State.RUNNING and was is not State.RUNNING:
        return f"{who} {'resumed' if was is State.PAUSED else 'started'} {title}"
    if is_ is State.PAUSED and was is State.RUNNING:
        return f"{who} paused {title}"
    if is_ is State.READY and was is State.READY:
        longer = after.total - before.total
    else:
        longer = after.left(now) - before.left(now)
    if longer >= _NOTEWORTHY:
        return f"{who} extended {title} by {human.span(longer)}"
    return f"{who} shortened {title} by {human.span(-longer)}" if longer <= -_NOTEWORTHY else ""
