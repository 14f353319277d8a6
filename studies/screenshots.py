"""Screenshots of the docs: the explorer, the board and a run's page, as headless Chromium shows them.

    python studies/screenshots.py                                          # the explorer, of the sample generator
    python studies/screenshots.py --runs runs/a runs/b                     # the board of two runs and the page of the first, too
    python studies/screenshots.py --network runs/a --only explorer-copies  # the nearest training images of a run's image
    python studies/screenshots.py --text-model captions:captions           # an edit by words, too

Writes PNG files of 256 colours into docs/images, over those that are there. Needs playwright and a Chromium.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

SHOWN = "#stage canvas:not([aria-label='not made yet'])"
PATIENCE = 300_000
"""Milliseconds that a page is waited for."""


@contextmanager
def served(*arguments: object) -> Iterator[str]:
    """The address of a page that `frugan` serves meanwhile."""
    command = [sys.executable, "-m", "frugan", *map(str, arguments), "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout
            yield next(line.strip() for line in server.stdout if line.startswith("http"))
        finally:
            server.terminate()


def settle(page: Any) -> None:
    """Waits until the explorer has nothing left to compute."""
    page.wait_for_selector(SHOWN, timeout=PATIENCE)
    page.wait_for_timeout(300)
    page.wait_for_selector("body[aria-busy=false]", timeout=PATIENCE)


def panel(page: Any, title: str) -> Any:
    """A panel of the explorer, opened."""
    found = page.locator("#panels > details", has=page.get_by_role("heading", name=title, exact=True))
    found.evaluate("panel => { panel.open = true }")
    return found


def copies(page: Any) -> bytes:
    """The panel of the nearest training images."""
    found = panel(page, "Is it a copy?")
    found.get_by_role("button").click()
    found.locator("figure").first.wait_for(timeout=PATIENCE)
    return found.screenshot()


def words(page: Any, text: str) -> bytes:
    """The page after an edit by words."""
    found = panel(page, "Words")
    found.get_by_role("textbox").fill(text)
    found.get_by_role("button", name="Edit by words").click()
    page.locator("#status").filter(has_text="has a slider").wait_for(timeout=PATIENCE)
    settle(page)
    page.evaluate("scrollTo(0, 0)")
    found.evaluate("panel => panel.parentElement.prepend(panel)")
    return page.screenshot()


def save(content: bytes, file: Path) -> None:
    """As a PNG of 256 colours."""
    with Image.open(io.BytesIO(content)) as image:
        image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(file, optimize=True)
    print(file, f"{file.stat().st_size / 1000:.0f} kB", flush=True)


def main() -> None:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="sample")
    parser.add_argument("--runs", type=Path, nargs="+", default=[])
    parser.add_argument("--text-model")
    parser.add_argument("--text", default="top ears pointy", help="the edit by words")
    parser.add_argument("--only", nargs="+", help="names of the images to make")
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    given = parser.parse_args()
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    text_model = ("--text-model", given.text_model) if given.text_model else ()

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])

        def shoot(
            name: str, address: str, size: tuple[int, int], take: Callable[[Any], bytes], dark: bool = False
        ) -> None:
            if given.only and name not in given.only:
                return
            width, height = size
            scheme = "dark" if dark else "light"
            page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
            page.goto(address)
            if "explorer" in name:
                settle(page)
            save(take(page), given.out / f"{name}.png")
            page.close()

        with served("explore", given.network, *text_model) as address:
            shoot("explorer", address, (1100, 800), lambda page: page.screenshot())
            shoot("explorer-narrow", address, (380, 820), lambda page: page.screenshot(), dark=True)
            if given.text_model:
                shoot("explorer-words", address, (1100, 800), lambda page: words(page, given.text))
            if (Path(given.network) / "config.yaml").is_file():
                shoot("explorer-copies", address, (1100, 800), copies)
        if given.runs:
            with served("board", *given.runs) as address:

                def whole(page: Any) -> bytes:
                    page.locator("#curves canvas").first.wait_for(timeout=PATIENCE)
                    page.wait_for_load_state("networkidle")
                    return page.screenshot()

                shoot("board", address, (960, 675), whole)
            page_of_run = (given.runs[0] / "index.html").resolve().as_uri()
            shoot("run-page", page_of_run, (1200, 1230), lambda page: page.screenshot())
        browser.close()


if __name__ == "__main__":
    main()
