"""Sharing by link: an invitation is a signed text that its owner hands on, and whoever presents it becomes a member.

It names a timer, the owner who made it, the version of the timer's audience at that moment, and its end. Nothing is stored:
the sharing service stays the only authority on access. It sees an addition in the owner's name, so an invitation that somebody
else made is worth nothing; and it refuses those that are older than the owner's last removal of a member, so that whoever was
removed does not come back by the same link.
"""

import hmac
import time
from collections.abc import Sequence
from typing import Any

import jwt
import msgspec

from edge.backend import Backend
from edge.errors import ClientError, from_item
from proto.common.v1 import common_pb2
from proto.event.v1 import event_pb2
from proto.sharing.v1 import sharing_pb2

LIFETIME = 24 * 3_600.0
"""Seconds an invitation is good for: long enough for a family to see it, short enough to be forgotten in a chat."""

MAX_LENGTH = 2_048
"""Characters of an invitation, which travels in a link. The longest ids make it some 900 long."""

_ALGORITHM = "HS256"
_PURPOSE = b"bubble-timer invitation 1"


class Invitation(msgspec.Struct, frozen=True):
    """What an invitation says. `audience_version`: of the timer when it was made. `expires_at`: seconds since 1970."""

    timer_id: str
    owner: str
    audience_version: int
    expires_at: float


class Invitations:
    """Makes invitations and accepts them.

    `secrets`: those of the tokens; the first one signs, all of them are good for checking. The keys are derived from them, so
    that an invitation is never taken for an access token, nor an access token for an invitation.
    """

    def __init__(self, backend: Backend, secrets: Sequence[str]) -> None:
        self._backend = backend
        self._keys = [hmac.digest(secret.encode(), _PURPOSE, "sha256") for secret in secrets]

    @property
    def possible(self) -> bool:
        """Whether there is a secret to sign with; where tokens are checked by a key set only, there may be none."""
        return bool(self._keys)

    async def make(self, timer_id: str, owner: str) -> tuple[str, Invitation]:
        """An invitation to a timer, and what it says. Raises ClientError: 404, also for a stopped timer; 403 for all but the
        owner.
        """
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
        invitation = self.read(signed)
        await self._live(invitation.timer_id)
        if user_id == invitation.owner:
            return invitation
        change = sharing_pb2.ChangeItem(
            # In the owner's name, and from no device: all of the owner's screens are to be told.
            origin=common_pb2.Origin(user_id=invitation.owner),
            timer_id=invitation.timer_id,
            add_user_id=user_id,
            invited_at_version=invitation.audience_version,
            traceparent=traceparent,
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


def _from_claims(claims: dict[str, Any]) -> Invitation:
    said = {"timer_id": claims.get("timer"), "owner": claims.get("owner"), "audience_version": claims.get("at")}
    return msgspec.convert({**said, "expires_at": float(claims["exp"])}, Invitation)
