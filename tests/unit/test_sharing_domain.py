"""`sharing_service/domain.py`: who may see a timer, and who may change that."""

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from runtime.errors import BubbleError, InvalidArgument, LimitReached, PermissionDenied
from sharing_service.domain import Change, Origin, Role, Share, apply, claim, delivered, role, shortened, validate

NOW = 1_764_000_000_000_000
USERS = ["bob", "carol", "dave", "erin"]


def change(user: str, *, add: bool, by: str = "alice", traceparent: str = "") -> Change:
    return Change(timer_id="tea", user_id=user, add=add, origin=Origin(by, "pixel", "c1"), traceparent=traceparent)


def after(share: Share, *changes: Change, now: int = NOW, max_members: int = 0) -> Share:
    for each in changes:
        share = apply(share, each, now, max_members=max_members)
    return share


def tea(*members: str) -> Share:
    """Alice's tea, whose members have all been told."""
    return delivered(after(claim("tea", "alice", NOW), *(change(member, add=True) for member in members)))


changes_by_owner = st.builds(change, st.sampled_from(USERS), add=st.booleans())
changes_by_anybody = st.builds(
    change, st.sampled_from([*USERS, "alice"]), add=st.booleans(), by=st.sampled_from([*USERS, "alice", "mallory"])
)
clocks = st.integers(NOW - 1_000, NOW + 1_000)


@given(st.lists(st.tuples(changes_by_anybody, clocks, st.booleans()), max_size=40))
def test_what_is_pending_always_agrees_with_who_is_a_member(events: Sequence[tuple[Change, int, bool]]) -> None:
    share = claim("tea", "alice", NOW)
    for each, now, is_delivered in events:
        before = share
        try:
            share = apply(share, each, now, max_members=0)
        except BubbleError:
            assert share is before
            continue
        assert len(set(share.members)) == len(share.members)
        assert share.owner == "alice"
        assert "alice" not in share.members
        assert set(share.added) <= set(share.members)
        assert not set(share.removed) & set(share.members)
        assert not set(share.added) & set(share.removed)
        if share is not before:
            assert share.version > before.version
            assert share.version >= now
            assert share.pending_since_us > 0
            assert (each.user_id in share.members) == each.add
        if is_delivered:
            share = delivered(share)


@given(st.lists(changes_by_owner, max_size=40))
def test_the_last_change_of_each_user_decides(changes: list[Change]) -> None:
    share = after(claim("tea", "alice", NOW), *changes)
    last = {each.user_id: each.add for each in changes}
    assert set(share.members) == {user for user, add in last.items() if add}


@given(st.permutations([change("bob", add=True), change("carol", add=False), change("dave", add=True)]))
def test_changes_of_different_users_may_come_in_any_order(changes: list[Change]) -> None:
    share = after(tea("carol", "erin"), *changes)
    assert set(share.members) == {"bob", "dave", "erin"}
    assert set(share.added) == {"bob", "dave"}
    assert set(share.removed) == {"carol"}


@given(st.lists(changes_by_owner, max_size=20), changes_by_owner)
def test_a_change_that_is_so_already_changes_nothing(changes: list[Change], last: Change) -> None:
    share = after(claim("tea", "alice", NOW), *changes, last)
    assert after(share, last) is share


def test_members_are_listed_in_the_order_of_sharing() -> None:
    share = after(tea(), *(change(user, add=True) for user in ("dave", "bob", "carol")))
    assert share.members == ("dave", "bob", "carol")
    assert after(share, change("bob", add=False), change("bob", add=True)).members == ("dave", "carol", "bob")


def test_somebody_added_and_removed_before_anybody_was_told_is_told_of_the_removal() -> None:
    share = after(tea(), change("bob", add=True), change("bob", add=False))
    assert (share.added, share.removed) == ((), ("bob",))


def test_the_outbox_marker_is_as_old_as_the_first_change_that_waits() -> None:
    share = after(tea(), change("bob", add=True), now=NOW + 5)
    share = after(share, change("carol", add=True), now=NOW + 9)
    assert share.pending_since_us == NOW + 5
    assert delivered(share).pending_since_us == 0
    assert (delivered(share).added, delivered(share).removed) == ((), ())
    assert delivered(share).members == ("bob", "carol")


def test_a_version_rises_even_when_the_clock_goes_back() -> None:
    share = after(tea(), change("bob", add=True), now=NOW + 100)
    assert after(share, change("bob", add=False), now=NOW - 100).version == NOW + 101


def test_a_change_carries_its_origin_and_trace() -> None:
    share = after(tea("bob"), change("bob", add=False, by="bob", traceparent="00-1"))
    assert (share.origin, share.traceparent) == (Origin("bob", "pixel", "c1"), "00-1")


def test_everybody_has_one_role() -> None:
    share = tea("bob")
    assert [role(share, user) for user in ("alice", "bob", "mallory", "")] == [
        Role.OWNER,
        Role.MEMBER,
        Role.STRANGER,
        Role.STRANGER,
    ]


@pytest.mark.parametrize(
    ("by", "user", "add"),
    [
        ("bob", "carol", False),
        ("bob", "dave", True),
        ("bob", "bob", True),
        ("bob", "alice", False),
        ("mallory", "mallory", True),
        ("mallory", "mallory", False),
        ("mallory", "bob", False),
        ("mallory", "alice", True),
        ("", "bob", False),
    ],
)
def test_only_the_owner_changes_the_members(by: str, user: str, *, add: bool) -> None:
    with pytest.raises(PermissionDenied):
        after(tea("bob", "carol"), change(user, add=add, by=by))


