"""Links of the documentation: files and anchors that exist, no page without a way to it, every page within two clicks."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from pymdownx.slugs import slugify

from docsite import pages
from docsite.links import DOCS, ROOT, ROOT_PAGES, is_relative, outside_code, targets
from docsite.pages import completed, generated, listed

MADE = {DOCS / place: text for place, text in generated().items()} | {DOCS / "explorer" / "sample.html": ""}
"""Pages that the build makes, and their text."""
PAGES = [*sorted(DOCS.rglob("*.md")), ROOT / "README.md", *(ROOT / name for name in ROOT_PAGES)]


def text_of(path: Path) -> str:
    return MADE[path] if path in MADE else path.read_text("utf-8")


def anchors(markdown: str) -> set[str]:
    """Anchors of a page: its headings as GitHub and the site spell them, the second of a name with "_1"."""
    spell, seen, found = slugify(case="lower"), Counter(), set()
    prose = re.sub(r"^ *```.*?^ *``` *$", "", markdown, flags=re.M | re.S)
    for heading in re.findall(r"^#{1,6} +(.+?) *$", prose, re.M):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading.replace("`", ""))
        name = spell(plain, "-")
        found.add(f"{name}_{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return found


def nav() -> list[Any]:
    """The navigation of mkdocs.yml."""

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)
    return yaml.load((ROOT / "mkdocs.yml").read_text("utf-8"), Loader)["nav"]  # a safe loader, which ignores Python


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for target in targets(page.read_text("utf-8")):
        if target.startswith("#"):
            assert target[1:] in anchors(page.read_text("utf-8")), target
        if not is_relative(target):
            continue
        place, _, anchor = target.partition("#")
        there = Path(os.path.normpath(page.parent / place))
        assert there.exists() or there in MADE, f"{target}: no such file"
        assert not anchor or anchor in anchors(text_of(there)), f"{target}: no such heading"


def test_every_page_is_in_the_navigation() -> None:
    there = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
    assert listed(completed(nav())) == there | set(generated())


def test_a_page_without_a_place_ends_its_section(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "DOCS", tmp_path)
    (tmp_path / "how-to").mkdir()
    for name in ("new", "old"):
        (tmp_path / "how-to" / f"{name}.md").touch()
    assert completed([{"How-to guides": ["how-to/old.md"]}]) == [{"How-to guides": ["how-to/old.md", "how-to/new.md"]}]


def test_every_image_is_used() -> None:
    used = {os.path.normpath(page.parent / target) for page in PAGES for target in targets(page.read_text("utf-8"))}
    images = {str(image) for image in (DOCS / "images").rglob("*") if image.is_file()}
    in_readme = re.findall(r"docs/images/[\w./-]+", (ROOT / "README.md").read_text("utf-8"))
    assert images <= used | {str(ROOT / name) for name in in_readme}


def test_every_page_is_linked_from_a_text() -> None:
    """Beside the navigation: from the text of another page, but for the pages that only the navigation orders."""
    linked = {
        Path(os.path.normpath(page.parent / target.partition("#")[0]))
        for page in DOCS.rglob("*.md")
        for target in targets(page.read_text("utf-8"))
        if is_relative(target)
    }
    all_pages = {page for page in DOCS.rglob("*.md") if page != DOCS / "index.md"}
    assert {page.relative_to(DOCS).as_posix() for page in all_pages - linked} == set()


def test_prose_is_not_code() -> None:
    assert outside_code("a `[b](c)` d\n```\n[e](f)\n```\n") == "a  d\n\n"
