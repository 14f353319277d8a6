"""The built site, in a browser: no request to other hosts, narrow screens, search from disk, a live explorer in a page."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from docsite.links import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # exporting the explorer is a part of the build


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it, in strict mode."""
    out = tmp_path_factory.mktemp("site")
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if "onnxruntime-web" in built.stderr and "could not" in built.stderr:
        pytest.skip("onnxruntime-web is not at hand")
    assert built.returncode == 0, built.stderr
    return out


def pages_of(site: Path) -> list[Path]:
    return [page for page in sorted(site.rglob("*.html")) if page.name not in ("404.html", "sample.html")]


def test_every_page_within_two_clicks(site: Path) -> None:
    reached, ring = {site / "index.html"}, {site / "index.html"}
    for _ in range(2):
        ring = {
            Path(os.path.normpath(page.parent / target))
            for page in ring
            if page.suffix == ".html"
            for target in re.findall(r'href="([^"#:]+\.html)', page.read_text("utf-8"))
        } - reached
        reached |= ring
    assert set(pages_of(site)) <= reached


@pytest.mark.parametrize("width, scheme", [(1280, "light"), (380, "dark")])
def test_pages_open_from_disk(site: Path, browser: Any, width: int, scheme: str) -> None:
    page = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme).new_page()
    asked: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    for path in pages_of(site):
        page.goto(path.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{path.name} is wider than the screen"
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert errors == []


def test_search_from_disk(site: Path, browser: Any) -> None:
    page = browser.new_page()
    page.goto((site / "index.html").as_uri())
    page.fill("[data-md-component=search-query]", "memorisation")
    page.locator(".md-search-result__item").first.wait_for()
    assert "memorisation" in page.locator(".md-search-result__list").inner_text().lower()


def test_the_explorer_in_its_page(site: Path, browser: Any) -> None:
    page = browser.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((site / "tutorials" / "edit-and-animate.html").as_uri())
    page.locator("iframe.explorer").scroll_into_view_if_needed()
    explorer = page.frame_locator("iframe.explorer")
    explorer.locator("#stage canvas:not([aria-label='not made yet'])").wait_for()
    first = explorer.locator("#stage canvas").evaluate("canvas => canvas.toDataURL()")
    explorer.get_by_role("button", name="Next seed").click()
    explorer.locator("#stage canvas[aria-label*='seed 1']").wait_for()
    explorer.locator("body[aria-busy=false]").wait_for()
    assert explorer.locator("#stage canvas").evaluate("canvas => canvas.toDataURL()") != first
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
