"""Two screens side by side, one of a machine whose clock is wrong and whose network is slow."""

import asyncio
import json
import re

import pytest
from playwright.async_api import WebSocketRoute, expect

from tests.page.conftest import People
from tests.page.screens import Screen

pytestmark = pytest.mark.xdist_group("browser")

FIVE_MINUTES = 300_000
TICKS = 50.0
"""Milliseconds by which two screens may differ, beside what they say themselves that their clocks may be wrong by."""

WORST = 500.0
"""Milliseconds that each may say: far more than the way there and back, on a busy machine."""

SKEWED = f"""
globalThis.trueNow = Date.now.bind(Date);
const origin = performance.timeOrigin;
Object.defineProperty(Performance.prototype, 'timeOrigin', {{ get: () => origin + {FIVE_MINUTES} }});
Date.now = () => trueNow() + {FIVE_MINUTES};
"""
RIGHT = "globalThis.trueNow = Date.now.bind(Date);"

# When, by the machine's true clock, each second came up on the screen.
RECORD = """
globalThis.flips = {};
const clock = document.querySelector('.clock');
new MutationObserver(() => { flips[clock.textContent] ??= trueNow(); })
  .observe(clock, { childList: true, characterData: true, subtree: true });
"""


async def slow_down(screen: Screen, there: float, back: float) -> None:
    """Delays what the page sends and what it gets, in seconds."""

    def relay(page: WebSocketRoute) -> None:
        server = page.connect_to_server()
        loop = asyncio.get_running_loop()
        page.on_message(lambda frame: loop.call_later(there, server.send, frame))
        server.on_message(lambda frame: loop.call_later(back, page.send, frame))

    await screen.page.route_web_socket("**/ws*", relay)


async def told_error(screen: Screen) -> float:
    """Milliseconds by which a screen says that its clock may be wrong: half of the way there and back, and what the machine added."""
    text = await screen.page.locator("#clock-error").text_content()
    told = re.fullmatch(r"In step with the server to within (\d+) ms\.", text or "")
    assert told is not None, text
    return float(told[1])


async def flips(screen: Screen) -> dict[str, float]:
    found: dict[str, float] = json.loads(await screen.page.evaluate("JSON.stringify(flips)"))
    return found


async def test_screens_show_each_second_together_though_one_clock_is_wrong_and_its_network_slow(
    open_screen: People,
) -> None:
    alice, bob = await open_screen("alice", script=RIGHT), await open_screen("bob", script=SKEWED)
    await slow_down(bob, there=0.06, back=0.04)
    await asyncio.gather(alice.sign_in(), bob.sign_in())
    tea = await alice.create("Tea", 5)
    await tea.share(bob.user)
    await expect(bob.bubble("Tea").state).to_have_text("running")
    for screen in (alice, bob):
        await expect(screen.page.locator("#clock-error")).to_contain_text("In step with the server to within")
        await screen.page.evaluate(RECORD)
    # The machine may stall either page for a moment; a fault of clocks or ticks would not pass five times in a row.
    together: list[float] = []
    for _ in range(60):
        await asyncio.sleep(0.25)
        left, right = await flips(alice), await flips(bob)
        seconds = [text for text in left if text in right]
        together = [left[text] - right[text] for text in seconds][-5:]
        errors = [await told_error(screen) for screen in (alice, bob)]
        assert max(errors) <= WORST
        if len(together) == 5 and all(abs(difference) <= sum(errors) + TICKS for difference in together):
            return
    raise AssertionError(f"milliseconds between the screens: {together}")
