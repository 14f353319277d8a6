"""Sources of images: a folder, a zip, a tar, an array file. Everything else sees a `Source`.

Hidden files and those that operating systems leave behind are no images; images that frugan itself wrote are skipped and named.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections import Counter
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

from frugan.checks import beside
from frugan.data.decode import FORMATS, Header, read_header, read_pixels
from frugan.data.sources.own import INDEX, RUN_CONFIG, OwnFiles, own_files
from frugan.errors import FruganError
from frugan.files import read_bytes

SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
LARGEST_TEXT = 1 << 26  # bytes of a table of labels: some two million rows
_LITTER = ("__macosx", "thumbs.db", "desktop.ini")


class Source(Protocol):
    """Images by name. `names` are sorted, relative and "/"-separated; an image is asked for by its place there."""

    path: Path
    kind: str
    names: list[str]
    unreadable: list[tuple[str, str]]  # (name, reason): known to be lost before any decoding
    ignored: Counter[str]  # suffixes of files that are no images
    own: OwnFiles  # images that frugan itself wrote, which are not in `names`
    alpha: bool  # whether a second or fourth channel is opacity

    def stamp(self) -> str:
        """Changes when anything may have changed; costs no reading."""
        ...

    def digest(self, index: int) -> bytes:
        """A hash of the stored content."""
        ...

    def header(self, index: int) -> Header: ...
    def pixels(self, index: int) -> np.ndarray:
        """uint8 or uint16 `[H, W, C]`. Raises anything at all where the image is broken."""
        ...

    def text(self, name: str) -> str | None:
        """A text file at the top (or at the top of the only folder), such as dataset.json or labels.csv; else None."""
        ...

    def places(self, name: str) -> list[str]:
        """All files of that name (in any case) for `text`, the uppermost first: one at the top stands for all."""
        ...

    def stored_labels(self) -> np.ndarray | None:
        """Labels kept in the array file or tar itself: `[N]` (numbers or words) or `[N, K]`."""
        ...


class Files(ABC):
    """What folder and zip share: encoded images behind names."""

    alpha = True

    def __init__(self, path: Path, kind: str) -> None:
        self.path, self.kind = path, kind
        self.names: list[str] = []
        self.unreadable: list[tuple[str, str]] = []
        self.ignored: Counter[str] = Counter()
        self.own = OwnFiles()
        self._markers: list[str] = []  # files that may tell what a folder is
        self._others: list[str] = []

    def _list(self, files: list[str]) -> None:
        """Sorts files into images and others; hidden files and what operating systems leave count as neither."""
        for file in files:
            parts = file.split("/")
            if any(part.startswith(".") or part.lower() in _LITTER for part in parts):
                continue
            if file.lower().endswith(SUFFIXES):
                self.names.append(file)
            else:
                self.ignored[os.path.splitext(file)[1].lower()] += 1
                self._others.append(file)
                if parts[-1] in (RUN_CONFIG, INDEX):
                    self._markers.append(file)
        self.names.sort()

    def leave_out_own(self, use_generated: bool) -> None:
        """Moves images that frugan wrote from `names` to `own`."""
        self.own = own_files(self.names, self._markers, self.head, use_generated=use_generated)
        skipped = set(self.own.names)
        self.names = [name for name in self.names if name not in skipped]

    @abstractmethod
    def open(self, name: str) -> BinaryIO: ...

    def open_head(self, name: str) -> AbstractContextManager[BinaryIO]:
        """As `open`, where only the beginning is to be read."""
        return self.open(name)

    def head(self, name: str, size: int) -> bytes:
        """The first bytes of a file, at most `size`."""
        with self.open_head(name) as file:
            return file.read(size)

    @abstractmethod
    def has(self, name: str) -> bool: ...

    @abstractmethod
    def size(self, name: str) -> int:
        """Bytes of a file, unpacked."""

    def header(self, index: int) -> Header:
        name = self.names[index]
        if self.size(name) == 0:
            raise FruganError("an empty file")
        with self.open_head(name) as file:
            return read_header(file)

    def pixels(self, index: int) -> np.ndarray:
        with self.open(self.names[index]) as file:
            return read_pixels(file)

    def text(self, name: str) -> str | None:
        tops = {image.split("/")[0] for image in self.names}
        places = [name, f"{next(iter(tops))}/{name}"] if len(tops) == 1 else [name]
        for place in filter(self.has, places):
            where, size = f"{self.path}/{place}", self.size(place)
            if size > LARGEST_TEXT:
                raise FruganError(
                    f"{where} holds {size:,} bytes, the limit is {LARGEST_TEXT:,}; is it a table of labels?"
                )
            try:
                with self.open(place) as file:
                    content = file.read()
            except (OSError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
                raise FruganError(f"{where} cannot be read ({error}); fix it or remove it") from error
            return as_text(content, where)
        return None

    def places(self, name: str) -> list[str]:
        found = sorted(file for file in self._others if file.rpartition("/")[2].lower() == name.lower())
        return [file for file in found if "/" not in file] or found

    def stored_labels(self) -> np.ndarray | None:
        return None


def as_text(content: bytes, where: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FruganError(f"{where} is not UTF-8 text ({error}); save it as UTF-8") from error


def stamp_of(top: Path, *rest: Path) -> str:
    digest = hashlib.sha256(os.fsencode(top.resolve()))
    for path in rest or (top,):
        stat = path.stat()
        digest.update(
            os.fsencode(path) + f"\0{stat.st_size}\0{stat.st_mtime_ns}\0{stat.st_ctime_ns}\0{stat.st_ino}\n".encode()
        )
    return digest.hexdigest()


def read_text(path: Path) -> str:
    """A UTF-8 text file given by the user. Raises `FruganError` where there is none."""
    if not path.is_file():
        raise FruganError(f"there is no file {path}{beside(path)}; check the path")
    try:
        return as_text(read_bytes(path, LARGEST_TEXT), str(path))
    except FruganError:
        raise
    except ValueError as error:
        raise FruganError(f"{path} cannot be read: {error}; is it a table of labels?") from error
