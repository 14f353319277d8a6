"""Headless Chromium of this system, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
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
        opened.new_page, opened.new_context = _patient(opened.new_page), _patient(opened.new_context)
        yield opened
        opened.close()


def _patient(make: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, whose pages and contexts wait as long as a busy machine needs."""

    def made(**options: Any) -> Any:
        new = make(**options)
        new.set_default_timeout(120_000)
        return new

    return made
