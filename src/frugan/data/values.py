"""The range of stored values that training uses, stretched to all that the pixels' type can hold, and undone on output.

A range [lo, hi] maps v to round((v - lo) · top / (hi - lo)), clipped, where top is 255 for uint8 and 65535 for uint16 and for whole
numbers of other types that lie no further apart: distinct ones stay distinct, so `restore` gives back each of them exactly.
Whole numbers of a larger range, and floating-point numbers, become float32 shares (v - lo) / (hi - lo), exact to 2⁻²⁵ of the
range. A range is one pair, or one for each channel.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Protocol

import numpy as np

from frugan.errors import FruganError
from frugan.pixel_format import MOST_STEPS, Pair, Range, by_channel, full_value, held_type, is_plain, restored

LARGEST = MOST_STEPS

_FEWEST_BITS = 8  # a smaller derived range would take a dark set for a coarse one
_TOGETHER = 4  # channels that "auto" takes together, to keep their balance; of more each has a range of its own
_EACH = "each:"
_NUMBER = re.compile(r"[-+]?(\d{1,30}\.?\d{0,30}|\.\d{1,30})(e[-+]?\d{1,3})?", re.ASCII | re.IGNORECASE)
_PERCENTILE = re.compile(r"p(\d{1,3}(\.\d{1,9})?)", re.ASCII | re.IGNORECASE)
_FORMS = "give auto, full, or LOW,HIGH with LOW below HIGH, such as 0,4095, p1,p99 (percentiles) or each:p1,p99 (of each channel)"


@dataclass(frozen=True)
class Percentile:
    """The value that `percent` of all values do not exceed."""

    percent: float


End = float | Percentile


@dataclass(frozen=True)
class AskedRange:
    """A range as a user writes it: a pair of ends for all channels, or one for each; `each`: the pair holds for each by itself."""

    pairs: tuple[tuple[End, End], ...]
    each: bool = False

    @property
    def numbers(self) -> Range | None:
        """The range, where no percentile has to be counted for it."""
        found = [(lo, hi) for lo, hi in self.pairs if not isinstance(lo, Percentile) and not isinstance(hi, Percentile)]
        return tuple(found) if len(found) == len(self.pairs) else None


class Distribution(Protocol):
    """Stored colour values of a set, as training holds them before any range."""

    @property
    def channels(self) -> int:
        """The number of channels without alpha."""
        ...

    def quantile(self, share: float, channel: int | None = None) -> float:
        """The value that `share` of all values do not exceed; of one channel, or of all together."""
        ...

    def name(self, channel: int) -> str: ...


def parse_range(text: str) -> AskedRange | Literal["auto", "full"]:
    """ "auto", "full", "LOW,HIGH", "each:LOW,HIGH", or a pair for each channel, "LOW,HIGH;LOW,HIGH". Raises `FruganError`."""
    if text == "auto" or text == "full":
        return text
    each = text.startswith(_EACH)
    parts = text.removeprefix(_EACH).split(";") if len(text) <= 20_000 else []
    pairs = [_parse_pair(part) for part in parts]
    found = [pair for pair in pairs if pair is not None]
    if not found or len(found) < len(pairs) or (each and len(found) > 1):
        raise FruganError(f"value range {text[:40]!r}: {_FORMS}")
    return AskedRange(tuple(found), each)


def _parse_pair(text: str) -> tuple[End, End] | None:
    ends = [end for part in text.split(",")[:3] if (end := _parse_end(part.strip())) is not None]
    if len(ends) != 2 or text.count(",") != 1:
        return None
    lo, hi = ends
    if isinstance(lo, Percentile) and isinstance(hi, Percentile):
        return (lo, hi) if lo.percent < hi.percent else None
    if not isinstance(lo, Percentile) and not isinstance(hi, Percentile):
        return (lo, hi) if lo < hi else None
    return lo, hi


def _parse_end(text: str) -> End | None:
    if match := _PERCENTILE.fullmatch(text):
        return Percentile(float(match[1])) if float(match[1]) <= 100 else None
    if _NUMBER.fullmatch(text) and abs(float(text)) < 1e30:
        return float(text)
    return None


def explicit_range(text: str) -> Range | None:
    """The range that a configuration names itself; None for "auto", "full" and percentiles."""
    found = parse_range(text)
    return None if isinstance(found, str) else found.numbers


def is_counted(text: str) -> bool:
    """Whether the values of the images have to be known before the range is."""
    return text != "full" and explicit_range(text) is None


def settle_range(asked: str, dtype: np.dtype | str, values: Distribution | None) -> Range | None:
    """The range of stored values that is stretched to the full range of training; None for all that uint8 or uint16 hold.

    "auto" depends on the type. For uint16 it looks at the highest stored value: where one bit or more is unused, the
    range ends at the power of two minus 1 that holds it, at least 255. uint8 stays as it is. For other types it is the
    lowest to the highest value; of more than four channels, each channel's own.

    Args:
        asked: "auto", "full", or one LO:HI or several.
        dtype: of the stored values.
        values: their distribution; None where it is unknown, or there are none.

    Raises `FruganError` where a range exceeds the type, or holds a single value.
    """
    dtype, wanted = np.dtype(dtype), parse_range(asked)
    if wanted == "full":
        return _full(dtype)
    if wanted == "auto":
        return _auto(dtype, values)
    if values is not None and len(wanted.pairs) not in (1, values.channels):
        raise FruganError(
            f"value range {asked[:60]}: {len(wanted.pairs)} pairs for {values.channels} channels; give one pair, or one for each"
        )
    found = wanted.numbers
    if found is None:
        if values is None:
            raise FruganError(
                f"value range {asked[:60]}: the values of this set are not counted; give two numbers LOW,HIGH"
            )
        found = _counted(wanted, values)
    if is_plain(dtype):
        found = _within(found, dtype, asked)
        return None if set(found) == {(0, np.iinfo(dtype).max)} else found
    return found


def _full(dtype: np.dtype) -> Range | None:
    if is_plain(dtype):
        return None
    if dtype.kind == "f":
        raise FruganError(f"value range full: {dtype} numbers have no full range; give auto, or two numbers LOW,HIGH")
    return ((float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)),)


def _auto(dtype: np.dtype, values: Distribution | None) -> Range | None:
    if dtype == np.uint8 or values is None:
        return None
    if dtype == np.uint16:
        highest = int(values.quantile(1))
        bits = max(highest.bit_length(), _FEWEST_BITS)
        return ((0.0, float((1 << bits) - 1)),) if highest and bits < 16 else None
    return _counted(AskedRange(((Percentile(0), Percentile(100)),), each=values.channels > _TOGETHER), values)


def _counted(wanted: AskedRange, values: Distribution) -> Range:
    """The range, its percentiles counted."""
    pairs = wanted.pairs * values.channels if wanted.each else wanted.pairs
    alone = len(pairs) == 1
    found = []
    for channel, pair in enumerate(pairs):
        which = None if alone else channel
        lo, hi = (values.quantile(end.percent / 100, which) if isinstance(end, Percentile) else end for end in pair)
        if not lo < hi:
            where = "" if alone else f"{values.name(channel)}: "
            raise FruganError(
                f"{where}the range of values from {lo:g} to {hi:g} holds one value or none, so that there is nothing to learn; "
                "leave that channel out, or give --value-range LOW,HIGH"
            )
        found.append((lo, hi))
    return tuple(found)


def _within(found: Range, dtype: np.dtype, asked: str) -> Range:
    """The range in whole numbers. Raises `FruganError` where it is none that the type holds."""
    top = int(np.iinfo(dtype).max)
    if any(not lo.is_integer() or not hi.is_integer() or lo < 0 or hi > top for lo, hi in found):
        raise FruganError(
            f"value range {asked[:60]}: these images have {8 * dtype.itemsize} bits per channel, values from 0 to {top}; give "
            "whole numbers within that, or --value-range full"
        )
    return found


def range_name(value_range: Range | None) -> str:
    """A range as the text that `parse_range` takes."""
    return ";".join(f"{_number(lo)},{_number(hi)}" for lo, hi in value_range) if value_range else "full"


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() and abs(value) < 2**53 else repr(float(value))


def stretch(pixels: np.ndarray, value_range: Range | None, *, alpha: bool) -> np.ndarray:
    """Stored values `[…, C]` stretched to the full range of the type that they are held in (see `held_type`).

    Args:
        pixels: as stored.
        value_range: from `settle_range`; None leaves them unchanged. Types other than uint8 and uint16 need one.
        alpha: whether the last channel is opacity, which stays as it is.
    """
    if value_range is None:
        return pixels
    if is_plain(pixels.dtype):
        return by_channel(pixels, value_range, lambda part, pair: _table(pair, pixels.dtype)[part], alpha=alpha)
    scaled = _steps if held_type(pixels.dtype, value_range) == "uint16" else _shares
    return by_channel(pixels, value_range, scaled, alpha=False)


def restore(
    pixels: np.ndarray, value_range: Range | None, *, alpha: bool, dtype: np.dtype | str | None = None
) -> np.ndarray:
    """The inverse of `stretch`: stretched pixels as values in the stored range.

    Args:
        pixels: as held, `[…, C]`.
        value_range: as in `stretch`.
        alpha: as in `stretch`.
        dtype: of the result; None: that of the pixels.
    """
    top = full_value(pixels.dtype)
    return (
        restored(pixels / np.float64(top), value_range, dtype or pixels.dtype, alpha=alpha) if value_range else pixels
    )


@lru_cache(maxsize=64)
def _table(pair: Pair, dtype: np.dtype) -> np.ndarray:
    """The stretched value of every stored value."""
    lo, hi = pair
    top = int(np.iinfo(dtype).max)
    return np.rint((np.arange(top + 1).clip(lo, hi) - lo) * (top / (hi - lo))).astype(dtype)


def _steps(values: np.ndarray, pair: Pair) -> np.ndarray:
    lo, hi = pair
    return np.rint((values.astype(np.float64).clip(lo, hi) - lo) * (LARGEST / (hi - lo))).astype(np.uint16)


def _shares(values: np.ndarray, pair: Pair) -> np.ndarray:
    lo, hi = pair
    return ((values.astype(np.float64).clip(lo, hi) - lo) / (hi - lo)).astype(np.float32)
