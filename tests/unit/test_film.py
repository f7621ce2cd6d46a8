"""The film of `bubble watch`: from what a terminal was sent to an SVG."""

import xml.etree.ElementTree as ET

from bench.film import Frame, Pane, Run, draw, read_frames, thinned

SVG = "{http://www.w3.org/2000/svg}"


def text(words: str) -> tuple[Run, ...]:
    return (Run(words, "#ffffff", "", bold=False, dim=False),)


def test_frames_are_read_with_their_times_and_equal_ones_are_one() -> None:
    written = [
        (10.0, b"\x1b[?1049h\x1b[H\x1b[?25l\x1b[H\x1b[1mone\x1b[0m\r\n\x1b[38;2;1;2;3;48;2;4;5;6m"),
        (10.5, "█▌\x1b[0m\r\n".encode()),
        (11.0, "\x1b[H\x1b[1mone\x1b[0m\r\n\x1b[38;2;1;2;3;48;2;4;5;6m█▌\x1b[0m\r\n".encode()),
        (12.0, b"\x1b[Htwo\x1b[?25h\x1b[?1049l"),
    ]
    first, second = read_frames(written, begin=10.0)
    assert (first.at, second.at) == (0.0, 2.0)
    assert first.rows[0][0][:1] == ("one",)
    assert first.rows[0][0].bold
    assert first.rows[1] == (Run("█▌", "#010203", "#040506", bold=False, dim=False),)
    assert second.rows[0][0].text == "two"


def test_of_many_frames_the_last_of_each_step_is_kept() -> None:
    frames = [Frame(number / 100, (text(str(number)),)) for number in range(100)]
    assert [frame.rows[0][0].text for frame in thinned(frames, 0.25)] == ["24", "49", "74", "99"]


def test_each_row_is_drawn_once_and_visible_when_it_was_shown() -> None:
    frames = [
        Frame(0.0, (text("a"), text("same"))),
        Frame(4.0, (text("b<"), text("same"))),
        Frame(6.0, (text("a"), text("same"))),
    ]
    root = ET.fromstring(draw([Pane("title", 20, 2, frames)], 10.0, label="a & b"))  # noqa: S314  # it is ours
    assert root.get("aria-label") == "a & b"
    rows = {
        element.find(f"{SVG}text").text: element  # type: ignore[union-attr]
        for element in root.iter(f"{SVG}g")
        if element.find(f"{SVG}text") is not None and element.find(f"{SVG}g") is None
    }
    assert set(rows) == {"a", "b<", "same"}
    assert rows["same"].find(f"{SVG}animate") is None
    animation = rows["a"].find(f"{SVG}animate")
    assert animation is not None
    assert animation.get("values") == "visible;hidden;visible"
    assert animation.get("keyTimes") == "0.0000;0.4000;0.6000"
    assert rows["a"].get("visibility") == "visible"
    other = rows["b<"].find(f"{SVG}animate")
    assert other is not None
    assert other.get("values") == "hidden;visible;hidden"
    assert rows["b<"].get("visibility") == "hidden"


def test_bars_are_drawn_as_exact_rectangles() -> None:
    row = (
        Run("██▌", "#112233", "#445566", bold=False, dim=False),
        Run("  ", "#112233", "#445566", bold=False, dim=False),
    )
    root = ET.fromstring(draw([Pane("t", 10, 1, [Frame(0.0, (row,))])], 1.0, label=""))  # noqa: S314  # it is ours
    widths = [float(rect.get("width", 0)) for rect in root.iter(f"{SVG}rect") if rect.get("fill") == "#112233"]
    assert widths == [2.5 * 8.4]
