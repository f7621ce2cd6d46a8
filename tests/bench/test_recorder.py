"""`bench/recorder.py` and `bench/dialects.py`: what is found afterwards in what was only kept."""

import asyncio
import itertools
from typing import Any, cast

import pytest

from bench.dialects import FIRST_NUMBER, Bubble, Centrifugo, Dialect, SocketIo
from bench.recorder import ClosedLoop, Recorder
from cli.raw_socket import frames
from edge.codec.seed import SeedCodec
from proto.event.v1 import event_pb2

BODY = '"name":"n%d","totalDuration":"PT25M","endTime":"2030-01-01T00:00:00.000Z"'


class Wire:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data


def frame(text: str | bytes, first_byte: int = 0x81) -> bytes:
    """As a server sends it."""
    payload = text.encode() if isinstance(text, str) else text
    length = len(payload)
    return (
        bytes((first_byte, length)) + payload
        if length < 126
        else bytes((first_byte, 126)) + length.to_bytes(2, "big") + payload
    )


def ours(timer: str, version: int, number: int) -> bytes:
    """A delivery as our edge makes it."""
    view = event_pb2.TimerView()
    view.timer.timer_id, view.timer.version, view.timer.name = timer, version, f"n{number}"
    view.timer.total_duration, view.timer.end_time = "PT25M", "2030-01-01T00:00:00.000Z"
    view.timer.changed_by = view.audience.owner_id = "u1-2"
    view.audience.member_ids.extend(["u1-0", "u1-1"])
    return SeedCodec().timer(view, "e", 1_795_000_000_000_000)


def texts(dialect: Dialect) -> tuple[bytes, bytes]:
    """An acknowledgement of update 100000007, which made version 42 of g1-0-0-0, and its delivery."""
    state = '{"type":"timer","action":"update","timer":{"id":"g1-0-0-0",' + BODY % 100_000_007
    match dialect:
        case Bubble():
            return SeedCodec().processed("g1-0-0-0", 42, "100000007"), ours("g1-0-0-0", 42, 100_000_007)
        case SocketIo():
            return b'43100000007[{"version":42}]', f'42["timer",{state},"version":42}},"changedBy":"u1"}}]'.encode()
        case Centrifugo():
            push = f'{{"push":{{"channel":"g1","pub":{{"data":{state}}}}}}}}}}}'
            return b'{"id":100000007,"publish":{}}', push.encode()
    reply = b'{"status":"processed","timerId":"g1-0-0-0","version":42,"messageId":"100000007"}'
    return reply, f'{state},"version":42}},"changedBy":"u1","messageId":"100000007"}}'.encode()


DIALECTS = [Dialect(), Bubble(), SocketIo(), Centrifugo()]


def make(dialect: Dialect, kind: type[Recorder] = Recorder, timers: tuple[str, ...] = ()) -> tuple[Any, Wire]:
    wire = Wire()
    return kind(dialect, timers, cast(asyncio.Transport, wire), itertools.count(FIRST_NUMBER)), wire


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: type(dialect).__name__)
@pytest.mark.parametrize("piece", [1, 7, 10_000])
def test_replies_and_deliveries_are_found_however_the_bytes_were_cut(dialect: Dialect, piece: int) -> None:
    recorder, _ = make(dialect)
    reply, delivery = texts(dialect)
    data = frame(delivery) + frame(reply) + frame(delivery)
    for start in range(0, len(data), piece):
        recorder.data_received(data[start : start + piece])
    version = 100_000_007 if dialect.echo else 42
    assert [(each.number, each.version) for each in recorder.replies()] == [(100_000_007, version)]
    assert [(each.timer, each.version, each.number) for each in recorder.deliveries()] == [
        (b"g1-0-0-0", version, 100_000_007)
    ] * 2
    times = [each.at for each in recorder.deliveries()]
    assert times == sorted(times)
    assert recorder.refused() == 0


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: type(dialect).__name__)
@pytest.mark.parametrize("piece", [1, 5, 10_000])
def test_a_closed_loop_sends_one_update_for_each_acknowledgement_however_the_bytes_were_cut(
    dialect: Dialect, piece: int
) -> None:
    recorder, wire = make(dialect, ClosedLoop, ("g1-0-0-0", "g1-0-0-1"))
    recorder.start(2)
    reply, delivery = texts(dialect)
    data = frame(reply) + frame(delivery) * 3 + frame(reply) * 2
    for start in range(0, len(data), piece):
        recorder.data_received(data[start : start + piece])
    assert [sent.number for sent in recorder.sent] == [FIRST_NUMBER + number for number in range(5)]
    assert [sent.timer for sent in recorder.sent] == [b"g1-0-0-0", b"g1-0-0-1"] * 2 + [b"g1-0-0-0"]
    assert wire.written.count(b'"PT25M"') == 5
    recorder.running = False
    recorder.data_received(frame(reply))
    assert len(recorder.sent) == 5
    assert recorder.outstanding == 1


def test_an_update_of_ours_is_one_that_the_edge_understands() -> None:
    recorder, wire = make(Bubble(), timers=("g1-0-0-0",))
    recorder.send([1.0])
    masked = wire.written
    payload = masked[masked.index(b"{") :]
    request = cast(Any, SeedCodec().decode(payload))
    assert request.message_id == str(FIRST_NUMBER)
    assert request.item.timer_id == "g1-0-0-0"
    assert request.item.update.name == f"n{FIRST_NUMBER}"
    assert int.from_bytes(masked[2:4], "big") == len(payload)


def test_refusals_are_counted() -> None:
    recorder, _ = make(Bubble())
    recorder.data_received(frame('{"status":"error","code":503,"error":"Too much","retryAfter":1.5,"messageId":"1"}'))
    assert recorder.refused() == 1


def test_what_is_looked_for_at_the_end_is_the_last_acknowledged_state_of_each_timer() -> None:
    recorder, _ = make(Dialect(), timers=("g1-0-0-0", "g1-0-0-1"))
    recorder.send([1.0] * 4)
    for number in (0, 1, 2):
        reply, _ = texts(Dialect())
        recorder.data_received(frame(reply.replace(b"100000007", str(FIRST_NUMBER + number).encode())))
    assert recorder.last_acknowledged() == [FIRST_NUMBER + 2, FIRST_NUMBER + 1]
    assert not recorder.has(100_000_007)
    _, delivery = texts(Dialect())
    for piece in (frame(delivery)[:60], frame(delivery)[60:], *[b"x"] * 100):
        recorder.data_received(piece)
    assert recorder.has(100_000_007)
    assert not recorder.has(100_000_008)


def test_pings_that_came_meanwhile_are_answered_and_nothing_else_is() -> None:
    recorder, _ = make(SocketIo())
    _, delivery = texts(SocketIo())
    recorder.data_received(frame(b"ab", 0x89) + frame(delivery))
    recorder.data_received(frame("2") + frame(delivery))
    assert recorder.pongs() == b"\x8a\x82\x00\x00\x00\x00ab" + b"\x81\x81\x00\x00\x00\x003"
    recorder, _ = make(Centrifugo())
    reply, delivery = texts(Centrifugo())
    recorder.data_received(frame(delivery) + frame(reply + b"\n{}") + frame("{}"))
    assert recorder.pongs() == b"\x81\x82\x00\x00\x00\x00{}" * 2
    assert [end - start for _, start, end in frames(frame(b"ab", 0x89) + frame("2"))] == [2, 1]
