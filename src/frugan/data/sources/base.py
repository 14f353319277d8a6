"""Sources of images: a folder, a zip, a tar, an array file. Everything else sees a `Source`.

Hidden files and those that operating systems leave behind are no images; images that frugan itself wrote are skipped and named.
"""

from __future__ import annotations

import hashlib
import os
import threading
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections import Counter
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from frugan.checks import beside
from frugan.data.decode import FORMATS, Header, read_header, read_pixels
from frugan.data.sources.opening import open_parts
from frugan.data.sources.own import INDEX, RUN_CONFIG, OwnFiles, own_files
from frugan.data.sources.parts import (
    MOST,
    SET_SUFFIXES,
    NoImages,
    OpenParts,
    Parts,
    Place,
    Taken,
    file_of,
    part_name,
    suffix_of,
)
from frugan.data.workers import in_threads
from frugan.errors import FruganError, fault
from frugan.files import read_bytes

IMAGE_SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
SUFFIXES = (*IMAGE_SUFFIXES, *SET_SUFFIXES)
LARGEST_TEXT = 1 << 26  # bytes of a table of labels: some two million rows
_LITTER = ("__macosx", "thumbs.db", "desktop.ini")
_DICOM = slice(128, 132), b"DICM"


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
        """Labels kept in the array file or tar itself: `[N]` (numbers or words) or `[N, K]`; of type object where some are
        missing (None) or of another kind."""
        ...


class Derived:
    """Part of a `Source` that is made from another one: its texts and labels are those of `source`."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.path: Path = source.path
        self.ignored: Counter[str] = source.ignored
        self.own: OwnFiles = source.own

    def text(self, name: str) -> str | None:
        return self.source.text(name)

    def places(self, name: str) -> list[str]:
        return self.source.places(name)

    def stored_labels(self) -> np.ndarray | None:
        return self.source.stored_labels()


class Files(ABC):
    """The common part of folder and archives: encoded images by name, some in files that hold several."""

    alpha = True

    def __init__(self, path: Path, kind: str) -> None:
        self.path, self.kind = path, kind
        self.names: list[str] = []
        self.unreadable: list[tuple[str, str]] = []
        self.ignored: Counter[str] = Counter()
        self.own = OwnFiles()
        self.no_images = "it is empty"  # why a file that could hold several images holds none
        self._markers: list[str] = []  # files that may tell what a folder is
        self._others: list[str] = []
        self._taken = Taken()
        self._several: set[str] = set()  # files of several images
        self._open_parts = OpenParts()
        self._digests: dict[str, bytes] = {}
        self._digesting = threading.Lock()

    def _list(self, files: list[str]) -> None:
        """Sorts files into images and others; hidden files and what operating systems leave count as neither."""
        for file in files:
            parts = file.split("/")
            if any(part.startswith(".") or part.lower() in _LITTER for part in parts):
                continue
            if file.lower().endswith(SUFFIXES) or self._is_dicom(file):
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

    def _is_dicom(self, file: str) -> bool:
        """Scanners write files without a suffix, or with the end of a number for one."""
        suffix = suffix_of(file)
        if suffix.strip(".0123456789") or file.rpartition("/")[2].upper() == "DICOMDIR":
            return False
        place, mark = _DICOM
        try:
            return self.head(file, place.stop)[place] == mark
        except Exception:  # says nothing of itself
            return False

    def take(self, taken: Taken) -> None:
        """Puts images in the place of the files that hold several of them, and tells those that cannot be opened."""
        self._taken = taken
        names: list[str] = []
        for file, (found, lost) in zip(self.names, in_threads(self._numbers, self.names)):
            if lost:
                self.unreadable.append((file, lost))
            if found is None and lost:
                continue
            if found is None:
                names.append(file)
            elif not found:
                self.ignored[suffix_of(file)] += 1
            else:
                self._several.add(file)
                names += [part_name(file, number) for number in found]
        self.names = names

    def _numbers(self, file: str) -> tuple[range | None, str]:
        """The numbers of the images in a file, none if it is no set of images; None for a single image. And why it, or what follows
        these images, cannot be read, or "".
        """
        try:
            parts = open_parts(file, self._place(file), self._taken)
            if parts is None:
                return None, ""
            if len(parts.numbers) > MOST:
                return None, f"holds {len(parts.numbers):,} images; the limit is {MOST:,} a file: cut it into several"
            return parts.numbers, parts.lost
        except NoImages as error:
            self.no_images = str(error)
            return range(0), ""
        except Exception as error:  # a reader given a broken file raises anything at all
            return None, str(error) if isinstance(error, FruganError) else fault(error)

    def _opened(self, file: str) -> Parts:
        parts = open_parts(file, self._place(file), self._taken)
        if parts is None:
            raise ValueError("has changed while it was read")
        return parts

    def _place(self, file: str) -> Place:
        return Place(lambda: self.open(file), None)

    def _part(self, name: str) -> tuple[Parts, int] | None:
        """The open file and the number there of an image that is one of several."""
        file = file_of(name)
        return (self._open_parts.get(file, self._opened), int(name[len(file) + 1 :])) if file in self._several else None

    def several(self) -> list[str]:
        """Files that hold several of the images."""
        return sorted(self._several)

    def files(self) -> list[str]:
        """The files that hold the images, each once."""
        return list(dict.fromkeys(self.file(name) for name in self.names))

    def file(self, name: str) -> str:
        """The file that holds an image."""
        return file_of(name) if file_of(name) in self._several else name

    @abstractmethod
    def file_digest(self, file: str) -> bytes:
        """SHA-256 of what it holds."""

    def digest(self, index: int) -> bytes:
        name = self.names[index]
        file = self.file(name)
        if file == name:
            whole = self.file_digest(file)
            stacked = self._taken.frames == "channels" and suffix_of(file) in FORMATS["TIFF"]
            return hashlib.sha256(whole + b"channels").digest() if stacked else whole
        with self._digesting:
            if file not in self._digests:
                self._digests[file] = self.file_digest(file)
        return hashlib.sha256(self._digests[file] + name[len(file) :].encode()).digest()

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
        if part := self._part(name):
            return part[0].header(part[1])
        if self.size(name) == 0:
            raise FruganError("an empty file")
        with self.open_head(name) as file:
            return read_header(file, pages_are_channels=self._taken.frames == "channels")

    def pixels(self, index: int) -> np.ndarray:
        name = self.names[index]
        if part := self._part(name):
            return part[0].pixels(part[1])
        with self.open(name) as file:
            return read_pixels(file, pages_are_channels=self._taken.frames == "channels")

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
        if not self._several or any(self.file(name) not in self._several for name in self.names):
            return None
        return alike([part[0].label(part[1]) for part in map(self._part, self.names) if part])


def alike(labels: list[Any]) -> np.ndarray | None:
    """Labels as an array, of type object where not all images have one of one kind; None where no image has one."""
    kinds = {(type(label), len(label) if isinstance(label, list) else 0) for label in labels}
    if kinds <= {(type(None), 0)}:
        return None
    return np.array(labels, None if len(kinds) == 1 else object)


def as_text(content: bytes, where: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FruganError(f"{where} is not UTF-8 text ({error}); save it as UTF-8") from error


def stamp_of(top: Path, *rest: Path, key: str = "") -> str:
    digest = hashlib.sha256(os.fsencode(top.resolve()) + key.encode())
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
