"""`runtime/event_id.py`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import text
from runtime.event_id import event_id, made_at_us

versions = st.integers(0, 2**53)


@given(st.text(max_size=128, alphabet=st.characters(exclude_categories=["Cs"])), versions, versions)
def test_a_name_fits_where_message_ids_do_whatever_the_timer_is_called(timer_id: str, one: int, other: int) -> None:
    for name in (event_id(timer_id, one), event_id(timer_id, one, other)):
        assert text.problem_with(name, longest=text.MAX_ID, shortest=1) is None
        assert name.isascii()


@given(versions, versions)
def test_the_same_state_has_the_same_name_and_another_one_has_not(one: int, other: int) -> None:
    assert event_id("tea", one) == event_id("tea", one)
    assert (event_id("tea", one) == event_id("tea", other)) == (one == other)
    assert event_id("tea", one) != event_id("eggs", one)
    assert event_id("tea", one, other) != event_id("tea", one)


@given(st.text(max_size=128, alphabet=st.characters(exclude_categories=["Cs"])), versions, versions)
def test_a_name_tells_when_its_newest_version_was_made(timer_id: str, one: int, other: int) -> None:
    assert made_at_us(event_id(timer_id, one)) == one
    assert made_at_us(event_id(timer_id, one, other)) == max(one, other)


@given(st.text(max_size=128))
def test_of_what_is_no_name_nothing_is_believed_and_nothing_breaks(text: str) -> None:
    assert made_at_us(text) == 0 or "." in text


@pytest.mark.parametrize("text", ["", "m1", "1234", "hello.world", "..", "x.1.2.3.4.5", "1.2.3.4.5"])
def test_ids_that_clients_make_up_are_no_names(text: str) -> None:
    assert made_at_us(text) < 10
