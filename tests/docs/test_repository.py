"""Every page: links, commands, dependencies, and what must not be in a tracked file."""

import re
import tomllib
import urllib.parse

import pytest

from tests.docs.pages import ROOT, code_blocks, documents, table_after, tracked_files, without_code

_LINK = re.compile(r"\]\(([^)\s]+)\)|<img[^>]+src=\"([^\"]+)\"")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_MAKE = re.compile(r"\bmake ([a-z][a-z-]*|\.venv/[a-z]+)")


def anchors(page: str) -> set[str]:
    """The names under which a page's headings can be linked to, as GitHub makes them."""
    headings = _HEADING.findall((ROOT / page).read_text())
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", documents())
def test_every_link_within_the_repository_leads_somewhere(page: str) -> None:
    for link in _LINK.findall(without_code((ROOT / page).read_text())):
        target, _, anchor = urllib.parse.unquote("".join(link)).partition("#")
        if ":" in target:
            continue
        path = (ROOT / page).parent / target if target else ROOT / page
        assert path.exists(), f"{page}: {target}"
        if anchor:
            assert anchor in anchors(str(path.resolve().relative_to(ROOT.resolve()))), f"{page}: {target}#{anchor}"


def test_every_make_target_that_is_named_exists() -> None:
    makefile = (ROOT / "Makefile").read_text().replace("$(VENV)", ".venv")
    targets = set(re.findall(r"^([a-z./-]+):(?!=)", makefile, re.MULTILINE))
    for page in ("README.md", "CONTRIBUTING.md"):
        text = (ROOT / page).read_text()
        code = re.findall(r"`([^`\n]+)`", text) + [block.text for block in code_blocks(page)]
        named = {name for piece in code for name in _MAKE.findall(piece)}
        assert named, page
        assert named <= targets, f"{page}: {named - targets}"


@pytest.mark.parametrize("page", documents())
def test_every_python_that_is_named_is_the_one_that_has_what_is_needed(page: str) -> None:
    text = (ROOT / page).read_text()
    for piece in [
        *re.findall(r"`([^`\n]+)`", text),
        *(line for block in code_blocks(page) for line in block.text.splitlines()),
    ]:
        assert not re.match(r"\s*python3? ", piece), f"{page}: {piece}"


def test_the_dependencies_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for marker, required in (
        ("runtime", project["project"]["dependencies"]),
        ("dev", project["dependency-groups"]["dev"]),
    ):
        listed = [row[0].strip("`") for row in table_after("docs/dependencies.md", f"{marker}: checked by tests/docs")]
        assert listed == [re.split(r"[<>=!~\[ ]", requirement)[0] for requirement in required], marker


def test_no_tracked_file_names_the_host_of_a_package_registry() -> None:
    # Where packages come from is the business of each machine. Spelt in parts, so that this file does not name them.
    hosts = [
        ".".join(parts).encode()
        for parts in (
            ("pypi", "org"),
            ("pythonhosted", "org"),
            ("registry", "npmjs", "org"),
            ("npmjs", "com"),
            ("registry", "yarnpkg", "com"),
            ("proxy", "golang", "org"),
            ("sum", "golang", "org"),
            ("crates", "io"),
            ("rubygems", "org"),
            ("repo", "maven", "apache", "org"),
        )
    ]
    found = [
        (path, host.decode())
        for path in tracked_files()
        for host in hosts
        if host in (ROOT / path).read_bytes().lower()
    ]
    assert found == []
