"""`edge/frames.py`, read back by the rules of RFC 6455."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.frames import MAX_FRAGMENT, PING, fragments, text_frame


def read(frame: bytes) -> tuple[int, bytes]:
    """The first byte and the payload of one unmasked frame."""
    length, start = frame[1], 2
    if length == 126:
        length, start = int.from_bytes(frame[2:4]), 4
        assert length >= 126, "not the shortest form"
    elif length == 127:
        length, start = int.from_bytes(frame[2:10]), 10
        assert length >= 65_536, "not the shortest form"
    assert len(frame) == start + length
    return frame[0], frame[start:]


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 255, 256, 65_535, 65_536, 100_000])
def test_a_frame_holds_its_whole_text_in_the_shortest_form(length: int) -> None:
    payload = b"x" * length
    assert read(text_frame(payload)) == (0x81, payload)


@given(st.text())
def test_any_text_comes_back(text: str) -> None:
    assert read(text_frame(text.encode()))[1].decode() == text


def test_a_ping_is_final_unmasked_and_empty() -> None:
    assert read(PING) == (0x89, b"")


@pytest.mark.parametrize("length", [MAX_FRAGMENT, MAX_FRAGMENT + 1, 65_536, 3 * MAX_FRAGMENT, 3 * MAX_FRAGMENT + 1])
def test_a_long_message_comes_in_fragments_of_which_only_the_last_is_final(length: int) -> None:
    payload = bytes(position % 251 for position in range(length))
    parts = [read(part) for part in fragments(text_frame(payload))]
    assert b"".join(part for _, part in parts) == payload
    assert all(len(part) <= MAX_FRAGMENT for _, part in parts)
    if len(parts) > 1:
        assert [first_byte for first_byte, _ in parts] == [0x01, *[0x00] * (len(parts) - 2), 0x80]
    else:
        assert parts[0][0] == 0x81


def test_a_short_message_stays_the_one_frame_that_all_connections_share() -> None:
    frame = text_frame(b"short")
    assert fragments(frame)[0] is frame
