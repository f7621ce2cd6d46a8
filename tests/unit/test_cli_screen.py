"""The screen of `bubble watch`, and what notices that a timer has run out."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len

from cli import screen
from cli.human import DAY, MINUTE, SECOND
from cli.screen import News, Scene, bar, draw, next_change
from cli.timers import Timer
from cli.watch import Ringer
from runtime.iso8601 import format_instant

NOW = 1_764_000_000_000_000


def timer(name: str, left: int | None = None, **fields: object) -> Timer:
    end = format_instant(NOW + left) if left is not None else None
    values = {"id": name, "user_id": "alice", "name": name, "total_duration": "PT5M", "end_time": end, **fields}
    return Timer(**values)  # type: ignore[arg-type]


def scene(*timers: Timer, news: tuple[News, ...] = (), now: int = NOW, link: str = "live") -> Scene:
    return Scene(title="alice at localhost", link=link, well=True, timers=timers, news=news, now=now)


def text(a_scene: Scene, width: int = 100, height: int = 24) -> str:
    return "\n".join(line.plain for line in draw(a_scene, width, height))


TIMERS = (
    timer("Tea", 2 * MINUTE, shared_with=("bob", "carol")),
    timer("Ein sehr langer Name, der nirgends ganz hinpasst, 面条", MINUTE, user_id="bob"),
    timer("Eggs", -5 * SECOND),
    timer("Old", -3 * DAY),
    timer("Paused", remaining_duration="PT2M"),
    timer("Ready"),
    timer("👩\u200d🍳", 90 * MINUTE),
)
NEWS = tuple(News(f"12:00:0{number}", f"bob did thing {number}", "bob") for number in range(9))


@pytest.mark.parametrize("width", [*range(1, 30), 40, 63, 64, 65, 80, 200])
@pytest.mark.parametrize("height", [1, 2, 5, 8, 24, 60])
def test_nothing_is_wider_or_higher_than_the_terminal(width: int, height: int) -> None:
    lines = draw(scene(*TIMERS, news=NEWS), width, height)
    assert len(lines) <= height
    assert {line.plain: line.cell_len for line in lines if cell_len(line.plain) > width} == {}


@given(st.integers(64, 200), st.integers(-MINUTE, 6 * MINUTE))
def test_on_a_wide_screen_each_timer_has_one_line_as_wide_as_the_others(width: int, left: int) -> None:
    lines = draw(scene(timer("Tea", left), timer("Eggs", left)), width, 20)
    assert sum("Tea" in line.plain for line in lines) == 1
    widths = {line.plain.index("alice") for line in lines if "Tea" in line.plain or "Eggs" in line.plain}
    assert len(widths) == 1


def test_it_shows_what_is_left_whose_it_is_and_who_else_sees_it() -> None:
    shown = text(scene(*TIMERS, news=NEWS))
    for part in (
        "Tea",
        "2:00",
        "alice → bob, carol",
        "+0:05",
        "+3 d",
        "1:30:00",
        "12:00:08  bob did thing 8",
        "● live",
    ):
        assert part in shown, part
    assert "thing 0" not in shown
    assert shown.index("Eggs") < shown.index("Tea") < shown.index("Old")


def test_two_narrower_shapes_keep_name_and_time() -> None:
    for width in (40, 20):
        shown = text(scene(*TIMERS[:1]), width)
        assert "Tea" in shown
        assert "2:00" in shown
    assert "alice → bob, carol" in text(scene(*TIMERS[:1]), 40)
    assert "█" in text(scene(*TIMERS[:1]), 40)
    assert "█" not in text(scene(*TIMERS[:1]), 20)


def test_what_does_not_fit_is_counted() -> None:
    many = [timer(f"Timer {number:02}", (number + 1) * MINUTE) for number in range(30)]
    shown = text(scene(*many, news=NEWS), height=20)
    left_out = sum(each.name not in shown for each in many)
    assert left_out
    assert f"… and {left_out} more" in shown


def test_where_not_everything_fits_there_are_rather_all_timers_with_less_of_each() -> None:
    timers = [timer(f"Timer {number}", (number + 1) * MINUTE) for number in range(4)]
    for height, people, bars in ((16, True, True), (12, False, True), (8, False, False)):
        shown = text(scene(*timers), width=40, height=height)
        assert all(each.name in shown for each in timers)
        assert ("  alice" in shown, "█" in shown) == (people, bars), shown


def test_without_timers_it_says_how_to_make_one() -> None:
    assert "bubble start" in text(scene())


def test_a_name_can_not_command_the_terminal() -> None:
    assert "\x1b" not in text(scene(timer("Tea\x1b[2J", MINUTE, shared_with=("b\x1bob",)), news=NEWS))


@given(st.floats(-1, 2).filter(lambda fraction: not 0 < fraction < 1e-9), st.integers(1, 200))
def test_a_bar_always_has_its_width_and_is_exact_to_an_eighth_of_a_cell(fraction: float, cells: int) -> None:
    drawn = bar(fraction, cells, "#ffffff").plain
    assert cell_len(drawn) == cells
    eighths = drawn.count("█") * 8 + sum(screen._EIGHTHS.index(char) for char in drawn if char not in "█ ")
    assert eighths == pytest.approx(min(max(fraction, 0), 1) * cells * 8, abs=1)


def test_what_runs_is_never_shown_as_empty_and_what_is_over_always_is() -> None:
    assert bar(1e-6, 20, "#ffffff").plain.strip()
    assert not bar(0, 20, "#ffffff").plain.strip()


@given(st.integers(1, 6 * MINUTE), st.sampled_from([20, 40, 100]))
@example(5 * MINUTE, 40)
def test_a_frame_is_due_no_later_than_the_picture_changes(left: int, width: int) -> None:
    running = timer("Tea", left)
    wait = next_change([running], NOW, width)
    assert SECOND // screen.FRAMES_PER_SECOND <= wait <= SECOND
    if wait > SECOND // screen.FRAMES_PER_SECOND:
        before = text(scene(running), width)
        assert text(scene(running, now=NOW + wait - 1), width) in (before, text(scene(running, now=NOW + 1), width))


def test_where_nothing_runs_a_frame_a_second_is_enough() -> None:
    assert next_change([timer("Ready"), timer("Paused", remaining_duration="PT1M")], NOW, 80) == SECOND


def test_a_timer_rings_once_when_it_runs_out_and_not_when_it_was_over_before() -> None:
    ringer = Ringer()
    timers = [timer("Tea", SECOND), timer("Old", -SECOND), timer("Paused", remaining_duration="PT1M")]
    assert ringer.tick(timers, NOW) == []
    assert Ringer.next_end(timers, NOW) == SECOND
    assert ringer.tick(timers, NOW + SECOND) == timers[:1]
    assert ringer.tick(timers, NOW + 2 * SECOND) == []
    assert Ringer.next_end(timers, NOW + SECOND) is None
