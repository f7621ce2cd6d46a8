"""`edge/invitations.py`: what is an invitation, and for how long. What it is good for: `tests/system/test_invitations.py`."""

import time
from typing import Any, cast

import jwt
import pytest

from edge.backend import Backend
from edge.errors import ClientError
from edge.invitations import LIFETIME, Invitation, Invitations
from edge.rest.shapes import MAX_INVITATION

SECRET = "a-secret-of-more-than-thirty-two-bytes"
OTHER_SECRET = "another-secret-of-more-than-32-bytes"
NO_BACKEND = cast(Backend, None)
"""Reading an invitation takes none."""


def signed_by(*secrets: str, age: float = 0.0, **changes: Any) -> str:
    said: dict[str, Any] = {
        "timer_id": "tea",
        "owner": "alice",
        "audience_version": 7,
        "expires_at": time.time() + LIFETIME - age,
    }
    return Invitations(NO_BACKEND, secrets)._sign(Invitation(**said | changes))


def code_of(invitations: Invitations, signed: str) -> int:
    with pytest.raises(ClientError) as refusal:
        invitations.read(signed)
    return refusal.value.code


def test_an_invitation_is_read_as_it_was_made() -> None:
    invitation = Invitations(NO_BACKEND, [SECRET]).read(signed_by(SECRET))
    assert (invitation.timer_id, invitation.owner, invitation.audience_version) == ("tea", "alice", 7)


def test_it_ends_after_a_day() -> None:
    invitations = Invitations(NO_BACKEND, [SECRET])
    assert invitations.read(signed_by(SECRET, age=LIFETIME - 60)).owner == "alice"
    assert code_of(invitations, signed_by(SECRET, age=LIFETIME + 2)) == 403


def test_while_a_secret_is_replaced_both_are_good() -> None:
    invitations = Invitations(NO_BACKEND, [OTHER_SECRET, SECRET])
    for secret in (SECRET, OTHER_SECRET):
        assert invitations.read(signed_by(secret)).timer_id == "tea"
    assert code_of(Invitations(NO_BACKEND, [OTHER_SECRET]), signed_by(SECRET)) == 400


def test_a_signature_is_not_enough() -> None:
    key = Invitations(NO_BACKEND, [SECRET])._keys[0]
    for claims in (
        {},
        {"timer": "tea"},
        {"timer": "tea", "owner": "alice", "at": "7"},
        {"timer": 1, "owner": 2, "at": 3},
    ):
        lasting = jwt.encode(claims | {"exp": time.time() + 60}, key, algorithm="HS256")
        endless = jwt.encode(claims, key, algorithm="HS256")
        assert code_of(Invitations(NO_BACKEND, [SECRET]), lasting) == 400
        assert code_of(Invitations(NO_BACKEND, [SECRET]), endless) == 400


def test_the_longest_ids_fit_into_an_invitation() -> None:
    longest = signed_by(SECRET, timer_id="\u00e9" * 64, owner='"' * 128, audience_version=2**53 - 1)
    assert len(longest) <= MAX_INVITATION
    assert Invitations(NO_BACKEND, [SECRET]).read(longest).timer_id == "\u00e9" * 64


def test_without_a_secret_there_are_none() -> None:
    assert not Invitations(NO_BACKEND, []).possible
    assert code_of(Invitations(NO_BACKEND, []), signed_by(SECRET)) == 400
