"""docs/web.md: its code is the page's, word for word."""

import re
import textwrap

import pytest

from tests.docs.pages import ROOT, code_blocks

PAGE = "docs/web.md"
_EXCERPT = re.compile(r"^<!-- excerpt: (\S+) -->\n```js\n(.*?)^```$", re.MULTILINE | re.DOTALL)

EXCERPTS = _EXCERPT.findall((ROOT / PAGE).read_text())


def test_every_piece_of_code_says_where_it_is_from() -> None:
    assert len(EXCERPTS) == len(code_blocks(PAGE)) > 5


@pytest.mark.parametrize(("path", "excerpt"), EXCERPTS, ids=[path for path, _ in EXCERPTS])
def test_an_excerpt_is_what_the_page_runs(path: str, excerpt: str) -> None:
    source = (ROOT / path).read_text()
    # Methods are shown without the indentation of their class.
    assert any(textwrap.indent(excerpt, depth) in source for depth in ("", "  ", "    ")), f"{path} has no such lines"
