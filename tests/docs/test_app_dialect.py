"""docs/app-dialect.md, against the edge's own numbers and names."""

from edge.close_codes import CloseCode
from edge.codec.app import AppCodec
from edge.dialects import app_session, devices, spacing
from edge.dialects.app_conversation import REPEATS_END
from edge.dialects.choice import Dialect
from edge.dialects.echoes import WINDOW
from edge.local_time import EARLIEST, LATEST, STEP
from runtime import text
from tests.docs.pages import ROOT
from timer_service.domain import MAX_TAGS

PAGE = " ".join((ROOT / "docs/app-dialect.md").read_text().split())


def test_the_numbers_in_the_text_are_those_of_the_code() -> None:
    for sentence in (
        f"sends a timer's states {spacing.SPACING:g} s apart",
        f"sends a pong every {app_session.PONG_INTERVAL:g} s once it has pinged",
        f"also unasked, every {app_session.PONG_INTERVAL:g} s",
        f"no ping has come for {app_session.ABANDONED:g} s, and cuts it when it has been silent for {app_session.SILENCE:g} s",
        f"What goes on talking is cut {app_session.QUIET_END:g} s after that frame",
        f"the oldest one when a user has left more than {devices.MAX_ENDING}",
        f"takes a stop within {WINDOW:g} s after a stop was read for its echo",
        f"repeats it for up to {REPEATS_END:g} s",
        f"rounded to {STEP} minutes",
        f"beyond \N{MINUS SIGN}{-EARLIEST // 60}:00 and +{LATEST // 60}:00",
        f"a close frame ({CloseCode.SUPERSEDED.code})",
        f"with {CloseCode.TOO_MANY_CONNECTIONS.code} and {CloseCode.RATE_ABUSE.code} after all",
        f"at most {MAX_TAGS}, each of at most {text.MAX_NAME} characters",
        " or ".join(f"`{each.value}`" for each in (Dialect.APP, Dialect.FIRST)),
    ):
        assert sentence in PAGE, sentence


def test_every_type_that_the_app_is_sent_is_on_the_page() -> None:
    for kind in ("activeTimerList", "updateTimer", "stopTimer", "pong"):
        assert f"{{type:'{kind}'" in PAGE
    assert AppCodec(None, 0).pong(b"1", 0, 0, None) == b'{"type":"pong","timestamp":1}'
