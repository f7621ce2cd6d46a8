"""The page in a real browser: two people side by side."""

import asyncio
import re

import pytest
from playwright.async_api import expect

from tests.page.conftest import People
from tests.page.screens import DESKTOP

pytestmark = pytest.mark.xdist_group("browser")


async def test_what_one_person_starts_shares_and_stops_the_other_one_sees(person: People) -> None:
    alice, bob = await person("alice", viewport=DESKTOP), await person("bob")
    tea = await alice.create("Tea", 5)
    await tea.share(bob.user)
    theirs = bob.bubble("Tea")
    await expect(theirs.state).to_have_text("running")
    await expect(bob.toast(f"{alice.user} shares “Tea” with you.")).to_be_visible()
    await expect(theirs.people).to_contain_text(f"by {alice.user}")
    await theirs.press("Pause")
    await expect(tea.state).to_have_text("paused")
    await expect(alice.toast(f"“Tea” was paused by {bob.user}.")).to_be_visible()
    assert await tea.clock.inner_text() == await theirs.clock.inner_text()
    await theirs.press("Stop")
    await expect(tea.root).to_have_count(0)
    await expect(alice.toast(f"“Tea” was stopped by {bob.user}.")).to_be_visible()


async def test_minutes_that_both_add_at_the_same_moment_add_up(person: People) -> None:
    alice, bob = await person("alice", viewport=DESKTOP), await person("bob")
    tea = await alice.create("Tea", 5, run=False)
    await tea.share(bob.user)
    theirs = bob.bubble("Tea")
    await expect(theirs.clock).to_have_text("5:00")
    for _ in range(3):
        await asyncio.gather(tea.press("Add 1 minute"), theirs.press("Add 1 minute"))
    for bubble in (tea, theirs):
        await expect(bubble.clock).to_have_text("11:00")
        await expect(bubble.waiting).to_be_empty()


async def test_all_bubbles_of_one_owner_have_one_colour_on_every_screen(person: People) -> None:
    alice, bob = await person("alice"), await person("bob")
    await (await alice.create("Tea", 5)).share(bob.user)
    await alice.create("Rice", 5)
    await bob.create("Mine", 5)

    def hue(style: str | None) -> str:
        match = re.search(r"--hue: (\d+)", style or "")
        assert match
        return match[1]

    cards = (alice.bubble("Tea"), alice.bubble("Rice"), bob.bubble("Tea"), bob.bubble("Mine"))
    hues = [hue(await bubble.root.get_attribute("style")) for bubble in cards]
    assert hues[0] == hues[1] == hues[2] != hues[3]


async def test_whoever_is_removed_sees_it_no_longer_and_whoever_leaves_is_gone_from_the_list(person: People) -> None:
    alice, bob, carol = await person("alice"), await person("bob"), await person("carol")
    tea = await alice.create("Tea", 5)
    for member in (bob, carol):
        await tea.share(member.user)
        await expect(member.bubble("Tea").root).to_be_visible()
    await tea.press(f"Remove {bob.user}")
    await expect(bob.bubble("Tea").root).to_have_count(0)
    await expect(bob.toast("“Tea” is no longer shared with you.")).to_be_visible()
    await carol.bubble("Tea").people.click()
    await expect(carol.bubble("Tea").root.get_by_label("User to share with")).to_be_hidden()
    await carol.bubble("Tea").press("Leave this timer")
    await expect(carol.bubble("Tea").root).to_have_count(0)
    await expect(tea.members).to_have_text([alice.user])


async def test_a_link_asks_first_then_lets_in_and_ends_when_somebody_is_removed(
    person: People, open_screen: People
) -> None:
    alice = await person("alice", permissions=["clipboard-read", "clipboard-write"])
    tea = await alice.create("Tea", 5)
    link = await tea.make_link()
    assert await alice.page.evaluate("navigator.clipboard.readText()") == link
    bob = await open_screen("bob")
    await bob.sign_in(and_join=link)
    assert "join" not in bob.page.url
    question = bob.page.get_by_role("dialog", name="Join this timer?")
    await expect(question).to_contain_text(f"{alice.user} shares a timer with you.")
    await expect(bob.bubble("Tea").root).to_have_count(0)
    await question.get_by_role("button", name="Join").click()
    await expect(bob.bubble("Tea").state).to_have_text("running")
    await expect(alice.toast(f"“Tea” is now shared with {bob.user}.")).to_be_visible()
    await tea.press(f"Remove {bob.user}")
    await expect(bob.bubble("Tea").root).to_have_count(0)
    carol = await open_screen("carol")
    await carol.sign_in(and_join=link)
    await carol.page.get_by_role("button", name="Join").click()
    await expect(carol.toast("Could not join")).to_be_visible()
    await expect(carol.bubble("Tea").root).to_have_count(0)


async def test_whoever_declines_a_link_joins_nothing_and_is_not_asked_again(
    person: People, open_screen: People
) -> None:
    alice = await person("alice")
    tea = await alice.create("Tea", 5)
    bob = await open_screen("bob")
    await bob.sign_in(and_join=await tea.make_link())
    await bob.page.get_by_role("button", name="No, thanks").click()
    await bob.page.reload()
    await bob.is_("connected")
    await expect(bob.page.locator("#empty")).to_be_visible()
    await expect(bob.page.get_by_role("dialog")).to_have_count(0)
    await expect(tea.members).to_have_text([alice.user])
