"""`runtime/store/mongo.py`: what happens when MongoDB is away. (What it does when it is there, the stores' tests say.)"""

import socket
import time

import pytest

from connection_service.store import mongo as connections
from runtime.errors import Unavailable
from runtime.store.mongo import open_mongo
from sharing_service.store import mongo as shares
from timer_service.store import mongo as timers


@pytest.fixture
def nowhere() -> str:
    """The address of a port that was free a moment ago."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"mongodb://127.0.0.1:{free.getsockname()[1]}/"


@pytest.mark.parametrize("module", [timers, shares, connections])
async def test_a_database_that_is_away_is_unavailable_within_seconds(module: "type[object]", nowhere: str) -> None:
    began = time.monotonic()
    with pytest.raises(Unavailable):
        async with module.open_store(nowhere, "bubble"):  # type: ignore[attr-defined]
            pass
    assert time.monotonic() - began < 5


async def test_nothing_is_raised_before_the_database_is_needed(nowhere: str) -> None:
    async with open_mongo(nowhere, "bubble") as database:
        assert database.name == "bubble"
