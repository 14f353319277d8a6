"""Orientation from EXIF and XMP, read without anything else of them, and pixels turned upright."""

from __future__ import annotations

import re
import struct

import numpy as np

QUARTER_TURNS = (5, 6, 7, 8)  # EXIF orientations that exchange height and width

_ORIENTATION_TAG = 0x0112
_WHOLE_NUMBERS = {1: "B", 3: "H", 4: "I"}  # EXIF types BYTE, SHORT, LONG
_XMP_ORIENTATION = re.compile(rb"tiff:Orientation\s*(?:=\s*[\"']|>)\s*([1-8])\s*[\"'<]")


def find_orientation(exif: bytes | None, xmp: bytes | None) -> int:
    """EXIF number 1 to 8: from EXIF, else from XMP (`tiff:Orientation`), else 1."""
    if number := _exif_orientation(exif or b""):
        return number
    found = _XMP_ORIENTATION.search(xmp or b"")
    return int(found[1]) if found else 1


def _exif_orientation(exif: bytes) -> int | None:
    """The orientation in an EXIF block, with or without its name in front; None without one or where it is damaged."""
    while exif.startswith(b"Exif\0"):
        exif = exif[6:]
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return None
    try:
        (first,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, first)
        for at in range(first + 2, first + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(f"{order}HH", exif, at)
            if tag == _ORIENTATION_TAG and kind in _WHOLE_NUMBERS:
                (number,) = struct.unpack_from(f"{order}{_WHOLE_NUMBERS[kind]}", exif, at + 8)
                return number if 1 <= number <= 8 else None
    except struct.error:  # an offset or a directory that leaves the block
        pass
    return None


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """`[h, w, C]` turned and mirrored by an EXIF orientation (1 to 8) as it is meant to be seen."""
    if orientation in QUARTER_TURNS:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
