"""Code blocks of Markdown pages, in order, with what the page says of running them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(
    r"(?:<!-- not run: (?P<why>[^\n]*?) -->\n\n?)?^```(?P<language>[a-z]*)\n(?P<text>.*?)^```$", re.M | re.S
)


@dataclass(frozen=True)
class Block:
    """A fenced block. `why` is the reason for which a page says that it is not run: `<!-- not run: REASON -->` above it."""

    language: str
    text: str
    line: int
    why: str | None = None


def blocks(page: Path) -> list[Block]:
    text = page.read_text("utf-8")
    return [
        Block(match["language"], match["text"], text.count("\n", 0, match.start("language")) + 1, match["why"])
        for match in _BLOCK.finditer(text)
    ]


def commands(shell: str) -> list[str]:
    """The commands of a block of shell, one each: continued lines joined, comments left out."""
    joined = re.sub(r"\\\n\s*", " ", shell)
    lines = (re.sub(r"(^|\s+)#.*$", "", line).strip() for line in joined.splitlines())
    return [line for line in lines if line]
