"""Words that the project does not use for what has a name in the field."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NEVER = {
    r"pictures?": "image",
    r"averaged generator|generator's average": "EMA generator",
    r"mend(s|ed)?": "fix",
    r"planted": "simulated",
    r"pretended": "fake",
    r"passed over": "skipped",
    r"dealt out|shared out": "distributed, divided",
    r"sample sheets?": "sample grid",
    r"honest limits": "limitations",
    r"taken over": "transferred",
}
ALLOWED = {("src/frugan/data/labels/tables.py", "picture"), ("src/frugan/latent/text/models.py", "picture")}
"""A column of a user's table may be called so, and a prompt may hold it."""


def texts() -> list[Path]:
    found = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    kinds = (".py", ".md", ".j2", ".js", ".mjs", ".html")
    return [ROOT / name for name in found if name.endswith(kinds) and name != "tests/test_words.py"]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="only in a checkout")
def test_words_that_are_never_right() -> None:
    found = []
    for path in texts():
        name = path.relative_to(ROOT).as_posix()
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            for pattern, instead in NEVER.items():
                match = re.search(rf"\b({pattern})\b", line, re.IGNORECASE)
                if match and not any(name == where and match[0] == word for where, word in ALLOWED):
                    found.append(f"{name}:{number}: {match[0]} → {instead}")
    assert found == []
