"""What a phone without a socket does: REST."""

from types import TracebackType
from typing import Any

from tests.soak.device import DAY, Device, Habits, Stored
from tests.soak.shown import by_first, by_rest
from tests.system.client import token
from tests.system.rest_client import Rest


class RestUser(Device):
    """See `Device`."""

    kind = "REST"

    def __init__(self, port: int, user: str, habits: Habits) -> None:
        super().__init__(user, habits)
        minutes = habits.utc_offset
        self._zone = f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
        self._rest = Rest(port, user, Authorization=f"Bearer {token(user, lifetime=DAY)}")

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._rest.__aexit__(exc_type, exc, traceback)

    async def use(self) -> None:
        habits = self.habits
        if not habits.known:
            return
        timer_id = habits.choose(*sorted(habits.known)[-20:])
        match habits.choose("rename", "pause", "share", "leave"):
            case "rename":
                await self._ask("POST", f"/timers/{timer_id}", {"name": habits.new_name()})
            case "pause":
                await self._ask("POST", f"/timers/{timer_id}", {"remainingDuration": habits.length()})
            case "share":
                await self._ask("POST", "/timers/shared", {"timerId": timer_id, "userIds": [*habits.members()]})
            case "leave" if not self.is_owner:
                await self._ask("DELETE", f"/timers/shared?timerId={timer_id}")

    async def _ask(self, method: str, path: str, body: Any = None) -> None:
        self.did()
        answer = await self._rest.ask(method, path, body)
        if answer.status != 200:
            self.refused(answer.status, f"{method} {path} {body}: {answer.status} {answer.body}")
        if answer.status == 404:
            self.habits.known.discard(path.rpartition("/")[2])  # stopped

    async def differences(self, stored: Stored) -> list[str]:
        found = []
        for timer_id, timer in stored.items():
            answer = await self._rest.ask("GET", f"/timers/{timer_id}", params={"tz": self._zone})
            if answer.status != 200 or not by_rest(answer.body, self.habits.utc_offset).is_as(by_first(timer)):
                found.append(f"{self.name} has {answer.status} {answer.body}, stored is {timer}")
        listed = {timer["id"] for timer in await self._rest.done("GET", "/timers/shared")}
        shared = {timer_id for timer_id, timer in stored.items() if timer["userId"] != self.user}
        if listed != shared:
            found.append(f"{self.name} lists {sorted(listed)}, shared is {sorted(shared)}")
        return found
