"""What `make bench` measures, as data."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple


class Seat(NamedTuple):
    """Who sits at a device of a crowd, and the timers it changes."""

    user: str
    device: str
    timers: list[str]


@dataclass(frozen=True)
class Crowd:
    """Who is there. All devices of a group see all timers of the group."""

    groups: int
    people: int
    """In each group."""
    devices: int = 1
    """Of each person."""
    senders: int | None = None
    """Devices of each group that change their timers; None = all."""
    timers: int = 8
    """Of each sender. Not fewer than the window, so that no update overtakes the one before of the same timer."""
    prefix: str = ""
    """Of all names, where two crowds use one system."""

    @property
    def connections(self) -> int:
        """All devices."""
        return self.groups * self.people * self.devices

    def seats(self) -> Iterator[list[Seat]]:
        """The devices of each group. The same names each time."""
        for group in range(self.groups):
            seats: list[Seat] = []
            for person, device in itertools.product(range(self.people), range(self.devices)):
                sends = self.senders is None or len(seats) < self.senders
                place = f"{self.prefix}{group}-{person}"
                timers = [f"g{place}-{device}-{index}" for index in range(self.timers)] if sends else []
                seats.append(Seat(f"u{place}", f"d{place}-{device}", timers))
            yield seats


@dataclass(frozen=True)
class Load:
    """What they do: keep a window of unanswered updates each (closed loop), or all together send at a rate (open loop)."""

    window: int = 0
    rate: float = 0.0
    """Updates per second of all together; 0 = closed loop."""
    seconds: float = 3.0
    """Measured. Pings that come meanwhile are answered afterwards, and systems wait for that for 20 s."""
    warmup: float = 1.0


@dataclass(frozen=True)
class Scenario:
    """One row of the tables."""

    name: str
    title: str
    crowd: Crowd
    load: Load | None
    """None: everybody connects at once, and then does nothing (a storm of connects, and the memory of idle connections)."""
    with_peers: bool = True
    """Beside the raw broadcast, which is always there."""
    rounds: int = 2


_EIGHTS = Crowd(groups=50, people=8)

SCENARIOS = [
    Scenario("groups-8-closed-8", "50 groups of 8, 8 unanswered updates each", _EIGHTS, Load(window=8), rounds=3),
    Scenario("groups-8-closed-1", "50 groups of 8, one unanswered update each", _EIGHTS, Load(window=1), rounds=3),
    Scenario("groups-8-open-500", "50 groups of 8, 500 updates/s", _EIGHTS, Load(rate=500), rounds=3),
    Scenario("groups-8-open-2000", "50 groups of 8, 2,000 updates/s", _EIGHTS, Load(rate=2_000), with_peers=False),
    Scenario(
        "groups-3-closed-8",
        "100 groups of 3, 8 unanswered updates each",
        Crowd(groups=100, people=3),
        Load(window=8),
        with_peers=False,
    ),
    Scenario(
        "devices-5-closed-1",
        "80 people with 5 devices each, one unanswered update each",
        Crowd(groups=80, people=1, devices=5),
        Load(window=1),
        with_peers=False,
    ),
    Scenario(
        "group-500-open-20",
        "one group of 500, 20 updates/s by one of them",
        Crowd(groups=1, people=500, senders=1, timers=2),
        Load(rate=20),
        with_peers=False,
    ),
    Scenario(
        "connections-5000",
        "5,000 people connect at once, then are idle",
        Crowd(groups=5_000, people=1, senders=0),
        None,
        rounds=1,
    ),
]
