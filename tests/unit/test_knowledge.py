"""`edge/knowledge.py`: at-least-once deliveries in any order become states that never go back."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.codec.seed import SeedCodec
from edge.knowledge import (
    MAX_REMEMBERED,
    MAX_STAGED,
    Knowledge,
    TimerState,
    TooMuchStaged,
    Verdict,
)
from proto.event.v1 import event_pb2
from proto.timer.v1 import timer_pb2

OWNER = "alice"
MEMBER = "bob"


def view(
    version: int,
    audience_version: int,
    *,
    members: Iterable[str] = (MEMBER,),
    stopped: bool = False,
    timer_id: str = "tea",
    name: str = "",
) -> event_pb2.TimerView:
    return event_pb2.TimerView(
        timer=event_pb2.Timer(
            timer_id=timer_id,
            name=name,
            version=version,
            run_state=event_pb2.RUN_STATE_STOPPED if stopped else event_pb2.RUN_STATE_IDLE,
            stopped_by=OWNER if stopped else "",
        ),
        audience=event_pb2.Audience(owner_id=OWNER, member_ids=members, version=audience_version),
    )


def state(
    version: int,
    audience_version: int,
    *,
    members: Iterable[str] = (MEMBER,),
    stopped: bool = False,
    timer_id: str = "tea",
) -> TimerState:
    made = view(version, audience_version, members=members, stopped=stopped, timer_id=timer_id)
    return TimerState(made, f"{version}.{timer_id}", 0)


def snapshot_of(*views: event_pb2.TimerView, known: Iterable[event_pb2.TimerView] = ()) -> timer_pb2.UserSnapshot:
    """A snapshot with views, and with the versions of timers that the client has already."""
    snapshot = timer_pb2.UserSnapshot(views=views)
    for each in (*views, *known):
        versions = snapshot.versions[each.timer.timer_id]
        versions.version, versions.audience_version = each.timer.version, each.audience.version
    return snapshot


def ready(user: str, *views: event_pb2.TimerView) -> Knowledge:
    """What a client knows after a first snapshot."""
    knowledge = Knowledge(user)
    knowledge.snapshot(snapshot_of(*views), [])
    return knowledge


# --- one event at a time --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("user", [OWNER, MEMBER])
def test_a_newer_state_is_sent_and_an_older_or_equal_one_is_not(user: str) -> None:
    knowledge = ready(user, view(5, 1))
    assert knowledge.offer(state(5, 1)) is Verdict.SKIP
    assert knowledge.offer(state(4, 1)) is Verdict.SKIP
    assert knowledge.offer(state(6, 1)) is Verdict.SEND
    assert knowledge.offer(state(6, 1)) is Verdict.SKIP
    assert knowledge.offer(state(5, 9)) is Verdict.SKIP


def test_a_newer_audience_of_the_same_state_is_sent() -> None:
    assert ready(OWNER, view(5, 1)).offer(state(5, 2)) is Verdict.SEND


def test_a_new_state_with_an_audience_of_before_a_change_that_is_known_is_loaded() -> None:
    knowledge = ready(MEMBER, view(5, 3))
    assert knowledge.offer(state(6, 2)) is Verdict.LOAD
    assert knowledge.offer_loaded(state(6, 3)) is Verdict.SEND
    assert knowledge.offer(state(6, 2)) is Verdict.SKIP


def test_what_was_read_before_a_state_that_was_committed_for_the_audience_of_before_is_read_again() -> None:
    knowledge = ready(OWNER, view(7, 5))
    # Bob's removal (audience 6) was announced and is being looked up when state 8 comes, committed for the audience with him.
    assert knowledge.offer(state(8, 5)) is Verdict.SEND
    assert knowledge.offer_loaded(state(7, 6, members=[])) is Verdict.LOAD
    assert knowledge.offer_loaded(state(8, 6, members=[])) is Verdict.SEND


def test_a_new_timer_of_the_user_is_sent_and_one_of_somebody_else_is_loaded_first() -> None:
    assert ready(OWNER).offer(state(1, 1)) is Verdict.SEND
    assert ready(MEMBER).offer(state(1, 1)) is Verdict.LOAD


def test_a_timer_that_was_loaded_for_a_new_member_is_shown_as_a_share() -> None:
    knowledge = ready(MEMBER)
    assert knowledge.offer_loaded(state(1, 1)) is Verdict.SEND_AS_SHARE
    assert knowledge.offer_loaded(state(1, 1)) is Verdict.SKIP
    assert knowledge.offer_loaded(state(2, 1)) is Verdict.SEND
    assert knowledge.offer_loaded(state(1, 1)) is Verdict.SKIP


def test_a_timer_that_the_user_may_not_see_is_never_sent() -> None:
    assert ready(MEMBER).offer_loaded(state(1, 1, members=["carol"])) is Verdict.SKIP


def test_a_stopped_timer_that_the_client_never_knew_is_not_shown() -> None:
    knowledge = ready(MEMBER)
    assert knowledge.offer_loaded(state(2, 1, stopped=True)) is Verdict.SKIP
    assert knowledge.offer(state(1, 1)) is Verdict.SKIP


def test_after_a_stop_only_a_timer_made_anew_is_sent() -> None:
    knowledge = ready(OWNER, view(1, 1))
    assert knowledge.offer(state(3, 1, stopped=True)) is Verdict.SEND
    assert knowledge.offer(state(3, 1, stopped=True)) is Verdict.SKIP
    assert knowledge.offer(state(2, 1)) is Verdict.SKIP
    assert knowledge.offer_loaded(state(2, 1)) is Verdict.SKIP
    assert knowledge.offer(state(4, 1)) is Verdict.SEND


def test_a_member_loads_a_timer_made_anew_and_sees_it_again() -> None:
    knowledge = ready(MEMBER, view(1, 1))
    assert knowledge.offer(state(3, 1, stopped=True)) is Verdict.SEND
    assert knowledge.offer(state(4, 1)) is Verdict.LOAD
    assert knowledge.offer_loaded(state(4, 1)) is Verdict.SEND


# --- taking away ----------------------------------------------------------------------------------------------------------


def test_after_a_revocation_nothing_of_before_it_is_sent() -> None:
    knowledge = ready(MEMBER, view(5, 1))
    assert knowledge.revoke("tea", 2)
    assert knowledge.offer(state(6, 1)) is Verdict.LOAD  # whether it was shared again only the authority knows
    assert knowledge.offer_loaded(state(6, 2, members=[])) is Verdict.SKIP
    assert knowledge.offer_loaded(state(6, 1)) is Verdict.SKIP  # read before the removal


def test_a_client_is_told_of_a_revocation_once_and_only_of_what_it_knew() -> None:
    knowledge = ready(MEMBER, view(5, 1))
    assert knowledge.revoke("tea", 2)
    assert not knowledge.revoke("tea", 2)
    assert not knowledge.revoke("tea", 3)
    assert not knowledge.revoke("never seen", 1)


def test_a_timer_that_is_shared_again_is_a_new_share_whatever_its_version() -> None:
    knowledge = ready(MEMBER, view(5, 1))
    knowledge.revoke("tea", 2)
    assert knowledge.offer_loaded(state(5, 3)) is Verdict.SEND_AS_SHARE


def test_a_late_revocation_does_not_take_away_what_was_shared_again() -> None:
    knowledge = ready(MEMBER, view(5, 1))
    assert knowledge.offer_loaded(state(5, 3)) is Verdict.SEND
    assert not knowledge.revoke("tea", 2)
    assert knowledge.offer(state(6, 3)) is Verdict.SEND


def test_an_audience_is_known_once_it_or_a_newer_one_was_sent() -> None:
    knowledge = ready(OWNER, view(5, 2))
    assert knowledge.audience_is_known("tea", 1)
    assert knowledge.audience_is_known("tea", 2)
    assert not knowledge.audience_is_known("tea", 3)
    assert not knowledge.audience_is_known("eggs", 1)


def test_what_is_remembered_of_timers_that_are_gone_is_bounded_and_the_newest_stay() -> None:
    knowledge = ready(MEMBER)
    for number in range(3 * MAX_REMEMBERED):
        knowledge.revoke(f"timer-{number}", 1)
    assert len(knowledge._gone) == MAX_REMEMBERED
    last = f"timer-{3 * MAX_REMEMBERED - 1}"
    assert knowledge.offer_loaded(state(1, 1, timer_id=last)) is Verdict.SKIP


# --- before the first snapshot --------------------------------------------------------------------------------------------


def test_what_comes_before_the_first_snapshot_is_kept_and_offered_after_it() -> None:
    knowledge = Knowledge(OWNER)
    assert not knowledge.ready
    assert knowledge.offer(state(3, 1)) is Verdict.WAIT
    assert knowledge.offer(state(2, 1)) is Verdict.WAIT
    assert knowledge.offer_loaded(state(4, 1)) is Verdict.WAIT
    views, _, staged = knowledge.snapshot(snapshot_of(view(3, 1)), [])
    assert knowledge.ready
    assert [each.timer.version for each in views] == [3]
    assert [each.version for each in staged] == [4]
    assert knowledge.offer(staged[0]) is Verdict.SEND


def test_what_the_first_snapshot_has_already_is_not_sent_twice() -> None:
    knowledge = Knowledge(OWNER)
    knowledge.offer(state(3, 1))
    _, _, staged = knowledge.snapshot(snapshot_of(view(3, 1)), [])
    assert [knowledge.offer(each) for each in staged] == [Verdict.SKIP]


def test_a_timer_that_was_taken_away_before_the_first_snapshot_is_not_in_it() -> None:
    knowledge = Knowledge(MEMBER)
    knowledge.offer(state(3, 1))
    assert knowledge.revoke("tea", 2)
    views, _, staged = knowledge.snapshot(snapshot_of(view(3, 1), view(1, 1, timer_id="eggs")), [])
    assert [each.timer.timer_id for each in views] == ["eggs"]
    assert staged == []
    assert not knowledge.audience_is_known("tea", 1)


@pytest.mark.parametrize("removal_comes_first", [True, False])
def test_neither_a_state_nor_an_audience_is_lost_before_the_first_snapshot(*, removal_comes_first: bool) -> None:
    knowledge = Knowledge(OWNER)
    read_for_the_removal, committed_before_it = state(7, 6, members=[]), state(8, 5)
    if removal_comes_first:
        knowledge.offer_loaded(read_for_the_removal)
    knowledge.offer(committed_before_it)
    if not removal_comes_first:
        knowledge.offer_loaded(read_for_the_removal)
    _, _, staged = knowledge.snapshot(snapshot_of(view(7, 5)), [])
    assert [knowledge.offer(each) for each in staged] == [Verdict.SEND, Verdict.LOAD]
    assert knowledge.audience_is_known("tea", 6)
    assert knowledge.offer_loaded(state(8, 6, members=[])) is Verdict.SEND


def test_more_than_any_user_may_see_is_not_kept() -> None:
    knowledge = Knowledge(OWNER)
    for number in range(MAX_STAGED):
        knowledge.offer(state(1, 1, timer_id=f"timer-{number}"))
    knowledge.offer(state(2, 1, timer_id="timer-0"))  # a newer state takes the older one's place
    with pytest.raises(TooMuchStaged):
        knowledge.offer(state(1, 1, timer_id="one more"))


# --- later snapshots ------------------------------------------------------------------------------------------------------


def test_a_snapshot_that_is_older_than_what_came_since_does_not_go_back() -> None:
    knowledge = ready(OWNER, view(1, 1))
    knowledge.offer(state(5, 1))
    views, _, _ = knowledge.snapshot(snapshot_of(view(4, 1)), [])
    assert views == []
    assert knowledge.offer(state(4, 1)) is Verdict.SKIP
    assert knowledge.offer(state(5, 1)) is Verdict.SKIP


def test_timers_that_a_client_had_already_are_known_from_its_snapshot_on() -> None:
    knowledge = Knowledge(OWNER)
    views, _, _ = knowledge.snapshot(snapshot_of(known=[view(7, 2)]), [])
    assert views == []
    assert knowledge.offer(state(7, 2)) is Verdict.SKIP
    assert knowledge.offer(state(8, 2)) is Verdict.SEND


def test_a_snapshot_that_was_read_before_a_stop_does_not_bring_the_timer_back() -> None:
    knowledge = ready(OWNER, view(1, 1))
    knowledge.offer(state(3, 1, stopped=True))
    views, _, _ = knowledge.snapshot(snapshot_of(view(2, 1)), [])
    assert views == []
    assert knowledge.offer(state(2, 1)) is Verdict.SKIP


def test_a_snapshot_that_was_read_before_a_revocation_does_not_show_the_timer_again() -> None:
    knowledge = ready(MEMBER, view(1, 1))
    knowledge.revoke("tea", 2)
    views, _, _ = knowledge.snapshot(snapshot_of(view(1, 1)), [])
    assert views == []


def test_a_removal_that_comes_after_the_timer_was_shared_again_and_stopped_does_not_bring_it_back() -> None:
    knowledge = ready(MEMBER)
    assert knowledge.offer_loaded(state(5, 3)) is Verdict.SEND_AS_SHARE
    assert knowledge.offer(state(6, 3, stopped=True)) is Verdict.SEND
    assert not knowledge.revoke("tea", 2)
    assert knowledge.offer_loaded(state(5, 3)) is Verdict.SKIP  # read before the stop


def test_a_timer_that_runs_again_is_not_shown_with_an_audience_of_before_its_stop() -> None:
    knowledge = ready(OWNER, view(5, 3))
    assert knowledge.offer(state(6, 3, stopped=True)) is Verdict.SEND
    assert knowledge.offer(state(7, 2)) is Verdict.LOAD
    assert knowledge.offer_loaded(state(7, 2)) is Verdict.SKIP
    assert knowledge.offer_loaded(state(7, 3)) is Verdict.SEND


def test_what_is_taken_away_while_a_resuming_client_syncs_is_named_as_gone() -> None:
    knowledge = Knowledge(MEMBER)
    knowledge.stage()
    assert not knowledge.revoke("tea", 2), "nobody knows yet that this client has it"
    assert knowledge.snapshot(snapshot_of(known=[view(1, 1)]), ["tea"]).gone == ["tea"]


# --- the client's own commands --------------------------------------------------------------------------------------------


def test_a_client_that_missed_nothing_is_not_sent_its_own_change() -> None:
    knowledge = ready(OWNER, view(1, 1))
    assert not knowledge.wrote(state(2, 1), 2, 1, waiting=False)
    assert knowledge.offer(state(2, 1)) is Verdict.SKIP
    assert knowledge.offer(state(3, 1)) is Verdict.SEND


def test_a_client_that_missed_what_its_change_was_built_on_is_sent_the_whole() -> None:
    knowledge = ready(OWNER, view(1, 1))
    assert knowledge.wrote(state(3, 1), 3, 2, waiting=False)


def test_a_client_whose_change_was_followed_by_another_in_the_same_batch_is_sent_the_whole() -> None:
    knowledge = ready(OWNER, view(1, 1))
    assert knowledge.wrote(state(3, 1), 2, 1, waiting=False)


def test_a_client_with_an_older_state_still_waiting_is_sent_the_whole() -> None:
    knowledge = ready(OWNER, view(1, 1))
    knowledge.offer(state(2, 1))
    assert knowledge.wrote(state(3, 1), 3, 2, waiting=True)


def test_the_creator_of_a_timer_is_not_sent_it() -> None:
    knowledge = ready(OWNER)
    assert not knowledge.wrote(state(1, 1), 1, 0, waiting=False)
    assert knowledge.offer(state(1, 1)) is Verdict.SKIP


def test_whoever_makes_a_stopped_timer_anew_is_not_sent_it() -> None:
    knowledge = ready(OWNER, view(1, 1))
    knowledge.offer(state(2, 1, stopped=True))
    assert not knowledge.wrote(state(3, 1), 3, 2, waiting=False)
    assert knowledge.offer(state(4, 1)) is Verdict.SEND


def test_an_answer_that_is_older_than_what_came_since_changes_nothing() -> None:
    knowledge = ready(OWNER, view(1, 1))
    knowledge.offer(state(5, 1))
    assert not knowledge.wrote(state(4, 1), 4, 1, waiting=False)
    assert knowledge.offer(state(5, 1)) is Verdict.SKIP


def test_an_answer_that_comes_after_a_stop_does_not_bring_the_timer_back() -> None:
    knowledge = ready(OWNER, view(8, 1))
    assert knowledge.offer(state(10, 1, stopped=True)) is Verdict.SEND
    assert not knowledge.wrote(state(9, 1), 9, 8, waiting=False)
    assert knowledge.version_of("tea") == 0
    assert knowledge.offer(state(9, 1)) is Verdict.SKIP


def test_who_changed_the_audience_knows_it_from_the_answer_and_is_not_sent_its_next_change() -> None:
    knowledge = ready(OWNER, view(1, 1, members=[]))
    knowledge.told_audience("tea", 2)
    assert not knowledge.wrote(state(2, 2), 2, 1, waiting=False)
    assert knowledge.offer(state(2, 2)) is Verdict.SKIP


def test_an_audience_of_before_changes_nothing_when_it_is_told_late() -> None:
    knowledge = ready(OWNER, view(1, 3))
    knowledge.told_audience("tea", 2)
    knowledge.told_audience("eggs", 2)
    assert knowledge.audience_is_known("tea", 3)
    assert not knowledge.audience_is_known("eggs", 1)


def test_what_the_client_makes_anew_while_a_snapshot_is_read_is_not_gone() -> None:
    knowledge = ready(OWNER)
    knowledge.stage()
    assert not knowledge.wrote(state(3, 1), 3, 0, waiting=False)
    fresh = knowledge.snapshot(timer_pb2.UserSnapshot(gone_timer_ids=["tea", "eggs"]), ["tea", "eggs"])
    assert fresh.gone == ["eggs"]
    assert knowledge.version_of("tea") == 3


def test_what_is_made_anew_and_taken_away_while_a_snapshot_is_read_is_gone() -> None:
    knowledge = ready(MEMBER, view(1, 1))
    knowledge.stage()
    knowledge.wrote(state(3, 1), 3, 1, waiting=False)
    assert knowledge.revoke("tea", 2)
    assert knowledge.snapshot(timer_pb2.UserSnapshot(gone_timer_ids=["tea"]), ["tea"]).gone == ["tea"]


def test_a_change_of_the_audience_is_not_lost_when_the_clients_own_command_learns_of_it_first() -> None:
    knowledge = ready(OWNER, view(1, 1, members=[]))
    # Another device of alice has shared the timer; its event is on its way when this device's update is answered.
    is_sent_the_whole = knowledge.wrote(state(2, 2), 2, 1, waiting=False)
    assert is_sent_the_whole or not knowledge.audience_is_known("tea", 2)


# --- frames ---------------------------------------------------------------------------------------------------------------


def test_a_state_is_encoded_once_for_all_its_readers() -> None:
    one = state(1, 1)
    codec = SeedCodec()
    assert one.frame(codec) is one.frame(codec)
    assert one.frame(codec, as_share=True) is one.frame(codec, as_share=True)
    assert one.frame(codec) != one.frame(codec, as_share=True)


def test_a_state_is_visible_to_its_audience_only() -> None:
    one = state(1, 1, members=["bob", "carol"])
    assert [one.visible_to(user) for user in ("alice", "bob", "carol", "mallory", "")] == [True] * 3 + [False] * 2


# --- everything at once ---------------------------------------------------------------------------------------------------


class TimerEvent(NamedTuple):
    """A state on its way to the edge."""

    view: event_pb2.TimerView


class AudienceEvent(NamedTuple):
    """A changed audience on its way to the edge."""

    audience: event_pb2.Audience
    removed: frozenset[str]


class Load(NamedTuple):
    """The edge asks for the timer; what is read is None until it has been."""

    read: event_pb2.TimerView | None = None


class FirstSnapshot(NamedTuple):
    """The client's timers, as they were read."""

    read: timer_pb2.UserSnapshot


