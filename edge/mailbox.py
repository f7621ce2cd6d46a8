"""What waits to be written to one connection: replies in order, and of each timer only the latest state.

This is what keeps a slow reader from being flooded (conflation): a state that waits gives way to its successor, so a reader of any speed gets the latest states, and what waits is bounded by the number of timers, not by the
number of changes.
"""

from collections.abc import Hashable


class Mailbox:
    """Frames, ready to be written. Pure: knows nothing of sockets and clocks."""

    __slots__ = ("_frames", "_next_reply", "conflated", "size")

    def __init__(self) -> None:
        self._frames: dict[Hashable, bytes] = {}
        self._next_reply = 0
        self.size = 0
        """Bytes waiting."""
        self.conflated = 0
        """States that were replaced by newer ones before they were taken."""

    def __len__(self) -> int:
        return len(self._frames)

    def __contains__(self, place: object) -> bool:
        """Whether a state of the timer with this id, or the frame at this place, waits."""
        return place in self._frames

    def put(self, frame: bytes) -> int:
        """Adds a frame that must not be left out, behind all others; returns its place, for `in`."""
        self._next_reply += 1
        self._frames[self._next_reply] = frame
        self.size += len(frame)
        return self._next_reply

    def put_state(self, timer_id: str, frame: bytes) -> bool:
        """Adds a timer's state behind all others, and removes an older one that still waits. Returns whether there was one.

        Behind, not in its place: a snapshot that waits between the two must not be read after the newer state.
        """
        older = self._frames.pop(timer_id, None)
        if older is not None:
            self.size -= len(older)
            self.conflated += 1
        self._frames[timer_id] = frame
        self.size += len(frame)
        return older is not None

    def drop(self, timer_id: str) -> None:
        """Removes a timer's waiting state, if any."""
        frame = self._frames.pop(timer_id, None)
        if frame is not None:
            self.size -= len(frame)

    def take(self, max_bytes: int) -> list[bytes]:
        """Removes and returns the first frames, in order: as many as fit, at least one when there is any."""
        if self.size <= max_bytes:
            frames = list(self._frames.values())
            self._frames.clear()
            self.size = 0
            return frames
        taken: list[Hashable] = []
        taken_bytes = 0
        for key, frame in self._frames.items():
            if taken and taken_bytes + len(frame) > max_bytes:
                break
            taken.append(key)
            taken_bytes += len(frame)
        self.size -= taken_bytes
        return [self._frames.pop(key) for key in taken]

    def clear(self) -> None:
        """Removes everything."""
        self._frames.clear()
        self.size = 0
