"""How many more timers an owner may have, while several calls of this process make some."""

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from timer_service.store.contract import TimerStore


class Places:
    """The limit on the timers of an owner that are not stopped. `most`: 0 = no limit.

    What a call may make is counted for the others from before it reads how many there are until it has saved. So of two calls
    either one counts what the other may make, or it reads what that one has made: together they never go beyond the limit. A call
    may be refused close below it, for what another one has asked for and did not get. Other replicas know nothing of these: they
    can make as many at the same moment.
    """

    def __init__(self, store: TimerStore, most: int) -> None:
        self._store = store
        self._most = most or float("inf")
        self._reserved: Counter[str] = Counter()

    @asynccontextmanager
    async def reserved(self, wanted: Mapping[str, int]) -> AsyncIterator[dict[str, float]]:
        """How many timers the caller may make of each of these owners, until the context ends; it is to make no more of them than
        `wanted`.
        """
        if not wanted:
            yield {}
            return
        others = {owner: self._reserved[owner] for owner in wanted}
        self._reserved.update(wanted)
        try:
            counts = await self._store.count_live(wanted)
            yield {owner: self._most - counts[owner] - others[owner] for owner in wanted}
        finally:
            self._reserved.subtract(wanted)
            for owner in wanted:
                if not self._reserved[owner]:
                    del self._reserved[owner]
