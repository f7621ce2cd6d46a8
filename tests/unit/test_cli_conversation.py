"""A client's side of the protocol, without a socket."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.conversation import (
    ACK_EVERY,
    FIRST_PINGS,
    PING_EVERY,
    PONG_WITHIN,
    Answered,
    Changed,
    Connected,
    Conversation,
    Dead,
    Gone,
    Happening,
    Shared,
    Stopped,
    Unshared,
    UpToDate,
)
from cli.pending import Pending
from cli.timers import Timer
from runtime.iso8601 import format_instant

SERVER = 1_764_000_000_000_000

Message = dict[str, Any]


def wire(timer_id: str = "tea", version: int = 1, **fields: Any) -> Message:
    return {
        "id": timer_id,
        "userId": "alice",
        "name": "Tea",
        "totalDuration": "PT5M",
        "version": version,
        "sharedWith": [],
        "shareVersion": 1,
        **fields,
    }


class Peer:
    """The server, as far as these tests need one: a conversation, and the time."""

    def __init__(self, *, pings: bool = False, message_bytes: int = 16_384) -> None:
        self.conversation = Conversation(pings=pings, rand=lambda: 1.0)
        self.now = 100.0
        self.message_bytes = message_bytes

    def say(self, **message: Any) -> list[Happening]:
        return self.conversation.received(json.dumps(message), self.now)

    def sent(self) -> list[Message]:
        return [json.loads(text) for text in self.conversation.outgoing()]

    def connect(self) -> list[Happening]:
        self.conversation.opened(self.now, resumed=self.conversation.resumes)
        return self.say(
            type="connected",
            status="connected",
            connectionId="c1",
            userId="alice",
            serverTime=format_instant(SERVER + round(self.now * 1e6)),
            limits={"messageBytes": self.message_bytes},
        )

    def snapshot(self, *timers: Message, gone: tuple[str, ...] = (), **more: Any) -> list[Happening]:
        return self.say(type="snapshot", timers=timers, gone=gone, **more)

    def begin(self, *timers: Message) -> None:
        self.connect()
        self.snapshot(*timers)

    def lose(self, code: int | None = None) -> float:
        return self.conversation.lost(code, self.now)


def test_the_first_connection_gets_everything_and_asks_for_nothing() -> None:
    peer = Peer()
    assert not peer.conversation.resumes
    assert peer.connect() == [Connected("alice", "c1")]
    assert peer.snapshot(wire()) == [UpToDate()]
    assert [timer.id for timer in peer.conversation.timers] == ["tea"]
    assert peer.sent() == []
    assert peer.conversation.due is None


def test_a_later_connection_resumes_and_is_told_what_changed() -> None:
    peer = Peer()
    peer.begin(wire(), wire("eggs", 5), wire("bread"))
    peer.lose()
    assert peer.conversation.resumes
    peer.connect()
    (sync,) = peer.sent()
    assert sync["type"] == "sync"
    assert sync["versions"] == {"tea": 1, "eggs": 5, "bread": 1}
    assert sync["shareVersions"] == {"tea": 1, "eggs": 1, "bread": 1}
    happenings = peer.snapshot(wire(version=2), gone=("bread", "never-seen"), messageId=sync["messageId"])
    assert [type(each) for each in happenings] == [Changed, Gone, UpToDate]
    assert {timer.id: timer.version for timer in peer.conversation.timers} == {"tea": 2, "eggs": 5}


def test_a_full_snapshot_that_comes_because_the_sync_was_late_takes_nothing_away() -> None:
    peer = Peer()
    peer.begin(wire(), wire("eggs"))
    peer.lose()
    peer.connect()
    (sync,) = peer.sent()
    assert peer.snapshot(wire("eggs", 2)) != []
    assert peer.conversation.timers.get("tea") is not None
    assert UpToDate() in peer.snapshot(gone=("tea",), messageId=sync["messageId"])
    assert peer.conversation.timers.get("tea") is None


def test_with_more_timers_than_fit_into_one_message_it_begins_anew_and_tells_the_difference() -> None:
    peer = Peer(message_bytes=300)
    timers = [wire(f"timer-{number}") for number in range(10)]
    peer.begin(*timers)
    peer.lose()
    assert not peer.conversation.resumes
    peer.connect()
    assert peer.sent() == []
    happenings = peer.snapshot(wire("timer-0", 2), *timers[1:9])
    assert [type(each) for each in happenings] == [Changed, Gone, UpToDate]
    assert len(peer.conversation.timers) == 9


def test_a_sync_that_fails_ends_the_connection() -> None:
    peer = Peer()
    peer.begin(wire())
    peer.lose()
    peer.connect()
    (sync,) = peer.sent()
    (dead,) = peer.say(status="error", code=503, error="busy", messageId=sync["messageId"], retryAfter=1)
    assert isinstance(dead, Dead)


def test_a_command_is_sent_again_after_a_reconnect_with_the_same_id_behind_the_sync() -> None:
    peer = Peer()
    peer.begin(wire())
    message_id = peer.conversation.request({"type": "timer", "action": "pause", "timerId": "tea"}, peer.now + 60)
    (first,) = peer.sent()
    peer.lose()
    assert peer.sent() == []
    peer.connect()
    sync, again = peer.sent()
    assert sync["type"] == "sync"
    assert again == first
    assert again["messageId"] == message_id
    paused = wire(version=2, remainingDuration="PT1M")
    happenings = peer.say(status="processed", messageId=message_id, timerId="tea", version=2, timer=paused)
    assert [type(each) for each in happenings] == [Changed, Answered]
    peer.lose()
    peer.connect()
    assert [message["type"] for message in peer.sent()] == ["sync"]


def test_a_command_that_is_given_while_there_is_no_connection_goes_out_with_the_next() -> None:
    peer = Peer()
    peer.begin(wire())
    peer.lose()
    peer.conversation.request({"type": "timer", "action": "stop", "timerId": "tea"}, peer.now + 60)
    assert peer.sent() == []
    peer.connect()
    assert [message["type"] for message in peer.sent()] == ["sync", "timer"]


def test_a_busy_server_gets_the_command_again_when_it_said() -> None:
    peer = Peer()
    peer.begin(wire())
    message_id = peer.conversation.request({"type": "timer", "action": "pause", "timerId": "tea"}, peer.now + 60)
    (first,) = peer.sent()
    assert peer.say(status="error", code=503, error="busy", messageId=message_id, retryAfter=2) == []
    assert peer.conversation.due == peer.now + 2
    peer.now += 2
    peer.conversation.tick(peer.now)
    assert peer.sent() == [first]


def test_a_refusal_is_the_last_word() -> None:
    peer = Peer()
    peer.begin(wire())
    message_id = peer.conversation.request({"type": "timer", "action": "pause", "timerId": "tea"}, peer.now + 60)
    (answer,) = peer.say(status="error", code=403, error="no", messageId=message_id)
    assert isinstance(answer, Answered)
    assert answer.reply["code"] == 403


def test_what_a_refusal_tells_of_a_stopped_timer_is_not_taken_for_a_timer() -> None:
    peer = Peer()
    peer.begin()
    message_id = peer.conversation.request({"type": "timer", "action": "update", "timer": {"id": "tea"}}, peer.now + 60)
    peer.say(status="error", code=409, error="stopped", messageId=message_id, timer=wire(version=9, stoppedBy="bob"))
    assert list(peer.conversation.timers) == []


def test_deliveries_are_told_with_who_did_it() -> None:
    peer = Peer()
    peer.begin(wire())
    (changed,) = peer.say(type="timer", action="update", timer=wire(version=2, name="Chai"), changedBy="bob")
    assert isinstance(changed, Changed)
    assert changed.by == "bob"
    assert peer.say(type="timer", action="update", timer=wire(version=1), changedBy="bob") == []
    (shared,) = peer.say(type="share", action="add", timerId="eggs", sharedBy="bob", timer=wire("eggs"))
    assert isinstance(shared, Shared)
    (stopped,) = peer.say(type="timer", action="stop", timerId="tea", version=3, stoppedBy="bob")
    assert isinstance(stopped, Stopped)
    assert (stopped.timer.name, stopped.by) == ("Chai", "bob")
    (unshared,) = peer.say(type="share", action="remove", timerId="eggs", sharedWithUser="alice")
    assert isinstance(unshared, Unshared)
    assert peer.say(type="share", action="remove", timerId="eggs", sharedWithUser="alice") == []
    assert len(peer.conversation.timers) == 0


def test_whoever_made_a_state_is_not_taken_for_who_changed_its_audience_later() -> None:
    peer = Peer()
    peer.begin(wire(version=2))

    def by(**fields: Any) -> str:
        (changed,) = peer.say(type="timer", action="update", timer=wire(**fields), changedBy="bob")
        assert isinstance(changed, Changed)
        return changed.by

    assert by(version=2, shareVersion=2, sharedWith=["carol"]) == ""
    assert by(version=1, shareVersion=3) == ""  # an older state that brings a newer audience
    assert by(version=3, shareVersion=3) == "bob"
    assert by(version=4, shareVersion=4, sharedWith=["carol"]) == "bob"


def test_a_reply_to_a_share_changes_the_audience_and_tells_who_did() -> None:
    peer = Peer()
    peer.begin(wire())
    message_id = peer.conversation.request({"type": "share"}, peer.now + 60)
    changed, _ = peer.say(
        status="processed", messageId=message_id, timerId="tea", version=1, shareVersion=2, sharedWith=["bob"]
    )
    assert isinstance(changed, Changed)
    assert changed.by == "alice"
    tea = peer.conversation.timers.get("tea")
    assert isinstance(tea, Timer)
    assert tea.shared_with == ("bob",)


def test_traced_deliveries_are_all_acked_within_their_trace_and_of_the_others_a_few() -> None:
    peer = Peer()
    peer.begin(wire())
    parent = f"00-{'a' * 32}-{'b' * 16}-01"
    for number in range(3):
        peer.say(
            type="timer", action="update", timer=wire(version=2 + number), messageId=f"t{number}", traceparent=parent
        )
    acks = peer.sent()
    assert [ack["messageId"] for ack in acks] == ["t0", "t1", "t2"]
    for ack in acks:
        version, trace, step, flags = ack["traceparent"].split("-")
        assert (version, trace, flags) == ("00", "a" * 32, "01")
        assert len(step) == 16
        assert step != "b" * 16
    for number in range(3):
        peer.say(type="timer", action="update", timer=wire(version=9 + number), messageId=f"u{number}")
    peer.now += ACK_EVERY
    peer.say(type="timer", action="update", timer=wire(version=20), messageId="u9")
    assert [ack["messageId"] for ack in peer.sent()] == ["u0", "u9"]


def pong(peer: Peer, ping: Message, **more: str) -> None:
    peer.say(
        type="pong", timestamp=ping["timestamp"], serverTime=format_instant(SERVER + round(peer.now * 1e6)), **more
    )


def test_after_a_connect_it_pings_a_few_times_quickly_and_then_now_and_then() -> None:
    peer = Peer(pings=True)
    peer.begin()
    times = []
    for _ in range(FIRST_PINGS + 2):
        due = peer.conversation.due
        assert due is not None
        peer.now = due
        assert peer.conversation.tick(peer.now) == []
        (ping,) = peer.sent()
        times.append(peer.now)
        pong(peer, ping)
    assert times[FIRST_PINGS - 1] - times[0] < 1
    assert times[-1] - times[-2] == pytest.approx(PING_EVERY)


def test_a_pong_with_the_time_of_receipt_is_worth_more_than_one_without() -> None:
    errors = []
    for with_receipt in (True, False):
        peer = Peer(pings=True)
        peer.begin()
        peer.conversation.clock = type(peer.conversation.clock)()
        peer.conversation.tick(peer.now)
        (ping,) = peer.sent()
        received = format_instant(SERVER + round((peer.now + 0.001) * 1e6))
        peer.now += 0.202  # a millisecond each way, and 200 on the server
        sent = format_instant(SERVER + round((peer.now - 0.001) * 1e6))
        more = {"receivedTime": received} if with_receipt else {}
        peer.say(type="pong", timestamp=ping["timestamp"], serverTime=sent, **more)
        errors.append(peer.conversation.clock.error(peer.now))
        assert abs(peer.conversation.clock.now(peer.now) - (SERVER + peer.now * 1e6)) <= (errors[-1] or 0) + 2
    assert errors[0] == pytest.approx(1_000, rel=0.01)
    assert errors[1] == pytest.approx(101_000, rel=0.01)


def test_a_ping_without_an_answer_means_that_the_link_is_dead() -> None:
    peer = Peer(pings=True)
    peer.begin()
    peer.conversation.tick(peer.now)
    assert peer.conversation.due is not None
    peer.now += PONG_WITHIN - 0.1
    assert peer.conversation.tick(peer.now) == []
    peer.now += 0.1
    assert [type(each) for each in peer.conversation.tick(peer.now)] == [Dead]


def test_a_pong_of_an_earlier_connection_tells_no_time() -> None:
    peer = Peer(pings=True)
    peer.begin()
    peer.conversation.tick(peer.now)
    (ping,) = peer.sent()
    peer.now += 1
    before = peer.conversation.clock.error(peer.now)
    pong(peer, {"timestamp": ping["timestamp"] - 1})
    assert peer.conversation.clock.error(peer.now) == before


def test_an_announced_restart_is_waited_for_as_long_as_was_announced() -> None:
    peer = Peer()
    peer.begin()
    peer.say(type="reconnect", afterMs=4_000)
    assert peer.lose(1012) == 4.0
    peer.connect()
    peer.snapshot()
    assert peer.lose(1012) != 4.0


def test_nothing_is_pinged_or_repeated_while_there_is_no_connection() -> None:
    peer = Peer(pings=True)
    peer.begin()
    peer.conversation.tick(peer.now)
    peer.lose()
    peer.now += 3_600
    assert peer.conversation.tick(peer.now) == []
    assert peer.conversation.due is None
    assert peer.sent() == []


@pytest.mark.parametrize(
    "text",
    ["{", '"', '{"type":"snapshot"}', '{"type":"timer","action":"update","timer":{"id":5}}', '{"type":"reconnect"}'],
)
def test_whoever_does_not_speak_the_protocol_is_left(text: str) -> None:
    peer = Peer()
    peer.begin()
    assert [type(each) for each in peer.conversation.received(text, peer.now)] == [Dead]


@pytest.mark.parametrize("text", ['{"type":"fanfare"}', "{}", "[]", "7", '{"type":"timer","action":"dance"}'])
def test_what_is_not_known_yet_is_ignored(text: str) -> None:
    peer = Peer()
    peer.begin()
    assert peer.conversation.received(text, peer.now) == []


KEYS = [
    "type",
    "status",
    "action",
    "timer",
    "timerId",
    "timers",
    "gone",
    "messageId",
    "code",
    "error",
    "retryAfter",
    "version",
]
KEYS += [
    "afterMs",
    "serverTime",
    "receivedTime",
    "timestamp",
    "limits",
    "traceparent",
    "sharedWith",
    "shareVersion",
    "userId",
]
WORDS = [
    "connected",
    "snapshot",
    "pong",
    "reconnect",
    "timer",
    "share",
    "update",
    "stop",
    "add",
    "remove",
    "processed",
    "error",
]
values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from([*WORDS, "m", "tea"]), st.text(max_size=5)
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*KEYS, "id", "name"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(st.lists(st.dictionaries(st.sampled_from(KEYS), values, max_size=6), min_size=1, max_size=4))
def test_whatever_a_server_says_it_is_understood_ignored_or_left_and_never_raises(messages: list[Message]) -> None:
    peer = Peer(pings=True)
    peer.conversation.pending = Pending(lambda: "m")
    peer.begin(wire())
    peer.conversation.request({"type": "timer"}, peer.now + 60)
    peer.conversation.tick(peer.now)
    for message in messages:
        peer.say(**message)
        peer.sent()
