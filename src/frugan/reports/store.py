"""Results of a report's sections on disk, each under the hash of all that it depends on, so that a killed report resumes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from frugan.files import plain, read_json, write_text
from frugan.reports.blocks import Block

FORMAT = 2
MAX_SECTION = 128 << 20
"""Bytes of a stored section, its images included."""


@dataclass
class Findings:
    """The result of a section. `numbers` is what report.json has of it, `cards` the evaluation cards behind them."""

    blocks: list[Block] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)
    cards: list[dict[str, Any]] = field(default_factory=list)
    empty: str = ""
    """Why there is nothing in it, in a sentence."""
    seconds: float = 0.0


class Store:
    """A folder with a file for each section."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, name: str, key: str) -> Findings | None:
        """The results kept under that key, or None: never computed, computed otherwise, or damaged."""
        try:
            value = read_json(self._file(name), MAX_SECTION)
            if not isinstance(value, dict) or value.pop("key", None) != key:
                return None
            return Findings(**value)
        except (OSError, ValueError, TypeError):
            return None

    def write(self, name: str, key: str, found: Findings) -> None:
        """Keeps findings, in the place of those under another key.

        Args:
            name: of the section.
            key: the hash of all that they depend on.
            found: the findings.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(plain({"key": key, **asdict(found)}), ensure_ascii=False, allow_nan=False)
        write_text(self._file(name), text)

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.json"


def digest(*parts: Any) -> str:
    """SHA-256 of values that JSON can hold."""
    return hashlib.sha256(json.dumps(plain([FORMAT, *parts]), sort_keys=True).encode()).hexdigest()
