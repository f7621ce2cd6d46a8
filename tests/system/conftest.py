"""A running system for tests: one per worker and store, shared by all tests that do not break it."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.system.client import Client
from tests.system.cluster import Cluster

Connect = Callable[..., Client]

NO_RATES = {"BUBBLE_MESSAGES_PER_SECOND": "0", "BUBBLE_INVITATIONS_PER_MINUTE": "0"}


@pytest.fixture(scope="session")
async def cluster(
    store_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Cluster]:
    """A system without limits on rates."""
    directory = tmp_path_factory.mktemp("system")
    running = Cluster(directory, store_environment | NO_RATES)
    try:
        await running.start()
        yield running
    finally:
        codes = await running.stop()
    assert set(codes.values()) == {0}, running.logs()
    assert running.crashes() == []


@pytest.fixture
async def own_cluster(store_environment: dict[str, str], tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """Starts a system for one test, with settings of its own."""
    started = []

    async def start(**environment: str) -> Cluster:
        running = Cluster(tmp_path, store_environment | environment)
        started.append(running)
        await running.start()
        return running

    yield start
    for running in started:
        await running.stop()


@pytest.fixture
def connect(cluster: Cluster, unique: Callable[[str], str]) -> Connect:
    """Makes a client of the shared system, for a user of this test only."""

    def make(user: str, device: str | None = None, **options: Any) -> Client:
        return Client(cluster.edge_port, unique(user), device, **options)

    return make
