"""`timer_service/domain.py`: the rules of timers, as docs/protocol.md promises them."""

from collections.abc import Callable, Sequence
from functools import reduce
from random import Random

import msgspec
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from runtime.errors import BubbleError, Conflict, InvalidArgument, NotFound, Overloaded
from runtime.iso8601 import format_duration, format_instant, parse_duration, parse_instant
from runtime.operations import MOST_OF_A_WRITER
from timer_service.domain import (
    MAX_DURATION_US,
    MAX_TAGS,
    MAX_UTC_OFFSET,
    STOP_GUARD_US,
    Command,
    Extend,
    LocalEnd,
    Origin,
    Outcome,
    Pause,
    Request,
    Resume,
    Start,
    State,
    Stop,
    Timer,
    Update,
    apply,
    left_us,
    purging,
    validate,
)

SECOND = 1_000_000
MINUTE = 60 * SECOND
NOW = 1_764_000_000 * SECOND
OWNER = "alice"


def request(
    command: Command,
    *,
    user: str = OWNER,
    base_version: int | None = None,
    operation_id: str = "",
    traceparent: str = "",
) -> Request:
    return Request(
        timer_id="tea",
        command=command,
        origin=Origin(user, "pixel", "c1"),
        base_version=base_version,
        operation_id=operation_id,
        traceparent=traceparent,
    )


def outcome_of(timer: Timer | None, command: Command, now: int = NOW, *, base_version: int | None = None) -> Outcome:
    return apply(timer, request(command, base_version=base_version), OWNER, now)


def after(timer: Timer | None, *commands: Command, now: int = NOW) -> Timer:
    """The timer after some commands at one moment."""
    for command in commands:
        timer = outcome_of(timer, command, now).timer
    assert timer is not None
    return timer


def ends_in(microseconds: int, now: int = NOW) -> str:
    return format_instant(now + microseconds)


def idle() -> Timer:
    return after(None, Update(name="Tea", total_duration="PT5M"))


def running(left: int = 3 * MINUTE) -> Timer:
    return after(idle(), Update(end_time=ends_in(left)))


def run_out() -> Timer:
    return running(-MINUTE)


def paused() -> Timer:
    return after(idle(), Update(remaining_duration="PT2M"))


def stopped() -> Timer:
    return after(running(), Stop())


durations = st.integers(0, MAX_DURATION_US).map(format_duration)
short_durations = st.integers(1, 3_600 * SECOND).map(format_duration)
odd_durations = st.sampled_from(["PT-5M-3S", "P1W", "PT0S", "PT0.0000009S", "-PT1H", "P3650D"])
clocks = st.integers(NOW - 30 * SECOND, NOW + 30 * SECOND)
instants = st.integers(NOW - 3_600 * SECOND, NOW + 3_600 * SECOND).map(format_instant)
odd_instants = st.sampled_from(["0001-01-01T00:00:00+18:00", "9999-12-31T23:59:59.999999999-18:00", "2026-01-01T00:00"])

updates = st.builds(
    Update,
    name=st.none() | st.text(alphabet="abc", max_size=3),
    total_duration=st.none() | durations | odd_durations,
    end_time=st.none() | instants | odd_instants,
    remaining_duration=st.none() | durations | odd_durations,
)
extensions = st.builds(Extend, by=short_durations)
any_extension = extensions | st.builds(Extend, by=st.integers(1, MAX_DURATION_US).map(format_duration))
commands: st.SearchStrategy[Command] = st.one_of(
    updates, any_extension, st.sampled_from([Stop(), Start(), Pause(), Resume()])
)
operation_ids = st.sampled_from(["", "", "a", "b", "c", "d"])
requests = st.builds(
    request,
    commands,
    user=st.sampled_from(["alice", "bob"]),
    base_version=st.none() | st.integers(0, 3),
    operation_id=operation_ids,
)
histories = st.lists(st.tuples(requests, clocks), max_size=30)


