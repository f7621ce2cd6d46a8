"""`bench/verify.py`: true histories pass, and each kind of false one is found."""

import pytest

from bench.verify import Delivery, History, Reply, Sent, Verdict, check

TEA, OLD = b"tea", b"of another group"


def history(*deliveries: tuple[int, int], device: str = "b") -> History:
    """What a device was told of the timer: (version, number) at the second of its place."""
    told = [Delivery(TEA, version, number, float(at)) for at, (version, number) in enumerate(deliveries, 10)]
    return History(device, deliveries=told)


def sender(*versions: int | None, device: str = "a") -> History:
    """Sent update 1 in second 1, and so on; these were its acknowledged versions, None = without an answer."""
    sent = [Sent(number, TEA, float(number)) for number in range(1, len(versions) + 1)]
    replies = [
        Reply(number, version, number + 0.5) for number, version in enumerate(versions, 1) if version is not None
    ]
    return History(device, sent, replies)


def faults(*group: History) -> dict[str, int]:
    return check([group]).faults


def test_when_everybody_got_everything_there_is_no_fault() -> None:
    verdict = check([[sender(5, 6, 9), history((5, 1), (6, 2), (9, 3))]])
    assert verdict == Verdict(delays=[(1.0, 9.0), (2.0, 9.0), (3.0, 9.0)])
    assert verdict.faults == {}


def test_a_last_state_that_did_not_arrive_is_missing_on_each_such_device() -> None:
    complete, behind, deaf = history((5, 1), (6, 2)), history((5, 1), device="c"), history(device="d")
    assert faults(sender(5, 6), complete, behind, deaf) == {"missing": 2}


def test_an_earlier_state_may_be_superseded_and_counts_as_delivered_with_the_newer_one() -> None:
    verdict = check([[sender(5, 6, 9), history((9, 3))]])
    assert verdict.faults == {}
    assert verdict.superseded == 2
    assert verdict.delays == [(1.0, 9.0), (2.0, 8.0), (3.0, 7.0)]


def test_an_update_without_an_answer_is_told_but_what_came_of_it_may_have_been_either() -> None:
    assert faults(sender(5, None), history((5, 1))) == {"unanswered": 1}
    assert faults(sender(5, None), history((5, 1), (6, 2))) == {"unanswered": 1}


def test_a_refused_update_is_not_one_without_an_answer() -> None:
    refused = sender(5, None)
    refused.refused = 1
    verdict = check([[refused, history((5, 1))]])
    assert verdict.faults == {}
    assert verdict.refused == 1


def test_an_acknowledged_update_that_nobody_saw_is_missing_though_a_later_one_had_no_answer() -> None:
    assert faults(sender(5, 6, None), history((5, 1))) == {"missing": 1, "unanswered": 1}


@pytest.mark.parametrize("told", [((5, 1), (7, 2)), ((5, 2), (6, 1)), ((5, 1), (6, 77))])
def test_a_state_under_a_version_that_was_not_acknowledged_for_it_is_invented(
    told: tuple[tuple[int, int], ...],
) -> None:
    assert faults(sender(5, 6), history(*told, (8, 3)))["invented"] >= 1


def test_an_acknowledgement_of_what_was_never_sent_or_a_second_one_is_invented() -> None:
    unasked, twice = sender(5), sender(5)
    unasked.replies = [*unasked.replies, Reply(99, 6, 2.0)]
    twice.replies = [*twice.replies, Reply(1, 5, 2.0)]
    assert faults(unasked, history((5, 1))) == {"invented": 1}
    assert faults(twice, history((5, 1))) == {"invented": 1}


def test_a_version_that_falls_is_found_on_a_device_and_in_the_acknowledgements() -> None:
    assert faults(sender(5, 6), history((6, 2), (5, 1))) == {"went_back": 1}
    assert faults(sender(5, 5), history((5, 2)))["went_back"] == 1


def test_the_same_state_twice_is_allowed() -> None:
    verdict = check([[sender(5), history((5, 1), (5, 1))]])
    assert verdict.faults == {}
    assert verdict.repeated == 1


def test_a_delivery_of_another_groups_timer_has_strayed() -> None:
    astray = history((5, 1))
    astray.deliveries = [*astray.deliveries, Delivery(OLD, 1, 7, 9.0)]
    assert faults(sender(5), astray) == {"strayed": 1}
    assert check([[sender(5), history((5, 1))], [history((5, 1))]]).faults == {"strayed": 1}


def test_a_senders_own_states_need_not_come_back_unless_the_system_is_one_that_echoes() -> None:
    echoed = sender(5)
    assert check([[echoed]]).faults == {}
    assert check([[echoed]], echo=True).faults == {"missing": 1}
    echoed.deliveries = [Delivery(TEA, 5, 1, 3.0)]
    verdict = check([[echoed]])
    assert verdict.faults == {}
    assert verdict.echoed == 1
    assert check([[echoed]], echo=True).faults == {}
