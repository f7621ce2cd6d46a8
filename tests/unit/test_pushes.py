"""`connection_service/pushes.py`: who is told by push, and when it is tried again."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connection_service.push_convert import to_be_pushed
from connection_service.pushes import (
    FIRST_BACKOFF,
    GIVE_UP_AFTER_US,
    LONGEST_BACKOFF,
    MAX_ATTEMPTS,
    MAX_TOKEN,
    DeviceToken,
    Push,
    Removal,
    next_attempt_us,
    problem_with_token,
    surplus,
)
from proto.connection.v1 import connection_pb2
from proto.event.v1 import event_pb2

NOW = 1_764_000_000_000_000
SECOND = 1_000_000


def push(*, attempts: int = 1, created: int = NOW) -> Push:
    return Push(
        timer_id="tea", user_id="bob", token_id="t", timer_name="Tea", sharer_id="alice", version=1,
        created_at_us=created, due_at_us=created, attempts=attempts,
    )  # fmt: skip


@given(st.integers(1, MAX_ATTEMPTS - 1))
def test_the_back_off_doubles_up_to_a_bound_and_has_jitter(attempts: int) -> None:
    due = next_attempt_us(push(attempts=attempts), NOW, 0)
    backoff = min(FIRST_BACKOFF * 2 ** (attempts - 1), LONGEST_BACKOFF)
    assert due is not None
    assert backoff * SECOND <= due - NOW <= 2 * backoff * SECOND + 1


def test_nobody_is_asked_earlier_than_they_wish() -> None:
    assert next_attempt_us(push(), NOW, 90.0) == NOW + 90 * SECOND


def test_a_push_is_given_up_after_an_hour_or_too_many_attempts() -> None:
    assert next_attempt_us(push(attempts=MAX_ATTEMPTS), NOW, 0) is None
    assert next_attempt_us(push(created=NOW - GIVE_UP_AFTER_US), NOW, 0) is None
    assert next_attempt_us(push(), NOW, GIVE_UP_AFTER_US / SECOND + 1) is None  # asked to come when it is too late


def test_of_tokens_the_newest_stay() -> None:
    tokens = [DeviceToken(token=str(n), user_id="u", device_id=str(n), registered_at_us=n) for n in (3, 1, 2)]
    assert [token.token for token in surplus(tokens, most=1)] == ["2", "1"]
    assert surplus(tokens, most=3) == []


@pytest.mark.parametrize("token", ["", "x" * (MAX_TOKEN + 1), "a b", "a\n", "ü", "\x7f"])
def test_what_is_no_token(token: str) -> None:
    assert problem_with_token(token)


def test_what_is_one() -> None:
    assert problem_with_token("dEv:APA91b_-" + "x" * 150) is None
    assert problem_with_token("x" * MAX_TOKEN) is None


def changed(*, added: list[str] = [], removed: list[str] = []) -> connection_pb2.DeliverItem:  # noqa: B006  # read only
    event = event_pb2.Event(
        audience=event_pb2.Audience(owner_id="alice", member_ids=added, version=7),
        audience_changed=event_pb2.AudienceChanged(
            timer_id="tea", added_user_ids=added, removed_user_ids=removed, timer_name="Tea"
        ),
    )
    return connection_pb2.DeliverItem(event=event, user_ids=["alice", *added, *removed])


def test_those_without_a_connection_are_invited_and_the_others_not() -> None:
    invitations, removals = to_be_pushed([changed(added=["bob", "carol"])], (), lambda user: user == "bob", NOW)
    assert removals == {}
    (invitation,) = invitations[0]
    assert (invitation.user_id, invitation.timer_id, invitation.timer_name) == ("carol", "tea", "Tea")
    assert (invitation.sharer_id, invitation.version, invitation.due_at_us) == ("alice", 7, NOW)


def test_while_it_is_not_known_who_is_connected_nobody_is_invited_but_removals_count() -> None:
    items = [changed(added=["bob"], removed=["dave"]), changed(added=["bob"])]
    invitations, removals = to_be_pushed(items, {0}, lambda _: False, NOW)
    assert invitations.keys() == {1}
    assert removals == {0: [Removal(timer_id="tea", user_id="dave", version=7)]}


def test_states_of_timers_invite_nobody() -> None:
    item = connection_pb2.DeliverItem(event=event_pb2.Event(timer_changed=event_pb2.TimerChanged()), user_ids=["bob"])
    assert to_be_pushed([item], (), lambda _: False, NOW) == ({}, {})


def test_a_push_is_named_after_timer_user_and_token_only() -> None:
    ids = {push().push_id, push(attempts=9, created=NOW + 1).push_id}
    assert len(ids) == 1
    for field in ("timer_id", "user_id", "token_id"):
        ids.add(msgspec.structs.replace(push(), **{field: "other"}).push_id)
    assert len(ids) == 4
