"""A client's copy of the timers: what is newer counts (docs/protocol.md, "A timer"). Pure."""

from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum

import msgspec

from cli.errors import ExitCode, NoName, NoSuchTimer, Problem
from cli.human import printable
from runtime.iso8601 import parse_duration, parse_instant

SHORT_ID = 8
"""Characters of an id that are shown to people."""


class State(StrEnum):
    """What a timer does at a moment."""

    READY = "ready"
    RUNNING = "running"
    PAUSED = "paused"
    FINISHED = "finished"


class Timer(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A timer, with the names that the protocol has (`userId`, ...)."""

    id: str
    user_id: str = ""
    name: str = ""
    total_duration: str | None = None
    remaining_duration: str | None = None
    end_time: str | None = None
    version: int = 0
    shared_with: tuple[str, ...] = ()
    share_version: int = 0

    @property
    def owner(self) -> str:
        """Whose it is, fit for a terminal."""
        return printable(self.user_id)

    @property
    def title(self) -> str:
        """What people call it, fit for a terminal."""
        return printable(self.name) or printable(self.id)[:SHORT_ID]

    @property
    def members(self) -> tuple[str, ...]:
        """Who it is shared with, fit for a terminal."""
        return tuple(printable(user) for user in self.shared_with)

    def left(self, now: int) -> int:
        """Microseconds left, never below 0. `now` by the server's clock."""
        if self.end_time is not None:
            return max(_instant(self.end_time, now) - now, 0)
        return max(_duration(self.remaining_duration or self.total_duration), 0)

    def state(self, now: int) -> State:
        """What it does at that moment."""
        if self.end_time is None and self.remaining_duration is None:
            return State.READY
        if not self.left(now):
            return State.FINISHED
        return State.RUNNING if self.end_time is not None else State.PAUSED

    def fraction(self, now: int) -> float:
        """1 when all of it is left, 0 when it is over. A timer that was extended beyond its full length stays at 1."""
        left = self.left(now)
        total = _duration(self.total_duration) or left
        return min(left / total, 1.0) if total > 0 else 0.0

    def over_for(self, now: int) -> int | None:
        """Microseconds since it ran out; None when it did not, or nobody knows when (paused at its very end)."""
        if self.end_time is None:
            return None
        end = _instant(self.end_time, now)
        return now - end if end <= now else None

    @property
    def total(self) -> int:
        """Microseconds of its full length; 0 when it has none."""
        return max(_duration(self.total_duration), 0)


class Change(msgspec.Struct, frozen=True):
    """What a newer state changed. `before` is None for a timer that was not known."""

    before: Timer | None
    after: Timer


class Replica:
    """The timers that a client knows."""

    def __init__(self) -> None:
        self._timers: dict[str, Timer] = {}

    def __len__(self) -> int:
        return len(self._timers)

    def __iter__(self) -> Iterator[Timer]:
        return iter(self._timers.values())

    def get(self, timer_id: str) -> Timer | None:
        """The timer with that id."""
        return self._timers.get(timer_id)

    def take(self, incoming: Timer) -> Change | None:
        """A state has come. None when it tells nothing new: states come at least once, in any order."""
        before = self._timers.get(incoming.id)
        after = incoming
        if before is not None:
            if incoming.version < before.version:
                after = msgspec.structs.replace(
                    before, shared_with=incoming.shared_with, share_version=incoming.share_version
                )
            if incoming.share_version < before.share_version:
                after = msgspec.structs.replace(
                    after, shared_with=before.shared_with, share_version=before.share_version
                )
            if after == before:
                return None
        self._timers[after.id] = after
        return Change(before, after)

    def remove(self, timer_id: str, version: int | None = None) -> Timer | None:
        """The timer is gone, as of that version if there is one: one that was created anew since then stays."""
        timer = self._timers.get(timer_id)
        if timer is None or (version is not None and version < timer.version):
            return None
        return self._timers.pop(timer_id)

    def forget(self) -> list[Timer]:
        """Begins anew; returns what was known."""
        known = list(self._timers.values())
        self._timers.clear()
        return known

    def versions(self) -> dict[str, dict[str, int]]:
        """What a `sync` asks with."""
        return {
            "versions": {timer.id: timer.version for timer in self._timers.values()},
            "shareVersions": {timer.id: timer.share_version for timer in self._timers.values()},
        }

    def find(self, what: str) -> Timer:
        """The timer that a person means: by id, by name, by the beginning of an id, by the beginning of a name; the first of
        these that fits decides. Raises Problem when nothing fits, or several do. Timers without a name go by their id alone:
        an empty one is a slip, and must not stop them.
        """
        if not what.strip():
            raise NoName
        fits: tuple[Callable[[Timer], bool], ...] = (
            lambda timer: timer.id == what,
            lambda timer: timer.name == what,
            lambda timer: timer.name.casefold() == what.casefold(),
            lambda timer: timer.id.startswith(what),
            lambda timer: timer.name.casefold().startswith(what.casefold()),
        )
        for fit in fits:
            found = [timer for timer in self._timers.values() if fit(timer)]
            if len(found) == 1:
                return found[0]
            if found:
                raise _ambiguous(what, found)
        hint = "`bubble list` shows what there is." if self._timers else "You have none yet: `bubble start Tea 5m`."
        raise NoSuchTimer(what, hint=hint)


def _ambiguous(what: str, found: list[Timer]) -> Problem:
    some = ", ".join(f"{distinct_prefix(timer.id, found)} ({timer.title}, {timer.owner})" for timer in found[:5])
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return Problem(
        f"“{printable(what)}” fits {len(found)} timers.",
        hint=f"Say which one by the beginning of its id: {some}{more}.",
        code=ExitCode.NOT_FOUND,
    )


def distinct_prefix(timer_id: str, among: Iterable[Timer]) -> str:
    """The beginning of an id that no other one has; at least so much that people recognise it."""
    others = [timer.id for timer in among if timer.id != timer_id]
    for length in range(SHORT_ID, len(timer_id)):
        if not any(other.startswith(timer_id[:length]) for other in others):
            return printable(timer_id[:length])
    return printable(timer_id)


def in_order(timers: Iterable[Timer], now: int) -> list[Timer]:
    """As people want to see them: what ends next first; then what stands still, by name; what has long run out last."""

    def rank(timer: Timer) -> tuple[int, int, str, str]:
        state = timer.state(now)
        over = timer.over_for(now) or 0
        if state is State.RUNNING or (state is State.FINISHED and over < _FRESH):
            return 0, timer.left(now) - over, timer.name, timer.id
        later = {State.PAUSED: 1, State.READY: 2, State.FINISHED: 3, State.RUNNING: 0}[state]
        return later, 0, timer.name.casefold(), timer.id

    return sorted(timers, key=rank)


_FRESH = 60_000_000  # for this long a timer that has run out is still news


def _duration(text: str | None) -> int:
    try:
        return parse_duration(text) if text else 0
    except ValueError:  # of a server that is newer than we are
        return 0


def _instant(text: str, default: int) -> int:
    try:
        return parse_instant(text)
    except ValueError:
        return default
