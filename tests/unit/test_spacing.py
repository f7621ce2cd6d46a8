"""`edge/dialects/spacing.py`: against a phone that throws away what comes too soon, over a network that bunches."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from edge.dialects.spacing import ACK_PATIENCE, SPACING, Spacing
from edge.knowledge import TimerState
from proto.event.v1 import event_pb2


def state(version: int, timer_id: str = "tea") -> TimerState:
    view = event_pb2.TimerView(timer=event_pb2.Timer(timer_id=timer_id, version=version))
    return TimerState(view, f"{timer_id}.{version}", 0)


def test_the_first_state_goes_at_once_and_the_latest_of_the_others_when_it_is_due() -> None:
    spacing = Spacing()
    assert spacing.offer(state(1), 0.0)
    assert not spacing.offer(state(2), 0.5)
    assert not spacing.offer(state(3), 1.0)
    assert spacing.holds("tea")
    assert spacing.next_at() == SPACING
    assert spacing.due(SPACING - 0.01) == []
    assert [each.version for each in spacing.due(SPACING)] == [3]
    assert not spacing.holds("tea")
    assert not spacing.offer(state(4), SPACING + 0.5)


def test_timers_do_not_wait_for_each_other() -> None:
    spacing = Spacing()
    assert spacing.offer(state(1), 0.0)
    assert spacing.offer(state(1, "eggs"), 0.1)
    assert not spacing.offer(state(2, "eggs"), 0.2)
    assert spacing.offer(state(2), SPACING)


def test_with_a_client_that_acknowledges_the_next_state_waits_for_it() -> None:
    spacing = Spacing()
    spacing.sent("snapshot", ["tea"], 0.0)
    spacing.acknowledged("snapshot", 0.1)
    assert spacing.offer(state(1), 0.1 + SPACING)
    sent_at = 0.1 + SPACING
    assert not spacing.offer(state(2), sent_at + 5)  # it may not have read the first one
    assert spacing.is_unread("tea")
    spacing.acknowledged("tea.1", sent_at + 6)
    assert spacing.due(sent_at + 6 + SPACING - 0.01) == []
    assert [each.version for each in spacing.due(sent_at + 6 + SPACING)] == [2]


def test_an_acknowledgement_that_never_comes_is_not_waited_for_for_ever() -> None:
    spacing = Spacing()
    spacing.acknowledged("anything", 0.0)
    assert spacing.offer(state(1), 0.0)
    assert not spacing.offer(state(2), ACK_PATIENCE - 0.01)
    assert [each.version for each in spacing.due(ACK_PATIENCE)] == [2]


def test_what_the_client_changed_itself_holds_others_changes_back() -> None:
    spacing = Spacing()
    spacing.touched("tea", 0.0)
    assert not spacing.offer(state(1), 0.5)
    spacing.touched("tea", 1.0)
    assert spacing.due(SPACING) == []
    assert [each.version for each in spacing.due(1.0 + SPACING)] == [1]


def test_what_a_list_says_of_a_timer_that_was_changed_a_moment_ago_comes_too_soon() -> None:
    spacing = Spacing()
    spacing.touched("tea", 0.0)
    assert spacing.is_too_soon("tea", SPACING - 0.01)
    assert not spacing.is_too_soon("tea", SPACING)
    assert not spacing.is_too_soon("eggs", 0.0)


def test_what_is_gone_is_new_when_it_comes_again_and_what_was_held_is_dropped() -> None:
    spacing = Spacing()
    assert spacing.offer(state(1), 0.0)
    assert not spacing.offer(state(2), 0.1)
    spacing.forget("tea")
    assert spacing.due(10.0) == []
    assert spacing.next_at() is None
    assert spacing.offer(state(3), 0.2)


def test_nothing_is_remembered_of_timers_that_are_quiet() -> None:
    spacing = Spacing()
    spacing.sent("snapshot", [f"t{number}" for number in range(100)], 0.0)
    spacing.acknowledged("snapshot", 0.2)
    assert len(spacing) == 100
    assert spacing.due(0.2 + SPACING) == []
    assert len(spacing) == 0
    assert spacing.next_at() is None


@dataclass
class StrictPhone:
    """It reads in order, and throws away what comes within a second of the last update of the timer."""

    shown: dict[str, int] = field(default_factory=dict)
    updated_at: dict[str, float] = field(default_factory=dict)
    thrown_away: int = 0

    def read(self, timer_id: str, version: int, now: float) -> None:
        if timer_id in self.shown and now - self.updated_at.get(timer_id, -10.0) < 1.0:
            self.thrown_away += 1
            return
        if timer_id in self.shown:
            self.updated_at[timer_id] = now
        self.shown[timer_id] = version


delays = st.floats(0.0, 6.0)


@given(
    st.lists(st.tuples(st.floats(0.0, 3.0), st.sampled_from(["tea", "eggs"]), delays, delays), min_size=1, max_size=30)
)
def test_whatever_the_network_does_the_phone_throws_nothing_away_and_ends_on_the_last_state(
    changes: list[tuple[float, str, float, float]],
) -> None:
    spacing, phone = Spacing(), StrictPhone()
    spacing.acknowledged("snapshot", 0.0)
    now, latest = 0.0, {}
    on_the_way: list[tuple[float, str, int]] = []  # when each is read: in order, as TCP has it
    answers: list[tuple[float, str]] = []
    there = back = 0.0

    def send(each: TimerState, at: float, delay: float, delay_back: float) -> None:
        nonlocal there, back
        there = max(there, at + delay)
        back = max(back, there + delay_back)
        on_the_way.append((there, each.timer_id, each.version))
        answers.append((back, each.event_id))

    def pass_until(moment: float, delay: float, delay_back: float) -> None:
        nonlocal now
        while True:
            due = spacing.next_at()
            steps = [at for at in (due, *(at for at, _ in answers), *(at for at, _, _ in on_the_way)) if at is not None]
            step = min(steps, default=moment)
            if step >= moment:
                break
            now = max(now, step)
            for entry in [entry for entry in on_the_way if entry[0] <= now]:
                on_the_way.remove(entry)
                phone.read(entry[1], entry[2], entry[0])
            for answer in [answer for answer in answers if answer[0] <= now]:
                answers.remove(answer)
                spacing.acknowledged(answer[1], now)
            for each in spacing.due(now):
                send(each, now, delay, delay_back)
        now = moment

    for version, (pause, timer_id, delay, delay_back) in enumerate(changes, 1):
        pass_until(now + pause, delay, delay_back)
        latest[timer_id] = version
        if spacing.offer(state(version, timer_id), now):
            send(state(version, timer_id), now, delay, delay_back)
    pass_until(now + 100.0, 0.1, 0.1)
    assert phone.shown == latest
    assert phone.thrown_away == 0
    assert len(spacing) == 0
