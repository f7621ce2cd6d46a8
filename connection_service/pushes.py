"""The rules of pushes: who is told of a share by push, when it is tried again, when it is given up. Pure: no I/O, no protobuf.

A push is kept in the database from the moment the event of its share is answered as delivered until the push service has taken
it (at least once: a crash in between sends it again), and some time longer, so that a repeated event makes no second one.
"""

import hashlib
import random
from collections.abc import Iterable

import msgspec

MAX_TOKEN = 4_096
"""Characters of a push token. FCM's have some 160, and may have more one day."""

MAX_TOKENS_PER_USER = 16
"""Devices of one user that are told by push; of more, the oldest are forgotten. An app that is installed anew has a new token, and
the old one's end is told only when it is used."""

MAX_WAITING = 10_000
"""Pushes that wait to be sent. Beyond that, shares with somebody who is to be told by push stay in the sharing service's outbox."""

GIVE_UP_AFTER_US = 3_600_000_000
"""For how long a push is tried, in microseconds: an hour. An invitation to a countdown is not worth more."""

MAX_ATTEMPTS = 40
"""How often it is tried at most. The back-off alone comes to less within the hour; this bounds what a push service can ask for."""

KEPT_DONE_US = 3_600_000_000
"""For how long a push is remembered after it was sent or given up, in microseconds. Events are repeated within seconds, or within a
minute or two after an outage."""

CLAIM_US = 30_000_000
"""For how long a replica has a push to itself, in microseconds. Longer than an attempt takes (`sender.TIMEOUT` and a new access
token); a replica that dies in between leaves the push to others after that."""

FIRST_BACKOFF = 1.0
LONGEST_BACKOFF = 300.0
"""Seconds between two attempts: doubled each time, plus up to as much at random."""


class DeviceToken(msgspec.Struct, frozen=True, kw_only=True):
    """What the push service calls the app on a device of a user."""

    token: str
    user_id: str
    device_id: str
    registered_at_us: int = 0

    @property
    def token_id(self) -> str:
        """A short name for the token, the same everywhere."""
        return _digest(self.token)


class Push(msgspec.Struct, frozen=True, kw_only=True):
    """A user is to be told, on one device, that a timer was shared with them. Times are microseconds since 1970.

    `version`: of the audience they were added to. `due_at_us`: when it may be tried next.
    """

    timer_id: str
    user_id: str
    token_id: str
    timer_name: str
    sharer_id: str
    version: int
    created_at_us: int
    due_at_us: int
    attempts: int = 0

    @property
    def push_id(self) -> str:
        """One per timer, user and token: whoever is added again and again within `KEPT_DONE_US` was told already, unless they
        were removed in between (then the push is forgotten).
        """
        return _digest(f"{self.timer_id}\n{self.user_id}\n{self.token_id}")


class Removal(msgspec.Struct, frozen=True, kw_only=True):
    """A user was removed from the audience of a timer, which got this version by it. It is remembered beside the pushes, as a
    finished one: the addition before it may come later.
    """

    timer_id: str
    user_id: str
    version: int

    @property
    def removal_id(self) -> str:
        """One per timer and user, and no push's."""
        return removal_id(self.timer_id, self.user_id)


def problem_with_token(token: str) -> str | None:
    """What is wrong with a push token, as the rest of a sentence that begins with its name, or None."""
    if not 1 <= len(token) <= MAX_TOKEN:
        return f"must have 1 to {MAX_TOKEN} characters"
    if not (token.isascii() and token.isprintable()) or " " in token:
        return "must be printable ASCII without spaces"
    return None


def surplus(tokens: Iterable[DeviceToken], *, most: int = MAX_TOKENS_PER_USER) -> list[DeviceToken]:
    """Of the tokens of one user: those that are too many, the oldest."""
    newest_first = sorted(tokens, key=lambda each: (each.registered_at_us, each.token_id), reverse=True)
    return newest_first[most:]


def next_attempt_us(push: Push, now_us: int, retry_after: float) -> int | None:
    """When a push that was not taken is to be tried again: after the back-off, and not before `retry_after` seconds, which the push
    service asks for. None: it is given up. `push.attempts` includes the one that has just failed.
    """
    backoff = min(FIRST_BACKOFF * 2.0 ** min(push.attempts - 1, 20), LONGEST_BACKOFF)
    due_at_us = now_us + round(max(backoff * random.uniform(1, 2), retry_after) * 1_000_000)
    if push.attempts >= MAX_ATTEMPTS or due_at_us > push.created_at_us + GIVE_UP_AFTER_US:
        return None
    return due_at_us


def removal_id(timer_id: str, user_id: str) -> str:
    """What a removal of this user is called among the pushes."""
    return _digest(f"{timer_id}\n{user_id}")


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
