"""Samples of files: their bytes at hand, and numbers of any declared range over the full range of 8 or 16 bits."""

from __future__ import annotations

import mmap
from typing import BinaryIO

import numpy as np

Content = bytes | mmap.mmap


def mapped(file: BinaryIO) -> Content:
    """All bytes of a file; of one on this disk not in memory."""
    try:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError):  # no file of the system's
        file.seek(0)
        return file.read()


def full_range(samples: np.ndarray, bits: int, *, signed: bool = False) -> np.ndarray:
    """Samples as uint8 or uint16, stretched to the full range of the type.

    Args:
        samples: integers.
        bits: significant bits, 1 to 16.
        signed: whether they are signed: half the range is added.
    """
    if signed:
        samples = samples.astype(np.int32) + (1 << bits - 1)
    dtype = np.dtype(np.uint8 if bits <= 8 else np.uint16)
    if bits in (8, 16):
        return samples.astype(dtype)
    steps = np.arange(1 << bits) * (np.iinfo(dtype).max / ((1 << bits) - 1))
    return np.rint(steps).astype(dtype)[samples]
