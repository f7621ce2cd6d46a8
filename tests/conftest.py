"""What all tests share."""

import os
import uuid
from collections.abc import Callable, Iterator

import pytest
from pymongo import MongoClient

STORES = ["sqlite", "mongodb"]


@pytest.fixture(scope="session")
def mongodb_uri() -> str:
    """Where a MongoDB for tests is; skips when there is none."""
    uri = os.environ.get("MONGODB_URI")
    if not uri:
        pytest.skip("MongoDB tests need MONGODB_URI")
    return uri


@pytest.fixture(scope="session")
def mongodb_database(mongodb_uri: str) -> Iterator[str]:
    """A database of this worker's own, dropped at the end."""
    name = f"bubble-test-{uuid.uuid4().hex[:12]}"
    yield name
    with MongoClient[dict[str, object]](mongodb_uri) as client:
        client.drop_database(name)


@pytest.fixture(scope="session", params=STORES)
def store_environment(request: pytest.FixtureRequest) -> dict[str, str]:
    """The settings of a store."""
    if request.param == "sqlite":
        return {"BUBBLE_STORE": "sqlite"}
    return {
        "BUBBLE_STORE": "mongodb",
        "MONGODB_URI": request.getfixturevalue("mongodb_uri"),
        "BUBBLE_MONGODB_DATABASE": request.getfixturevalue("mongodb_database"),
    }


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what a test, or a whole module, says that it does not need: `pytest.mark.one_store` is for tests that are about an edge
    or about what lies between processes, whatever is behind them. What is stored has tests of its own on every store.
    """
    left_out = {item for item in items if item.get_closest_marker("one_store") and "mongodb" in item.name}
    if left_out:
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture
def unique() -> Callable[[str], str]:
    """Makes names that no other test has, out of readable ones; the same within one test."""
    suffix = uuid.uuid4().hex[:8]
    return lambda name: f"{name}-{suffix}"
