"""Pages of the site that are not files of docs/: made from the program, or files of the repository's root."""

from __future__ import annotations

from typing import Any

from docsite import command_line
from docsite.links import DOCS, ROOT, ROOT_PAGES, relinked

SECTIONS = {
    "getting-started": "Getting started",
    "tutorials": "Tutorials",
    "how-to": "How-to guides",
    "reference": "Reference",
    "explanation": "Explanation",
    "project": "Project",
}
"""Section of the navigation, by folder."""

CITATION = """# Citation

If you use frugan, cite it, and the paper whose method it implements. GitHub's *Cite this repository* gives this as BibTeX.

```yaml
{text}```
"""


def generated() -> dict[str, str]:
    """The text of each page, by its place in docs/."""
    pages = {"reference/command-line.md": command_line.page()}
    for name, page in ROOT_PAGES.items():
        pages[page] = relinked((ROOT / name).read_text("utf-8"), ROOT / name, page)
    pages["project/citation.md"] = CITATION.format(text=(ROOT / "CITATION.cff").read_text("utf-8"))
    return pages


def listed(nav: Any) -> set[str]:
    """The pages of a navigation as mkdocs.yml has it."""
    if isinstance(nav, str):
        return {nav}
    return set().union(*(listed(child) for child in (nav.values() if isinstance(nav, dict) else nav)))


def completed(nav: list[Any]) -> list[Any]:
    """The navigation with every page of docs/: one that mkdocs.yml does not order stands at the end of its folder's section."""
    sections = {name: pages for entry in nav if isinstance(entry, dict) for name, pages in entry.items()}
    there = (page.relative_to(DOCS).as_posix() for page in sorted(DOCS.rglob("*.md")))
    for page in sorted(set(there) - listed(nav)):
        sections[SECTIONS[page.split("/")[0]]].append(page)
    return nav
