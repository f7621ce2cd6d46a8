"""A browser for the tests of the page: Debian's Chromium, one at a time, with a running system behind the pages."""

from collections.abc import AsyncIterator, Awaitable, Callable
from importlib import resources
from typing import Any, TypeAlias

import pytest
from playwright.async_api import Browser

from tests.page.chromium import chromium
from tests.page.screens import Screen
from tests.system.cluster import Cluster

People: TypeAlias = Callable[..., Awaitable[Screen]]


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """See `chromium`."""
    async with chromium() as running:
        yield running


@pytest.fixture(scope="session")
async def page_cluster(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    """A system in development mode."""
    running = Cluster(tmp_path_factory.mktemp("page"), {"BUBBLE_DEV": "1", "BUBBLE_DRAIN_SECONDS": "1"})
    try:
        await running.start()
        yield running
    finally:
        await running.stop()
    assert running.crashes() == []


@pytest.fixture
async def open_screen(
    browser: Browser, page_cluster: Cluster, unique: Callable[[str], str]
) -> AsyncIterator[Callable[..., Awaitable[Screen]]]:
    """Opens screens of people whom no other test knows. However a test ends, the pages must have kept to their policy, asked
    no other host for anything, and thrown nothing.
    """
    base = f"http://127.0.0.1:{page_cluster.edge_port}"
    screens: list[Screen] = []

    async def make(user: str, **options: Any) -> Screen:
        screens.append(await Screen.open(browser, base, unique(user), **options))
        return screens[-1]

    yield make
    for screen in screens:
        await screen.context.close()
    host = base.removeprefix("http://")
    assert [fault for screen in screens for fault in screen.faults] == []
    assert [url for screen in screens for url in screen.requested if url.split("/")[2] != host] == []


@pytest.fixture
def person(open_screen: People) -> People:
    """Opens the page and signs somebody in."""

    async def enter(user: str, **options: Any) -> Screen:
        return await (await open_screen(user, **options)).sign_in()

    return enter


@pytest.fixture
def axe() -> str:
    """The source of axe-core, which judges how accessible a page is."""
    return resources.files("axe_playwright_python").joinpath("axe.min.js").read_text()
