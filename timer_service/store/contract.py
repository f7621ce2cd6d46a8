"""What the timer service needs of a database. Every store passes the same tests (`tests/store/`)."""

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

from timer_service.domain import Timer


class Save(NamedTuple):
    """A timer to save where the stored version is still `expected_version` (None: where no such timer is stored)."""

    timer: Timer
    expected_version: int | None


class Marker(NamedTuple):
    """A state whose event is still to be delivered, or was."""

    timer_id: str
    version: int


WRITES = ("save", "clear_pending", "purge")
"""The methods that change something."""


class TimerStore(Protocol):
    """Timers by id. Every method may raise Unavailable; what it was to change may have changed then."""

    @property
    def system(self) -> str:
        """The database, as OpenTelemetry names it (`db.system.name`)."""

    async def ping(self) -> None:
        """Returns when the database answers."""

    async def check(self) -> None:
        """Returns when the database answers, and takes writes as far as is known."""

    async def load(self, timer_ids: Collection[str]) -> dict[str, Timer]:
        """Those of the timers that exist, by id."""

    async def save(self, saves: Sequence[Save]) -> list[bool]:
        """Saves timers of different ids by compare-and-set, each with its outbox marker in the same write.

        True: durable. False: another version is stored, so load and apply again (a store may also say so when the timer
        was saved and overwritten at once; the timer's operations tell). In order.
        """

    async def count_live(self, owners: Collection[str]) -> dict[str, int]:
        """How many timers of each of these owners are not stopped."""

    async def clear_pending(self, markers: Sequence[Marker]) -> None:
        """Removes outbox markers, each only where the version is still the one given."""

    async def list_pending(self, limit: int, after: tuple[int, str]) -> list[Timer]:
        """Timers with an outbox marker, ordered by (pending_since_us, timer_id), those after the given pair."""

    async def list_live(self, owners: Collection[str]) -> list[Timer]:
        """All timers of these owners that are not stopped."""

    async def list_stopped(self, owner: str, since_us: int, limit: int) -> list[Timer]:
        """Timers of this owner that were stopped at a moment or after it, newest first."""

    async def list_tombstones(self, stopped_before_us: int, limit: int) -> list[Timer]:
        """Timers that were stopped before a moment, oldest first."""

    async def purge(self, markers: Sequence[Marker]) -> None:
        """Forgets timers altogether, each only where the version is still the one given."""