def timer_after(history: Sequence[tuple[Request, int]]) -> Timer | None:
    def step(timer: Timer | None, event: tuple[Request, int]) -> Timer | None:
        each, now = event
        if each.base_version is not None and timer is not None:
            # Small numbers mean: that many versions behind.
            each = msgspec.structs.replace(each, base_version=timer.version - each.base_version)
        try:
            return apply(timer, each, OWNER, now).timer
        except BubbleError:
            return timer

    return reduce(step, history, None)


# --- versions -------------------------------------------------------------------------------------------------------------


@given(histories)
def test_a_version_rises_with_every_change_whatever_the_clock_does(history: list[tuple[Request, int]]) -> None:
    timer: Timer | None = None
    for each, now in history:
        before = timer
        timer = timer_after([(each, now)]) if before is None else _applied(before, each, now)
        if timer is before or timer is None:
            continue
        assert timer.version >= now
        assert timer.version > (before.version if before is not None else 0)


def _applied(timer: Timer, each: Request, now: int) -> Timer:
    try:
        return apply(timer, each, OWNER, now).timer
    except BubbleError:
        return timer


def test_a_version_is_the_time_or_one_more_than_before() -> None:
    first = after(None, Update(), now=NOW)
    assert first.version == NOW
    assert after(first, Update(), now=NOW + 7).version == NOW + 7
    assert after(first, Update(), now=NOW).version == NOW + 1
    assert after(first, Update(), now=NOW - 3_600 * SECOND).version == NOW + 1


def test_the_outcome_tells_what_the_command_was_applied_to() -> None:
    created = outcome_of(None, Update())
    assert (created.base_version, created.version) == (0, NOW)
    changed = outcome_of(created.timer, Update(), NOW + 5)
    assert (changed.base_version, changed.version) == (NOW, NOW + 5)


@pytest.mark.parametrize("make", [idle, running, paused, stopped])
def test_a_command_for_another_version_is_refused(make: Callable[[], Timer]) -> None:
    timer = make()
    for wrong in (0, timer.version - 1, timer.version + 1):
        for command in (Update(name="x"), Stop(), Start(), Pause(), Resume(), Extend("PT1M")):
            with pytest.raises(Conflict) as refusal:
                outcome_of(timer, command, base_version=wrong)
            assert refusal.value.field == "baseVersion"


def test_a_command_for_the_current_version_is_applied() -> None:
    timer = running()
    assert outcome_of(timer, Stop(), base_version=timer.version).timer.state is State.STOPPED
    assert outcome_of(timer, Update(name="x"), base_version=timer.version).timer.name == "x"


def test_a_timer_can_be_created_only_if_it_does_not_exist_by_base_version_zero() -> None:
    assert outcome_of(None, Update(), base_version=0).timer.version == NOW
    with pytest.raises(Conflict):
        outcome_of(idle(), Update(), base_version=0)
    with pytest.raises(Conflict):
        outcome_of(None, Update(), base_version=NOW)


# --- repeats --------------------------------------------------------------------------------------------------------------


@given(histories, requests, clocks, clocks)
def test_a_repeated_operation_has_no_second_effect_and_gives_the_first_answer(
    history: list[tuple[Request, int]], repeated: Request, first_time: int, second_time: int
) -> None:
    timer = timer_after(history)
    repeated = msgspec.structs.replace(repeated, operation_id="repeated", base_version=None)
    try:
        first = apply(timer, repeated, OWNER, first_time)
    except BubbleError:
        return
    assume(first.timer is not timer)
    second = apply(first.timer, repeated, OWNER, second_time)
    assert second.timer is first.timer
    assert (second.version, second.base_version) == (first.version, first.base_version)


def test_a_repeat_is_recognised_after_other_changes_and_answered_with_the_version_of_then() -> None:
    extend = request(Extend("PT1M"), operation_id="extend-1")
    first = apply(running(), extend, OWNER, NOW + 10)
    later = apply(first.timer, request(Update(name="Later"), operation_id="other"), OWNER, NOW + 20).timer
    again = apply(later, extend, OWNER, NOW + 30)
    assert again.timer is later
    assert (again.version, again.base_version) == (first.version, first.base_version)


def test_a_repeat_is_recognised_although_its_base_version_is_past() -> None:
    timer = running()
    update = request(Update(name="x"), base_version=timer.version, operation_id="update-1")
    first = apply(timer, update, OWNER, NOW + 10)
    assert apply(first.timer, update, OWNER, NOW + 20).timer is first.timer


