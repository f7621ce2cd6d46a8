"""People at their screens: pages in a real browser, each with a window, a clock and a network of its own."""

import json
from typing import Any, Self

from playwright.async_api import Browser, BrowserContext, Locator, Page, WebSocket, expect

PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 800}

_VIOLATIONS = ("Content Security Policy", "document requires 'Trusted")

Message = dict[str, Any]


class Screen:
    """One person's page."""

    def __init__(self, base: str, user: str, context: BrowserContext, page: Page) -> None:
        self.user = user
        self.base = base
        self.context = context
        self.page = page
        self.sent: list[Message] = []
        """Every frame it sent over its sockets."""
        self.requested: list[str] = []
        self.faults: list[str] = []
        """Breaches of the policy, and exceptions that nobody caught."""
        page.on("console", lambda message: self._note(message.text))
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("request", lambda request: self.requested.append(request.url))
        page.on("websocket", self._watch)

    @classmethod
    async def open(cls, browser: Browser, base: str, user: str, *, script: str = "", **options: Any) -> Self:
        """A window of its own that shows nothing yet. `script` runs before the page's own."""
        context = await browser.new_context(**{"viewport": PHONE, "reduced_motion": "reduce", **options})
        if script:
            await context.add_init_script(script)
        return cls(base, user, context, await context.new_page())

    async def sign_in(self, and_join: str = "") -> Self:
        """Opens the page as this user (in development mode a name is enough), and waits until it is there."""
        await self.page.goto(and_join or f"{self.base}/#user={self.user}")
        if and_join:
            await self.page.get_by_label("Your name").fill(self.user)
            await self.page.keyboard.press("Enter")
        await self.is_("connected")
        return self

    async def is_(self, connection: str) -> None:
        """Returns when the connection is so."""
        await expect(self.page.locator("body")).to_have_attribute("data-connection", connection)

    async def create(self, name: str, minutes: float, *, run: bool = True) -> "Bubble":
        """Makes a bubble with the form."""
        await self.page.get_by_label("Name", exact=True).fill(name)
        await self.page.locator("#create-minutes").fill(str(minutes))
        await self.page.get_by_role("button", name="Start" if run else "For later", exact=True).first.click()
        bubble = self.bubble(name)
        await expect(bubble.root).to_be_visible()
        return bubble

    def bubble(self, name: str) -> "Bubble":
        """The bubble of this name, there or not."""
        return Bubble(self.page.get_by_role("listitem", name=name, exact=True))

    def toast(self, text: str) -> Locator:
        """The toast with this text."""
        return self.page.locator(".toast", has_text=text)

    def sent_commands(self) -> list[Message]:
        """Frames about timers and shares, repetitions included."""
        return [frame for frame in self.sent if frame.get("type") in ("timer", "share")]

    def _note(self, text: str) -> None:
        if any(part in text for part in _VIOLATIONS):
            self.faults.append(text)

    def _watch(self, socket: WebSocket) -> None:
        self.requested.append(socket.url)
        socket.on("framesent", lambda frame: self.sent.append(json.loads(frame)))


class Bubble:
    """One timer on a screen."""

    def __init__(self, root: Locator) -> None:
        self.root = root
        self.clock = root.get_by_role("timer")
        self.state = root.locator(".state")
        self.waiting = root.locator(".waiting")
        self.people = root.locator(".people-button")
        self.members = root.locator(".person-name")
        self.link = root.get_by_label("Link to share")

    async def press(self, name: str) -> None:
        """A button, by its name."""
        await self.root.get_by_role("button", name=name, exact=True).click()

    async def open_people(self) -> None:
        """Opens the list of people if it is closed."""
        if await self.people.get_attribute("aria-expanded") == "false":
            await self.people.click()

    async def share(self, user: str) -> None:
        """Adds somebody by name."""
        await self.open_people()
        await self.root.get_by_label("User to share with").fill(user)
        await self.press("Share")
        await expect(self.members.filter(has_text=user)).to_be_visible()

    async def make_link(self) -> str:
        """A link to it."""
        await self.open_people()
        await self.press("Share by link")
        await expect(self.link).to_be_visible()
        return await self.link.input_value()
