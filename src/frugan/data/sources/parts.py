"""Files that hold many images: what they have in common, how their images are called, which of them are taken.

Such an image is called `file#000012`: the file's name and the number of the frame, page or row.
"""

from __future__ import annotations

import os
import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol

import numpy as np

from frugan.data.decode import FORMATS, Header

FrameChoice = Literal["first", "all", "channels"]
"""Of an animation or a file of several pages: the first image, all of them, or all pages of a TIFF as channels of one."""

VIDEOS = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ogv", ".wmv", ".flv")
HDF5 = (".h5", ".hdf5", ".he5")
ZARR = (".zarr",)
TABLES = (".parquet", ".arrow")
SET_SUFFIXES = (*VIDEOS, *HDF5, *ZARR, *TABLES)
"""Of files that are sets of images, all of which are taken."""

MAY_HAVE_FRAMES = (".gif", ".webp", ".png", ".apng", ".tif", ".tiff", ".avif", *FORMATS["DICOM"], "")
MOST = 1_000_000
"""Images of one file."""

_PART = re.compile(r"#\d{6,}$")
_DIGITS = 6
_OPEN = 4  # files that stay open


@dataclass(frozen=True)
class Taken:
    """Which images of a file that holds several are taken: every `stride`-th of all, or (of images) the first."""

    frames: FrameChoice = "first"
    stride: int = 1

    def key(self) -> str:
        """Tells apart what gives other images; "" for the default."""
        return "" if self == Taken() else f"\0frames {self.frames} {self.stride}"


FIRST = Taken()


class Parts(Protocol):
    """An open file of several images, which several threads may ask at once."""

    numbers: range  # of the images that are taken
    lost: str  # why there are no more, where the file is known to have held some; or ""

    def header(self, number: int) -> Header: ...
    def pixels(self, number: int) -> np.ndarray: ...
    def label(self, number: int) -> Any:
        """A whole number, a word, a list of numbers, or None."""
        ...


@dataclass(frozen=True)
class Place:
    """The place of a file: on this disk, or in an archive (`path` None) that `open` reads it from."""

    open: Callable[[], BinaryIO]
    path: Path | None


class NoImages(Exception):
    """A file of another purpose, such as a table of numbers: it is no set of images, and no broken one."""


def part_name(file: str, number: int) -> str:
    return f"{file}#{number:0{_DIGITS}d}"


def file_of(name: str) -> str:
    """The file that an image lies in: its name without the number of a frame."""
    return _PART.sub("", name)


def suffix_of(name: str) -> str:
    """The suffix with its dot, in lower case; "" without one."""
    return os.path.splitext(name)[1].lower()


class OpenParts:
    """The files of a source that were asked last, open."""

    def __init__(self) -> None:
        self._files: OrderedDict[str, Parts] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, file: str, open_file: Callable[[str], Parts]) -> Parts:
        with self._lock:
            if file not in self._files:
                self._files[file] = open_file(file)
                while len(self._files) > _OPEN:
                    self._files.popitem(last=False)
            self._files.move_to_end(file)
            return self._files[file]