class Answer(NamedTuple):
    """The answer to this client's own update."""

    view: event_pb2.TimerView
    version: int
    base_version: int
    change: str


class World:
    """A timer with its audience, what is on its way to one client, and that client.

    Changes are committed at once; what tells of them comes in any order and any number of times, possibly sent again with
    the audience of then, as the relay does. The name of a timer lists all changes it was made of, so a client that has
    missed one is found out.
    """

    def __init__(self, user: str, *, resumes: bool = False) -> None:
        self.user = user
        self.clock = 10
        self.members: list[str] = [MEMBER] if resumes else []
        self.removed: set[str] = set()
        self.audience_version = self.tick()
        self.timer = event_pb2.Timer(timer_id="tea", name="0", version=self.tick(), run_state=event_pb2.RUN_STATE_IDLE)
        self.old: list[event_pb2.Timer] = []
        self.under_way: list[TimerEvent | AudienceEvent | Load | FirstSnapshot] = []
        self.answers: list[Answer] = []
        self.knowledge = Knowledge(user)
        # What the client shows.
        self.content: str | None = None
        self.version = 0
        self.share_version = 0
        self.revoked_at = 0
        if resumes:  # it has the timer from an earlier connection, of which the edge knows nothing
            self.content, self.version, self.share_version = "0", self.timer.version, self.audience_version
        self.claimed = (self.version, self.share_version)

    def tick(self) -> int:
        self.clock += 1
        return self.clock

    @property
    def is_stopped(self) -> bool:
        return self.timer.run_state == event_pb2.RUN_STATE_STOPPED

    def current(self, timer: event_pb2.Timer | None = None) -> event_pb2.TimerView:
        return event_pb2.TimerView(
            timer=timer or self.timer,
            audience=event_pb2.Audience(owner_id=OWNER, member_ids=self.members, version=self.audience_version),
        )

    def may_see(self) -> bool:
        return self.user == OWNER or self.user in self.members

    # Changes.

    def change_timer(self, *, stop: bool = False) -> None:
        if stop and self.is_stopped:
            return
        self.old.append(self.timer)
        version = self.tick()
        self.timer = event_pb2.Timer(
            timer_id="tea",
            name=f"{self.timer.name} {version}",
            version=version,
            run_state=event_pb2.RUN_STATE_STOPPED if stop else event_pb2.RUN_STATE_IDLE,
        )

    def change_audience(self, user: str, *, add: bool) -> None:
        if add == (user in self.members):
            return
        if add:
            self.members.append(user)
            self.removed.discard(user)
        else:
            self.members.remove(user)
            self.removed.add(user)
        self.audience_version = self.tick()
        self.tell_audience()

    def own_update(self) -> None:
        """By this client, whose device gets no event of it."""
        base_version = self.timer.version
        self.change_timer()
        change = self.timer.name.rsplit(" ", 1)[1]
        self.answers.append(Answer(self.current(), self.timer.version, base_version, change))

    # Telling the edge of them.

    def tell_state(self, timer: event_pb2.Timer | None = None) -> None:
        if self.may_see():
            self.under_way.append(TimerEvent(self.current(timer)))

    def tell_audience(self) -> None:
        if self.may_see() or self.user in self.removed:
            self.under_way.append(AudienceEvent(self.current().audience, frozenset(self.removed)))

    def read_first_snapshot(self) -> None:
        if not self.knowledge.ready and not any(isinstance(each, FirstSnapshot) for each in self.under_way):
            if not self.may_see() or self.is_stopped:
                read = timer_pb2.UserSnapshot(gone_timer_ids=["tea"] if self.claimed[0] else [])
            elif self.claimed == (self.timer.version, self.audience_version):
                read = snapshot_of(known=[self.current()])
            else:
                read = snapshot_of(self.current())
            self.under_way.append(FirstSnapshot(read))

    # Arriving.

    def arrive(self, number: int, *, again: bool) -> None:
        """One of the things under way comes, and may come again."""
        if not self.under_way:
            return
        each = self.under_way[number % len(self.under_way)]
        if not again or isinstance(each, Load | FirstSnapshot):
            self.under_way.remove(each)
        match each:
            case TimerEvent(event):
                self.take(self.knowledge.offer, event)
            case AudienceEvent(audience, removed) if self.user in removed:
                if self.knowledge.revoke("tea", audience.version):
                    self.content, self.version, self.share_version = None, 0, 0
                    self.revoked_at = audience.version
            case AudienceEvent(audience, _):
                if not self.knowledge.audience_is_known("tea", audience.version):
                    self.under_way.append(Load())
            case Load(None):
                self.under_way.append(Load(self.current()))
            case Load(read) if read is not None:
                self.take(self.knowledge.offer_loaded, read)
            case FirstSnapshot(read):
                fresh = self.knowledge.snapshot(read, ["tea"] if self.claimed[0] else [])
                for shown in fresh.views:
                    self.show(shown)
                if fresh.gone:
                    self.content, self.version, self.share_version = None, 0, 0
                for waiting in fresh.staged:
                    self.take(self.knowledge.offer, waiting.view)

    def answer_comes(self) -> None:
        if not self.answers:
            return
        answer = self.answers.pop(0)
        if (
            self.content is None and answer.version > self.version
        ):  # a client shows what it asked for, on top of what was there
            self.content = answer.view.timer.name.rsplit(" ", 1)[0]
        must_see = self.knowledge.wrote(
            TimerState(answer.view, "", 0), answer.version, answer.base_version, waiting=False
        )
        if self.content is not None and answer.version > self.version:
            self.content, self.version = f"{self.content} {answer.change}", answer.version
        if must_see:
            self.show(answer.view)

    def take(self, offer: Callable[[TimerState], Verdict], event: event_pb2.TimerView) -> None:
        verdict = offer(TimerState(event, "", 0))
        if verdict is Verdict.LOAD:
            self.under_way.append(Load())
        elif verdict in (Verdict.SEND, Verdict.SEND_AS_SHARE):
            self.show(event)

    def show(self, shown: event_pb2.TimerView) -> None:
        assert self.user == OWNER or self.user in shown.audience.member_ids
        assert shown.audience.version > self.revoked_at, "shown after it was taken away"
        assert shown.timer.version >= self.version, "went back"
        assert shown.audience.version >= self.share_version, "the audience went back"
        self.version, self.share_version = shown.timer.version, shown.audience.version
        self.content = None if shown.timer.run_state == event_pb2.RUN_STATE_STOPPED else shown.timer.name

    def act(self, action: str, number: int) -> None:
        match action:
            case "update":
                self.change_timer()
                self.tell_state()
            case "stop":
                self.change_timer(stop=True)
                self.tell_state()
            case "silent update":  # its event is conflated away
                self.change_timer()
            case "own update":
                self.own_update()
            case "share" | "unshare":
                self.change_audience(MEMBER, add=action == "share")
            case "share with another" | "unshare with another":
                self.change_audience("carol", add="un" not in action)
            case "old state, new audience":
                self.tell_state(self.old[number % len(self.old)] if self.old else None)
            case "first snapshot":
                self.read_first_snapshot()
            case "answer":
                self.answer_comes()
            case "newest arrives":
                self.arrive(-1, again=False)
            case "arrives":
                self.arrive(number, again=False)
            case "arrives, not for the last time":
                self.arrive(number, again=True)

    def settle(self) -> None:
        """What the outboxes promise: the last state and the last audience come, and all reading ends."""
        self.read_first_snapshot()
        while self.answers:
            self.answer_comes()
        self.tell_state()
        self.tell_audience()
        while self.under_way:
            self.arrive(0, again=False)

    def check(self) -> None:
        if self.may_see() and not self.is_stopped:
            assert self.content == self.timer.name
            assert (self.version, self.share_version) == (self.timer.version, self.audience_version)
        else:
            assert self.content is None


