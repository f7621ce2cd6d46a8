"""Who knows the promise, and writes down every breach of it. Pure: no I/O, and the time is an argument.

After Jepsen's checkers (K. Kingsbury, jepsen.io): clients report what they asked, what they were answered and what they
were shown, in the order in which it happened; then the database is compared with it.

- *Durable*: a timer's stored version is never below one that was acknowledged; a state whose version was acknowledged has
  what its writer wrote.
- *In order*: a command that began after another one was acknowledged gets a higher version (real-time order), and no
  version twice.
- *Once*: a counter has exactly the sum of all acknowledged extensions, and of unanswered ones each once or not at all.
- *Never back*: no client is shown an older version of a timer, or of its audience, than it has seen.
- *Rights*: no client is shown a state of a timer that was never current while its user was in the audience, and after it was
  told of its removal, nothing of the audience before that.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf

from tests.faults.database import Stored

UNIT = 1
"""Seconds that a writer who repeats until it is answered adds to a counter."""

ABANDONED_UNIT = 100_000
"""Seconds that a writer who never repeats adds to a counter: the two sums stay apart in one number."""


@dataclass
class Operation:
    """A command of a client. `value`: the name written, the user added or removed, or empty."""

    user: str
    kind: str
    timer_id: str
    value: str
    began: float
    floor: int
    version: int = 0
    outcome: str = ""
    """`ok`, `refused`, `unknown` (it was given up), or empty while it is under way."""


@dataclass
class _Timer:
    owner: str = ""
    highest: int = 0
    share_version: int = 0
    by_version: dict[int, Operation] = field(default_factory=dict)
    unanswered: set[int] = field(default_factory=set)
    updates: dict[str, float] = field(default_factory=dict)
    memberships: dict[str, list[list[float]]] = field(default_factory=lambda: defaultdict(list))
    acknowledged: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    given_up: int = 0


class Referee:
    """Takes reports, in order, and collects `violations` as sentences."""

    def __init__(self) -> None:
        self.violations: list[str] = []
        self.operations = 0
        self.observations = 0
        self._finished = 0
        self._timers: dict[str, _Timer] = defaultdict(_Timer)
        self._seen: dict[tuple[str, str], tuple[int, int]] = {}
        self._dismissed: dict[tuple[str, str], int] = {}

    # --- what clients report --------------------------------------------------------------------------------------------

    def began(self, user: str, kind: str, timer_id: str, value: str, now: float) -> Operation:
        """A client sends a command (`create`, `update`, `extend`, `abandon`, `stop`, `add`, `remove`) for the first time."""
        self.operations += 1
        timer = self._timers[timer_id]
        operation = Operation(user, kind, timer_id, value, now, timer.highest)
        timer.unanswered.add(id(operation))
        if kind == "create" and not timer.owner:
            timer.owner = user
        if kind in ("create", "update"):
            timer.updates[value] = now
        if kind == "add":
            spans = timer.memberships[value]
            if not spans or spans[-1][1] < inf:
                spans.append([now, inf])
        return operation

    def acknowledged(self, operation: Operation, version: int, now: float) -> None:
        """It was answered as processed. `version`: of the audience for `add` and `remove`, of the timer for others."""
        timer = self._finish(operation, "ok")
        operation.version = version
        if operation.kind in ("add", "remove"):
            timer.share_version = max(timer.share_version, version)
            if operation.kind == "remove" and timer.memberships[operation.value]:
                timer.memberships[operation.value][-1][1] = now
            return
        if version <= operation.floor:
            self._breach(f"{operation} has version {version}, but {operation.floor} was acknowledged before it began")
        other = timer.by_version.setdefault(version, operation)
        if other is not operation:
            self._breach(f"{operation} and {other} have the same version")
        timer.highest = max(timer.highest, version)
        timer.acknowledged[operation.kind] += 1

    def refused(self, operation: Operation) -> None:
        """It was answered with an error that says that nothing happened."""
        self._finish(operation, "refused")

    def gave_up(self, operation: Operation) -> None:
        """It will never be answered: it may have happened or not."""
        timer = self._finish(operation, "unknown")
        timer.unanswered.add(id(operation))
        if operation.kind == "abandon":
            timer.given_up += 1

    def saw(
        self, client: str, user: str, timer_id: str, version: int, share_version: int, name: str, now: float
    ) -> None:
        """A client was shown a state."""
        self.observations += 1
        timer = self._timers[timer_id]
        before = self._seen.get((client, timer_id), (0, 0))
        if version < before[0] or share_version < before[1]:
            self._breach(f"{client} was shown {timer_id} at {(version, share_version)} after {before}")
        self._seen[client, timer_id] = (max(version, before[0]), max(share_version, before[1]))
        if user == timer.owner:
            return
        written = timer.updates.get(name, -inf)
        if not any(since <= now and until >= written for since, until in timer.memberships[user]):
            self._breach(f"{client} was shown {name!r} of {timer_id}, which {user} had no right to see")
        dismissed = self._dismissed.get((client, timer_id), 0)
        if share_version <= dismissed:
            self._breach(f"{client} was shown {timer_id} for the audience {share_version} after leaving at {dismissed}")

    def knows(self, client: str, timer_id: str, version: int) -> None:
        """A client learned a version from the answer to a command of its own."""
        before = self._seen.get((client, timer_id), (0, 0))
        self._seen[client, timer_id] = (max(version, before[0]), before[1])

    def dismissed(self, client: str, timer_id: str, share_version: int) -> None:
        """A client was told that it may not see a timer any longer, since this version of the audience. (Not since now: what
        a cut wire held back comes in order, but late, an invitation that has long been taken back included.)
        """
        self._dismissed[client, timer_id] = max(share_version, self._dismissed.get((client, timer_id), 0))

    # --- what the database says -----------------------------------------------------------------------------------------

    @property
    def under_way(self) -> int:
        """How many commands are neither answered nor given up."""
        return self.operations - self._finished

    def compare(self, stored: Mapping[str, Stored]) -> None:
        """The database, when nothing is under way."""
        for timer_id, timer in self._timers.items():
            found = stored.get(timer_id)
            if found is None:
                if timer.highest:
                    self._breach(f"{timer_id} is not stored, but {timer.highest} was acknowledged")
                continue
            if found.version < timer.highest:
                self._breach(f"{timer_id} is stored at {found.version}, but {timer.highest} was acknowledged")
            if found.share_version < timer.share_version:
                self._breach(f"{timer_id}: audience {found.share_version}, but {timer.share_version} was acknowledged")
            self._compare_content(timer_id, timer, found)
            self._compare_sum(timer_id, timer, found)

    def _compare_content(self, timer_id: str, timer: _Timer, found: Stored) -> None:
        writer = timer.by_version.get(found.version)
        if writer is None:
            if found.version > timer.highest and not timer.unanswered:
                self._breach(f"{timer_id} is stored at {found.version}, which nobody asked for")
        elif writer.kind in ("create", "update") and found.name != writer.value:
            self._breach(f"{timer_id} is stored as {found.name!r}, but {writer} was acknowledged at that version")
        elif writer.kind == "stop" and found.state != "stopped":
            self._breach(f"{timer_id} is {found.state}, but {writer} was acknowledged at that version")

    def _compare_sum(self, timer_id: str, timer: _Timer, found: Stored) -> None:
        if not timer.acknowledged["extend"] and not timer.acknowledged["abandon"]:
            return
        abandoned, added = divmod(seconds(found.remaining), ABANDONED_UNIT)
        if added != timer.acknowledged["extend"] * UNIT:
            self._breach(f"{timer_id} was extended {added} times, acknowledged were {timer.acknowledged['extend']}")
        least = timer.acknowledged["abandon"]
        if not least <= abandoned <= least + timer.given_up:
            self._breach(
                f"{timer_id}: of {least} acknowledged and {timer.given_up} abandoned ones {abandoned} happened"
            )

    def _finish(self, operation: Operation, outcome: str) -> _Timer:
        timer = self._timers[operation.timer_id]
        operation.outcome = outcome
        timer.unanswered.discard(id(operation))
        self._finished += 1
        return timer

    def _breach(self, sentence: str) -> None:
        self.violations.append(sentence)


def seconds(duration: str) -> int:
    """An ISO-8601 duration of hours, minutes and whole seconds in seconds."""
    total, number = 0, ""
    for character in duration.removeprefix("PT"):
        if character in "HMS":
            total += int(number) * {"H": 3_600, "M": 60, "S": 1}[character]
            number = ""
        else:
            number += character
    return total
