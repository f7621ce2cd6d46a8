"""`runtime/logs.py`: warnings that come too often."""

from typing import cast

import pytest
import structlog

from runtime.logs import Sparing


class Lines:
    """A logger that keeps what it is given."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, object]]] = []

    def warning(self, event: str, **fields: object) -> None:
        self.lines.append((event, fields))


def test_of_many_warnings_one_is_written_per_interval_with_how_many_there_were(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("runtime.logs.time.monotonic", lambda: now[0])
    lines = Lines()
    sparing = Sparing(cast(structlog.stdlib.BoundLogger, lines))
    for number in range(1_000):
        sparing.warning("busy", number=number)
    sparing.warning("away")  # another kind has its own turn
    now[0] += 1.0
    sparing.warning("busy", number=1_000)
    assert lines.lines == [
        ("busy", {"times": 1, "number": 0}),
        ("away", {"times": 1}),
        ("busy", {"times": 1_000, "number": 1_000}),
    ]
