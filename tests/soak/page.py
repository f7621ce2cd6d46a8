"""The page in Chromium, and somebody who clicks."""

import math
import re
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self

from playwright.async_api import Browser, expect
from playwright.async_api import Error as PlaywrightError

from tests.page.screens import DESKTOP, Bubble, Screen
from tests.soak.device import DAY, MOST_TIMERS, Device, Habits, Stored
from tests.soak.shown import Shown, by_first
from tests.system.client import token

CLICK_WITHIN = 3_000
"""Milliseconds in which a button can be clicked that somebody has seen, unless its timer has gone since."""

END_WITHIN = timedelta(milliseconds=500)
"""By which the end that a page shows may differ: it ticks by the second, and the machine is busy."""

FRACTION_WITHIN = 0.01

# What is on the screen. A clock that runs is read as it flips: then what it shows is what is left, to the tick.
_READ = """
() => Promise.all([...document.querySelectorAll('#bubbles > .card:not(.popping)')].map(async (card) => {
  const part = (name) => card.querySelector(`[data-part=${name}]`);
  const clock = part('clock');
  const flip = () => new Promise((resolve) => {
    const done = () => { observer.disconnect(); resolve(); };
    const observer = new MutationObserver(done);
    observer.observe(clock, { childList: true, characterData: true, subtree: true });
    setTimeout(done, 3000);
  });
  if (card.dataset.state === 'running') await flip();
  return {
    at: Date.now() / 1000, name: part('name').textContent, state: card.dataset.state, clock: clock.textContent,
    left: Number(card.style.getPropertyValue('--left')), people: part('peopleButton').title,
    waiting: part('waiting').textContent,
  };
}))
"""

_NAMES = "() => [...document.querySelectorAll('#bubbles > .card:not(.popping) .name')].map((name) => name.textContent)"


class Page(Device):
    """See `Device`."""

    kind = "page"

    def __init__(self, port: int, user: str, habits: Habits, browser: Browser) -> None:
        super().__init__(user, habits)
        self._base = f"http://127.0.0.1:{port}"
        self._browser = browser
        self._screen: Screen

    async def __aenter__(self) -> Self:
        self._screen = await Screen.open(self._browser, self._base, self.user, viewport=DESKTOP)
        self.unreadable = self._screen.faults
        self._screen.page.set_default_timeout(CLICK_WITHIN)
        await self._screen.page.goto(f"{self._base}/#token={token(self.user, lifetime=DAY)}")
        await self._screen.is_("connected")
        await expect(self._screen.page.locator("#empty")).to_be_visible()  # the list has come
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._screen.context.close()

    async def use(self) -> None:
        habits = self.habits
        names: list[str] = await self._screen.page.evaluate(_NAMES)
        try:
            if self.is_owner and len(names) < MOST_TIMERS and habits.chance(0.2):
                await self._screen.create(habits.new_name("Made on the page"), habits.choose(5, 25, 60))
            elif names:
                await self._change(self._screen.bubble(habits.choose(*names)))
            else:
                return
        except (PlaywrightError, AssertionError):
            habits.refusals[self.kind] += 1  # it was renamed, stopped or taken away as its button was to be clicked
        else:
            self.did()

    async def _change(self, bubble: Bubble) -> None:
        habits = self.habits
        action = habits.choose("start or pause", "start or pause", "extend", "extend", "share", "remove", "stop")
        if action == "stop" and not habits.chance(0.3):
            action = "start or pause"
        match action:
            case "start or pause":
                await bubble.root.locator("[data-part=primary]").click()
            case "extend":
                await bubble.press(habits.choose("Add 1 minute", "Add 5 minutes"))
            case "stop":
                await bubble.press("Stop")
            case "share" if self.is_owner:
                await bubble.open_people()
                await bubble.root.get_by_label("User to share with").fill(habits.other())
                await bubble.press("Share")
            case "remove":
                await bubble.open_people()
                await bubble.root.get_by_role("button", name=re.compile("^(Remove|Leave) ")).first.click()

    # --- what it shows ------------------------------------------------------------------------------------------------

    async def differences(self, stored: Stored) -> list[str]:
        cards: list[dict[str, Any]] = await self._screen.page.evaluate(_READ)
        shown = {card["name"]: card for card in cards}
        wanted = {timer["name"]: by_first(timer) for timer in stored.values()}
        found = [
            f"{self.name} shows {shown.get(name)}, stored is {wanted.get(name)}"
            for name in sorted(shown.keys() | wanted.keys())
            if name not in shown or name not in wanted or not is_as(shown[name], wanted[name])
        ]
        if len(cards) != len(shown):
            found.append(f"{self.name} shows a name twice: {cards}")
        return found

    def forced_reconnects(self) -> list[str]:
        sockets = [url for url in self._screen.requested if url.startswith("ws")]
        return [f"{self.name} opened {len(sockets)} sockets"] if len(sockets) > 1 else []


def is_as(card: dict[str, Any], timer: Shown) -> bool:
    """Whether a card of the page shows this timer, to the second: its clock, its ring, its people."""
    if card["waiting"] or set(card["people"].split(", ")) != {timer.owner, *timer.members}:
        return False
    at = datetime.fromtimestamp(card["at"], UTC)
    left = timer.end - at if timer.end is not None else timer.remaining
    if left is None or card["state"] == "finished":
        return left is not None and left <= END_WITHIN and card["clock"] == "Done"
    clock = timedelta(seconds=_seconds(card["clock"]))
    if card["state"] == "running":
        same = timer.end is not None and abs(clock - left) <= END_WITHIN
    else:
        same = timer.end is None and clock == timedelta(seconds=math.ceil(left.total_seconds()))
    fraction = min(left / timer.total, 1.0) if timer.total else 1.0
    return same and abs(card["left"] - fraction) <= FRACTION_WITHIN


def _seconds(clock: str) -> int:
    total = 0
    for part in clock.split(":"):
        total = total * 60 + int(part)
    return total
