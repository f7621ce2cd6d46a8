"""A client's copy of the timers, how a person finds one, and what is said of a change."""

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.conversation import Changed, Shared, Stopped, Unshared
from cli.errors import ExitCode, NoName, NoSuchTimer, Problem
from cli.human import MINUTE, SECOND
from cli.news import sentence
from cli.timers import Change, Replica, State, Timer, distinct_prefix, in_order
from runtime.iso8601 import format_duration, format_instant

NOW = 1_764_000_000_000_000


def running(left: int, **fields: object) -> Timer:
    return make(end_time=format_instant(NOW + left), **fields)


def make(**fields: object) -> Timer:
    values = {"id": "t1", "user_id": "alice", "name": "Tea", "total_duration": "PT5M", "version": 1, **fields}
    return Timer(**values)  # type: ignore[arg-type]


def test_a_timer_is_read_and_written_with_the_names_of_the_protocol() -> None:
    wire = {"id": "t", "userId": "alice", "name": "Tea", "totalDuration": "PT5M", "version": 7, "sharedWith": ["bob"]}
    timer = msgspec.convert({**wire, "somethingNew": 1}, Timer)
    assert timer.shared_with == ("bob",)
    assert msgspec.json.decode(msgspec.json.encode(timer)) == wire


def test_what_a_timer_does_and_what_is_left() -> None:
    cases = (
        (make(), State.READY, 5 * MINUTE, 1.0),
        (running(MINUTE), State.RUNNING, MINUTE, 0.2),
        (running(-MINUTE), State.FINISHED, 0, 0.0),
        (make(remaining_duration="PT2M30S"), State.PAUSED, 150 * SECOND, 0.5),
        (make(remaining_duration="PT0S"), State.FINISHED, 0, 0.0),
        (running(10 * MINUTE), State.RUNNING, 10 * MINUTE, 1.0),
        (running(MINUTE, total_duration=None), State.RUNNING, MINUTE, 1.0),
    )
    for timer, state, left, fraction in cases:
        assert (timer.state(NOW), timer.left(NOW), timer.fraction(NOW)) == (state, left, fraction), timer
    assert running(-MINUTE).over_for(NOW) == MINUTE
    assert running(MINUTE).over_for(NOW) is None
    assert make(remaining_duration="PT0S").over_for(NOW) is None


def test_times_of_a_newer_server_that_can_not_be_read_do_no_harm() -> None:
    timer = make(end_time="soon", total_duration="a while")
    assert (timer.left(NOW), timer.fraction(NOW)) == (0, 0.0)


states = st.lists(
    st.builds(
        lambda version, share: make(
            version=version, name=f"v{version}", share_version=share, shared_with=tuple(f"u{n}" for n in range(share))
        ),
        st.integers(0, 4),
        st.integers(0, 4),
    ),
    min_size=1,
    max_size=4,
)


@given(states)
def test_in_whatever_order_states_come_and_how_often_the_newest_of_both_versions_remains(timers: list[Timer]) -> None:
    for order in itertools.permutations(timers):
        replica = Replica()
        for timer in (*order, *order):
            replica.take(timer)
        result = replica.get("t1")
        assert result is not None
        assert result.version == max(timer.version for timer in timers)
        assert result.name == f"v{result.version}"
        assert result.share_version == max(timer.share_version for timer in timers)
        assert len(result.shared_with) == result.share_version


def test_a_state_that_tells_nothing_new_is_no_change() -> None:
    replica = Replica()
    assert replica.take(make()) == Change(None, make())
    assert replica.take(make()) is None
    assert replica.take(make(version=0, name="Old")) is None
    assert replica.take(make(version=2)) == Change(make(), make(version=2))


def test_a_late_stop_does_not_remove_a_timer_that_was_created_anew() -> None:
    replica = Replica()
    replica.take(make(version=9))
    assert replica.remove("t1", version=8) is None
    assert replica.remove("t1", version=9) == make(version=9)
    assert replica.remove("t1") is None


def named(*pairs: tuple[str, str]) -> Replica:
    replica = Replica()
    for timer_id, name in pairs:
        replica.take(make(id=timer_id, name=name))
    return replica


