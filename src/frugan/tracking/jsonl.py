"""JSON lines that survive a kill at any moment: what was torn is repaired when the file is opened again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from frugan.files import parse_json, plain, write_text
from frugan.tracking.tracker import Record

LONGEST = 1 << 20
"""Bytes of a record; one takes some two thousand."""


def read_stats(path: str | Path) -> list[dict[str, Any]]:
    """The records of a JSON lines file, oldest first; a missing file has none.

    A line that is no record (the last one, where a kill cut it off) is skipped: a report must not stop a run. A record
    is a JSON object of at most `LONGEST` bytes, nested a few levels, whose kimg is a number where it has one.
    """
    if not Path(path).is_file():  # a pipe would be waited for
        return []
    with Path(path).open("rb") as file:
        return [record for line in _lines(file) if (record := _parsed(line)) is not None]


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of at most `LONGEST` bytes; of a longer one, never more than that is held."""
    whole = True
    while line := file.readline(LONGEST):
        ends = line.endswith(b"\n")
        if whole and (ends or len(line) < LONGEST):
            yield line
        whole = ends


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        record = parse_json(line)
    except ValueError:  # also bytes that are not UTF-8
        return None
    return record if isinstance(record, dict) and finite(record.get("kimg", 0)) is not None else None


def finite(value: Any, largest: float = 1e30) -> float | None:
    """A number that a report can compute with, or None: records on disk may hold anything."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= largest
    return value if number else None


class JsonLines:
    """Appends one JSON object a record to a file. What was torn by a kill is repaired when the file is opened again."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            self._rewrite(read_stats(self.path))

    def log(self, record: Record) -> None:
        line = json.dumps(plain(record), separators=(",", ":"), allow_nan=False)
        with self.path.open("a", encoding="utf-8") as file:  # opened each time, so that nothing waits in a buffer
            file.write(line + "\n")

    def truncate(self, after_kimg: float) -> None:
        """Drops records later than the checkpoint that training goes on from; they will be written again."""
        self._rewrite([r for r in read_stats(self.path) if (r.get("kimg") or 0) <= after_kimg])

    def close(self) -> None:
        pass

    def _rewrite(self, records: list[dict[str, Any]]) -> None:
        text = "".join(json.dumps(r, separators=(",", ":")) + "\n" for r in records)
        size = len(text.encode())
        there = self.path.is_file() and self.path.stat().st_size == size
        if not there or self.path.read_text("utf-8", "replace") != text:
            write_text(self.path, text)
