"""Pixel formats: the type of numbers, range of values, opacity and channel names of a data set, in which output is written.

Networks make numbers x in [-1, 1]; s = (x + 1) / 2 is a share of the range [lo, hi] of stored values: lo + s · (hi - lo).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from frugan.channels import colour_channels
from frugan.errors import FruganError

Pair = tuple[float, float]
Range = tuple[Pair, ...]
"""(lo, hi) of all channels, or one pair for each, alpha left out."""

NumberType = Literal[
    "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "float32", "float64"
]


HeldType = Literal["uint8", "uint16", "float32"]
"""How decoded pixels are held: whole numbers, whose highest stands for 1, or shares of the range in [0, 1]."""

MOST_STEPS = 65535
"""Between the ends of a range whose whole numbers uint16 holds."""


def is_plain(dtype: np.dtype | str) -> bool:
    """Whether pixels of the type are trained on as they are: uint8 and uint16. Others are scaled."""
    return np.dtype(dtype) in (np.uint8, np.uint16)


def held_type(dtype: np.dtype | str, value_range: Range | None) -> HeldType:
    """How numbers of a type are held: uint8 and uint16 as they are, others as uint16 where that holds each whole number of the
    range, else as float32."""
    dtype = np.dtype(dtype)
    if dtype == np.uint8:
        return "uint8"
    whole = dtype.kind != "f" and all(hi - lo <= MOST_STEPS for lo, hi in value_range or ())
    return "uint16" if whole else "float32"


def full_value(dtype: np.dtype | str) -> float:
    """The held number that stands for the upper end of the range."""
    dtype = np.dtype(dtype)
    return 1.0 if dtype.kind == "f" else float(np.iinfo(dtype).max)


@dataclass(frozen=True)
class PixelFormat:
    """The format in which a data set's files hold images.

    `dtype`: their type of numbers. `value_range`: the stored values that are -1 and 1 for networks; None: all that uint8 or uint16
    hold. `alpha`: the last channel is opacity; `crisp`: which is 0 or full everywhere. `names`: of the channels, empty where
    the files tell none.
    """

    dtype: NumberType = "uint8"
    value_range: Range | None = None
    alpha: bool = False
    crisp: bool = False
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        pairs = self.value_range or ()
        if not all(math.isfinite(lo) and math.isfinite(hi) and lo < hi for lo, hi in pairs):
            raise FruganError(f"value range {self.value_range}: give finite numbers, the lower one first")
        if not pairs and (self.value_range is not None or not is_plain(self.dtype)):
            raise FruganError(f"pixels of {self.dtype} without a value range: nothing says what their numbers mean")

    @property
    def bits(self) -> int:
        """Per channel of a file."""
        return 8 * np.dtype(self.dtype).itemsize

    @property
    def is_float(self) -> bool:
        return np.dtype(self.dtype).kind == "f"

    @property
    def depth(self) -> int:
        """Bits per channel that networks were trained on: 8, 16, or 32 of floating-point numbers."""
        return 8 * np.dtype(held_type(self.dtype, self.value_range)).itemsize

    def channel_names(self, channels: int) -> tuple[str, ...]:
        """Names of all channels: those of the files, else by their count."""
        return self.names if len(self.names) == channels else channel_names(channels, alpha=self.alpha)

    def check_channels(self, channels: int) -> None:
        """Raises `FruganError` where names or ranges are of another number of channels."""
        ranges, colours = len(self.value_range or (0,)), channels - self.alpha
        if (self.names and len(self.names) != channels) or ranges not in (1, colours):
            raise FruganError(
                f"pixels of {channels} channels with {len(self.names)} names and {ranges} value ranges: give one for each"
            )


def channel_names(channels: int, *, alpha: bool) -> tuple[str, ...]:
    """grey; red, green, blue; "channel 0" and so on; the last is "alpha" where it is opacity."""
    if alpha:
        return (*channel_names(channels - 1, alpha=False), "alpha")
    known = {1: ("grey",), 3: ("red", "green", "blue")}
    return known.get(channels) or tuple(f"channel {i}" for i in range(channels))


def is_colour(channels: int, *, alpha: bool) -> bool:
    """Whether image files show the channels: grey or RGB, with or without opacity."""
    return bool(colour_channels(channels)) and alpha == (channels in (2, 4))


def by_channel(
    array: np.ndarray, value_range: Range, change: Callable[[np.ndarray, Pair], np.ndarray], *, alpha: bool
) -> np.ndarray:
    """Channels changed by a pair of numbers each.

    Args:
        array: `[…, C]`.
        value_range: one pair for all channels, or one for each.
        change: a channel and its pair → the changed channel.
        alpha: whether the last channel is opacity, which stays as it is.
    """
    colours = array[..., :-1] if alpha else array
    if len(value_range) == 1:
        changed = change(colours, value_range[0])
    else:
        changed = np.concatenate([change(colours[..., i : i + 1], pair) for i, pair in enumerate(value_range)], -1)
    return np.concatenate([changed, array[..., -1:]], -1) if alpha else changed


def restored(
    shares: np.ndarray, value_range: Range | None, dtype: np.dtype | str, *, alpha: bool, top: float | None = None
) -> np.ndarray:
    """Values in a range of stored numbers, from shares of it; whole numbers are rounded to nearest.

    Args:
        shares: float `[…, C]` in [0, 1].
        value_range: of the stored numbers; None: 0 to `top`.
        dtype: of the result.
        alpha: whether the last channel is opacity.
        top: full opacity, and without a range the highest value; None: the highest that the type holds, 1 for floats.
    """
    dtype = np.dtype(dtype)
    if top is None:
        top = 1.0 if dtype.kind == "f" else float(np.iinfo(dtype).max)
    found = np.clip(shares.astype(np.float64), 0, 1)
    if alpha:  # by_channel leaves it
        found[..., -1] *= top
    pairs: Range = value_range or ((0.0, top),)
    found = by_channel(found, pairs, lambda part, pair: pair[0] + part * (pair[1] - pair[0]), alpha=alpha)
    return found.astype(dtype) if dtype.kind == "f" else np.rint(found).astype(dtype)