ARRIVALS = ["newest arrives", "newest arrives", "arrives", "arrives", "arrives, not for the last time"]
SHARING = ["share", "unshare", "share with another", "unshare with another"]


def histories(*actions: str) -> st.SearchStrategy[list[tuple[str, int]]]:
    return st.lists(st.tuples(st.sampled_from([*actions, *ARRIVALS]), st.integers(0, 7)), max_size=30)


@settings(max_examples=600)
@given(
    st.sampled_from([OWNER, MEMBER]),
    histories("update", "silent update", "stop", *SHARING, "old state, new audience", "first snapshot"),
)
def test_whatever_order_deliveries_come_in_the_client_never_goes_back_and_ends_with_the_last_state(
    user: str, history: list[tuple[str, int]]
) -> None:
    world = World(user)
    for action, number in history:
        world.act(action, number)
    world.settle()
    world.check()


@settings(max_examples=600)
@given(
    st.sampled_from([OWNER, MEMBER]),
    histories("update", "silent update", "stop", *SHARING, "old state, new audience", "first snapshot"),
)
def test_whoever_resumes_with_what_it_had_ends_with_the_last_state_too(
    user: str, history: list[tuple[str, int]]
) -> None:
    world = World(user, resumes=True)
    for action, number in history:
        world.act(action, number)
    world.settle()
    world.check()