@pytest.mark.parametrize(
    ("what", "found"),
    [
        ("aa11", "aa11"),
        ("Tea", "aa22"),
        ("TEA", "bb11"),
        ("aa1", "aa11"),
        ("bre", "cc11"),
        ("bb11", "bb11"),
    ],
)
def test_a_timer_is_found_by_id_name_and_beginnings(what: str, found: str) -> None:
    replica = named(("aa11", "Coffee"), ("aa22", "Tea"), ("bb11", "TEA"), ("cc11", "Bread"))
    assert replica.find(what).id == found


def test_what_fits_several_is_not_guessed() -> None:
    replica = named(("aaaaaaaa-1", "Tea"), ("aaaaaaaa-2", "Tea"))
    for what in ("Tea", "tea", "aaaa"):
        with pytest.raises(Problem, match="fits 2 timers") as caught:
            replica.find(what)
        assert caught.value.code is ExitCode.NOT_FOUND
        assert "aaaaaaaa-1" in caught.value.hint
        assert "aaaaaaaa-2" in caught.value.hint
    assert replica.find("aaaaaaaa-2").id == "aaaaaaaa-2"


def test_what_fits_nothing_says_so() -> None:
    for replica, what in ((named(("a", "Tea")), "Eggs"), (named(), "Tea")):
        with pytest.raises(NoSuchTimer):
            replica.find(what)


@pytest.mark.parametrize("what", ["", "  "])
def test_an_empty_name_is_a_slip_and_fits_no_timer_without_a_name_either(what: str) -> None:
    with pytest.raises(NoName) as caught:
        named(("aa11", what), ("bb11", "Tea")).find(what)
    assert caught.value.code is ExitCode.USAGE
    assert "variable" in caught.value.hint


def test_ids_are_shown_as_long_as_they_must_be_to_name_one() -> None:
    timers = list(named(("12345678-a", ""), ("12345678-b", ""), ("99999999-c", "")))
    assert [distinct_prefix(timer.id, timers) for timer in timers] == ["12345678-a", "12345678-b", "99999999"]


def test_what_ends_next_comes_first_and_what_has_long_run_out_last() -> None:
    timers = [
        running(-5 * MINUTE, id="old"),
        make(id="ready"),
        make(id="paused", remaining_duration="PT1M"),
        running(2 * MINUTE, id="later"),
        running(MINUTE, id="soon"),
        running(-SECOND, id="rings"),
    ]
    assert [timer.id for timer in in_order(timers, NOW)] == ["rings", "soon", "later", "paused", "ready", "old"]


PAUSED = make(remaining_duration="PT2M", version=2)


@pytest.mark.parametrize(
    ("happening", "text"),
    [
        (Changed(Change(running(2 * MINUTE), PAUSED), "bob"), "bob paused “Tea”"),
        (Changed(Change(PAUSED, running(2 * MINUTE)), "bob"), "bob resumed “Tea”"),
        (Changed(Change(make(), running(5 * MINUTE)), "alice"), "you started “Tea”"),
        (Changed(Change(running(MINUTE), running(3 * MINUTE)), "bob"), "bob extended “Tea” by 2 min"),
        (Changed(Change(running(3 * MINUTE), running(MINUTE)), "bob"), "bob shortened “Tea” by 2 min"),
        (Changed(Change(make(), make(total_duration="PT6M")), "bob"), "bob extended “Tea” by 1 min"),
        (Changed(Change(make(), make(name="Chai")), "bob"), "bob renamed “Tea” to “Chai”"),
        (Changed(Change(None, running(MINUTE)), "bob"), "bob made “Tea” and started it"),
        (Changed(Change(make(), make(shared_with=("bob",))), "alice"), "“Tea” is now shared with bob"),
        (Changed(Change(make(shared_with=("bob",)), make()), "alice"), "bob no longer sees “Tea”"),
        (Changed(Change(running(MINUTE), running(MINUTE + 1, version=2)), "bob"), ""),
        (Changed(Change(PAUSED, running(MINUTE)), ""), "somebody resumed “Tea”"),
        (Shared(Change(None, make()), "bob"), "bob shared “Tea” with you"),
        (Stopped(make(), "bob"), "bob stopped “Tea”"),
        (Unshared(make()), "“Tea” is not shared with you any more"),
    ],
)
def test_what_happened_is_told_in_a_sentence(happening: Changed, text: str) -> None:
    assert sentence(happening, me="alice", now=NOW) == text


def test_a_length_survives_the_way_through_the_protocol() -> None:
    assert make(total_duration=format_duration(90 * SECOND)).total == 90 * SECOND