def test_a_repeated_update_does_not_bring_a_stopped_timer_back() -> None:
    update = request(Update(end_time=ends_in(MINUTE)), operation_id="update-1")
    started = apply(idle(), update, OWNER, NOW + 1).timer
    gone = after(started, Stop(), now=NOW + 2)
    assert apply(gone, update, OWNER, NOW + 2 * STOP_GUARD_US).timer is gone


def test_a_timer_remembers_its_last_operations_and_no_more() -> None:
    timer = running()
    for number in range(MOST_OF_A_WRITER):
        timer = apply(timer, request(Extend("PT1S"), operation_id=f"op-{number}"), OWNER, NOW + number).timer
    for number in range(MOST_OF_A_WRITER):
        assert apply(timer, request(Extend("PT1S"), operation_id=f"op-{number}"), OWNER, NOW).timer is timer
    timer = apply(timer, request(Extend("PT1S"), operation_id="one more"), OWNER, NOW).timer
    assert len(timer.operations) == MOST_OF_A_WRITER
    assert apply(timer, request(Extend("PT1S"), operation_id="op-0"), OWNER, NOW).timer is not timer


def test_a_command_is_recognised_however_much_others_have_changed_meanwhile() -> None:
    extend = request(Extend("PT1M"), operation_id="extend-1")
    timer = apply(running(), extend, OWNER, NOW).timer
    for number in range(200):
        timer = apply(timer, request(Extend("PT1S"), user="bob", operation_id=f"op-{number}"), OWNER, NOW).timer
    assert apply(timer, extend, OWNER, NOW).timer is timer


def test_commands_without_an_operation_id_are_never_taken_for_repeats() -> None:
    timer = running(3 * MINUTE)
    assert left_us(after(timer, Extend("PT1M"), Extend("PT1M")), NOW) == 5 * MINUTE
    assert timer.operations == ()


# --- updates --------------------------------------------------------------------------------------------------------------


def test_the_first_update_creates_the_timer_for_its_owner() -> None:
    timer = after(None, Update(name="Tea", total_duration="PT5M"))
    assert (timer.timer_id, timer.owner, timer.state) == ("tea", OWNER, State.IDLE)


def test_the_owner_is_who_the_sharing_service_says_not_who_sends() -> None:
    assert apply(None, request(Update(), user="bob"), "alice", NOW).timer.owner == "alice"


@given(updates, updates)
def test_absent_fields_keep_what_is_stored_and_present_ones_are_kept_as_they_came(first: Update, then: Update) -> None:
    before = after(None, first)
    timer = after(before, then)
    assert timer.name == (before.name if then.name is None else then.name)
    assert timer.total_duration == (before.total_duration if then.total_duration is None else then.total_duration)
    if then.end_time is None and then.remaining_duration is None:
        assert (timer.end_time, timer.remaining_duration) == (before.end_time, before.remaining_duration)
        assert timer.state is before.state
    else:
        assert (timer.end_time, timer.remaining_duration) == (then.end_time, then.remaining_duration)


@given(histories)
def test_the_state_always_agrees_with_the_fields_that_describe_it(history: list[tuple[Request, int]]) -> None:
    timer = timer_after(history)
    if timer is None or timer.state is State.STOPPED:
        return
    expected = State.RUNNING if timer.end_time is not None else State.IDLE
    if timer.end_time is None and timer.remaining_duration is not None:
        expected = State.PAUSED
    assert timer.state is expected
    assert (timer.stopped_by, timer.stopped_at_us) == ("", 0)


@given(histories, requests, clocks)
def test_whatever_is_valid_in_itself_is_applied_or_refused_but_never_crashes(
    history: list[tuple[Request, int]], each: Request, now: int
) -> None:
    timer = timer_after(history)
    validate(each)
    try:
        changed = apply(timer, each, OWNER, now).timer
    except BubbleError:
        return
    if changed.end_time is not None:
        parse_instant(changed.end_time)
    for duration in (changed.remaining_duration, changed.total_duration):
        if duration is not None:
            parse_duration(duration)


