"""Limits of one connection: message sizes and rates."""

MAX_MESSAGE = 16 * 1024
"""Bytes of one message. A timer with the longest of all texts has 6 KiB as UTF-8."""

MAX_FRAME = 4 * MAX_MESSAGE
"""Bytes of one WebSocket frame. Up to here a message that is too long gets an error; beyond, reading it would cost too
much, and the connection is closed with 1009."""

ABUSE_FACTOR = 5
"""A connection that was refused this many times its burst, faster than its rate, is closed with 4429."""


class TokenBucket:
    """The token bucket (Turner, 1986): `rate` per second on average, `burst` at once. A rate of 0 means no limit."""

    __slots__ = ("_tokens", "_updated_at", "burst", "rate")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self.rate = rate
        self.burst = max(burst, 1.0)
        self._tokens = self.burst
        self._updated_at = now

    def take(self, now: float) -> bool:
        """Takes a token, if there is one. `now` in seconds, by a clock that never goes back."""
        if not self.rate:
            return True
        self._fill(now)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def owe(self, tokens: int) -> None:
        """Takes more tokens than there may be: the next ones are there later."""
        if self.rate:
            self._tokens -= tokens

    def owes(self, now: float) -> bool:
        """Whether more was taken than there has been since."""
        if self.rate:
            self._fill(now)
        return self._tokens < 0

    def wait(self) -> float:
        """Seconds until there is a token again, as of the last `take`."""
        return max(1 - self._tokens, 0) / self.rate if self.rate else 0.0

    def _fill(self, now: float) -> None:
        self._tokens = min(self.burst, self._tokens + (now - self._updated_at) * self.rate)
        self._updated_at = now


class RateLimit:
    """The rate of one connection's messages, and its patience with those who don't care."""

    __slots__ = ("_messages", "_refusals")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._messages = TokenBucket(rate, burst, now)
        self._refusals: TokenBucket | None = None  # most connections are never refused anything

    def check(self, now: float) -> float:
        """Seconds to wait before sending again; 0 when the message is welcome. Raises PermissionError when the connection
        is to be closed for abuse.
        """
        if self._messages.take(now):
            return 0.0
        if self._refusals is None:
            self._refusals = TokenBucket(self._messages.rate, self._messages.burst * ABUSE_FACTOR, now)
        if not self._refusals.take(now):
            raise PermissionError
        return self._messages.wait()

    def charge(self, more: int, now: float) -> float:
        """A message that was welcome turns out to be worth so many more. Seconds to wait with those, as others like it came before;
        0 when they are welcome, too, and taken: then the next messages may have to wait.
        """
        if self._messages.owes(now):
            return self._messages.wait()
        self._messages.owe(more)
        return 0.0
