"""`runtime/text.py`."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.text import problem_with


@pytest.mark.parametrize(
    "text",
    [
        "tea",
        "Grüner Tee",
        "お茶",
        "👩‍👩‍👧 family",  # joined by U+200D
        "🇨🇭 🧋",
        "non\u00a0breaking",
        "ideographic\u3000space",
        "soft\u00adhyphen",
        "a\u0301",
        "../../etc/passwd",
        "'; DROP TABLE timers; --",
        "<script>",
        "$where",
    ],
)
def test_texts_that_people_write_are_fine(text: str) -> None:
    assert problem_with(text, longest=64) is None


@pytest.mark.parametrize(
    "character",
    [
        *("\x00", "\t", "\n", "\r", "\x1b", "\x7f", "\x85", "\x9f", "\u2028", "\u2029", "\ud800", "\udfff", "\ufeff"),
        *("\u061c", "\u200e", "\u200f", "\u202a", "\u202e", "\u2066", "\u2069"),
    ],
)
def test_controls_surrogates_and_what_turns_the_direction_are_refused(character: str) -> None:
    problem = problem_with(f"tea{character}pot", longest=64)
    assert problem is not None
    assert "control" in problem


@given(st.characters())
def test_no_character_passes_that_ends_a_line_or_turns_the_direction(character: str) -> None:
    forbidden = (
        unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}
        or unicodedata.bidirectional(character) in {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}
        or character in "\u061c\u200e\u200f\ufeff"
    )
    assert (problem_with(character, longest=1) is not None) == forbidden


@given(st.text(alphabet=st.characters(min_codepoint=0x20, max_codepoint=0x7E)), st.integers(0, 40))
def test_length_is_counted_in_characters_and_its_limit_is_inclusive(text: str, longest: int) -> None:
    assert (problem_with(text, longest=longest) is None) == (len(text) <= longest)


def test_an_empty_text_is_refused_only_where_one_must_be_given() -> None:
    assert problem_with("", longest=8) is None
    assert problem_with("", longest=8, shortest=1) == "must not be empty"


def test_the_problem_names_the_limit() -> None:
    assert problem_with("12345", longest=4) == "must have at most 4 characters"
