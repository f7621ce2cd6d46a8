"""Half a minute of `python -m tests.soak`."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.android import example
from tests.page.chromium import chromium
from tests.soak.trial import trial
from tests.system.cluster import Cluster

pytestmark = pytest.mark.one_store


async def test_phones_of_the_app_and_clients_of_the_first_dialect_end_on_the_same_state(
    cluster: Cluster, unique: Callable[[str], str], tmp_path: Path
) -> None:
    report = await trial(cluster, tmp_path, seconds=15, families=3, name=unique("family"))
    assert report.is_well, str(report)
    assert report.changes.total() > 30
    assert report.frames["updateTimer"] > 10


@pytest.mark.xdist_group("browser")
@pytest.mark.timeout(600)  # building the example takes that long where Maven has nothing yet
async def test_the_app_the_example_client_the_page_and_bubble_watch_end_on_the_same_state(
    cluster: Cluster, unique: Callable[[str], str], tmp_path: Path
) -> None:
    example.build()
    async with chromium() as browser:
        report = await trial(
            cluster, tmp_path, seconds=30, families=1, name=unique("family"), okhttp=True, browser=browser
        )
    assert report.is_well, str(report)
    assert report.changes.keys() == {"app", "first dialect", "REST", "OkHttp", "page"}
    assert report.devices["bubble watch"] == 2
