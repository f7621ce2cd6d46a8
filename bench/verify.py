"""Was what was acknowledged delivered? Looks at what was recorded, afterwards. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import NamedTuple


class Sent(NamedTuple):
    """An update that a device sent."""

    number: int
    """Of this update alone, in everything that is sent in a run."""
    timer: bytes
    due: float
    """When it was to be sent, seconds by the monotonic clock."""


class Reply(NamedTuple):
    """An acknowledgement that a device got."""

    number: int
    version: int
    at: float


class Delivery(NamedTuple):
    """A state that a device was told."""

    timer: bytes
    version: int
    number: int
    """Of the update that made this state."""
    at: float


@dataclass
class History:
    """What one device sent and saw, in order."""

    device: str
    sent: Sequence[Sent] = ()
    replies: Sequence[Reply] = ()
    deliveries: Sequence[Delivery] = ()
    refused: int = 0


@dataclass
class Verdict:
    """What came of it. The first five must be zero; the rest is allowed, and told."""

    unanswered: int = 0
    missing: int = 0
    """Pairs of a device and a timer whose last acknowledged state never arrived there."""
    invented: int = 0
    """Deliveries of a state that is not what was acknowledged under that version, and replies to what was never sent."""
    went_back: int = 0
    """Versions, told to a device or acknowledged to a sender, that are not above the one before of that timer."""
    strayed: int = 0
    """Deliveries to a device of a timer that is none of its group's."""
    refused: int = 0
    """Updates that the system did not take, and said so."""
    echoed: int = 0
    """A sender's own states, told to it; ours does that when the sender did not know the state before."""
    repeated: int = 0
    """The same state twice, which is allowed."""
    superseded: int = 0
    """States that did not go to a device because a newer one of the timer did, which is allowed."""
    delays: list[tuple[float, float]] = field(default_factory=list)
    """For each acknowledged update and device: when it was due, and after how many seconds the device had it or a newer one."""

    @property
    def faults(self) -> dict[str, int]:
        """What must not be, with how often it was."""
        names = ("unanswered", "missing", "invented", "went_back", "strayed")
        return {name: count for name in names if (count := getattr(self, name))}


def check(groups: Iterable[Sequence[History]], *, echo: bool = False) -> Verdict:
    """Holds what everybody saw against what was acknowledged.

    A group is all the devices that see the same timers, those of the senders among them. `echo`: the system is
    to tell a sender its own states, too.
    """
    verdict = Verdict()
    for group in groups:
        check_group(group, verdict, echo=echo)
    return verdict


def check_group(group: Sequence[History], verdict: Verdict, *, echo: bool = False) -> None:
    """Adds to the verdict what came of one group."""
    made: dict[bytes, list[tuple[int, int, float]]] = {}
    maker: dict[bytes, str] = {}
    unknown: set[int] = set()
    for history in group:
        by_timer = _acknowledged(history, verdict, unknown)
        made |= by_timer
        maker |= dict.fromkeys(by_timer, history.device)
    for history in group:
        verdict.missing += sum(_delivered(history, made, maker, verdict, unknown, echo=echo))


def _acknowledged(history: History, verdict: Verdict, unknown: set[int]) -> dict[bytes, list[tuple[int, int, float]]]:
    """(version, number, due) of each timer's acknowledged updates, in the order in which they were sent.

    Those that were not acknowledged become `unknown`: they may have happened or not.
    """
    versions = {}
    for reply in history.replies:
        if reply.number in versions:
            verdict.invented += 1
        versions[reply.number] = reply.version
    made: dict[bytes, list[tuple[int, int, float]]] = defaultdict(list)
    for number, timer, due in history.sent:
        version = versions.pop(number, None)
        states = made[timer]
        if version is None:
            unknown.add(number)
        else:
            if states and version <= states[-1][0]:
                verdict.went_back += 1
            states.append((version, number, due))
    verdict.invented += len(versions)
    unacknowledged = sum(number in unknown for number, _, _ in history.sent)
    verdict.unanswered += max(unacknowledged - history.refused, 0)
    verdict.refused += history.refused
    return made


def _delivered(
    history: History,
    made: Mapping[bytes, Sequence[tuple[int, int, float]]],
    maker: Mapping[bytes, str],
    verdict: Verdict,
    unknown: AbstractSet[int],
    *,
    echo: bool,
) -> Iterable[bool]:
    """For each timer that the device is to see: is its last state missing?"""
    seen: dict[bytes, list[Delivery]] = defaultdict(list)
    for delivery in history.deliveries:
        seen[delivery.timer].append(delivery)
    for timer, deliveries in seen.items():
        if timer not in made:
            verdict.strayed += len(deliveries)
        elif maker[timer] == history.device:
            verdict.echoed += len(deliveries)
    for timer, states in made.items():
        if states and (echo or maker[timer] != history.device):
            yield _of_timer(states, seen.get(timer, ()), verdict, unknown)


def _of_timer(
    states: Sequence[tuple[int, int, float]], seen: Sequence[Delivery], verdict: Verdict, unknown: AbstractSet[int]
) -> bool:
    numbers = {version: number for version, number, _ in states}
    last = -1
    place = 0
    for delivery in seen:
        version = delivery.version
        if version == last:
            verdict.repeated += 1
            continue
        if version < last:
            verdict.went_back += 1
            continue
        last = version
        if numbers.get(version) != delivery.number and delivery.number not in unknown:
            verdict.invented += 1
        arrived = place
        while place < len(states) and states[place][0] <= version:
            due = states[place][2]
            verdict.delays.append((due, delivery.at - due))
            place += 1
        verdict.superseded += max(place - arrived - 1, 0)
    return place < len(states)
