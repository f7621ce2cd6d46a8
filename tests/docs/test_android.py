"""docs/android.md: its Java is the example's."""

import re
import textwrap

from tests.docs.pages import ROOT, code_blocks

PAGE = "docs/android.md"
_EXCERPT = re.compile(r"<!-- from (\S+) -->\n```java\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_every_piece_of_java_is_in_the_example_as_it_is_on_the_page() -> None:
    excerpts = _EXCERPT.findall((ROOT / PAGE).read_text())
    assert len(excerpts) == sum(block.language == "java" for block in code_blocks(PAGE)) > 0
    for path, excerpt in excerpts:
        lines = (ROOT / path).read_text().splitlines()
        wanted = excerpt.rstrip("\n").splitlines()
        pieces = (
            textwrap.dedent("\n".join(lines[start : start + len(wanted)]))
            for start in range(len(lines) - len(wanted) + 1)
        )
        assert textwrap.dedent("\n".join(wanted)) in pieces, f"{path} has no\n{excerpt}"


def test_every_name_of_the_client_that_the_page_uses_exists() -> None:
    page = (ROOT / PAGE).read_text()
    sources = "\n".join(path.read_text() for path in (ROOT / "examples/android/src/main/java").rglob("*.java"))
    calls = set(re.findall(r"(?:client|Request|Timer|BubbleClient)\.(\w+)", page))
    assert calls >= {"send", "wake", "clock", "extend", "toJson", "parse"}
    for name in (
        calls | set(re.findall(r"`(\w+)\(\)`", page)) | set(re.findall(r"^    \.(\w+)[ (]", page, re.MULTILINE))
    ):
        assert re.search(rf"\b{name}\b", sources), name
    for state in re.findall(r"`([A-Z]+(?:_[A-Z]+)?)`", page):
        assert re.search(rf"\b{state}\b", sources), state
