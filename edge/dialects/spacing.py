"""When the app may be sent the next state of a timer. Pure: no I/O, no clock of its own.

The app throws away an update of a timer that comes within a second after another one, or after a change of its own, and never
asks again; a second one in the same moment can even crash it. So its states are spaced, and only the latest of what came
meanwhile is kept. What counts is when the app *reads* them, and a network that stands still for a moment delivers two at once.
The app acknowledges what it reads right before it reads it: with clients that do so, a state waits for the acknowledgement of
the one before.
"""

from collections.abc import Iterable

from edge.knowledge import TimerState

SPACING = 1.1
"""Seconds between two states of one timer: the app's one second, and a tenth for what its timing is worth."""

ACK_PATIENCE = 10.0
"""Seconds an acknowledgement is waited for by the next state. Then it is lost, as far as one can lose it, with its reader."""


class _Timer:
    """What is known of one timer on its way to the client."""

    __slots__ = ("at", "held", "unread")

    def __init__(self, at: float) -> None:
        self.at = at
        """When the client last got it, told it was read, or changed it."""
        self.unread = ""
        """The message whose acknowledgement is missing."""
        self.held: TimerState | None = None


class Spacing:
    """The states of one connection's timers. Times are seconds by any clock that never goes back.

    Remembers a timer for as long as something about it is to be waited for.
    """

    __slots__ = ("_acknowledges", "_timers")

    def __init__(self) -> None:
        self._timers: dict[str, _Timer] = {}
        self._acknowledges = False

    def __len__(self) -> int:
        return len(self._timers)

    def offer(self, state: TimerState, now: float) -> bool:
        """Whether a state may be sent now (and is). If not, it is held in the place of an older one until it is `due`."""
        timer = self._timers.get(state.timer_id)
        if timer is not None and now < self._free_at(timer):
            timer.held = state
            return False
        self.sent(state.event_id, (state.timer_id,), now)
        return True

    def sent(self, message_id: str, timer_ids: Iterable[str], now: float) -> None:
        """A message with the states of these timers is sent."""
        for timer_id in timer_ids:
            timer = self._timers[timer_id] = _Timer(now)
            timer.unread = message_id

    def touched(self, timer_id: str, now: float) -> None:
        """The client has changed a timer itself."""
        timer = self._timers.get(timer_id)
        if timer is None:
            self._timers[timer_id] = _Timer(now)
        else:
            timer.at = now

    def acknowledged(self, message_id: str, now: float) -> None:
        """The client reads a message now, or a moment ago."""
        self._acknowledges = True
        for timer in self._timers.values():
            if message_id and timer.unread == message_id:
                timer.unread = ""
                timer.at = now

    def is_unread(self, timer_id: str) -> bool:
        """Whether a state of the timer may be on its way to the client, or is held for it."""
        timer = self._timers.get(timer_id)
        return timer is not None and (timer.held is not None or bool(timer.unread))

    def is_too_soon(self, timer_id: str, now: float) -> bool:
        """Whether a state of the timer that is sent now may be thrown away."""
        timer = self._timers.get(timer_id)
        return timer is not None and now < self._free_at(timer)

    def holds(self, timer_id: str) -> bool:
        """Whether a state is held."""
        timer = self._timers.get(timer_id)
        return timer is not None and timer.held is not None

    def forget(self, timer_id: str) -> None:
        """The client has the timer no longer, so that the next thing it hears of it is new. What is held is dropped."""
        self._timers.pop(timer_id, None)

    def due(self, now: float) -> list[TimerState]:
        """The states that were held and may be sent now, which they are."""
        ready = []
        for timer_id, timer in list(self._timers.items()):
            if self._free_at(timer) <= now:
                if timer.held is None:
                    del self._timers[timer_id]
                else:
                    ready.append(timer.held)
                    self.sent(timer.held.event_id, (timer_id,), now)
        return ready

    def next_at(self) -> float | None:
        """When there is something to do: a state is `due`, or a timer can be forgotten. None: never."""
        return min((self._free_at(timer) for timer in self._timers.values()), default=None)

    def _free_at(self, timer: _Timer) -> float:
        return timer.at + (ACK_PATIENCE if timer.unread and self._acknowledges else SPACING)
