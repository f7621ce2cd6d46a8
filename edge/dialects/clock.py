"""What is known of one device's clock, which the app never tells. Pure: no I/O, no clock of its own."""

from zoneinfo import ZoneInfo

from edge import local_time
from proto.event.v1 import event_pb2
from runtime.iso8601 import parse_duration

MAX_PAUSED = 64
"""Paused timers of one device that may teach us its offset when it resumes them."""


class DeviceClock:
    """The offset of one device: told by the client, or learned from what it does with its timers.

    `zone`: what the client calls its zone, if it does; `remembered`: what was learned of the device earlier, if anything.
    """

    __slots__ = ("_is_guess", "_learned", "_paused", "_zone")

    def __init__(self, zone: ZoneInfo | int | None, remembered: int | None) -> None:
        self._zone = zone
        self._learned = remembered
        self._is_guess = False
        self._paused: dict[str, int] = {}

    @property
    def learned(self) -> int | None:
        """The offset that was learned, not guessed; worth being remembered."""
        return None if self._is_guess else self._learned

    def offset(self, now_us: int) -> int | None:
        """The device's minutes ahead of UTC now; None: not known."""
        return self._learned if self._zone is None else local_time.offset_of(self._zone, now_us)

    def shows(self, timer: event_pb2.Timer) -> None:
        """The device has a timer in this state, sent to it or by it."""
        remaining = None
        if timer.HasField("remaining_duration"):
            remaining = timer.remaining_duration
        elif timer.HasField("total_duration"):
            remaining = timer.total_duration
        self._paused.pop(timer.timer_id, None)
        if self._zone is None and remaining is not None and not timer.HasField("end_time"):
            self._paused[timer.timer_id] = parse_duration(remaining)
            if len(self._paused) > MAX_PAUSED:
                del self._paused[next(iter(self._paused))]

    def forget(self, timer_id: str) -> None:
        """The device has a timer no longer."""
        self._paused.pop(timer_id, None)

    def resumes(self, timer_id: str, end: str, now_us: int) -> None:
        """The device says of a timer, which it may have had as a paused one, when it ends (a local date and time)."""
        remaining_us = self._paused.pop(timer_id, None)
        if remaining_us is not None:
            offset = local_time.offset_from_resuming(end, remaining_us, now_us)
            if offset is not None:
                self._learned, self._is_guess = offset, False

    def creates(self, end: str, total_us: int, now_us: int) -> None:
        """The device brings a timer of its own that runs already. That is worth a guess, until something better comes."""
        if self._learned is None:
            self._learned = local_time.offset_from_running(end, total_us, now_us)
            self._is_guess = self._learned is not None
