"""Headless Chromium of this system, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium of this system; of one module, since Playwright takes this thread's asyncio while it runs."""
    with launched() as opened:
        yield opened


@contextmanager
def launched(*arguments: str) -> Iterator[Any]:
    """The browser, started with arguments of its command line; one at a time. Skips the test where there is none."""
    playwright = pytest.importorskip("playwright.sync_api")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=found, args=["--no-sandbox", *arguments])
        yield opened
        opened.close()
