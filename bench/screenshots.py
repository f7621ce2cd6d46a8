"""The pictures of the page in docs/: `make screenshots`. Needs Chromium (Debian's package, or its path in CHROMIUM).

Nothing in them is made up: the whole system is started, and Ann, Ben and Eva use it.
"""

import argparse
import asyncio
import base64
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Page, async_playwright, expect

from bench.system import System

MOST_BYTES = 150_000
"""Of a picture: it is looked at in a README."""

_DOCS = Path(__file__).parents[1] / "docs"
_PHONE = {"width": 390, "height": 844}
_DESKTOP = {"width": 1040, "height": 844}
_QUALITIES = (90, 80, 70, 55)
_SETTLED = 1.2  # seconds until what moves has arrived, and toasts that are not wanted are gone by hand


async def _person(browser: Browser, base: str, user: str, **options: Any) -> Page:
    context = await browser.new_context(device_scale_factor=2, permissions=["notifications"], **options)
    page = await context.new_page()
    await page.goto(f"{base}/#user={user}")
    await expect(page.locator("body")).to_have_attribute("data-connection", "connected")
    return page


async def _create(page: Page, name: str, minutes: float, share_with: str = "") -> None:
    await page.get_by_label("Name", exact=True).fill(name)
    await page.locator("#create-minutes").fill(str(minutes))
    await page.get_by_role("button", name="Start", exact=True).first.click()
    bubble = page.get_by_role("listitem", name=name, exact=True)
    await expect(bubble.locator(".waiting")).to_be_empty()
    if share_with:
        await bubble.locator(".people-button").click()
        await bubble.get_by_label("User to share with").fill(share_with)
        await bubble.get_by_role("button", name="Share", exact=True).click()
        await expect(bubble.locator(".person-name").filter(has_text=share_with)).to_be_visible()
        await bubble.locator(".people-button").click()


async def _press(page: Page, name: str, button: str) -> None:
    await page.get_by_role("listitem", name=name, exact=True).get_by_role("button", name=button, exact=True).click()


async def _picture(page: Page, *, quality: int = 90, kind: str = "webp") -> bytes:
    session = await page.context.new_cdp_session(page)
    answer = await session.send("Page.captureScreenshot", {"format": kind, "quality": quality})
    return base64.b64decode(answer["data"])


async def _save(page: Page, name: str, png_into: Path | None) -> None:
    for quality in _QUALITIES:
        picture = await _picture(page, quality=quality)
        if len(picture) <= MOST_BYTES:
            break
    else:
        raise RuntimeError(f"{name} has {len(picture)} bytes, and may have {MOST_BYTES}")
    (_DOCS / f"{name}.webp").write_bytes(picture)
    print(f"docs/{name}.webp: {len(picture)} bytes at quality {quality}")
    if png_into is not None:
        (png_into / f"{name}.png").write_bytes(await _picture(page, kind="png"))


async def _clocks(pages: Sequence[Page]) -> list[str]:
    return [
        await page.get_by_role("listitem", name="Tea", exact=True).get_by_role("timer").inner_text() for page in pages
    ]


async def _side_by_side(browser: Browser, *pages: Page) -> Page:
    """A page that shows what other pages show now."""
    while True:  # a picture takes a while: only those count that were taken within one second
        before = await _clocks(pages)
        pictures = [base64.b64encode(await _picture(page, kind="png")).decode() for page in pages]
        if await _clocks(pages) == before:
            break
    context = await browser.new_context(viewport={"width": 1520, "height": 892})
    page = await context.new_page()
    images = "".join(f'<img src="data:image/png;base64,{picture}">' for picture in pictures)
    await page.set_content(
        "<style>body{margin:0;padding:24px;display:flex;gap:24px;justify-content:center;background:#8b93ad}"
        "img{height:844px;border-radius:24px;box-shadow:0 8px 30px #0006}</style>" + images
    )
    return page


async def _play(browser: Browser, base: str, png_into: Path | None) -> None:
    ann = await _person(browser, base, "Ann", viewport=_DESKTOP, color_scheme="light")
    ben = await _person(browser, base, "Ben", viewport=_PHONE, color_scheme="dark")
    eva = await _person(browser, base, "Eva", viewport=_PHONE, color_scheme="light")
    await _create(ann, "Bread", 25, "Ben")
    await _create(ben, "Noodles", 4, "Ann")
    await _create(ann, "Tea", 3, "Ben")
    await _create(eva, "Yoga", 5, "Ann")
    await _create(eva, "Egg", 2)
    await _press(ann, "Bread", "Pause")
    await ann.get_by_role("listitem", name="Tea", exact=True).locator(".people-button").click()
    await ann.get_by_role("button", name="Tell me when a bubble is done").click()
    await asyncio.sleep(75)  # so that bubbles have drained
    await _press(ben, "Tea", "Add 1 minute")
    await expect(ann.locator(".toast", has_text="by Ben")).to_be_visible()
    for page in (ann, ben, eva):
        await page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    await asyncio.sleep(_SETTLED)
    await _save(await _side_by_side(browser, ann, ben), "page-two", png_into)
    await ben.evaluate("scrollTo(0, 205)")
    await _save(ben, "page-phone-dark", png_into)
    await _save(eva, "page-phone-light", png_into)


async def main(options: argparse.Namespace) -> None:
    """Takes all pictures."""
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if chromium is None:
        sys.exit("Pictures need Chromium: Debian's package `chromium`, or its path in CHROMIUM")
    with tempfile.TemporaryDirectory() as directory:
        async with System(Path(directory), BUBBLE_DEV="1") as system, async_playwright() as playwright:
            edge = await system.edge("edge")
            browser = await playwright.chromium.launch(executable_path=chromium)
            await _play(browser, f"http://127.0.0.1:{edge.port}", options.png_into)
            await browser.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--png-into", type=Path, help="a directory for the same pictures as PNG")
    asyncio.run(main(parser.parse_args()))