def repeatable(user: str, name: str, *, add: bool, by: str = "alice") -> Change:
    return msgspec.structs.replace(change(user, add=add, by=by), operation_id=name)


def test_an_old_copy_of_an_invitation_does_not_undo_the_removal_after_it() -> None:
    invited = repeatable("bob", "invite", add=True)
    share = after(tea(), invited, repeatable("bob", "remove", add=False))
    assert after(share, invited) is share
    assert after(share, repeatable("bob", "invite again", add=True)).members == ("bob",)


def test_whoever_has_left_may_repeat_that() -> None:
    leaves = repeatable("bob", "leave", add=False, by="bob")
    share = after(tea("bob"), leaves)
    assert after(share, leaves) is share


def test_the_name_of_a_change_has_a_bound() -> None:
    with pytest.raises(InvalidArgument) as caught:
        validate(repeatable("bob", "x" * 65, add=True))
    assert caught.value.field == "operationId"


def test_a_member_may_leave_and_can_then_do_nothing_more() -> None:
    share = after(tea("bob", "carol"), change("bob", add=False, by="bob"))
    assert share.members == ("carol",)
    assert share.removed == ("bob",)
    with pytest.raises(PermissionDenied):
        after(share, change("bob", add=False, by="bob"))


@pytest.mark.parametrize("add", [True, False])
def test_the_owner_can_be_neither_added_nor_removed(*, add: bool) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        after(tea("bob"), change("alice", add=add))
    assert refusal.value.field == "sharedWithUser"


def test_a_timer_has_no_more_members_than_the_limit() -> None:
    share = tea("bob", "carol")
    with pytest.raises(LimitReached) as refusal:
        after(share, change("dave", add=True), max_members=2)
    assert refusal.value.retry_after_ms > 0
    assert after(share, change("bob", add=True), max_members=2) is share
    assert after(share, change("bob", add=False), change("dave", add=True), max_members=2).members == ("carol", "dave")


@pytest.mark.parametrize("user", ["", "x" * 129, "bo\x00b", "bob\u202e"])
def test_an_impossible_user_is_refused(user: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        validate(change(user, add=True))
    assert refusal.value.field == "sharedWithUser"


def test_a_claimed_timer_has_an_owner_no_members_and_nothing_to_tell() -> None:
    share = claim("tea", "alice", NOW)
    assert (share.owner, share.members, share.version, share.pending_since_us) == ("alice", (), NOW, 0)


# --- invitations ----------------------------------------------------------------------------------------------------------


def by_invitation(user: str, version: int) -> Change:
    return msgspec.structs.replace(change(user, add=True), invited_at_version=version)


def test_an_invitation_is_good_for_everybody_who_has_it() -> None:
    invited_at = tea().version
    share = after(tea(), by_invitation("bob", invited_at), by_invitation("carol", invited_at))
    assert share.members == ("bob", "carol")


def test_whoever_is_removed_does_not_come_back_by_the_same_invitation_and_nobody_else_comes_by_it() -> None:
    invited_at = tea().version
    share = after(tea(), by_invitation("bob", invited_at), change("bob", add=False))
    for user in ("bob", "carol"):
        with pytest.raises(PermissionDenied):
            apply(share, by_invitation(user, invited_at), NOW, max_members=0)
    assert after(share, by_invitation("bob", share.version)).members == ("bob",)


def test_whoever_leaves_by_itself_ends_no_invitation() -> None:
    invited_at = tea().version
    share = after(tea(), by_invitation("bob", invited_at), change("bob", add=False, by="bob"))
    assert after(share, by_invitation("bob", invited_at)).members == ("bob",)


def test_a_member_who_follows_an_old_invitation_again_stays_a_member() -> None:
    share = after(tea("bob", "carol"), change("carol", add=False))
    assert apply(share, by_invitation("bob", 1), NOW, max_members=0) is share


def test_an_invitation_made_by_somebody_who_is_not_the_owner_is_worth_nothing() -> None:
    share = tea("bob")
    forged = msgspec.structs.replace(change("carol", add=True, by="bob"), invited_at_version=share.version)
    with pytest.raises(PermissionDenied):
        apply(share, forged, NOW, max_members=0)


def test_the_timers_name_stays_with_those_who_wait_to_be_told_whatever_comes_after_them() -> None:
    named = structs.replace(change("bob", add=True), timer_name="Tea")
    share = after(claim("tea", "alice", NOW), named, change("carol", add=True), change("carol", add=False))
    assert share.timer_name == "Tea"
    assert after(share, structs.replace(change("dave", add=True), timer_name="Green tea")).timer_name == "Green tea"


@pytest.mark.parametrize(
    ("most_bytes", "user_id", "members"),
    [
        (1_000, "bob", ("bob", "carol", "zoë")),
        (20, "bob", ("bob", "carol")),
        (21, "bob", ("bob", "carol", "zoë")),
        (20, "zoë", ("bob", "carol", "zoë")),
        (1, "zoë", ("zoë",)),
        (1, "alice", ()),
        (1, "mallory", ()),
    ],
)
def test_a_shortened_audience_has_its_first_members_and_the_user_if_they_are_one(
    most_bytes: int, user_id: str, members: tuple[str, ...]
) -> None:
    whole = Share(timer_id="tea", owner="alice", members=("bob", "carol", "zoë"), version=7)
    short = shortened(whole, user_id, most_bytes)
    assert (short.owner, short.version, short.members) == ("alice", 7, members)
