"""`edge/replies.py`: answers in the order of the questions."""

from edge.replies import Replies, Reply


def test_an_answer_waits_for_those_before_it() -> None:
    emitted: list[bytes] = []
    replies = Replies(lambda _, frame: emitted.append(frame))
    first, second, third = (replies.expect(None, "ping", 0.0) for _ in range(3))
    replies.answer(second, b"2")
    assert emitted == []
    replies.answer(first, b"1")
    assert emitted == [b"1", b"2"]
    replies.answer(third, b"3")
    assert emitted == [b"1", b"2", b"3"]
    assert len(replies) == 0


def test_a_snapshot_that_waits_for_an_earlier_answer_is_known_to_wait() -> None:
    emitted: list[Reply] = []
    replies = Replies(lambda reply, _: emitted.append(reply))
    first, snapshot = replies.expect("a", "ping", 0.0), replies.expect("b", "sync", 0.0)
    replies.answer(snapshot, b"timers", has_timers=True)
    assert replies.any_has_timers()
    replies.answer(first, b"first")
    assert not replies.any_has_timers()
    assert [(reply.message_id, reply.has_timers) for reply in emitted] == [("a", False), ("b", True)]
