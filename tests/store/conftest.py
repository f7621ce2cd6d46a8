"""Every store of every service passes the same tests: on SQLite always, on MongoDB when `MONGODB_URI` says where one is."""

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from runtime.settings import ServiceSettings
from runtime.store.mongo import open_mongo
from tests.conftest import STORES


@pytest.fixture(params=STORES)
async def settings(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ServiceSettings]:
    """Settings of a new, empty database, that is removed afterwards."""
    if request.param == "sqlite":
        yield ServiceSettings.model_validate({"BUBBLE_STORE": "sqlite", "BUBBLE_DATA_DIR": tmp_path})
        return
    uri: str = request.getfixturevalue("mongodb_uri")
    name = f"bubble_test_{secrets.token_hex(8)}"
    yield ServiceSettings.model_validate(
        {"BUBBLE_STORE": "mongodb", "MONGODB_URI": uri, "BUBBLE_MONGODB_DATABASE": name}
    )
    async with open_mongo(uri, name) as database:
        await database.client.drop_database(name)
