"""`edge/outlet.py`, with a socket whose kernel takes as much as the test says."""

import asyncio
from typing import cast

from edge.frames import MAX_FRAGMENT, PING, close_frame, text_frame
from edge.outlet import Outlet

BACKLOG = 100_000
MOST_IN_A_SOCKET = 48 * 1024
"""Bytes that can't be taken back any more: what a socket may hold before it gets no more, a chunk, a frame's heads."""


class Socket:
    """A transport: `write` buffers, and `flush` hands the kernel as many bytes as it has `room` for."""

    def __init__(self) -> None:
        self.room = 0
        self.buffer = bytearray()
        self.sent = bytearray()
        self.closing = False

    def write(self, data: bytes) -> None:
        self.buffer += data

    def flush(self, room: int | None = None) -> None:
        room = self.room if room is None else room
        self.sent += self.buffer[:room]
        del self.buffer[:room]

    def get_write_buffer_size(self) -> int:
        return len(self.buffer)

    def is_closing(self) -> bool:
        return self.closing

    def abort(self) -> None:
        self.closing = True


class Loop:
    """The turns of the loop: outlets that asked for it are written, then the kernel takes what it can."""

    def __init__(self) -> None:
        self.socket = Socket()
        self.asked: list[Outlet] = []
        self.outlet = Outlet(
            cast("asyncio.Transport", self.socket), backlog_bytes=BACKLOG, write_soon=self.asked.append
        )
        self.reliefs = 0
        self.outlet.on_relief = self._relieved

    def turn(self) -> None:
        asked, self.asked[:] = list(self.asked), []
        for outlet in asked:
            outlet.write()
        self.socket.flush()

    def poll(self) -> bool:
        """What is done for a socket that took no more."""
        done = self.outlet.write()
        self.socket.flush()
        while self.asked:
            self.turn()
        return done and self.outlet.over_since is None

    def settle(self) -> None:
        """Goes on until nothing is left to be done."""
        while not self.poll():
            pass

    def stall(self) -> None:
        """Fills the socket until it is given nothing more."""
        number = 0
        while len(self.socket.buffer) <= 8 * 1024:
            number += 1
            self.outlet.send(text_frame(b"%1000d" % number))
            self.turn()
        self.turn()
        self.outlet.write()

    def _relieved(self) -> None:
        self.reliefs += 1


def text(label: str, size: int = 1_000) -> bytes:
    return text_frame(label.encode().ljust(size, b"."))


def test_a_socket_that_takes_nothing_is_given_little_and_the_rest_can_be_taken_back() -> None:
    loop = Loop()
    for number in range(1_000):
        loop.outlet.send_state(f"t{number}", text(f"t{number}"))
        loop.turn()
    assert len(loop.socket.buffer) <= MOST_IN_A_SOCKET
    assert not loop.outlet.waits("t0")
    assert loop.outlet.waits("t999")


def test_a_reader_that_stops_and_reads_again_gets_each_timer_once_and_in_its_last_state() -> None:
    loop = Loop()
    loop.stall()
    for version in range(500):
        for timer in ("tea", "eggs"):
            loop.outlet.send_state(timer, text(f"{timer} {version};"))
            loop.turn()
    loop.socket.room = 1_000_000
    loop.settle()
    assert loop.socket.sent.count(b"tea ") == loop.socket.sent.count(b"eggs ") == 1
    assert b"tea 499;" in loop.socket.sent
    assert b"eggs 499;" in loop.socket.sent


def test_a_willing_socket_gets_a_long_message_turn_by_turn_without_being_polled() -> None:
    loop = Loop()
    loop.socket.room = 1_000_000
    loop.outlet.send(text_frame(b"x" * 1_000_000))
    turns = 0
    while loop.asked:
        loop.turn()
        turns += 1
        assert len(loop.socket.buffer) <= MOST_IN_A_SOCKET
    assert len(loop.socket.sent) > 1_000_000
    assert turns > 1_000_000 / MOST_IN_A_SOCKET


