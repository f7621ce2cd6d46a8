"""Telling a stop that answers a stop from one that somebody means. Pure: no I/O, no clock of its own.

A phone that reads a stop removes the timer, and then tells everybody that it was removed. Mostly that is a stop of a stopped
timer, which changes nothing. But when the timer was begun anew meanwhile, or shared again with somebody it had been taken
from, the echo of the old stop would stop it for all.
"""

WINDOW = 2.0
"""Seconds after a stop was read in which a stop of the same timer is its echo. Nobody sees a timer again, and wants it gone, so
soon."""

UNREAD_WINDOW = 10.0
"""The same for a stop that was sent, and not acknowledged by a client that acknowledges."""


class Echoes:
    """The stops that were sent over one connection a moment ago. Times are seconds by a clock that never goes back."""

    __slots__ = ("_acknowledges", "_stops")

    def __init__(self) -> None:
        self._stops: dict[str, tuple[str, float]] = {}
        self._acknowledges = False

    def __len__(self) -> int:
        return len(self._stops)

    def stopped(self, timer_id: str, message_id: str, now: float) -> None:
        """The client is sent that a timer is gone."""
        self._expire(now)
        self._stops.pop(timer_id, None)
        self._stops[timer_id] = (message_id, now)

    def acknowledged(self, message_id: str, now: float) -> None:
        """The client reads a message."""
        self._acknowledges = True
        for timer_id, (unread, _) in self._stops.items():
            if message_id and unread == message_id:
                self._stops[timer_id] = ("", now)
                return

    def is_echo(self, timer_id: str, now: float) -> bool:
        """Whether a stop that comes now answers one that was sent."""
        self._expire(now)
        return timer_id in self._stops

    def is_unread(self, timer_id: str, now: float) -> bool:
        """Whether the client, as far as can be told, has not read yet that the timer is gone."""
        self._expire(now)
        return self._acknowledges and timer_id in self._stops and bool(self._stops[timer_id][0])

    def _expire(self, now: float) -> None:
        for timer_id, (unread, at) in list(self._stops.items()):
            if now - at > (UNREAD_WINDOW if unread and self._acknowledges else WINDOW):
                del self._stops[timer_id]
