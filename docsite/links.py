"""Links of Markdown pages: where they lead from, and where the same text stands on the site."""

from __future__ import annotations

import os
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
ROOT_PAGES = {
    "DESIGN.md": "project/architecture.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
    "SECURITY.md": "project/security-policy.md",
    "CODE_OF_CONDUCT.md": "project/code-of-conduct.md",
    "src/frugan/sample/README.md": "reference/sample-generator.md",
}
"""Files outside docs/ that are pages of the site, by their place there."""
ROOT_IMAGES = {"src/frugan/sample/samples.png": "reference/samples.png"}
"""Images of such pages, likewise."""

_CODE = re.compile(r"(^ *(?:```|~~~).*?^ *(?:```|~~~) *$|`[^`\n]+`)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^()\s]+)\)")


def is_relative(target: str) -> bool:
    return not re.match(r"[a-z][a-z+.-]*:|#|/", target)


def outside_code(markdown: str) -> str:
    """The text without its code: of a page that shows links, those that lead somewhere."""
    return _CODE.sub("", markdown)


def targets(markdown: str) -> list[str]:
    """Where links and images of a page lead, as written, those of its HTML too."""
    text = outside_code(markdown)
    html = re.findall(r"(?:src|href)=\"([^\"]+)\"", text)
    return [match[3] for match in _LINK.finditer(text)] + html


def relinked(markdown: str, source: Path, page: str) -> str:
    """The text of `source` (a file of the repository) as the site's page `page`: links lead to pages; a link to a file that
    the site does not have becomes its text."""

    def one(match: re.Match[str]) -> str:
        mark, text, target = match.groups()
        if not is_relative(target):
            return match[0]
        place, hash_, anchor = target.partition("#")
        path = Path(os.path.normpath(source.parent / place))
        name = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else ""
        if name in ROOT_PAGES or name in ROOT_IMAGES:
            there = ROOT_PAGES.get(name) or ROOT_IMAGES[name]
        elif path.is_relative_to(DOCS):
            there = path.relative_to(DOCS).as_posix()
        else:
            return text
        return f"{mark}[{text}]({os.path.relpath(there, Path(page).parent)}{hash_}{anchor})"

    pieces = _CODE.split(markdown)
    return "".join(piece if number % 2 else _LINK.sub(one, piece) for number, piece in enumerate(pieces))
