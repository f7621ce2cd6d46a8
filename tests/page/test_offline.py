"""The page without a connection, and back: what was done meanwhile happens once."""

import asyncio
import json
from collections import Counter

import pytest
from playwright.async_api import WebSocketRoute, expect

from tests.page.conftest import People
from tests.page.screens import Screen
from tests.system.cluster import Cluster

pytestmark = pytest.mark.xdist_group("browser")


def message_ids(screen: Screen) -> Counter[str]:
    return Counter(frame["messageId"] for frame in screen.sent_commands())


async def test_what_is_done_offline_waits_is_shown_and_is_sent_once(person: People) -> None:
    alice, bob = await person("alice"), await person("bob")
    tea = await alice.create("Tea", 5, run=False)
    await tea.share(bob.user)
    await expect(bob.bubble("Tea").clock).to_have_text("5:00")
    before = message_ids(alice)
    await alice.context.set_offline(True)
    await expect(alice.page.locator("#connection-text")).to_have_text("Offline")
    await tea.press("Add 1 minute")
    await tea.press("Add 5 minutes")
    await alice.create("Rice", 10)
    await expect(tea.clock).to_have_text("11:00")
    await expect(tea.waiting).to_have_text("Not sent yet")
    await expect(alice.page.locator("#connection-queue")).to_have_text("· 3 changes wait")
    await expect(bob.bubble("Tea").clock).to_have_text("5:00")
    # Bob adds his own minute meanwhile.
    await bob.bubble("Tea").press("Add 1 minute")
    await alice.context.set_offline(False)
    await alice.is_("connected")
    for screen in (alice, bob):
        await expect(screen.bubble("Tea").clock).to_have_text("12:00")
    await expect(alice.page.locator(".waiting", has_text="Not sent yet")).to_have_count(0)
    await alice.bubble("Rice").share(bob.user)
    await expect(bob.bubble("Rice").state).to_have_text("running")
    sent = message_ids(alice) - before
    assert len(sent) == 4
    assert set(sent.values()) == {1}


async def test_a_pause_pressed_offline_holds_the_time_at_which_it_was_pressed(person: People) -> None:
    alice, bob = await person("alice"), await person("bob")
    tea = await alice.create("Tea", 5)
    await tea.share(bob.user)
    await expect(bob.bubble("Tea").state).to_have_text("running")
    await alice.context.set_offline(True)
    await alice.is_("waiting")
    await tea.press("Pause")
    held = await tea.clock.inner_text()
    # The others go on for some seconds.
    await expect(bob.bubble("Tea").clock).not_to_have_text(held)
    await alice.context.set_offline(False)
    await expect(bob.bubble("Tea").state).to_have_text("paused")
    for screen in (alice, bob):
        await expect(screen.bubble("Tea").clock).to_have_text(held)


async def test_when_somebody_was_quicker_the_page_says_so_and_shows_what_is(person: People) -> None:
    alice, bob = await person("alice"), await person("bob")
    tea = await alice.create("Tea", 5)
    await tea.share(bob.user)
    await expect(bob.bubble("Tea").state).to_have_text("running")
    await alice.context.set_offline(True)
    await alice.is_("waiting")
    await tea.press("Stop")
    await expect(tea.root).to_have_count(0)
    await bob.bubble("Tea").press("Pause")
    await expect(bob.bubble("Tea").waiting).to_be_empty()
    await alice.context.set_offline(False)
    await expect(alice.toast("Could not stop “Tea”: somebody else has changed it meanwhile.")).to_be_visible()
    await expect(alice.bubble("Tea").state).to_have_text("paused")
    await expect(bob.bubble("Tea").state).to_have_text("paused")


async def test_a_command_whose_answer_was_lost_is_sent_again_and_happens_once(open_screen: People) -> None:
    alice = await open_screen("alice")
    cut: list[str] = []
    cutting: list[asyncio.Future[None]] = []

    def relay(page: WebSocketRoute) -> None:
        server = page.connect_to_server()

        def from_server(frame: str | bytes) -> None:
            message = json.loads(frame)
            if message.get("status") == "processed" and message.get("timer") and not cut:
                cut.append(message["messageId"])  # it is committed, and its sender never learns of it
                cutting.append(asyncio.ensure_future(page.close(code=4408)))
                return
            page.send(frame)

        page.on_message(server.send)
        server.on_message(from_server)

    await alice.page.route_web_socket("**/ws*", relay)
    await alice.sign_in()
    tea = await alice.create("Tea", 5, run=False)
    await tea.press("Add 1 minute")
    await expect(tea.waiting).to_be_empty()
    await expect(tea.clock).to_have_text("6:00")
    assert [(key, count) for key, count in message_ids(alice).items() if count > 1] == [(cut[0], 2)]
    repeated = [frame for frame in alice.sent_commands() if frame["messageId"] == cut[0]]
    assert repeated[0] == repeated[1]


async def test_what_waits_survives_a_reload_of_the_page(person: People) -> None:
    alice = await person("alice")
    tea = await alice.create("Tea", 5, run=False)
    await expect(tea.waiting).to_be_empty()
    await alice.context.set_offline(True)
    await alice.is_("waiting")
    await tea.press("Add 1 minute")
    await alice.context.set_offline(False)
    await alice.page.reload()
    await alice.is_("connected")
    await expect(tea.clock).to_have_text("6:00")
    await expect(tea.waiting).to_be_empty()


async def test_a_restart_of_the_edge_is_a_pause_and_nothing_more(person: People, page_cluster: Cluster) -> None:
    alice, bob = await person("alice"), await person("bob")
    tea = await alice.create("Tea", 5, run=False)
    await tea.share(bob.user)
    edge = page_cluster.processes["edge"]
    assert await edge.stop() == 0
    for screen in (alice, bob):
        await screen.is_("waiting")
    await bob.bubble("Tea").press("Add 1 minute")
    await expect(bob.bubble("Tea").clock).to_have_text("6:00")
    await edge.start()
    for screen in (alice, bob):
        await expect(screen.page.locator("body")).to_have_attribute("data-connection", "connected", timeout=30_000)
        await expect(screen.bubble("Tea").clock).to_have_text("6:00")
    await tea.press("Start")
    await expect(bob.bubble("Tea").state).to_have_text("running")
