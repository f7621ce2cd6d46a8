"""Where connections are kept: `contract.py` says what a store does, the other files how each database does it."""

from contextlib import AbstractAsyncContextManager

from connection_service.store import sqlite
from connection_service.store.contract import Store
from runtime.settings import ServiceSettings


def open_store(settings: ServiceSettings) -> AbstractAsyncContextManager[Store]:
    """The store that the settings name, for the length of the context."""
    if settings.store == "mongodb" and settings.mongodb_uri is not None:
        from connection_service.store import mongo  # here: its driver is a fifth of a start

        return mongo.open_store(settings.mongodb_uri.get_secret_value(), settings.mongodb_database)
    return sqlite.open_store(settings.data_dir)
