"""Folders of images."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import BinaryIO

from frugan.data.sources.base import Files, stamp_of


class Folder(Files):
    """A folder, flat or nested. Links are followed, each real folder once."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "folder")
        files, seen = [], {path.resolve()}
        closed: list[OSError] = []
        for folder, subfolders, here in os.walk(path, onerror=closed.append, followlinks=True):
            at = Path(folder)
            fresh = {name: real for name in subfolders if (real := (at / name).resolve()) not in seen}
            seen |= set(fresh.values())
            subfolders[:] = sorted(fresh)
            files += [(at / name).relative_to(path).as_posix() for name in here]
        self._list(files)
        lost = {name for name in self.names if not (path / name).is_file()}
        self.unreadable = [(name, "a link to nothing, or no regular file") for name in sorted(lost)]
        self.unreadable += [
            (os.path.relpath(e.filename, path), f"a folder that cannot be read: {e.strerror}") for e in closed
        ]
        self.names = [name for name in self.names if name not in lost]

    def open(self, name: str) -> BinaryIO:
        return open(self.path / name, "rb")

    def has(self, name: str) -> bool:
        return (self.path / name).is_file()

    def size(self, name: str) -> int:
        return (self.path / name).stat().st_size

    def stamp(self) -> str:
        return stamp_of(self.path, *(self.path / name for name in self.names))

    def digest(self, index: int) -> bytes:
        with open(self.path / self.names[index], "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