@given(st.binary(min_size=1, max_size=8).map(bytes.hex), clocks)
def test_a_change_carries_its_origin_trace_and_outbox_marker(traceparent: str, now: int) -> None:
    timer = apply(running(), request(Stop(), user="bob", traceparent=traceparent), OWNER, now).timer
    assert timer.origin == Origin("bob", "pixel", "c1")
    assert timer.traceparent == traceparent
    assert timer.pending_since_us == now


# --- stopping -------------------------------------------------------------------------------------------------------------


def test_a_stop_leaves_a_tombstone_that_tells_by_whom_and_when() -> None:
    timer = apply(running(), request(Stop(), user="bob"), OWNER, NOW + 5).timer
    assert (timer.state, timer.stopped_by, timer.stopped_at_us) == (State.STOPPED, "bob", NOW + 5)


def test_stopping_a_stopped_timer_changes_nothing() -> None:
    timer = stopped()
    outcome = apply(timer, request(Stop(), user="bob"), OWNER, NOW + MINUTE)
    assert outcome.timer is timer
    assert (outcome.version, outcome.base_version) == (timer.version, timer.version)


@given(updates, st.integers(1 - STOP_GUARD_US, STOP_GUARD_US - 1))
def test_a_stop_beats_updates_without_a_base_version_for_a_while(update: Update, delay: int) -> None:
    timer = stopped()
    with pytest.raises(Conflict) as refusal:
        outcome_of(timer, update, timer.stopped_at_us + delay)
    assert refusal.value.field == "timerId"


def test_an_update_that_knows_of_the_stop_brings_the_timer_back_at_once() -> None:
    timer = stopped()
    back = outcome_of(timer, Update(end_time=ends_in(MINUTE)), NOW + 1, base_version=timer.version).timer
    assert back.state is State.RUNNING
    assert back.version > timer.version


@given(updates, st.integers(STOP_GUARD_US, 10 * STOP_GUARD_US))
def test_after_the_guard_an_update_makes_the_timer_anew_and_never_behind_its_past(update: Update, delay: int) -> None:
    timer = stopped()
    back = outcome_of(timer, update, NOW + delay).timer
    assert back.version > timer.version
    assert back.state is not State.STOPPED
    assert (back.end_time, back.remaining_duration) == (update.end_time, update.remaining_duration)
    assert (back.stopped_by, back.stopped_at_us) == ("", 0)


def test_a_timer_made_anew_by_a_clock_that_is_behind_is_still_ahead_of_its_tombstone() -> None:
    timer = stopped()
    back = outcome_of(timer, Update(), NOW - 2 * STOP_GUARD_US).timer
    assert back.version == timer.version + 1


def test_operations_of_before_the_stop_are_still_recognised_afterwards() -> None:
    created = apply(None, request(Update(total_duration="PT5M"), operation_id="create"), OWNER, NOW).timer
    back = after(after(created, Stop()), Update(), now=NOW + STOP_GUARD_US)
    assert apply(back, request(Update(name="again"), operation_id="create"), OWNER, NOW + MINUTE).timer is back


def test_a_timer_made_anew_keeps_its_name_for_its_owner_and_nothing_for_another_one() -> None:
    tombstone = after(after(None, Update(name="Diary", total_duration="PT5M")), Stop())
    later = NOW + STOP_GUARD_US
    mine = apply(tombstone, request(Update()), OWNER, later).timer
    assert (mine.name, mine.total_duration, mine.owner) == ("Diary", "PT5M", OWNER)
    other = apply(tombstone, request(Update(), user="mallory"), "mallory", later).timer
    assert (other.name, other.total_duration, other.owner) == ("", None, "mallory")
    assert other.version > tombstone.version


def test_a_tombstone_that_is_being_forgotten_can_not_be_brought_back() -> None:
    tombstone = stopped()
    closed = purging(tombstone)
    assert closed.version > tombstone.version
    assert closed.pending_since_us == 0
    for base_version in (None, closed.version):
        with pytest.raises(Overloaded) as refusal:
            outcome_of(closed, Update(), NOW + STOP_GUARD_US, base_version=base_version)
        assert refusal.value.retry_after_ms > 0
    assert after(closed, Stop()) is closed
    with pytest.raises(NotFound):
        after(closed, Start())


