"""Folders of images, and single files that hold several."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from frugan.data.sources.base import Files, stamp_of
from frugan.data.sources.parts import ZARR, Place, suffix_of


class Folder(Files):
    """A folder, flat or nested. Links are followed, each real folder once. A folder named .zarr counts as a file."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "folder")
        self._top = path
        files, seen = [], {path.resolve()}
        closed: list[OSError] = []
        for folder, subfolders, here in os.walk(path, onerror=closed.append, followlinks=True):
            at = Path(folder)
            stores = [name for name in subfolders if suffix_of(name) in ZARR]
            fresh = {name: real for name in subfolders if (real := (at / name).resolve()) not in seen}
            seen |= set(fresh.values())
            subfolders[:] = sorted(set(fresh) - set(stores))
            files += [(at / name).relative_to(path).as_posix() for name in [*here, *stores]]
        self._list(files)
        lost = {name for name in self.names if not self.has(name)}
        self.unreadable = [(name, "a link to nothing, or no regular file") for name in sorted(lost)]
        self.unreadable += [
            (os.path.relpath(e.filename, path), f"a folder that cannot be read: {e.strerror}") for e in closed
        ]
        self.names = [name for name in self.names if name not in lost]

    def open(self, name: str) -> BinaryIO:
        return open(self._top / name, "rb")

    def has(self, name: str) -> bool:
        path = self._top / name
        return path.is_file() or (suffix_of(name) in ZARR and path.is_dir())

    def size(self, name: str) -> int:
        return (self._top / name).stat().st_size

    def stamp(self) -> str:
        places = [place for name in self.files() for place in self._within(name)]
        return stamp_of(self.path, *places, key=self._taken.key())

    def file_digest(self, file: str) -> bytes:
        digest = hashlib.sha256()
        for place in self._within(file):
            with open(place, "rb") as content:
                found = hashlib.file_digest(content, "sha256").digest()
            if place == self._top / file:
                return found
            digest.update(os.fsencode(place.relative_to(self._top)) + found)
        return digest.digest()

    def _place(self, file: str) -> Place:
        return Place(lambda: self.open(file), self._top / file)

    def _within(self, name: str) -> Iterator[Path]:
        """The file, or all files of a folder that counts as one."""
        place = self._top / name
        if not place.is_dir():
            yield place
            return
        for folder, subfolders, here in os.walk(place):
            subfolders.sort()
            yield from (Path(folder) / file for file in sorted(here))


class SingleFile(Folder):
    """A file that holds several images; other files beside it do not count."""

    def __init__(self, path: Path) -> None:
        Files.__init__(self, path, suffix_of(path.name)[1:] or "file")
        self._top = path.parent
        self.names = [path.name]
