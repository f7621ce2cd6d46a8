"""The server's clock as seen from a client: NTP's four timestamps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.clock import DRIFT, SAMPLES_KEPT, ServerClock

SERVER = 1_700_000_000_000_000  # microseconds since 1970, at local second 0


def exchange(clock: ServerClock, at: float, there: float, server: float, back: float, *, offset: int = SERVER) -> None:
    """A ping at a local second, with the seconds that each leg took; the server's clock is right."""
    arrived = at + there
    left = arrived + server
    clock.take(
        sent=at,
        server_received=offset + round(arrived * 1e6),
        server_sent=offset + round(left * 1e6),
        received=left + back,
    )


def test_before_any_exchange_this_machines_clock_is_all_there_is() -> None:
    clock = ServerClock()
    assert clock.samples == 0
    assert clock.error(1.0) is None
    assert clock.now(1.0) > SERVER


def test_a_symmetric_round_trip_gives_the_exact_time_however_long_the_server_thought() -> None:
    clock = ServerClock()
    exchange(clock, 10.0, 0.05, 2.0, 0.05)
    assert clock.now(20.0) == SERVER + 20_000_000
    assert clock.error(12.1) == pytest.approx(50_000, abs=1)


@given(
    st.floats(min_value=0, max_value=1e6),
    st.floats(min_value=0, max_value=2),
    st.floats(min_value=0, max_value=2),
    st.floats(min_value=0, max_value=2),
)
def test_the_true_time_is_always_within_the_error_bound(at: float, there: float, server: float, back: float) -> None:
    clock = ServerClock()
    exchange(clock, at, there, server, back)
    later = at + there + server + back
    error = clock.error(later)
    assert error is not None
    assert abs(clock.now(later) - (SERVER + later * 1e6)) <= error + 2


def test_of_several_exchanges_the_shortest_counts() -> None:
    clock = ServerClock()
    exchange(clock, 1.0, 0.3, 0, 0.0)
    exchange(clock, 2.0, 0.001, 0, 0.001)
    exchange(clock, 3.0, 0.0, 0, 0.3)
    assert clock.now(4.0) == SERVER + 4_000_000


def test_an_old_exchange_is_worth_less_since_clocks_drift() -> None:
    clock = ServerClock()
    exchange(clock, 0.0, 0.001, 0, 0.001)
    first = clock.error(0.0)
    assert first is not None
    assert clock.error(1_000.0) == pytest.approx(first + 1_000 * DRIFT * 1e6, rel=0.01)
    exchange(clock, 1_000.0, 0.005, 0, 0.005)  # longer than the first one was, and yet better by now
    assert clock.error(1_000.0) == pytest.approx(5_000, rel=0.01)


def test_a_clock_that_was_set_is_believed_at_once() -> None:
    clock = ServerClock()
    for at in range(SAMPLES_KEPT):
        exchange(clock, float(at), 0.001, 0, 0.001)
    exchange(clock, 100.0, 0.02, 0, 0.02, offset=SERVER + 5_000_000)
    assert clock.now(101.0) == SERVER + 5_000_000 + 101_000_000


def test_without_the_servers_time_of_receipt_the_error_includes_what_it_took_to_answer() -> None:
    clock = ServerClock()
    clock.take(sent=0.0, server_received=SERVER + 1_000_000, server_sent=SERVER + 1_000_000, received=1.0)
    assert clock.error(1.0) == pytest.approx(500_000)
    assert abs(clock.now(1.0) - (SERVER + 1_000_000)) <= 500_000


def test_a_server_that_was_set_back_while_it_answered_gives_no_negative_error() -> None:
    clock = ServerClock()
    clock.take(sent=0.0, server_received=SERVER, server_sent=SERVER + 9_000_000, received=0.01)
    assert clock.error(0.01) == 0
