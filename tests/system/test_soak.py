"""A minute's worth of `python -m tests.soak`, squeezed into seconds."""

from collections.abc import Callable

import pytest

from tests.soak.__main__ import soak
from tests.system.cluster import Cluster

pytestmark = pytest.mark.one_store


async def test_phones_of_the_app_and_clients_of_the_first_dialect_end_on_the_same_state(
    cluster: Cluster, unique: Callable[[str], str]
) -> None:
    report = await soak(cluster, seconds=15, families=3, name=unique("family"))
    assert report.is_well, str(report)
    assert report.changes > 30
    assert report.frames["updateTimer"] > 10