# --- intents --------------------------------------------------------------------------------------------------------------

LATER = NOW + MINUTE  # so that what is left of the running timer differs from what it began with

RUNS_FROM_FULL_LENGTH = {"state": State.RUNNING, "end_time": format_instant(LATER + 5 * MINUTE), "remaining": None}


@pytest.mark.parametrize(
    ("make", "command", "expected"),
    [
        (running, Start(), None),
        (run_out, Start(), RUNS_FROM_FULL_LENGTH),
        (paused, Start(), RUNS_FROM_FULL_LENGTH),
        (idle, Start(), RUNS_FROM_FULL_LENGTH),
        (running, Pause(), {"state": State.PAUSED, "end_time": None, "remaining": "PT2M"}),
        (run_out, Pause(), {"state": State.PAUSED, "end_time": None, "remaining": "PT0S"}),
        (paused, Pause(), None),
        (idle, Pause(), None),
        (running, Resume(), None),
        (run_out, Resume(), None),
        (
            paused,
            Resume(),
            {"state": State.RUNNING, "end_time": format_instant(LATER + 2 * MINUTE), "remaining": None},
        ),
        (idle, Resume(), RUNS_FROM_FULL_LENGTH),
        (
            running,
            Extend("PT1M"),
            {"state": State.RUNNING, "end_time": format_instant(NOW + 4 * MINUTE), "remaining": None},
        ),
        (
            run_out,
            Extend("PT1M"),
            {"state": State.RUNNING, "end_time": format_instant(LATER + MINUTE), "remaining": None},
        ),
        (paused, Extend("PT1M"), {"state": State.PAUSED, "end_time": None, "remaining": "PT3M"}),
        (idle, Extend("PT1M"), {"state": State.IDLE, "end_time": None, "remaining": None, "total": "PT6M"}),
    ],
)
def test_every_cell_of_the_protocols_table_of_intents(
    make: Callable[[], Timer], command: Command, expected: dict[str, object] | None
) -> None:
    timer = make()
    changed = outcome_of(timer, command, LATER).timer
    if expected is None:
        assert changed is timer
        return
    assert {
        "state": changed.state,
        "end_time": changed.end_time,
        "remaining": changed.remaining_duration,
        "total": changed.total_duration,
    } == {"total": "PT5M", **expected}
    assert changed.version > timer.version
    assert (changed.name, changed.owner) == (timer.name, timer.owner)


@pytest.mark.parametrize("command", [Start(), Pause(), Resume(), Extend("PT1M")])
def test_an_intent_on_a_timer_that_does_not_exist_or_is_stopped_is_refused(command: Command) -> None:
    for timer in (None, stopped()):
        with pytest.raises(NotFound):
            outcome_of(timer, command, NOW + MINUTE)


def test_a_timer_that_does_not_exist_can_not_be_stopped() -> None:
    with pytest.raises(NotFound):
        outcome_of(None, Stop())


@pytest.mark.parametrize("command", [Start(), Resume(), Extend("PT1M")])
def test_a_timer_without_a_length_can_not_run(command: Command) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        outcome_of(after(None, Update(name="Tea")), command)
    assert refusal.value.field == "totalDuration"


def test_a_timer_without_a_length_can_be_paused_and_resumed() -> None:
    timer = after(None, Update(end_time=ends_in(MINUTE)))
    assert left_us(after(timer, Pause(), Resume()), NOW) == MINUTE


startable = st.sampled_from([idle, running, run_out, paused])


@given(startable, st.lists(extensions, min_size=1, max_size=6), st.randoms(use_true_random=False), clocks)
def test_extensions_commute(make: Callable[[], Timer], extend: list[Extend], random: Random, now: int) -> None:
    other_order = list(extend)
    random.shuffle(other_order)
    timer = make()
    one, other = after(timer, *extend, now=now), after(timer, *other_order, now=now)
    assert (one.end_time, one.remaining_duration, one.total_duration) == (
        other.end_time,
        other.remaining_duration,
        other.total_duration,
    )


