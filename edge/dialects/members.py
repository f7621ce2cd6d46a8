"""What a whole set of members says, from a device that may not know the newest one. Pure: no I/O."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

MAX_UNREAD = 64
"""Messages of one connection whose acknowledgements may be missing; older ones are taken to be read."""


class Changes(NamedTuple):
    """Who is to be added and who removed, in order."""

    add: list[str]
    remove: list[str]


def changes(base: Collection[str] | None, current: Sequence[str], wanted: Sequence[str]) -> Changes:
    """A three-way merge: what a device changed in the set that it knew (`base`), applied to the set as it is (`current`).

    Without a base, as for a device that knows the set as it is, the outcome is what it wants.
    """
    known = current if base is None else base
    return Changes(
        add=[user for user in wanted if user not in known and user not in current],
        remove=[user for user in current if user in known and user not in wanted],
    )


class Members:
    """What one device knows of the members of its user's own timers: what it has read, or said itself.

    A set that was sent, and not acknowledged, is not known yet: somebody else's change that crosses an update on its way must
    not be undone by it.
    """

    __slots__ = ("_known", "_unread")

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, ...]] = {}
        self._unread: dict[str, dict[str, tuple[str, ...]]] = {}

    def sent(self, message_id: str, timer_id: str, members: Sequence[str]) -> None:
        """A message with the members of a timer is sent."""
        if timer_id not in self._known or self._known[timer_id] != tuple(members):
            self._unread.setdefault(message_id, {})[timer_id] = tuple(members)
            if len(self._unread) > MAX_UNREAD:
                self.acknowledged(next(iter(self._unread)))

    def acknowledged(self, message_id: str) -> None:
        """The device has read a message."""
        self._known |= self._unread.pop(message_id, {})

    def forget(self, timer_id: str) -> None:
        """The device has a timer no longer."""
        self._known.pop(timer_id, None)
        for timers in self._unread.values():
            timers.pop(timer_id, None)

    def said(self, timer_id: str, current: Sequence[str], wanted: Sequence[str]) -> Changes:
        """The device says who the members of a timer are, which now are the current ones; what follows from that."""
        base = self._known.get(timer_id)
        self._known[timer_id] = tuple(wanted)
        return changes(base, current, wanted)
