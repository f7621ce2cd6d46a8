"""The machine's own Chromium (Debian's package); nothing is downloaded."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Browser, async_playwright, expect

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")

expect.set_options(timeout=10_000)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Chromium, without a window. Skips where there is none."""
    if CHROMIUM is None:
        pytest.skip("browser tests need Chromium (Debian's package `chromium`, or its path in CHROMIUM)")
    async with async_playwright() as playwright:
        # Without a graphics card, imitating one costs a quarter of the time.
        running = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--disable-gpu"])
        yield running
        await running.close()
