"""What sends a push: the interface, and what may come of an attempt."""

from enum import Enum
from typing import Protocol

import msgspec

TIMEOUT = 20.0
"""Seconds an attempt may take in all, a new access token included."""

LANES = 16
"""Attempts of one replica that are under way at once. At 0.2 s each that is 80 a second, and a push service that does not answer
holds up as many coroutines and sockets, and nothing else."""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A timer was shared with the user of a device."""

    token: str
    timer_id: str
    timer_name: str
    sharer_name: str


class Outcome(Enum):
    """What came of an attempt. The values are those of the metric's label."""

    ACCEPTED = "accepted"
    UNREGISTERED = "unregistered"
    """The token is no device's any more."""
    REFUSED = "refused"
    """It will never be taken."""
    FAILED = "failed"
    """It may be taken later."""


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt that has ended. `retry_after`: seconds that the push service asks to be left alone, 0 when it did not say.
    `reason`: for the log, without secrets.
    """

    outcome: Outcome
    retry_after: float = 0.0
    reason: str = ""


class PushSender(Protocol):
    """A push service."""

    async def send(self, message: Message) -> Attempt:
        """Tries once. Raises nothing but CancelledError: what goes wrong is an outcome."""
