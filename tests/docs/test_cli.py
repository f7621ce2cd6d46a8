"""docs/cli.md, against the command line itself."""

import re
import typing

from cli import conversation, watch
from cli.errors import MEANINGS, ExitCode
from cli.reference import BEGIN, END, reference
from tests.docs.pages import ROOT, table_after


def test_every_command_is_described_as_it_describes_itself() -> None:
    page = (ROOT / "docs/cli.md").read_text()
    written = page.partition(BEGIN)[2].partition(END)[0].strip()
    assert written == reference().strip(), "run .venv/bin/python -m cli.reference"
    assert len(re.findall(r"^### `bubble \w+`$", written, re.MULTILINE)) >= 15


def test_every_exit_code_is_there_with_its_meaning() -> None:
    listed = {int(code): meaning for code, meaning in table_after("docs/cli.md", "exit codes: checked by tests/docs")}
    assert listed == {int(code): meaning for code, meaning in MEANINGS.items()}
    assert set(MEANINGS) == set(ExitCode)


def test_every_event_of_watch_is_there() -> None:
    listed = {row[0].strip("`") for row in table_after("docs/cli.md", "events: checked by tests/docs")}
    happenings = {getattr(each, "event", None) for each in typing.get_args(conversation.Happening)} - {None}
    source = (ROOT / watch.__file__).read_text()
    printed = set(re.findall(r"_print\(\"(\w+)\"", source))
    assert printed
    assert listed == happenings | printed
