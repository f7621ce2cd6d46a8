"""Sharing by link: an invitation is a signed text that its owner hands on, and whoever presents it becomes a member.

It names a timer, the owner who made it, the version of the timer's audience at that moment, and its end. Nothing is stored:
the sharing service stays the only authority on access. It sees an addition in the owner's name, so an invitation that somebody
else made is worth nothing; and it refuses those that are older than the owner's last removal of a member, so that whoever was
removed does not come back by the same link.
"""

import hmac
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

import jwt
import msgspec

from edge import metrics
from edge.backend import Backend
from edge.errors import ClientError, from_exception, from_item, too_many
from edge.rest.rates import UserRates
from proto.common.v1 import common_pb2
from proto.event.v1 import event_pb2
from proto.sharing.v1 import sharing_pb2

LIFETIME = 24 * 3_600.0
"""Seconds an invitation is good for: long enough for a family to see it, short enough to be forgotten in a chat."""

_ALGORITHM = "HS256"
_PURPOSE = b"bubble-timer invitation 1"


class Outcome(StrEnum):
    """What came of a request to make an invitation, or to accept one. docs/operations.md says what each means."""

    MADE = "made"
    DENIED = "denied"
    LIMITED = "limited"
    ACCEPTED = "accepted"
    INVALID = "invalid"
    ENDED = "ended"
    FULL = "full"
    GONE = "gone"
    FAILED = "failed"


# By the code of the refusal; any other is a failure of ours.
_NOT_MADE = {403: Outcome.DENIED, 404: Outcome.GONE, 429: Outcome.LIMITED}
_NOT_ACCEPTED = {400: Outcome.INVALID, 403: Outcome.ENDED, 404: Outcome.GONE, 429: Outcome.FULL}


class Invitation(msgspec.Struct, frozen=True):
    """What an invitation says. `audience_version`: of the timer when it was made. `expires_at`: seconds since 1970."""

    timer_id: str
    owner: str
    audience_version: int
    expires_at: float


class Invitations:
    """Makes invitations and accepts them.

    `token_secrets`: those of the tokens; the first one signs, all of them are good for checking. The keys are derived from
    them, so that an invitation is never taken for an access token, nor an access token for an invitation. `per_minute`: how
    many a user may ask for, on average and at once; 0 = no limit.
    """

    def __init__(self, backend: Backend, token_secrets: Sequence[str], *, per_minute: float = 0) -> None:
        self._backend = backend
        self._keys = [hmac.digest(secret.encode(), _PURPOSE, "sha256") for secret in token_secrets]
        self._rates = UserRates(per_minute / 60, per_minute)

    @property
    def possible(self) -> bool:
        """Whether there is a secret to sign with; where tokens are checked by a key set only, there may be none."""
        return bool(self._keys)

    async def make(self, timer_id: str, owner: str) -> tuple[str, Invitation]:
        """An invitation to a timer, and what it says. Raises ClientError: 404, also for a stopped timer, and where there are no
        invitations; 403 for all but the owner; 429 for who has asked for too many.
        """
        if not self.possible:
            raise ClientError(404, "There are no invitations here: the edge has no secret to sign them with")
        with _counted(Outcome.MADE, _NOT_MADE):
            wait = self._rates.wait(owner, time.monotonic())
            if wait:
                raise too_many("invitations", wait)
            view = await self._live(timer_id)
            if view.audience.owner_id != owner:
                raise ClientError(403, "Only the owner can invite", field="timerId")
            invitation = Invitation(timer_id, owner, view.audience.version, float(int(time.time() + LIFETIME)))
            return self._sign(invitation), invitation

    async def accept(self, signed: str, user_id: str, traceparent: str = "") -> Invitation:
        """Makes the bearer a member. Whoever is one already, or is the owner, is answered as done, so it may be repeated.

        Raises ClientError: 400 when it is no invitation of ours; 403 when it has expired, or its owner has removed somebody
        since it was made or owns the timer no more; 404 when the timer is gone; 429 when the timer, or the user, has too many.
        """
        with _counted(Outcome.ACCEPTED, _NOT_ACCEPTED):
            invitation = self.read(signed)
            view = await self._live(invitation.timer_id)
            if user_id == invitation.owner:
                return invitation
            change = sharing_pb2.ChangeItem(
                # In the owner's name, and from no device: all of the owner's screens are to be told.
                origin=common_pb2.Origin(user_id=invitation.owner),
                timer_id=invitation.timer_id,
                add_user_id=user_id,
                invited_at_version=invitation.audience_version,
                traceparent=traceparent,
                operation_id=secrets.token_hex(12),  # for repeats of our own channel
                timer_name=view.timer.name,  # for the bearer's phones, which are told by push while none is connected
            )
            result = await self._backend.change(change)
            if result.HasField("error"):
                raise from_item(result.error)
            return invitation

    def read(self, signed: str) -> Invitation:
        """What an invitation says, when it is one of ours and has not expired. Raises ClientError."""
        for key in self._keys:
            try:
                claims = jwt.decode(signed, key, algorithms=[_ALGORITHM], options={"require": ["exp"]})
                return _from_claims(claims)
            except jwt.ExpiredSignatureError as error:
                raise ClientError(403, "The invitation has expired", field="invitation") from error
            except (jwt.PyJWTError, msgspec.ValidationError):
                continue  # perhaps it was signed with another one of the secrets
        raise ClientError(400, "This is no invitation", field="invitation")

    def _sign(self, invitation: Invitation) -> str:
        claims = {
            "timer": invitation.timer_id,
            "owner": invitation.owner,
            "at": invitation.audience_version,
            "exp": int(invitation.expires_at),
        }
        return jwt.encode(claims, self._keys[0], algorithm=_ALGORITHM)

    async def _live(self, timer_id: str) -> event_pb2.TimerView:
        result = await self._backend.get(timer_id)
        if not result.HasField("view") or result.view.timer.run_state == event_pb2.RUN_STATE_STOPPED:
            raise ClientError(404, "There is no such timer", field="timerId")
        return result.view


@contextmanager
def _counted(done: Outcome, refused: Mapping[int, Outcome]) -> Iterator[None]:
    """Counts what comes of it: `done`, or what the code of a refusal means."""
    try:
        yield
    except Exception as error:
        metrics.INVITATIONS.labels(refused.get(from_exception(error).code, Outcome.FAILED)).inc()
        raise
    metrics.INVITATIONS.labels(done).inc()


def _from_claims(claims: dict[str, Any]) -> Invitation:
    said = {"timer_id": claims.get("timer"), "owner": claims.get("owner"), "audience_version": claims.get("at")}
    return msgspec.convert({**said, "expires_at": float(claims["exp"])}, Invitation)
