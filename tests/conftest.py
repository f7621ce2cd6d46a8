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


@pytest.fixture
def unique() -> Callable[[str], str]:
    """Makes names that no other test has, out of readable ones; the same within one test."""
    suffix = uuid.uuid4().hex[:8]
    return lambda name: f"{name}-{suffix}"
