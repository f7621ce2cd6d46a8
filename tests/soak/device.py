"""What a family does with its timers, and what each kind of client in its hands has in common."""

import random
from collections import Counter
from collections.abc import Mapping
from types import TracebackType
from typing import Any, ClassVar, Self, TypeVar

from tests.system.client import Message

DAY = 86_400.0
"""Seconds for which tokens are good."""

MOST_TIMERS = 5
"""Timers of one family: few, so that its people meet on them."""

COMMAND_WITHIN = 30.0
"""Seconds in which a command is answered. Generous: the machine is busy."""

REFUSALS = (403, 404, 409)
"""What somebody hears whose timer was stopped, changed or taken away a moment before."""

Stored = Mapping[str, Message]
"""What the server has for one user, by timer id, in the first dialect."""

Choice = TypeVar("Choice")


class Habits:
    """Who belongs to a family, what they choose by chance, and what came of it."""

    def __init__(self, name: str, utc_offset: int) -> None:
        self.owner, self.member, self.guest = (f"{name}-{part}" for part in ("owner", "member", "guest"))
        self.utc_offset = utc_offset
        """Minutes by which their clocks are ahead of UTC."""
        self.changes: Counter[str] = Counter()
        """By kind of client."""
        self.refusals: Counter[str] = Counter()
        """What came too late, by kind of client."""
        self.known: set[str] = set()
        """Ids of timers that were made, for clients that have no list of their own."""
        self._name = name
        self._random = random.Random(name)
        self._number = 0

    def pause(self) -> float:
        """Seconds until somebody does something again."""
        return self._random.expovariate(1 / 2.0)

    def choose(self, *options: Choice) -> Choice:
        """One of these."""
        return self._random.choice(options)

    def chance(self, probability: float) -> bool:
        """Whether it happens this time."""
        return self._random.random() < probability

    def seconds(self) -> int:
        """For an extension. More than what any screen rounds away."""
        return self._random.randint(5, 90)

    def length(self) -> str:
        """Of a new timer."""
        return self.choose("PT5M", "PT1H", "PT25M30S")

    def members(self) -> tuple[str, ...]:
        """Who is to see a timer, beside its owner."""
        return self.choose((), (self.member,), (self.member,), (self.member, self.guest))

    def other(self) -> str:
        """Somebody to add or to remove."""
        return self.choose(self.member, self.guest)

    def new_name(self, word: str = "Name") -> str:
        """A name that no other timer of the family has or had."""
        self._number += 1
        return f"{word} {self._number}"

    def new_id(self) -> str:
        """An id for a timer."""
        timer_id = self.new_name(self._name).replace(" ", "-")
        self.known.add(timer_id)
        return timer_id


class Device:
    """One client in somebody's hands. Use as a context manager: connected when entered."""

    kind: ClassVar[str]

    def __init__(self, user: str, habits: Habits) -> None:
        self.user = user
        self.habits = habits
        self.unreadable: list[str] = []
        """What it could not read."""
        self.surprises: list[str] = []
        """Refusals and ends that nothing explains."""

    @property
    def name(self) -> str:
        """As a report calls it."""
        return f"{self.user}'s {self.kind}"

    @property
    def is_owner(self) -> bool:
        """Whether its user is the one who makes timers."""
        return self.user == self.habits.owner

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Goes."""

    async def use(self) -> None:
        """Its user does something, perhaps."""

    async def differences(self, stored: Stored) -> list[str]:
        """What it shows otherwise than it is stored."""
        raise NotImplementedError

    def forced_reconnects(self) -> list[str]:
        """Why it had to connect again, each time."""
        return []

    def dropped_frames(self) -> int:
        """Messages that it threw away."""
        return 0

    def did(self) -> None:
        """Its user has changed something."""
        self.habits.changes[self.kind] += 1

    def refused(self, code: object, what: object) -> None:
        """What its user did was answered with this code."""
        if code in REFUSALS:
            self.habits.refusals[self.kind] += 1
        else:
            self.surprises.append(f"{self.name}: {what}")


def unlike(name: str, shown: Mapping[str, Any], stored: Mapping[str, Any]) -> list[str]:
    """What is on a screen otherwise than it is stored, for screens that show all there is."""
    return [
        f"{name} shows {shown.get(each)}, stored is {stored.get(each)}"
        for each in sorted(shown.keys() | stored.keys())
        if shown.get(each) != stored.get(each)
    ]
