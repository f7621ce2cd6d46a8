"""Replies in the order of their requests, however long each takes. Pure: no I/O."""

from collections.abc import Callable

from runtime.telemetry import Span


class Reply:
    """A request's place in the order. `frame` is None while the request is under way."""

    __slots__ = ("asked_at", "frame", "has_timers", "kind", "message_id", "span")

    def __init__(self, message_id: str | None, span: Span) -> None:
        self.message_id = message_id
        self.span = span
        self.frame: bytes | None = None
        self.has_timers = False
        self.kind = ""
        self.asked_at = 0.0


class Replies:
    """The requests of one connection that wait for their answers. `emit` gets each answered one when it is its turn."""

    __slots__ = ("_emit", "_waiting")

    def __init__(self, emit: Callable[[Reply, bytes], None]) -> None:
        self._emit = emit
        self._waiting: list[Reply] = []  # short, and a tenth of an empty deque: most connections are idle

    def __len__(self) -> int:
        return len(self._waiting)

    def expect(self, message_id: str | None, span: Span) -> Reply:
        """A request has come."""
        reply = Reply(message_id, span)
        self._waiting.append(reply)
        return reply

    def answer(self, reply: Reply, frame: bytes, *, has_timers: bool = False) -> None:
        """The answer is there: it and those behind it that waited for it are emitted. `has_timers`: it is a snapshot."""
        reply.span.end()
        reply.frame = frame
        reply.has_timers = has_timers
        while self._waiting and (first := self._waiting[0].frame) is not None:
            self._emit(self._waiting.pop(0), first)

    def any_has_timers(self) -> bool:
        """Whether a snapshot waits behind an answer that is not there yet."""
        return any(reply.has_timers for reply in self._waiting)
