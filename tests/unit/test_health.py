"""`runtime/health.py` and the check of `runtime/store/measured.py`: ready, degraded, not ready, and why."""

import asyncio
from collections.abc import Sequence

import pytest

from runtime import health
from runtime.errors import Overloaded, Unavailable
from runtime.health import CHECK_PATIENCE, DEPENDENCY, READY, Health
from runtime.store.measured import OPERATIONS, MeasuredStore
from tests.unit import virtual_time


class Dependency:
    """Something that is away when it has a fault, and hangs when it is told to."""

    def __init__(self) -> None:
        self.fault: Exception | None = None
        self.hangs = False

    async def check(self) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if self.fault is not None:
            raise self.fault


class System:
    """A process with a database that it needs and a service that it uses."""

    def __init__(self) -> None:
        self.database, self.sharing = Dependency(), Dependency()
        self.health = Health(
            needs={"database": self.database.check}, uses={"sharing": self.sharing.check}, uses_interval=0
        )


def up(dependency: str) -> float:
    value: float = DEPENDENCY.labels(dependency)._value.get()
    return value


async def test_nothing_is_ready_before_it_was_checked() -> None:
    system = System()
    assert system.health.not_ready == "starting"
    await system.health.check()
    assert system.health.not_ready is None
    assert (READY._value.get(), up("database"), up("sharing")) == (1, 1, 1)


async def test_without_what_it_needs_a_process_is_not_ready_and_says_why() -> None:
    system = System()
    system.database.fault = Unavailable("The database can't be reached")
    with pytest.raises(Unavailable, match="database: The database can't be reached"):
        await system.health.check()
    assert system.health.not_ready == "database: The database can't be reached"
    assert system.health.degraded == {}
    assert (READY._value.get(), up("database"), up("sharing")) == (0, 0, 1)
    system.database.fault = None
    await system.health.check()
    assert system.health.not_ready is None
    assert (READY._value.get(), up("database")) == (1, 1)


async def test_without_what_it_uses_a_process_is_degraded_and_stays_ready() -> None:
    system = System()
    system.sharing.fault = Unavailable("no answer")
    await system.health.check()
    assert system.health.not_ready is None
    assert system.health.degraded == {"sharing": "no answer"}
    assert (READY._value.get(), up("database"), up("sharing")) == (1, 1, 0)
    system.sharing.fault = None
    await system.health.check()
    assert system.health.degraded == {}


async def test_both_are_told_when_both_are_away() -> None:
    system = System()
    system.sharing.fault = system.database.fault = Unavailable("gone")
    with pytest.raises(Unavailable):
        await system.health.check()
    assert (system.health.not_ready, system.health.degraded) == ("database: gone", {"sharing": "gone"})


def test_a_check_that_hangs_holds_up_no_other_one() -> None:
    async def story() -> None:
        system = System()
        system.sharing.hangs = True
        await system.health.check()
        assert virtual_time.now() == pytest.approx(CHECK_PATIENCE)
        assert system.health.not_ready is None
        assert system.health.degraded == {"sharing": "no answer within 0.8 s"}

    virtual_time.run(story())


async def test_what_a_process_uses_is_checked_less_often_than_what_it_needs() -> None:
    asked: list[str] = []

    async def ask(name: str) -> None:
        asked.append(name)

    health = Health(needs={"database": lambda: ask("database")}, uses={"sharing": lambda: ask("sharing")})
    for _ in range(3):
        await health.check()
    assert sorted(asked) == ["database"] * 3 + ["sharing"]


async def test_who_drains_is_not_ready_whatever_a_check_finds() -> None:
    system = System()
    await system.health.check()
    system.health.drain()
    assert system.health.not_ready == "draining"
    with pytest.raises(Unavailable, match="draining"):
        await system.health.check()
    assert READY._value.get() == 0


async def test_what_goes_and_comes_back_is_logged_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[tuple[str, str]] = []

    class Log:
        def warning(self, event: str, *, dependency: str, reason: str) -> None:
            lines.append((event, f"{dependency}: {reason}"))

        def info(self, event: str, *, dependency: str) -> None:
            lines.append((event, dependency))

    monkeypatch.setattr(health, "log", Log())
    system = System()
    system.sharing.fault = Unavailable("not there yet")
    await system.health.check()
    system.sharing.fault = None
    await system.health.check()
    assert lines == []  # what has never been there is no news while everything starts
    for fault in (Unavailable("gone"), Unavailable("gone"), None, None):
        system.sharing.fault = fault
        await system.health.check()
    assert lines == [("dependency is away", "sharing: gone"), ("dependency is back", "sharing")]


# --- stores -------------------------------------------------------------------------------------------------------------


class Store(MeasuredStore, writes=("save",)):
    """Fails as told; remembers what it was asked."""

    def __init__(self) -> None:
        self.faults: dict[str, Exception] = {}
        self.asked: list[str] = []

    async def ping(self) -> None:
        self._do("ping")

    async def probe(self) -> None:
        self._do("probe")

    async def load(self, keys: Sequence[str]) -> int:
        self._do("load")
        return len(keys)

    async def save(self) -> None:
        self._do("save")

    def _do(self, operation: str) -> None:
        self.asked.append(operation)
        if operation in self.faults:
            raise self.faults[operation]


FULL = Unavailable("The database can't be reached")


async def test_a_healthy_database_is_only_read_by_the_check() -> None:
    store = Store()
    await store.save()
    await store.check()
    await store.check()
    assert store.asked == ["save", "ping", "ping"]


async def test_after_a_failed_write_the_check_writes_until_a_write_succeeds() -> None:
    store = Store()
    store.faults = {"save": FULL, "probe": FULL}
    with pytest.raises(Unavailable):
        await store.save()
    for _ in range(2):
        with pytest.raises(Unavailable):
            await store.check()
    store.faults = {}
    await store.check()
    await store.check()
    assert store.asked == ["save", "ping", "probe", "ping", "probe", "ping", "probe", "ping"]


async def test_somebody_elses_write_shows_as_well_that_the_database_takes_them_again() -> None:
    store = Store()
    store.faults = {"save": FULL}
    with pytest.raises(Unavailable):
        await store.save()
    store.faults = {}
    await store.save()
    await store.check()
    assert store.asked == ["save", "save", "ping"]


@pytest.mark.parametrize(
    ("operation", "error"), [("load", FULL), ("save", Overloaded("Too much is under way")), ("save", KeyError("x"))]
)
async def test_what_is_no_failed_write_makes_nobody_try_one(operation: str, error: Exception) -> None:
    store = Store()
    store.faults = {operation: error}
    with pytest.raises(type(error)):
        await (store.load([]) if operation == "load" else store.save())
    await store.check()
    assert "probe" not in store.asked


async def test_every_operation_is_counted_with_its_outcome() -> None:
    store = Store()
    ok, failed = OPERATIONS.labels("load", "ok"), OPERATIONS.labels("load", "failed")
    before = (ok.count, failed.count)
    assert await store.load(["a", "b"]) == 2
    store.faults = {"load": FULL}
    with pytest.raises(Unavailable):
        await store.load([])
    assert (ok.count - before[0], failed.count - before[1]) == (1, 1)
    assert Store.load.__doc__ == Store.load.__wrapped__.__doc__  # type: ignore[attr-defined]
