"""The run's page in a real browser: images enlarged pixel for pixel, equal axes, checkpoints with their commands."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np

from frugan.files import write_json
from frugan.images import save_image
from frugan.metrics import EvaluationCard
from frugan.tracking import Page
from tests.tracking.report.test_page import fill


def test_the_page_in_a_browser(browser: Any, tmp_path: Path) -> None:
    home = tmp_path / "my <b>run"
    fill(home)
    for kimg, metrics in ((10, {}), (20.5, {"kid": 0.012345, "fid": 30.2})):
        folder = home / "checkpoints" / f"checkpoint-{kimg:010.3f}"
        folder.mkdir(parents=True)
        write_json(folder / "training.json", {"images": int(1000 * kimg), "metrics": metrics})
    write_json(home / "best.json", {"checkpoint": "checkpoint-000020.500"})
    for name in ("a", "one", "z"):  # the pairs are seen whether or not their evaluation is the last
        EvaluationCard({"memorisation": 0.0}, {"samples": 60}).save(home / "evaluations" / f"{name}.json")
    save_image(np.zeros((16, 48, 3), np.uint8), home / "evaluations" / "one.nearest.png")
    file = Page(home).write()
    page, wrong = browser.new_page(), []
    page.on("console", lambda m: wrong.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: wrong.append(str(e)))
    page.goto(file.as_uri())
    rows = [row.inner_text() for row in page.locator("details", has_text="Checkpoints").locator("tr").all()]
    assert [row.split("\t")[0] for row in rows] == ["20.5 kimg, the best", "10 kimg"]
    assert "kid 0.01235, fid 30.2" in rows[0]
    assert shlex.split(rows[0].split("\t")[2])[-1] == str(home / "checkpoints" / "checkpoint-000020.500")
    page.locator("#sample-link").click()
    dialog = page.locator("dialog")
    assert dialog.is_visible()
    large = dialog.locator("img")
    page.wait_for_timeout(200)
    before = large.bounding_box()["width"]
    natural = large.evaluate("i => i.naturalWidth")
    assert before % natural == 0
    assert large.evaluate("i => getComputedStyle(i).imageRendering") == "pixelated"
    dialog.get_by_label("smaller").click()
    assert large.bounding_box()["width"] < before
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    nearest = page.locator(".nearest img")
    nearest.scroll_into_view_if_needed()
    page.locator(".nearest img.enlarged").wait_for()
    assert nearest.bounding_box()["width"] > 10 * 48
    nearest.click()
    assert dialog.is_visible()
    assert large.get_attribute("alt") == "Samples beside their nearest training images"
    page.keyboard.press("Escape")
    page.set_viewport_size({"width": 380, "height": 800})
    cell = page.locator("details", has_text="Checkpoints").get_by_role("cell", name="no metric")
    lines = "c => { const r = document.createRange(); r.selectNodeContents(c); return r.getClientRects().length }"
    assert cell.evaluate(lines) <= 2  # words are not broken
    page.close()
    assert wrong == []
