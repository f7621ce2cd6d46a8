"""`edge/frames.py`, read back by the rules of RFC 6455."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.frames import PING, text_frame


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
