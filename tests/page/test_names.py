"""The page with names as people may give them: long, without a space, from right to left, or made to deceive."""

import base64
import json
import re

import pytest
from playwright.async_api import expect

from tests.page.conftest import People
from tests.page.screens import DESKTOP, PHONE, Bubble, Screen

pytestmark = pytest.mark.xdist_group("browser")

NARROW = {"width": 320, "height": 700}
FLIP = "\u202e"
UUID = "3f0a4c1e-9b1d-4c47-a1a5-0d4f3e9a7c55"
LONGEST = "W" * 128
SPACED = "Maria Magdalena Theodora von und zu Hohenlohe-Waldenburg-Schillingsfürst, called Mia"
HEBREW = "מרים" * 16
ARABIC = "شاي بالنعناع"

OUT_OF_REACH = """
(() => {
  const found = document.documentElement.scrollWidth > innerWidth ? ['the page'] : [];
  document.getElementById('toasts').replaceChildren();
  const parts = 'button, input, .bubble, .clock, .name, .me-name, .people, .person-name, .quiet';
  for (const it of document.querySelectorAll(parts)) {
    if (!it.checkVisibility()) continue;
    it.scrollIntoView({ block: 'center', behavior: 'instant' });
    const { left, right, top, bottom } = it.getBoundingClientRect();
    const room = it.parentElement.closest('.people, .card, .bar')?.getBoundingClientRect() ?? { left: 0, right: innerWidth };
    const isInside = Math.max(room.left, 0) <= left + .5 && right <= Math.min(room.right, innerWidth) + .5;
    const isOnTop = it.contains(document.elementFromPoint((left + right) / 2, (top + bottom) / 2));
    const isControl = it.matches('button, input');
    if (!isInside || (isControl && !isOnTop)) found.push(`${it.className || it.id} ${it.ariaLabel ?? ''} ${left}..${right}`);
  }
  scrollTo(0, 0);
  return JSON.stringify(found);
})()
"""


async def out_of_reach(screen: Screen) -> list[str]:
    """What is wider than the place it is in, and the controls that a finger does not find where they are."""
    found: list[str] = json.loads(await screen.page.evaluate(OUT_OF_REACH))
    return found


@pytest.mark.parametrize("viewport", [NARROW, PHONE, DESKTOP], ids=lambda size: str(size["width"]))
async def test_no_name_pushes_anything_out_of_the_window(
    person: People, open_screen: People, viewport: dict[str, int]
) -> None:
    owner = await person("W" * 119, viewport=viewport)
    member = await open_screen("דנה" * 19, viewport=viewport)
    await member.sign_in()
    # Other clients take longer names than the page's own form.
    await owner.page.evaluate("document.getElementById('create-name').removeAttribute('maxlength')")
    tea = await owner.create("Tea", 10_079)
    for user in (UUID, LONGEST, SPACED, HEBREW, ARABIC, member.user):
        await tea.share(user)
    await tea.make_link()
    long = {"W" * 256, f"{SPACED} {SPACED}", HEBREW * 4, ARABIC}
    for name in long:
        await (await owner.create(name, 5)).share(member.user)
    assert await out_of_reach(owner) == []
    await expect(member.page.locator(".card")).to_have_count(1 + len(long))
    for people in await member.page.locator(".people-button").all():
        await people.click()
    assert await out_of_reach(member) == []
    await tea.press(f"Remove {LONGEST}")
    await expect(tea.members.filter(has_text=LONGEST)).to_have_count(0)


async def test_the_longest_toasts_stay_in_the_window(person: People) -> None:
    alice = await person("alice", viewport=NARROW)
    await alice.page.evaluate(
        "(name) => import('/static/toasts.js').then(({ toast }) => [1, 2, 3].forEach((each) => toast(`${each} ${name}`)))",
        "W" * 500,
    )
    boxes = [await toast.bounding_box() for toast in await alice.page.locator(".toast").all()]
    assert len(boxes) == 3
    for box in boxes:
        assert box is not None
        assert 0 <= box["y"] <= NARROW["height"] - box["height"], box
        assert 0 <= box["x"] <= NARROW["width"] - box["width"], box


async def test_what_is_cut_off_can_be_read_in_whole(person: People) -> None:
    alice = await person("W" * 100, viewport=DESKTOP)
    await expect(alice.page.locator("#me-name")).to_have_attribute("title", alice.user)
    tea = await alice.create("Tea", 5)
    await tea.share(LONGEST)
    await expect(tea.members.filter(has_text=LONGEST)).to_have_attribute("title", LONGEST)


async def test_a_refused_name_neither_turns_the_sentence_around_nor_is_explained_by_a_fields_name(
    person: People,
) -> None:
    alice = await person("alice")
    tea = await alice.create("Tea", 5)
    await tea.open_people()
    await tea.root.get_by_label("User to share with").fill(f"bad{FLIP}name")
    await tea.press("Share")
    await expect(alice.page.locator(".toast.error")).to_have_text(
        "Could not share “Tea” with bad\ufffdname: the name of the user must not contain control or direction-changing characters."
    )


async def test_a_timer_that_the_server_refuses_is_shown_without_what_turns_text(person: People) -> None:
    alice = await person("alice")
    await alice.context.set_offline(True)
    await alice.is_("waiting")
    await alice.page.get_by_label("Name", exact=True).fill(f"bad{FLIP}name")
    await alice.page.keyboard.press("Enter")
    bubble = Bubble(alice.page.locator(".card"))
    await expect(bubble.root.locator(".name")).to_have_text("bad\ufffdname")
    assert FLIP not in await alice.page.title()
    assert FLIP not in await alice.page.locator("#app").inner_html()
    await alice.context.set_offline(False)
    await expect(alice.toast("Could not create “bad\ufffdname”: the name of the timer must not")).to_be_visible()


async def test_a_sentence_keeps_its_order_around_a_name_from_right_to_left(person: People) -> None:
    alice, dana = await person("alice", viewport=DESKTOP), await person("דנה")
    tea = await alice.create("תה", 5)
    await tea.share(dana.user)
    await expect(dana.toast(f"{alice.user} shares “\u2068תה\u2069” with you.")).to_be_visible()
    await expect(alice.page).to_have_title(re.compile("^[45]:[0-9]{2} \u2068תה\u2069 · Bubble Timer$"))
    await dana.bubble("תה").press("Pause")
    await expect(alice.toast(f"“\u2068תה\u2069” was paused by \u2068{dana.user}\u2069.")).to_be_visible()


async def test_an_invitation_turns_no_question_around(open_screen: People) -> None:
    claims = base64.urlsafe_b64encode(json.dumps({"owner": f"bob{FLIP}"}).encode()).decode().rstrip("=")
    alice = await open_screen("alice")
    await alice.sign_in(and_join=f"{alice.base}/#join=e30.{claims}.e30")
    await expect(alice.page.get_by_role("dialog")).to_contain_text("bob\ufffd shares a timer with you.")


async def test_a_refused_name_is_explained_at_the_sign_in(open_screen: People) -> None:
    alice = await open_screen("alice")
    await alice.page.goto(alice.base)
    await alice.page.get_by_label("Your name").fill("W" * 129)
    await alice.page.keyboard.press("Enter")
    await expect(alice.page.get_by_role("alert")).to_have_text("The name must have at most 128 characters")
