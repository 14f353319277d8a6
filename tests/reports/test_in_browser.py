"""The report in a real browser: nothing is loaded or refused, it fits narrow screens, and prints on A4."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import frugan


def test_the_report_in_a_browser(browser: Any, run: Path, tmp_path: Path) -> None:
    made = frugan.report(
        run, tmp_path / "out", samples=100, device="cpu", sections=("description", "artefacts", "statement")
    )
    page, wrong, asked = browser.new_page(viewport={"width": 1200, "height": 900}), [], []
    page.on("console", lambda m: wrong.append(m.text))
    page.on("pageerror", lambda e: wrong.append(str(e)))
    page.on("request", lambda r: asked.append(r.url))
    page.goto(made.page.as_uri())
    assert {url for url in asked if not url.startswith("data:")} == {made.page.as_uri()}
    assert page.locator("h1").inner_text() == run.name
    for width in (1200, 360):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for rows in page.locator(".rows:has(ol)").all():
            names, sheet = rows.locator("ol").bounding_box(), rows.locator("img").bounding_box()
            assert abs(names["height"] - sheet["height"]) < 2
            assert names["x"] + names["width"] < sheet["x"]
            for name in rows.locator("li").all():
                assert name.evaluate("e => e.scrollWidth <= e.clientWidth"), name.inner_text()
    assert page.locator(".rows li").all_inner_texts()[:3] == ["1.0", "0.8", "0.6"]
    assert min(cell.bounding_box()["width"] for cell in page.locator("td.long").all()) >= 13 * 15
    for image in page.locator("img").all():
        assert image.evaluate("i => i.naturalWidth") > 0
    line = page.locator("svg .line").first
    assert line.evaluate("e => getComputedStyle(e).stroke") not in ("none", "rgb(0, 0, 0)")
    page.set_viewport_size({"width": 690, "height": 900})  # A4 without its margins
    wide = "[...document.querySelectorAll('.wide')].filter(e => e.scrollWidth > e.clientWidth).length"
    assert page.evaluate(wide) == 0
    page.emulate_media(color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(22, 24, 28)"
    paper = page.pdf(prefer_css_page_size=True)
    boxes = re.findall(rb"/MediaBox\s*\[\s*0 0 ([\d.]+) ([\d.]+)\s*\]", paper)
    assert {(round(float(w)), round(float(h))) for w, h in boxes} == {(595, 842)}
    page.close()
    assert wrong == []


@pytest.mark.parametrize("name", ["a&b", "ümlaut"])
def test_names_of_folders(name: str, browser: Any, run: Path, tmp_path: Path) -> None:
    made = frugan.report(run, tmp_path / name, samples=100, device="cpu", sections=("statement",))
    page = browser.new_page()
    page.goto(made.page.as_uri())
    assert page.locator("section").count() == 1
    page.close()
