"""What the sharing service needs of a database. Every store passes the same tests (`tests/store/`)."""

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

from sharing_service.domain import Audience, Share


class Save(NamedTuple):
    """A share to save where the stored version is still `expected_version` (None: where no such share is stored)."""

    share: Share
    expected_version: int | None


WRITES = ("save", "clear_pending", "delete")
"""The methods that change something."""


class ShareStore(Protocol):
    """Shares by timer id. Every method may raise Unavailable; what it was to change may have changed then."""

    @property
    def system(self) -> str:
        """The database, as OpenTelemetry names it (`db.system.name`)."""

    async def ping(self) -> None:
        """Returns when the database answers."""

    async def check(self) -> None:
        """Returns when the database answers, and takes writes as far as is known."""

    async def load(self, timer_ids: Collection[str]) -> dict[str, Share]:
        """Those of the shares that exist, by timer id."""

    async def load_audiences(self, timer_ids: Collection[str]) -> dict[str, Audience]:
        """The same without what only changes need, which is most of it."""

    async def save(self, saves: Sequence[Save]) -> list[bool]:
        """Saves shares of different timers by compare-and-set, each with its outbox marker in the same write.

        True: durable. False: another version is stored, so load and apply again. In order.
        """

    async def list_shared_with(self, user_ids: Collection[str]) -> dict[str, list[str]]:
        """The ids of all timers that each of these users is a member of."""

    async def count_shared_with(self, user_ids: Collection[str]) -> dict[str, int]:
        """Of how many timers each of these users is a member."""

    async def clear_pending(self, delivered: Sequence[Share]) -> None:
        """Removes the outbox markers (`added` and `removed` with them) of shares, where the version is still the same."""

    async def list_pending(self, limit: int, after: tuple[int, str]) -> list[Share]:
        """Shares with an outbox marker, ordered by (pending_since_us, timer_id), those after the given pair."""

    async def delete(self, timer_ids: Collection[str]) -> None:
        """Forgets shares altogether."""
