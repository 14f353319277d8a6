"""The range of stored values that training uses, stretched to all that the pixels' type can hold, and undone on output.

A range (lo, hi) maps v to round((v - lo) · top / (hi - lo)), clipped, where top is 255 or 65535. Distinct values stay distinct, so
`restore` gives back every value within the range exactly.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

import numpy as np

from frugan.errors import FruganError

Range = tuple[int, int]

LARGEST = 65535

_FEWEST_BITS = 8  # a smaller derived range would take a dark set for a coarse one
_EXPLICIT = re.compile(r"\s*(\d{1,6})\s*,\s*(\d{1,6})\s*", re.ASCII)


def parse_range(text: str) -> Range | Literal["auto", "full"]:
    """ "auto", "full" or "LO,HI". Raises `FruganError` for anything else."""
    if text == "auto" or text == "full":
        return text
    match = _EXPLICIT.fullmatch(text)
    lo, hi = (int(match[1]), int(match[2])) if match else (0, 0)
    if not lo < hi <= LARGEST:
        raise FruganError(
            f"value range {text[:40]!r}: give auto, full, or two whole numbers LO,HI from 0 to {LARGEST} with LO below HI, "
            "for instance 0,4095"
        )
    return lo, hi


def explicit_range(text: str) -> Range | None:
    """The range that a configuration names itself; None for "auto" and "full"."""
    found = parse_range(text)
    return None if isinstance(found, str) else found


def settle_range(asked: str, depth: int, highest: int) -> Range | None:
    """The range to stretch, None for all that `depth` bits hold.

    "auto" looks at the highest stored value, and at 16 bits only: where one bit or more is unused, the range ends at the
    power of two minus 1 that holds it, 255 at the least. Raises `FruganError` where a range is beyond the depth.
    """
    wanted = parse_range(asked)
    top = (1 << depth) - 1
    if wanted == "full":
        return None
    if wanted == "auto":
        bits = max(highest.bit_length(), _FEWEST_BITS)
        return (0, (1 << bits) - 1) if depth == 16 and highest and bits < 16 else None
    if wanted[1] > top:
        raise FruganError(
            f"value range {asked}: these images have {depth} bits per channel, values from 0 to {top}; give a range "
            "within that, or --value-range full"
        )
    return None if wanted == (0, top) else wanted


def range_name(value_range: Range | None) -> str:
    """As `parse_range` takes it."""
    return f"{value_range[0]},{value_range[1]}" if value_range else "full"


def stretch(pixels: np.ndarray, value_range: Range | None, *, alpha: bool) -> np.ndarray:
    """uint8 or uint16 `[…, C]` as stored → the same type, its whole range used; with `alpha` the last channel stays."""
    return pixels if value_range is None else _through(_tables(value_range, pixels.dtype)[0], pixels, alpha)


def restore(pixels: np.ndarray, value_range: Range | None, *, alpha: bool) -> np.ndarray:
    """The inverse of `stretch`: values as they are stored, between lo and hi."""
    return pixels if value_range is None else _through(_tables(value_range, pixels.dtype)[1], pixels, alpha)


@lru_cache(maxsize=4)
def _tables(value_range: Range, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """What every value becomes when it is stretched, and when it is restored."""
    lo, hi = value_range
    top = int(np.iinfo(dtype).max)
    values = np.arange(top + 1)
    stretched = np.rint((values.clip(lo, hi) - lo) * (top / (hi - lo)))
    restored = lo + np.rint(values * ((hi - lo) / top))
    return stretched.astype(dtype), restored.astype(dtype)


def _through(table: np.ndarray, pixels: np.ndarray, alpha: bool) -> np.ndarray:
    if not alpha:
        return table[pixels]
    return np.concatenate([table[pixels[..., :-1]], pixels[..., -1:]], -1)
