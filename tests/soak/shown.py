"""A timer as a screen shows it, in words that all kinds of clients have."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tests.system.app_client import AppTimer, parse_duration, parse_local
from tests.system.client import Message

ROUNDING = timedelta(milliseconds=1)
"""By which ends may differ: what the digits of a client do not tell."""


@dataclass(frozen=True)
class Shown:
    """A timer on one screen."""

    name: str
    owner: str
    members: frozenset[str]
    total: timedelta | None
    remaining: timedelta | None
    end: datetime | None

    def is_as(self, other: "Shown") -> bool:
        """Whether both show the same."""
        if (self.end is None) != (other.end is None):
            return False
        same_end = self.end is None or other.end is None or abs(self.end - other.end) <= ROUNDING
        mine = (self.name, self.owner, self.members, self.total, self.remaining)
        return same_end and mine == (other.name, other.owner, other.members, other.total, other.remaining)


def by_app(timer: AppTimer, utc_offset: int) -> Shown:
    """A timer on a phone, whose clock is so many minutes ahead of UTC."""
    end = None
    if timer.end is not None:
        end = (parse_local(timer.end) - timedelta(minutes=utc_offset)).replace(tzinfo=UTC)
    return Shown(
        timer.name,
        timer.user_id,
        timer.shared_with - {timer.user_id},
        parse_duration(timer.total) if timer.total else None,
        parse_duration(timer.remaining) if timer.remaining else None,
        end,
    )


def by_first(timer: Message) -> Shown:
    """The same from a message of the first dialect. A timer that was not started has all of its time left."""
    end, total = timer.get("endTime"), timer.get("totalDuration")
    remaining = None if end else timer.get("remainingDuration") or total
    return Shown(
        timer["name"],
        timer["userId"],
        frozenset(timer["sharedWith"]),
        parse_duration(total) if total else None,
        parse_duration(remaining) if remaining else None,
        datetime.fromisoformat(end).astimezone(UTC) if end else None,
    )


def by_rest(timer: Message, utc_offset: int) -> Shown:
    """The same from an answer of REST, which was asked for local times of that offset."""
    return by_app(
        AppTimer(
            timer["id"],
            timer["userId"],
            timer["name"],
            timer.get("totalDuration"),
            None if "endTime" in timer else timer.get("remainingDuration") or timer.get("totalDuration"),
            timer.get("endTime"),
            frozenset(timer["sharedWith"]),
        ),
        utc_offset,
    )
