"""What the build does to the HTML of a page."""

from __future__ import annotations

import re

from docsite.hooks import on_page_content


def test_options_are_not_broken_at_their_hyphens() -> None:
    page = '<p>a --b</p><code>run x--y --seeds 0-63 -n</code> <code><a href="#--c"></a><span>--no-mirror</span></code>'
    shown = on_page_content(page)
    assert re.findall(r'<span class="option">(.*?)</span>', shown) == ["--seeds", "--no-mirror"]
    assert re.sub(r'<span class="option">(.*?)</span>', r"\1", shown) == page, "nothing else changes"


def test_images_are_loaded_when_they_are_near() -> None:
    shown = on_page_content('<img src="a.png"> <img loading="eager" src="b.png">')
    assert shown == '<img loading="lazy" src="a.png"> <img loading="eager" src="b.png">'
