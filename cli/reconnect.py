"""When to come back after a connection ended (docs/protocol.md, "Closing" and "Reconnecting"). Pure."""

import random
from collections.abc import Callable

BASE = 0.5
"""Seconds: the first wait is up to twice this."""

LIMIT = 30.0
"""Seconds: no wait is longer, save those that the server asks for."""

STABLE_AFTER = 10.0
"""Seconds: a connection that lasted as long was a good one, and the next failure is the first again."""

TOKEN_EXPIRED = 4401
RESTARTING = 1012

_PAUSES = {4409: 30.0, 4429: 60.0}  # too many connections, rate abuse: the server wants at least so much


class Backoff:
    """Full jitter (Brooker, "Exponential Backoff And Jitter"): a crowd that lost its server together must not come back
    together.
    """

    def __init__(self, rand: Callable[[], float] = random.random) -> None:
        self._random = rand
        self._failures = 0

    def after(self, code: int | None, *, lasted: float, announced: float = 0.0, retry_after: float = 0.0) -> float:
        """Seconds until the next attempt. `code`: of the close frame, None without one. `lasted`: seconds the connection was
        up, 0 when there was none. `announced`: seconds of the server's last `reconnect`, 0 without one. `retry_after`:
        seconds the server asked for when it refused the handshake.
        """
        self._failures = 1 if lasted >= STABLE_AFTER else self._failures + 1
        if code in _PAUSES:
            return _PAUSES[code]
        if code == RESTARTING and announced > 0:
            return self._random() * announced
        # The exponent is bounded, too: two to the power of a weekend's failures is no float any more.
        return retry_after + self._random() * min(LIMIT, BASE * 2.0 ** min(self._failures, 16))
