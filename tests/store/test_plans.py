"""No store does more for a call because more is stored: on SQLite counted and read from its plans, on MongoDB by the indexes.

SQLite is asked without statistics (nobody runs ANALYZE), so a plan depends on the schema alone and small tables tell as much as
large ones.
"""

import re
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from pymongo import monitoring

from runtime.settings import ServiceSettings
from tests.store.exercise import SERVICES, Service

FEW, MANY = 20, 400
_SCAN = re.compile(r"^SCAN (\w+)")
_STATEMENTS = ("SELECT", "WITH", "INSERT", "REPLACE", "UPDATE", "DELETE")


class Watched:
    """A SQLite store that holds what `count` others have, and what each call makes SQLite do."""

    def __init__(self, service: Service, store: Any) -> None:
        database = store._database
        self.connections: list[sqlite3.Connection] = [database._write_connection, database._read_connection]
        self._service = service
        self._store = store
        self._steps = 0
        self.statements: list[str] = []

    @property
    def connection(self) -> sqlite3.Connection:
        """For questions about the database."""
        return self.connections[0]

    async def work(self) -> dict[str, int]:
        """Instructions of SQLite's virtual machine that each call takes. Its statements are kept."""
        for connection in self.connections:
            connection.set_progress_handler(self._step, 1)
            connection.set_trace_callback(self.statements.append)
        done = {}
        for name, call in self._service.calls.items():
            before = self._steps
            await call(self._store)
            done[name] = self._steps - before
        for connection in self.connections:
            connection.set_progress_handler(None, 1)
            connection.set_trace_callback(None)
        return done

    def _step(self) -> None:
        self._steps += 1

    def indexes(self) -> list[str]:
        """Those that the schema asks for; the ones of primary keys are SQLite's own."""
        rows = self.connection.execute("SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
        return [name for (name,) in rows]

    def growing(self) -> set[str]:
        """Tables that grow with what is stored."""
        rows = self.connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        return {name for (name,) in rows} - self._service.small

    def scans(self, statement: str) -> set[str]:
        """The growing tables that a statement reads from end to end, as SQLite says."""
        plan = self.connection.execute(f"EXPLAIN QUERY PLAN {statement}")
        return {match.group(1) for *_, step in plan if (match := _SCAN.match(step))} & self.growing()


class Stores:
    """Opens stores for the length of a test."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._stack = AsyncExitStack()

    async def holding(self, service: Service, count: int) -> Watched:
        """A new one that holds what so many others have."""
        place = self._place / f"{service.contract.__name__}-{count}-{len(list(self._place.iterdir()))}"
        settings = ServiceSettings.model_validate({"BUBBLE_STORE": "sqlite", "BUBBLE_DATA_DIR": place})
        store = await self._stack.enter_async_context(service.module.open_store(settings))
        await service.fill(store, count)
        return Watched(service, store)

    async def close(self) -> None:
        """Closes them all."""
        await self._stack.aclose()


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncIterator[Stores]:
    opened = Stores(tmp_path)
    yield opened
    await opened.close()


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest) -> Service:
    return SERVICES[request.param]


def test_every_method_of_every_store_is_exercised(service: Service) -> None:
    methods = {name for name in dir(service.contract) if not name.startswith("_")} - {"system", "check"}
    assert set(service.calls) == methods


async def test_no_statement_reads_all_of_a_table_that_grows(service: Service, stores: Stores) -> None:
    watched = await stores.holding(service, FEW)
    await watched.work()
    asked = [each for each in watched.statements if each.startswith(_STATEMENTS)]
    assert len(asked) >= len(service.calls)
    one_row = re.compile(r"SELECT 1 FROM \w+ LIMIT 1")
    for statement in asked:
        assert one_row.fullmatch(statement) or not watched.scans(statement), statement


async def test_what_others_have_stored_costs_no_call_anything(service: Service, stores: Stores) -> None:
    few, many = await stores.holding(service, FEW), await stores.holding(service, MANY)
    assert await many.work() == await few.work()


async def test_without_any_one_of_the_indexes_it_would(service: Service, stores: Stores) -> None:
    for index in (await stores.holding(service, 0)).indexes():
        few, many = await stores.holding(service, FEW), await stores.holding(service, MANY)
        for each in (few, many):
            each.connection.execute(f"DROP INDEX {index}")
        less, more = await few.work(), await many.work()
        assert any(more[name] > less[name] + MANY - FEW for name in more), f"{index} is of no use"


class Filters(monitoring.CommandListener):
    """What MongoDB is asked to look for: (collection, fields of the filter) of each command."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, tuple[str, ...]]] = []
        self.listening = False

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if not self.listening:
            return
        command = event.command
        name = command[event.command_name]
        found = [command[key] for key in ("filter", "query") if key in command]
        if event.command_name == "distinct":
            found = [{command["key"]: "any"}]  # answered from an index on that, if there is one
        found += [each["q"] for array in ("updates", "deletes") for each in command.get(array, ())]
        found += [stage["$match"] for stage in command.get("pipeline", ()) if "$match" in stage]
        for each in found:
            for branch in each.get("$or", [each]):
                self.seen.append((name, tuple(branch)))

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        pass

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        pass


_filters = Filters()


@pytest.fixture
def filters() -> Filters:
    """All that clients made from here on are asked. The driver forgets no listener, so there is one for all tests."""
    if _filters not in monitoring._LISTENERS.command_listeners:
        monitoring.register(_filters)
    _filters.seen.clear()
    return _filters


@pytest.mark.parametrize("settings", ["mongodb"], indirect=True)
async def test_mongodb_has_an_index_for_everything_it_is_asked_for(
    service: Service, settings: ServiceSettings, filters: Filters
) -> None:
    async with service.module.open_store(settings) as store:
        filters.listening = True
        for call in service.calls.values():
            await call(store)
        filters.listening = False
        indexes: dict[str, set[str]] = {}
        for collection in {collection for collection, _ in filters.seen}:
            known = await store._database[collection].index_information()
            indexes[collection] = {index["key"][0][0] for index in known.values()}
    assert filters.seen
    for collection, fields in filters.seen:
        assert collection in service.small or indexes[collection] & set(fields), f"{collection} is searched by {fields}"
