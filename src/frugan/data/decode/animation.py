"""Animated images frame by frame: GIF, WebP, APNG and AVIF, as Pillow composes them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from typing import BinaryIO

import numpy as np
from PIL import Image

from frugan.data.decode.header import Space, Stored, check_frames, check_size, cut_short
from frugan.data.decode.metadata import find_orientation
from frugan.data.decode.reel import Reel


class Animation:
    """Frames of the whole canvas. All of a GIF have opacity, since a later frame may uncover what the first has painted."""

    def __init__(self, file: BinaryIO, format: str) -> None:
        """Raises what Pillow raises."""
        self._file, self._format = file, format
        image = self._open()
        check_size(*image.size)
        if image.mode.startswith("I"):
            raise ValueError(f"an animated {format} of 16 bits; store its frames one by one")
        self._first = int(bool(getattr(image, "default_image", False)))  # of an APNG: an image that is no frame
        self.lost = ""
        self.count = self._count(image)
        self._size = image.size
        check_frames(self.count, *image.size)
        self._space: Space = "L" if image.mode in ("1", "L", "LA") and format != "GIF" else "RGB"
        self._alpha = format == "GIF" or image.has_transparency_data
        self._mode, self._profile = image.mode, image.info.get("icc_profile")
        xmp = image.info.get("xmp")
        self._orientation = find_orientation(image.info.get("exif"), xmp if isinstance(xmp, bytes) else None)
        self._reel = Reel(self._decode)

    def _count(self, image: Image.Image) -> int:
        """The number of frames; of a GIF that is cut short, of those that are whole."""
        if self._format == "GIF":
            whole, ended = _whole_frames(self._file)
            if not ended:
                self.lost = cut_short(whole)
                return whole
        return getattr(image, "n_frames", 1) - self._first

    def stored(self, number: int) -> Stored:
        width, height = self._size
        return Stored(
            height,
            width,
            self._space,
            8,
            self._format,
            self._mode,
            partial(self._reel.__getitem__, number),
            alpha="straight" if self._alpha else "none",
            orientation=self._orientation,
            profile=self._profile,
        )

    def _open(self) -> Image.Image:
        self._file.seek(0)
        return Image.open(self._file, formats=(self._format,))

    def _decode(self) -> Iterator[np.ndarray]:
        image = self._open()
        for number in range(self.count):
            image.seek(self._first + number)
            pixels = np.asarray(image.convert(self._space + ("A" if self._alpha else "")))
            yield pixels if pixels.ndim == 3 else pixels[..., None]


def _whole_frames(file: BinaryIO) -> tuple[int, bool]:
    """The frames of a GIF that are there as a whole, and whether its end mark follows them."""

    def skip(size: int) -> None:
        file.seek(size, os.SEEK_CUR)

    def skip_table() -> None:
        flags = file.read(1) or b"\0"
        skip(1 + (3 << (flags[0] & 7) + 1 if flags[0] & 0x80 else 0))

    file.seek(10)
    skip_table()
    skip(1)  # the pixels' shape
    count = 0
    while (mark := file.read(1)) not in (b"", b";"):
        if mark == b",":
            skip(8)
            skip_table()
        elif mark == b"!":
            skip(1)
        else:  # padding between blocks, which readers pass over
            continue
        while (size := file.read(1)) not in (b"", b"\0"):
            skip(size[0])
        count += mark == b"," and size == b"\0"
    return count, mark == b";"