@given(startable, st.lists(extensions, min_size=1, max_size=6))
def test_extensions_add_up(make: Callable[[], Timer], extend: list[Extend]) -> None:
    timer = make()
    added = sum(parse_duration(each.by) for each in extend)
    assert left_us(after(timer, *extend), NOW) == left_us(timer, NOW) + added


@given(st.lists(st.tuples(extensions, st.integers(0, 30 * SECOND)), min_size=1, max_size=6))
def test_extensions_of_a_running_timer_add_up_whenever_they_arrive(extend: list[tuple[Extend, int]]) -> None:
    timer = running(3 * MINUTE)
    for each, delay in extend:
        timer = after(timer, each, now=NOW + delay)
    assert timer.end_time is not None
    assert parse_instant(timer.end_time) == NOW + 3 * MINUTE + sum(parse_duration(each.by) for each, _ in extend)


@given(st.integers(1, MAX_DURATION_US), st.integers(0, 3_600 * SECOND))
@example(MAX_DURATION_US, 0)
def test_pausing_and_resuming_loses_nothing(left: int, pause: int) -> None:
    timer = after(None, Update(end_time=ends_in(left)))
    again = after(after(timer, Pause()), Resume(), now=NOW + pause)
    assert left_us(again, NOW + pause) == left


@pytest.mark.parametrize("end", ["2500-01-01T00:00:00Z", "9999-12-31T23:59:59.999Z"])
def test_what_a_pause_keeps_of_an_end_that_is_far_away_runs_on(end: str) -> None:
    paused_far = after(None, Update(end_time=end), Pause())
    resumed = after(paused_far, Resume())
    assert resumed.end_time is not None
    assert parse_instant(resumed.end_time) == parse_instant(end)
    with pytest.raises(InvalidArgument) as refusal:
        after(paused_far, Extend("PT1M"))
    assert refusal.value.field == "by"


def test_a_timer_that_would_run_beyond_what_a_date_can_say_is_refused_in_words_for_people() -> None:
    paused_far = after(None, Update(end_time="9999-12-31T23:59:59.999Z"), Pause())
    with pytest.raises(InvalidArgument) as refusal:
        after(paused_far, Resume(), now=NOW + MINUTE)
    assert (refusal.value.message, refusal.value.field) == ("The timer would run beyond the year 9999", "")


@pytest.mark.parametrize("make", [idle, running, paused])
def test_no_timer_can_be_extended_beyond_ten_years(make: Callable[[], Timer]) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        after(make(), Extend("P3650D"))
    assert refusal.value.field == "by"


def test_what_is_left_is_never_less_than_nothing() -> None:
    assert left_us(run_out(), NOW) == 0
    assert left_us(after(None, Update(remaining_duration="PT-5M-3S")), NOW) == 0
    assert left_us(after(None, Update(total_duration="PT-5M")), NOW) == 0


