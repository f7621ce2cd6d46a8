"""The referee must see every breach of the promise: a judge that can't find anybody guilty proves nothing."""

from collections.abc import Callable

from tests.faults.database import Stored
from tests.faults.referee import ABANDONED_UNIT, Operation, Referee, seconds

NOBODY: frozenset[str] = frozenset()


def _stored(version: int, **fields: object) -> Stored:
    values = {"state": "paused", "name": "", "remaining": "", "owner": "ann", "members": NOBODY, "share_version": 1}
    return Stored(version=version, **(values | fields))  # type: ignore[arg-type]


def _written(referee: Referee, version: int, name: str = "one", now: float = 1.0, kind: str = "create") -> Operation:
    operation = referee.began("ann", kind, "tea", name, now)
    referee.acknowledged(operation, version, now + 0.5)
    return operation


def test_a_run_in_which_all_is_well_has_no_violations() -> None:
    referee = Referee()
    _written(referee, 10)
    _written(referee, 11, "two", 2.0, "update")
    for version in (10, 11, 11):
        referee.saw("ann/tablet", "ann", "tea", version, 1, "one", 3.0)
    referee.compare({"tea": _stored(11, name="two")})
    assert referee.violations == []
    assert referee.under_way == 0


def test_an_acknowledged_write_that_is_not_stored_is_found() -> None:
    for stored in ({}, {"tea": _stored(9)}):
        referee = Referee()
        _written(referee, 10)
        referee.compare(stored)
        assert len(referee.violations) == 1


def test_an_acknowledged_change_of_the_audience_that_is_not_stored_is_found() -> None:
    referee = Referee()
    _written(referee, 10)
    referee.acknowledged(referee.began("ann", "add", "tea", "ben", 2.0), 20, 2.5)
    referee.compare({"tea": _stored(10, name="one", share_version=19)})
    assert len(referee.violations) == 1


def test_other_content_at_an_acknowledged_version_is_found() -> None:
    referee = Referee()
    _written(referee, 10)
    referee.compare({"tea": _stored(10, name="two")})
    referee.acknowledged(referee.began("ann", "stop", "tea", "", 2.0), 11, 2.5)
    referee.compare({"tea": _stored(11, name="one", state="running")})
    assert len(referee.violations) == 2


def test_a_version_that_nobody_asked_for_is_found_unless_something_was_left_unanswered() -> None:
    referee = Referee()
    _written(referee, 10)
    referee.compare({"tea": _stored(12, name="one")})
    assert len(referee.violations) == 1
    unanswered = Referee()
    _written(unanswered, 10)
    unanswered.gave_up(unanswered.began("ann", "abandon", "tea", "", 2.0))
    unanswered.compare({"tea": _stored(12, name="one")})
    assert unanswered.violations == []


def test_a_version_below_one_that_was_acknowledged_before_is_found() -> None:
    referee = Referee()
    _written(referee, 10)
    _written(referee, 9, "two", 2.0, "update")
    assert len(referee.violations) == 1


def test_two_commands_at_once_may_have_any_order_but_not_the_same_version() -> None:
    referee = Referee()
    first, second = (referee.began("ann", "update", "tea", name, 1.0) for name in ("one", "two"))
    referee.acknowledged(first, 11, 2.0)
    referee.acknowledged(second, 10, 2.0)
    assert referee.violations == []
    referee.acknowledged(referee.began("ann", "update", "tea", "three", 1.0), 12, 3.0)
    fourth = referee.began("ann", "update", "tea", "four", 1.0)
    fourth.floor = 0
    referee.acknowledged(fourth, 12, 3.0)
    assert len(referee.violations) == 1


def _counted(acknowledged: int, remaining: str) -> list[str]:
    referee = Referee()
    for number in range(acknowledged):
        referee.acknowledged(referee.began("ann", "extend", "tea", "", 1.0), 10 + number, 2.0)
    referee.gave_up(referee.began("ann", "abandon", "tea", "", 1.0))
    referee.compare({"tea": _stored(20, remaining=remaining)})
    return referee.violations


def test_an_extension_that_was_lost_or_happened_twice_is_found() -> None:
    assert _counted(3, "PT3S") == []
    assert len(_counted(3, "PT2S")) == 1
    assert len(_counted(3, "PT4S")) == 1


