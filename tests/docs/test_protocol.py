"""docs/protocol.md's tables, against the edge's."""

from edge.close_codes import CloseCode
from edge.config import EdgeSettings
from edge.errors import MEANINGS
from edge.limits import MAX_MESSAGE
from edge.session import SYNC_PATIENCE
from runtime import text
from tests.docs.pages import ROOT, table_after


def test_every_close_code_is_there_with_its_reason_and_whether_a_client_may_come_back() -> None:
    listed = [
        (int(code), meaning.split("`")[1], may_retry.split(",")[0])
        for code, meaning, may_retry in table_after("docs/protocol.md", "close codes: checked by tests/docs")
    ]
    assert listed == [(each.code, each.reason, "yes" if each.may_retry else "no") for each in CloseCode]


def test_every_error_is_there() -> None:
    listed = [int(row[0]) for row in table_after("docs/protocol.md", "errors: checked by tests/docs")]
    assert listed == list(MEANINGS)


def test_the_numbers_in_the_text_are_those_of_the_code() -> None:
    page = " ".join((ROOT / "docs/protocol.md").read_text().split())
    settings = EdgeSettings.model_fields
    for sentence in (
        f'"messageBytes": {MAX_MESSAGE}',
        f'"messagesPerSecond": {settings["messages_per_second"].default}',
        f'"messageBurst": {settings["message_burst"].default}',
        f"no `sync` came within {SYNC_PATIENCE:g} s",
        f"a WebSocket ping every {settings['ping_interval'].default} s",
        f"nothing at all came for {settings['ping_timeout'].default} s",
        f"(a string of at most {text.MAX_ID} characters)",
        f"`name`: at most {text.MAX_NAME}",
        f"each of at most {text.MAX_TIME_TEXT} characters",
    ):
        assert sentence in page, sentence