# --- validation -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "field"),
    [
        (Update(name="x" * 257), "name"),
        (Update(name="a\nb"), "name"),
        (Update(name="\u202egnp.exe"), "name"),
        (Update(total_duration="5 minutes"), "totalDuration"),
        (Update(total_duration=""), "totalDuration"),
        (Update(total_duration="P1Y"), "totalDuration"),
        (Update(total_duration="P3651D"), "totalDuration"),
        (Update(total_duration="-P3651D"), "totalDuration"),
        (Update(total_duration="PT" + "0" * 70 + "5M"), "totalDuration"),
        (Update(remaining_duration="soon"), "remainingDuration"),
        (Update(end_time="tomorrow"), "endTime"),
        (Update(end_time="2026-11-24"), "endTime"),
        (Update(end_time=""), "endTime"),
        (Extend("PT0S"), "by"),
        (Extend("PT-1M"), "by"),
        (Extend("PT0.0000001S"), "by"),
        (Extend("P3651D"), "by"),
        (Extend(""), "by"),
        (Extend("1m"), "by"),
    ],
)
def test_a_wrong_field_is_refused_by_the_name_that_clients_use(command: Command, field: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        validate(request(command))
    assert refusal.value.field == field
    assert field in refusal.value.message


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        (msgspec.structs.replace(request(Stop()), timer_id=""), "timerId"),
        (msgspec.structs.replace(request(Stop()), timer_id="x" * 129), "timerId"),
        (msgspec.structs.replace(request(Stop()), timer_id="a\x00b"), "timerId"),
        (msgspec.structs.replace(request(Stop()), origin=Origin("")), "userId"),
        (msgspec.structs.replace(request(Stop()), origin=Origin("x" * 129)), "userId"),
        (msgspec.structs.replace(request(Stop()), origin=Origin("alice", "x" * 129)), "deviceId"),
        (msgspec.structs.replace(request(Stop()), operation_id="x" * 65), "operationId"),
    ],
)
def test_a_wrong_id_is_refused(wrong: Request, field: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        validate(wrong)
    assert refusal.value.field == field


@pytest.mark.parametrize(
    "command",
    [
        Update(),
        Update(name=""),
        Update(name="x" * 256),
        Update(name="👩‍👩‍👧 Tea"),
        Update(total_duration="PT-5M-3S"),
        Update(total_duration="P3650D"),
        Update(end_time="2026-11-24T08:15:30.123456789+02:00", remaining_duration="PT5M"),
        Extend("PT0.000001S"),
        Extend("P3650D"),
        Stop(),
    ],
)
def test_what_is_within_the_limits_is_fine(command: Command) -> None:
    validate(request(command))


# --- what a device without a zone wrote, and tags ---------------------------------------------------------------------------


def test_a_local_end_that_is_told_again_by_who_knows_less_keeps_its_instant() -> None:
    running = after(
        None,
        Update(total_duration="PT5M", end_time="2031-01-01T00:00+01:00", local_end=LocalEnd("2031-01-01T00:00", 60)),
    )
    again = after(running, Update(name="Tea", end_time="2031-01-01T00:00Z", local_end=LocalEnd("2031-01-01T00:00")))
    assert (again.name, again.end_time, again.local_end) == ("Tea", running.end_time, running.local_end)
    for better in (LocalEnd("2031-01-01T00:00", 120), LocalEnd("2031-01-01T00:01")):
        assert after(running, Update(end_time="2031-01-01T00:00Z", local_end=better)).local_end == better


def test_a_local_end_lives_as_long_as_the_end_that_was_made_of_it() -> None:
    local_end = LocalEnd("2031-01-01T00:00", 60)
    running = after(None, Update(total_duration="PT5M", end_time="2031-01-01T00:00+01:00", local_end=local_end))
    assert running.local_end == local_end
    assert after(running, Update(name="Tea")).local_end == local_end
    for command in (Update(remaining_duration="PT1M"), Update(end_time="2031-01-01T00:00Z"), Pause(), Extend("PT1M")):
        assert after(running, command).local_end is None, command
    assert after(running, Pause(), Resume()).local_end is None
    revived = after(running, Stop(), now=NOW)
    assert after(revived, Update(name="again"), now=NOW + STOP_GUARD_US).local_end is None
    assert after(None, Update(local_end=local_end)).local_end is None


def test_tags_stay_until_others_are_given() -> None:
    tagged = after(None, Update(name="Tea", total_duration="PT5M", tags=("hot",)))
    assert after(tagged, Update(name="Coffee"), Start(), Pause()).tags == ("hot",)
    assert after(tagged, Update(tags=())).tags == ()


@pytest.mark.parametrize(
    ("update", "field"),
    [
        (Update(tags=("x",) * (MAX_TAGS + 1)), "tags"),
        (Update(tags=("x" * 257,)), "tags"),
        (Update(tags=("é" * 250,) * 5), "tags"),
        (Update(tags=("a\x00",)), "tags"),
        (Update(end_time="2031-01-01T00:00Z", local_end=LocalEnd("x" * 65)), "endTime"),
        (Update(end_time="2031-01-01T00:00Z", local_end=LocalEnd("2031-01-01T00:00", MAX_UTC_OFFSET + 1)), "endTime"),
    ],
)
def test_impossible_tags_and_local_ends_are_refused(update: Update, field: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        validate(request(update))
    assert refusal.value.field == field