def test_an_abandoned_extension_may_happen_once_but_not_twice() -> None:
    assert _counted(3, f"PT{ABANDONED_UNIT + 3}S") == []
    assert len(_counted(3, f"PT{2 * ABANDONED_UNIT + 3}S")) == 1


def test_a_version_that_goes_back_on_a_screen_is_found() -> None:
    for version, share_version in ((9, 5), (10, 4)):
        referee = Referee()
        _written(referee, 10)
        referee.saw("ann/tablet", "ann", "tea", 10, 5, "one", 2.0)
        referee.saw("ann/tablet", "ann", "tea", version, share_version, "one", 3.0)
        assert len(referee.violations) == 1


def test_a_delivery_older_than_the_answer_to_an_own_command_is_found() -> None:
    referee = Referee()
    referee.knows("ann/phone", "tea", 10)
    referee.began("ann", "create", "tea", "one", 1.0)
    referee.saw("ann/phone", "ann", "tea", 9, 5, "one", 2.0)
    assert len(referee.violations) == 1


def _album() -> tuple[Referee, Callable[[str, str, float], Operation]]:
    """A timer of ann's: written at 1, ben in from 2 to 4, written at 3 (he may see it) and at 5 (he may not)."""
    referee = Referee()

    def do(kind: str, value: str, now: float) -> Operation:
        operation = referee.began("ann", kind, "tea", value, now)
        referee.acknowledged(operation, int(now * 10), now + 0.1)
        return operation

    do("create", "one", 1)
    do("add", "ben", 2)
    do("update", "two", 3)
    do("remove", "ben", 4)
    do("update", "three", 5)
    return referee, do


def test_a_stranger_who_is_shown_anything_is_found() -> None:
    referee, _ = _album()
    referee.saw("eve/phone", "eve", "tea", 30, 20, "two", 6.0)
    assert len(referee.violations) == 1


def test_what_was_current_while_a_member_was_in_may_come_late_and_what_came_after_may_not() -> None:
    referee, _ = _album()
    referee.saw("ben/phone", "ben", "tea", 10, 20, "one", 4.5)
    referee.saw("ben/phone", "ben", "tea", 30, 20, "two", 4.5)
    assert referee.violations == []
    referee.saw("ben/phone", "ben", "tea", 50, 40, "three", 5.5)
    assert len(referee.violations) == 1


def test_whoever_is_let_in_again_may_see_what_is_current_then() -> None:
    referee, do = _album()
    do("add", "ben", 6)
    referee.saw("ben/phone", "ben", "tea", 50, 60, "three", 6.5)
    assert referee.violations == []


def test_nothing_may_come_after_the_word_of_a_removal() -> None:
    referee, do = _album()
    referee.dismissed("ben/phone", "tea", 40)
    referee.saw("ben/phone", "ben", "tea", 30, 20, "two", 4.6)
    assert len(referee.violations) == 1
    do("add", "ben", 6)
    referee.saw("ben/phone", "ben", "tea", 50, 60, "three", 6.5)
    assert len(referee.violations) == 1


def test_what_a_cut_wire_held_back_may_come_late_in_order() -> None:
    referee, do = _album()
    do("add", "ben", 6)
    do("remove", "ben", 7)
    referee.dismissed("ben/phone", "tea", 40)
    referee.saw("ben/phone", "ben", "tea", 50, 60, "three", 9.0)
    referee.dismissed("ben/phone", "tea", 70)
    assert referee.violations == []
    referee.saw("ben/phone", "ben", "tea", 50, 60, "three", 9.1)
    assert len(referee.violations) == 1


def test_a_removal_that_may_not_have_happened_takes_no_rights() -> None:
    referee, do = _album()
    do("add", "ben", 6)
    referee.gave_up(referee.began("ann", "remove", "tea", "ben", 7.0))
    do("update", "four", 8)
    referee.saw("ben/phone", "ben", "tea", 80, 60, "four", 9.0)
    assert referee.violations == []


def test_durations_are_read_as_the_system_writes_them() -> None:
    assert [seconds(text) for text in ("PT0S", "PT59S", "PT1H2M3S", "PT27H46M41S")] == [0, 59, 3_723, 100_001]
