"""Pages of the site that are not files of docs/: made from the program, or files of the repository's root."""

from __future__ import annotations

from docsite import command_line
from docsite.links import ROOT, ROOT_PAGES, relinked

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
