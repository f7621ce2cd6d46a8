"""`edge/mailbox.py`: what waits for a slow reader."""

from hypothesis import given
from hypothesis import strategies as st

from edge.mailbox import Mailbox

EVERYTHING = 1_000_000

frames = st.binary(min_size=1, max_size=20)


def test_frames_are_taken_in_the_order_in_which_they_came() -> None:
    mailbox = Mailbox()
    mailbox.put(b"connected")
    mailbox.put_state("tea", b"tea 1")
    mailbox.put(b"processed")
    mailbox.put_state("eggs", b"eggs 1")
    assert mailbox.take(EVERYTHING) == [b"connected", b"tea 1", b"processed", b"eggs 1"]
    assert len(mailbox) == 0


def test_a_slow_reader_receives_only_the_latest_state() -> None:
    mailbox = Mailbox()
    for version in range(1_000):
        mailbox.put_state("tea", f"tea {version}".encode())
    assert mailbox.take(EVERYTHING) == [b"tea 999"]
    assert mailbox.conflated == 999


def test_a_newer_state_replaces_the_older_one_and_comes_after_all_that_waits() -> None:
    mailbox = Mailbox()
    mailbox.put_state("tea", b"tea 1")
    mailbox.put_state("eggs", b"eggs 1")
    mailbox.put_state("tea", b"tea 2")
    assert mailbox.take(EVERYTHING) == [b"eggs 1", b"tea 2"]


def test_replies_are_never_left_out() -> None:
    mailbox = Mailbox()
    for number in range(100):
        mailbox.put(f"reply {number}".encode())
    assert mailbox.take(EVERYTHING) == [f"reply {number}".encode() for number in range(100)]


def test_a_timer_whose_id_is_a_number_is_not_taken_for_a_reply() -> None:
    mailbox = Mailbox()
    place = mailbox.put(b"reply")
    mailbox.put_state(str(place), b"state")
    assert place in mailbox
    mailbox.drop(str(place))
    assert mailbox.take(EVERYTHING) == [b"reply"]


def test_a_place_is_free_again_once_its_frame_was_taken() -> None:
    mailbox = Mailbox()
    first = mailbox.put(b"snapshot")
    assert first in mailbox
    mailbox.take(EVERYTHING)
    assert first not in mailbox
    assert mailbox.put(b"next") != first


def test_a_dropped_state_is_not_sent_and_dropping_nothing_is_harmless() -> None:
    mailbox = Mailbox()
    mailbox.put_state("tea", b"tea 1")
    assert "tea" in mailbox
    mailbox.drop("tea")
    mailbox.drop("tea")
    assert "tea" not in mailbox
    assert mailbox.take(EVERYTHING) == []
    assert mailbox.size == 0


def test_as_many_frames_are_taken_as_fit() -> None:
    mailbox = Mailbox()
    for _ in range(5):
        mailbox.put(b"0123456789")
    assert len(mailbox.take(25)) == 2
    assert len(mailbox.take(30)) == 3
    assert mailbox.size == 0


def test_a_frame_that_is_larger_than_a_write_is_taken_alone() -> None:
    mailbox = Mailbox()
    mailbox.put(b"0" * 1_000)
    mailbox.put(b"1")
    assert mailbox.take(10) == [b"0" * 1_000]
    assert mailbox.take(10) == [b"1"]


def test_clearing_removes_everything() -> None:
    mailbox = Mailbox()
    mailbox.put(b"reply")
    mailbox.put_state("tea", b"tea 1")
    mailbox.clear()
    assert (len(mailbox), mailbox.size, mailbox.take(EVERYTHING)) == (0, 0, [])


@given(
    st.lists(
        st.tuples(st.just("put"), frames)
        | st.tuples(st.sampled_from(["tea", "eggs", "1"]), frames)
        | st.tuples(st.just("take"), st.integers(1, 60))
        | st.tuples(st.just("drop"), st.sampled_from(["tea", "eggs", "1"])),
        max_size=60,
    )
)
def test_it_is_a_queue_with_the_latest_state_per_timer_and_its_size_is_always_right(
    actions: list[tuple[str, bytes | int | str]],
) -> None:
    mailbox = Mailbox()
    expected: list[tuple[str, bytes]] = []
    for action, argument in actions:
        if isinstance(argument, int):
            taken: list[bytes] = []
            while expected and (not taken or sum(map(len, taken)) + len(expected[0][1]) <= argument):
                taken.append(expected.pop(0)[1])
            assert mailbox.take(argument) == taken
        elif isinstance(argument, str):
            mailbox.drop(argument)
            expected = [each for each in expected if each[0] != argument]
        elif action == "put":
            mailbox.put(argument)
            expected.append(("", argument))
        else:
            mailbox.put_state(action, argument)
            expected = [each for each in expected if each[0] != action]
            expected.append((action, argument))
        assert mailbox.size == sum(len(frame) for _, frame in expected)
        assert len(mailbox) == len(expected)
    assert mailbox.take(EVERYTHING) == [frame for _, frame in expected]


def test_putting_a_state_tells_whether_an_older_one_gave_way() -> None:
    mailbox = Mailbox()
    assert not mailbox.put_state("tea", b"tea 1")
    assert mailbox.put_state("tea", b"tea 2")
    assert not mailbox.put_state("eggs", b"eggs 1")
    mailbox.take(EVERYTHING)
    assert not mailbox.put_state("tea", b"tea 3")