def test_more_than_may_wait_is_noticed_at_once_and_so_is_its_end() -> None:
    loop = Loop()
    loop.stall()
    assert loop.outlet.over_since is None
    for number in range(BACKLOG // 1_000):
        loop.outlet.send_state(f"t{number}", text("state"))
    loop.turn()
    since = loop.outlet.over_since
    assert since is not None
    assert not loop.poll()
    assert loop.outlet.over_since == since
    reliefs = loop.reliefs
    loop.socket.room = 1_000_000
    loop.settle()
    assert loop.outlet.over_since is None
    assert loop.reliefs > reliefs


def test_the_patience_begins_anew_with_every_backlog_that_was_taken_and_not_before() -> None:
    loop = Loop()
    loop.outlet.send(text_frame(b"x" * (4 * BACKLOG)))
    loop.turn()
    loop.poll()
    first = loop.outlet.over_since
    assert first is not None
    taken = len(loop.socket.sent)
    while len(loop.socket.sent) - taken < BACKLOG:
        assert loop.outlet.over_since == first
        loop.socket.flush(5_000)
        loop.poll()
    loop.poll()
    assert loop.outlet.over_since is not None
    assert loop.outlet.over_since > first


def test_a_full_socket_that_takes_more_shows_that_its_peer_is_alive() -> None:
    loop = Loop()
    loop.stall()
    assert loop.outlet.took_at == float("-inf")
    loop.poll()
    assert loop.outlet.took_at == float("-inf")
    loop.socket.flush(1)
    loop.poll()
    assert loop.outlet.took_at > float("-inf")


def test_what_the_kernel_takes_without_having_been_full_is_no_sign_of_life() -> None:
    loop = Loop()  # a peer that has vanished: the kernel goes on taking small things for a while
    loop.socket.room = 1_000_000
    for number in range(100):
        loop.outlet.send_state("tea", text(f"tea {number}"))
        loop.outlet.ping()
        loop.outlet.write()
        loop.outlet.send(text("reply"))
        loop.turn()
    assert loop.outlet.took_at == float("-inf")


def test_pings_and_the_goodbye_go_between_the_fragments_of_a_long_message() -> None:
    loop = Loop()
    loop.socket.room = 1_000_000
    loop.outlet.send(text_frame(b"x" * 500_000))
    loop.turn()
    assert loop.outlet.ping()
    loop.turn()
    loop.outlet.goodbye(4413, "too slow")
    loop.turn()
    frames = _frames(bytes(loop.socket.sent))
    assert [first_byte for first_byte, _ in frames if first_byte not in (0x00, 0x01)] == [0x89, 0x88]
    assert frames[0][0] == 0x01
    assert sum(len(payload) for first_byte, payload in frames if first_byte in (0x00, 0x01)) < 500_000
    assert bytes(loop.socket.sent).endswith(close_frame(4413, "too slow"))


def test_a_full_socket_gets_no_ping() -> None:
    loop = Loop()
    loop.stall()
    assert not loop.outlet.ping()
    assert PING not in loop.socket.buffer


def test_nothing_follows_the_goodbye() -> None:
    loop = Loop()
    loop.socket.room = 1_000_000
    loop.outlet.send(text("before"))
    loop.outlet.goodbye(1012, "restarting")
    assert loop.outlet.send(text("after")) == 0
    loop.outlet.send_state("tea", text("after"))
    loop.turn()
    loop.poll()
    assert b"before" in loop.socket.sent
    assert bytes(loop.socket.sent).endswith(close_frame(1012, "restarting"))


def test_what_is_abandoned_in_the_middle_is_followed_by_no_other_message() -> None:
    loop = Loop()
    loop.socket.room = 1_000_000
    place = loop.outlet.send(text_frame(b"x" * (5 * MAX_FRAGMENT)))
    loop.turn()
    assert loop.outlet.waits(place)
    loop.outlet.abandon()
    loop.outlet.send_state("tea", text("state"))
    loop.outlet.goodbye(1013, "unavailable")
    loop.turn()
    assert not loop.outlet.waits(place)
    first_bytes = [first_byte for first_byte, _ in _frames(bytes(loop.socket.sent))]
    assert first_bytes[0] == 0x01
    assert set(first_bytes[1:-1]) <= {0x00}
    assert first_bytes[-1] == 0x88


def test_a_connection_that_is_gone_does_not_keep_its_reader_waiting() -> None:
    loop = Loop()
    loop.outlet.send(text_frame(b"x" * (3 * BACKLOG)))
    loop.turn()
    loop.poll()
    assert loop.outlet.over_since is not None
    loop.socket.closing = True
    reliefs = loop.reliefs
    assert loop.outlet.write()
    assert loop.outlet.over_since is None
    assert loop.reliefs == reliefs + 1


def _frames(data: bytes) -> list[tuple[int, bytes]]:
    """The frames as first byte and payload."""
    frames, position = [], 0
    while position < len(data):
        length, start = data[position + 1], position + 2
        if length in (126, 127):
            width = 2 if length == 126 else 8
            length, start = int.from_bytes(data[start : start + width]), start + width
        frames.append((data[position], data[start : start + length]))
        position = start + length
    return frames
