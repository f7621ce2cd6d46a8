"""Replies in the order of their requests, however long each takes. Pure: no I/O."""

from collections.abc import Callable

from runtime.telemetry import NO_SPAN, Span


class Reply:
    """A request's place in the order. `frame` is None while the request is under way."""

    __slots__ = ("frame", "has_timers", "kind", "message_id", "received_at", "span", "traceparent")

    def __init__(self, message_id: str | None, kind: str, received_at: float, span: Span, traceparent: str) -> None:
        self.message_id = message_id
        self.kind = kind
        """What was asked for, as metrics and traces name it."""
        self.received_at = received_at
        self.span = span
        self.traceparent = traceparent
        """The context for what happens for it, recorded or not; empty for requests that nothing happens for."""
        self.frame: bytes | None = None
        self.has_timers = False


class Replies:
    """The requests of one connection that wait for their answers. `emit` gets each answered one when it is its turn."""

    __slots__ = ("_emit", "_waiting")

    def __init__(self, emit: Callable[[Reply, bytes], None]) -> None:
        self._emit = emit
        self._waiting: list[Reply] = []  # short, and a tenth of an empty deque: most connections are idle

    def __len__(self) -> int:
        return len(self._waiting)

    def expect(
        self, message_id: str | None, kind: str, received_at: float, span: Span = NO_SPAN, traceparent: str = ""
    ) -> Reply:
        """A request has come, at a moment by the monotonic clock."""
        reply = Reply(message_id, kind, received_at, span, traceparent)
        self._waiting.append(reply)
        return reply

    def answer(self, reply: Reply, frame: bytes, *, has_timers: bool = False) -> None:
        """The answer is there: it and those behind it that waited for it are emitted. `has_timers`: it is a snapshot."""
        reply.span.end()
        reply.frame = frame
        reply.has_timers = has_timers
        while self._waiting and (first := self._waiting[0].frame) is not None:
            self._emit(self._waiting.pop(0), first)

    def is_next(self, reply: Reply) -> bool:
        """Whether an answer to this request would be emitted at once."""
        return bool(self._waiting) and self._waiting[0] is reply

    def any_has_timers(self) -> bool:
        """Whether a snapshot waits behind an answer that is not there yet."""
        return any(reply.has_timers for reply in self._waiting)
