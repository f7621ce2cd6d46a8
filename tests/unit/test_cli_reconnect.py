"""When a client comes back."""

import pytest

from cli.pending import REPEATS, Pending
from cli.reconnect import BASE, LIMIT, STABLE_AFTER, Backoff


def test_each_failure_in_a_row_doubles_the_longest_wait_up_to_the_limit() -> None:
    backoff = Backoff(lambda: 1.0)
    waits = [backoff.after(None, lasted=0) for _ in range(40)]
    assert waits[:4] == [2 * BASE, 4 * BASE, 8 * BASE, 16 * BASE]
    assert waits[-1] == max(waits) == LIMIT


def test_the_wait_is_drawn_from_the_whole_range() -> None:
    draws = iter([0.0, 0.25])
    backoff = Backoff(lambda: next(draws))
    assert backoff.after(None, lasted=0) == 0
    assert backoff.after(None, lasted=0) == 0.25 * 4 * BASE


def test_a_connection_that_lasted_makes_the_next_failure_the_first() -> None:
    backoff = Backoff(lambda: 1.0)
    for _ in range(5):
        backoff.after(None, lasted=0)
    assert backoff.after(None, lasted=STABLE_AFTER) == 2 * BASE


def test_a_restart_that_was_announced_is_spread_over_the_announced_time() -> None:
    assert Backoff(lambda: 0.5).after(1012, lasted=60, announced=8) == 4
    assert Backoff(lambda: 0.5).after(1012, lasted=60) == BASE


@pytest.mark.parametrize(("code", "wait"), [(4409, 30), (4429, 60)])
def test_the_pauses_that_the_server_asks_for_are_kept(code: int, wait: float) -> None:
    assert Backoff(lambda: 0.0).after(code, lasted=100) == wait


def test_retry_after_comes_before_the_drawn_wait() -> None:
    assert Backoff(lambda: 0.0).after(None, lasted=0, retry_after=3) == 3


def busy(message_id: str, retry_after: float) -> dict[str, object]:
    return {"status": "error", "code": 503, "error": "busy", "messageId": message_id, "retryAfter": retry_after}


def test_a_busy_server_is_asked_again_later_and_later_and_then_taken_at_its_word() -> None:
    pending = Pending(lambda: "m")
    pending.add({"type": "x"}, give_up_at=1_000)
    now = 0.0
    for repeat in range(REPEATS):
        assert not pending.settle(busy("m", 1), now)
        assert pending.everything() == [], "what is to wait does not go out with a reconnect"
        assert pending.next_due == now + 2**repeat
        assert pending.due(now + 2**repeat - 0.01) == []
        now += 2**repeat
        assert pending.due(now) == [{"type": "x", "messageId": "m"}]
        assert pending.due(now) == []
    assert pending.settle(busy("m", 1), now)
    assert len(pending) == 0


def test_nobody_waits_longer_than_the_sender_has_patience() -> None:
    pending = Pending(lambda: "m")
    pending.add({}, give_up_at=5)
    assert pending.settle(busy("m", 60), 0.0)


def test_what_is_unanswered_is_sent_again_in_order_with_the_same_id_and_answers_count_once() -> None:
    ids = iter("abc")
    pending = Pending(lambda: next(ids))
    messages = [pending.add({"n": number}, give_up_at=9) for number in range(3)]
    assert pending.settle({"status": "processed", "messageId": "b"}, 0)
    assert not pending.settle({"status": "processed", "messageId": "b"}, 0)
    assert not pending.settle({"status": "processed"}, 0)
    assert pending.everything() == [messages[0], messages[2]]
    assert [message["messageId"] for message in pending.everything()] == ["a", "c"]
