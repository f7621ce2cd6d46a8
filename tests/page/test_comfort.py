"""The page for everybody: by keyboard, for screen readers, in the dark, and while nobody looks at it; and its policy."""

import json
from typing import Any, Literal

import pytest
from playwright.async_api import expect

from tests.page.conftest import People
from tests.page.screens import DESKTOP, Screen

pytestmark = pytest.mark.xdist_group("browser")

HIDDEN = "Object.defineProperty(document, 'visibilityState', { get: () => 'hidden' });"

ASKS = """
globalThis.asked = [];
const ask = Notification.requestPermission.bind(Notification);
Notification.requestPermission = () => { asked.push(navigator.userActivation.isActive); return ask(); };
"""


async def violations(screen: Screen, axe: str) -> list[dict[str, Any]]:
    """What axe finds on a screen, with all its rules."""
    await screen.page.evaluate(f"{axe}; undefined")
    found = json.loads(await screen.page.evaluate("axe.run().then(({ violations }) => JSON.stringify(violations))"))
    return [
        {"rule": each["id"], "impact": each["impact"], "where": [node["target"] for node in each["nodes"]][:4]}
        for each in found
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_to_complain_about(
    person: People, open_screen: People, axe: str, scheme: Literal["light", "dark"]
) -> None:
    alice, bob = await person("alice", color_scheme=scheme), await open_screen("bob", color_scheme=scheme)
    await bob.page.goto(bob.base)
    await expect(bob.page.get_by_label("Your name")).to_be_visible()
    assert await violations(bob, axe) == []
    await expect(alice.page.locator("#empty")).to_be_visible()
    assert await violations(alice, axe) == []
    await (await alice.create("Paused", 5)).press("Pause")
    await alice.create("For later", 5, run=False)
    await alice.create("Short", 0.05)
    tea = await alice.create("Tea", 90)
    await tea.share(bob.user)
    await tea.make_link()
    await expect(alice.bubble("Short").state).to_have_text("finished")
    await expect(alice.bubble("Paused").state).to_have_text("paused")
    assert await violations(alice, axe) == []
    link = await tea.link.input_value()
    await alice.context.set_offline(True)
    await alice.is_("waiting")
    await tea.press("Add 1 minute")
    await expect(tea.waiting).to_be_visible()
    assert await violations(alice, axe) == []
    carol = await open_screen("carol", color_scheme=scheme)
    await carol.sign_in(and_join=link)
    await expect(carol.page.get_by_role("dialog")).to_be_visible()
    assert await violations(carol, axe) == []


CONTRASTS = """
(() => {
  const canvas = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
  const card = document.createElement('div');
  card.className = 'card';
  document.body.append(card);
  const luminance = (variable) => {
    card.style.color = `var(${variable})`;
    canvas.fillStyle = getComputedStyle(card).color;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((each) => each / 255)
      .map((each) => (each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (one, other) => {
    const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (light + 0.05) / (dark + 0.05);
  };
  const worst = {};
  for (let hue = 0; hue < 360; hue += 1) {
    card.style.setProperty('--hue', hue);
    const pairs = [['--on-accent', '--ring'], ['--ink', '--liquid-1'], ['--ink', '--liquid-2']];
    for (const pair of pairs) worst[pair] = Math.min(worst[pair] ?? 99, contrast(...pair));
  }
  return JSON.stringify(worst);
})()
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_text_can_be_read_in_the_colour_of_every_owner(
    open_screen: People, scheme: Literal["light", "dark"]
) -> None:
    screen = await open_screen("alice", color_scheme=scheme)
    await screen.page.goto(screen.base)
    worst: dict[str, float] = json.loads(await screen.page.evaluate(CONTRASTS))
    assert worst["--on-accent,--ring"] >= 4.5
    # What is written on a bubble is partly see-through, down to four fifths.
    assert min(worst["--ink,--liquid-1"], worst["--ink,--liquid-2"]) >= 6


async def test_axe_sees_a_fault_when_there_is_one(person: People, axe: str) -> None:
    alice = await person("alice")
    await alice.page.evaluate("document.getElementById('log-out').removeAttribute('aria-label')")
    await alice.page.evaluate("document.getElementById('log-out').removeAttribute('title')")
    assert [each["rule"] for each in await violations(alice, axe)] == ["button-name"]


async def test_dark_and_light_follow_the_device(open_screen: People) -> None:
    lightness = {}
    for scheme in ("light", "dark"):
        screen = await open_screen("alice", color_scheme=scheme)
        await screen.page.goto(screen.base)
        for what in ("backgroundColor", "color"):
            colour = await screen.page.evaluate(f"getComputedStyle(document.body).{what}")
            lightness[scheme, what] = sum(map(int, colour.removeprefix("rgb(").removesuffix(")").split(",")))
    assert lightness["light", "backgroundColor"] > 600 > lightness["light", "color"]
    assert lightness["dark", "backgroundColor"] < 100 < lightness["dark", "color"]


async def test_everything_can_be_done_by_keyboard_and_one_always_sees_where_one_is(person: People) -> None:
    alice, bob = await person("alice", viewport=DESKTOP), await person("bob")
    page = alice.page

    async def go_to(name: str) -> None:
        """Presses Tab until the element of this name has the focus."""
        for _ in range(40):
            await page.keyboard.press("Tab")
            focused: dict[str, str] = await page.evaluate(
                """(() => { const it = document.activeElement; return {
                name: it.ariaLabel ?? it.labels?.[0]?.textContent.trim() ?? it.textContent.trim(),
                outline: getComputedStyle(it).outlineStyle }; })()"""
            )
            assert focused["outline"] != "none", focused
            if focused["name"] == name:
                return
        raise AssertionError(f"no {name} within 40 steps")

    await go_to("Name")
    await page.keyboard.type("Tea")
    await page.keyboard.press("Enter")
    tea = alice.bubble("Tea")
    await expect(tea.state).to_have_text("running")
    await go_to("Pause")
    await page.keyboard.press("Space")
    await expect(tea.state).to_have_text("paused")
    await go_to("Add 5 minutes")
    await page.keyboard.press("Enter")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")  # the people
    await page.keyboard.type(bob.user)
    await page.keyboard.press("Enter")
    await expect(bob.bubble("Tea").state).to_have_text("paused")
    await page.keyboard.press("Shift+Tab")  # Remove bob
    await page.keyboard.press("Enter")
    await expect(bob.bubble("Tea").root).to_have_count(0)
    # What had the focus is gone; it is at the list's button now, and behind that is everything else.
    await expect(tea.people).to_be_focused()
    await page.keyboard.press("Shift+Tab")
    await page.keyboard.press("Enter")  # Stop
    await expect(tea.root).to_have_count(0)
    await expect(page.get_by_label("Name", exact=True)).to_be_focused()


async def test_a_hidden_page_notifies_when_a_bubble_is_done_if_it_was_asked_to(person: People) -> None:
    alice = await person("alice", permissions=["notifications"], script=HIDDEN + ASKS)
    bell = alice.page.get_by_role("button", name="Tell me when a bubble is done")
    await expect(bell).to_have_attribute("aria-pressed", "false")
    assert await alice.page.evaluate("asked") == []
    await bell.click()
    await expect(bell).to_have_attribute("aria-pressed", "true")
    assert await alice.page.evaluate("asked") == [True]
    await alice.create("Egg", 0.05)
    await expect(alice.bubble("Egg").state).to_have_text("finished")
    notices = "navigator.serviceWorker.getRegistration('/static/').then((it) => it.getNotifications())"
    await expect(alice.toast("“Egg” is done.")).to_be_visible()
    for _ in range(50):
        titles = await alice.page.evaluate(f"{notices}.then((all) => all.map((each) => each.title))")
        if titles:
            break
        await alice.page.wait_for_timeout(100)
    assert titles == ["“Egg” is done"]


async def test_whoever_refuses_notices_is_told_how_it_is(person: People) -> None:
    alice = await person("alice", script="Notification.requestPermission = async () => 'denied';")
    bell = alice.page.get_by_role("button", name="Tell me when a bubble is done")
    await bell.click()
    await expect(alice.toast("This browser does not let the page notify you")).to_be_visible()
    await expect(bell).to_have_attribute("aria-pressed", "false")


ATTACKS = [
    "document.body.append(Object.assign(document.createElement('script'), { text: 'globalThis.pwned = 1' }))",
    "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"pwned = 1\">')",
    "document.body.setAttribute('style', 'color: red')",
    "fetch('https://elsewhere.invalid/').catch(() => {})",
    "document.body.append(Object.assign(new Image(), { src: 'https://elsewhere.invalid/x.png' }))",
]


async def test_the_policy_stops_what_is_inline_and_what_goes_elsewhere(open_screen: People) -> None:
    alice = await open_screen("alice")
    await alice.page.goto(alice.base)
    await expect(alice.page.get_by_label("Your name")).to_be_visible()
    assert alice.faults == []
    for attack in ATTACKS:
        await alice.page.evaluate(f"try {{ {attack} }} catch {{}} undefined")
        for _ in range(100):
            if alice.faults:
                break
            await alice.page.wait_for_timeout(20)
        assert alice.faults, attack
        alice.faults.clear()
    assert await alice.page.evaluate("globalThis.pwned") is None
    alice.requested.clear()  # those that were stopped are among them