@settings(max_examples=600)
@given(histories("update", "update", "stop", "share", "share", "unshare", "old state, new audience"))
def test_a_member_never_sees_what_was_taken_away_and_always_sees_what_it_has(history: list[tuple[str, int]]) -> None:
    world = World(MEMBER)
    world.act("first snapshot", 0)
    world.act("arrives", 0)
    for action, number in history:
        world.act(action, number)
    world.settle()
    world.check()


@settings(max_examples=600)
@given(histories("update", "stop", "own update", "own update", "answer", "answer"))
def test_whatever_order_answers_and_deliveries_come_in_a_client_that_writes_misses_no_change(
    history: list[tuple[str, int]],
) -> None:
    world = World(OWNER)
    world.act("first snapshot", 0)
    world.act("arrives", 0)
    for action, number in history:
        world.act(action, number)
    world.settle()
    world.check()


# --- rights that were taken away, and snapshots in the middle -------------------------------------------------------------


def test_an_answer_that_comes_after_a_removal_does_not_undo_it() -> None:
    knowledge = ready(MEMBER, view(5, 5))
    assert knowledge.revoke("tea", 6)
    assert not knowledge.wrote(state(7, 5), 7, 5, waiting=False)
    assert knowledge.is_revoked("tea")
    assert knowledge.offer(state(7, 5)) is Verdict.LOAD


def test_what_comes_while_a_later_snapshot_is_read_is_told_after_it() -> None:
    knowledge = ready(OWNER, view(1, 1))
    knowledge.stage()
    assert knowledge.offer(state(3, 1)) is Verdict.WAIT
    views, _, staged = knowledge.snapshot(snapshot_of(view(2, 1)), [])
    assert [each.timer.version for each in views] == [2]
    assert [knowledge.offer(each) for each in staged] == [Verdict.SEND]


def test_nothing_is_lost_when_a_later_snapshot_can_not_be_read() -> None:
    knowledge = ready(OWNER, view(1, 1))
    knowledge.stage()
    knowledge.offer(state(2, 1))
    assert [knowledge.offer(each) for each in knowledge.unstage()] == [Verdict.SEND]
