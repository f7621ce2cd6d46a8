"""Systems to be broken, and how long that goes on.

`FAULT_ROUNDS`: rounds per system; 0 or unset: the short form, one of each kind. `FAULT_SEED`: repeats the faults and the
people's choices of an earlier run (not its moments, which depend on the machine). `FAULT_ONLY`: only faults with this in
their names.
"""

import os
import random
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from tests.faults.system import System


@pytest.fixture(scope="session")
def fault_rounds() -> int:
    """How many rounds; 0: the short form."""
    return int(os.environ.get("FAULT_ROUNDS", "0"))


@pytest.fixture(scope="session")
def fault_only() -> str:
    """What must be in the name of a fault."""
    return os.environ.get("FAULT_ONLY", "")


@pytest.fixture(scope="session")
def fault_seed() -> int:
    """Where chance begins."""
    return int(os.environ.get("FAULT_SEED", "0")) or random.randrange(1, 1_000_000)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One worker for all tests of a file with one store: they share a system, whose start is most of what they cost."""
    here = Path(__file__).parent
    for item in items:
        parameters = getattr(item, "callspec", None)
        if here in item.path.parents and parameters is not None and "store_environment" in parameters.params:
            group = f"{item.path.stem}-{parameters.params['store_environment']}"
            item.add_marker(pytest.mark.xdist_group(group))


SystemWith = Callable[..., AbstractAsyncContextManager[System]]


@pytest.fixture(scope="module")
def system_with(store_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> SystemWith:
    """Starts a whole system with settings of its own: one of each process with SQLite, two and a spare with MongoDB."""

    @asynccontextmanager
    async def start(**settings: str) -> AsyncIterator[System]:
        directory = tmp_path_factory.mktemp("faults")
        if store_environment["BUBBLE_STORE"] == "sqlite":
            async with System(directory, store_environment | settings) as running:
                yield running
            return
        # A database of its own: what the referee compares with must be this system's alone.
        name = f"bubble-test-{uuid.uuid4().hex[:12]}"
        environment = store_environment | settings | {"BUBBLE_MONGODB_DATABASE": name}
        async with System(directory, environment, replicas=2, spares=1) as running:
            yield running

    return start


@pytest.fixture(scope="module")
async def _system(system_with: SystemWith) -> AsyncIterator[System]:
    async with system_with() as running:
        yield running


@pytest.fixture
async def system(_system: System) -> System:
    """Such a system, with the usual settings. Whoever breaks it mends it; the next one waits until it has recovered."""
    await _system.wait_until_ready()
    return _system
