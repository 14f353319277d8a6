"""Circular padding, so that networks make and judge images that repeat seamlessly, along one axis or both.

An operation that pads with zeros has a periodic counterpart: its input is first extended by pixels of the opposite border, as
many as its kernel reaches over, and no zeros are added.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from frugan.ops.linear import linear

Tile = Literal["none", "x", "y", "xy"]
TILES: tuple[Tile, ...] = ("none", "x", "y", "xy")
"""Axes along which images repeat: x from left to right, y from top to bottom."""

Margins = tuple[int, int, int, int]
"""Pixels at (left, right, top, bottom), none of them negative."""


def tiles_along(tile: Tile) -> tuple[bool, bool]:
    """Whether an image repeats along (y, x)."""
    return "y" in tile, "x" in tile


def extend(x: Tensor, margins: Margins, tile: Tile) -> Tensor:
    """Images with margins: the other end of the image along the axes of `tile`, zeros along the other axes.

    Args:
        x: `[N, C, H, W]`.
        margins: pixels to add at (left, right, top, bottom), 0 or more.
        tile: axes along which images repeat.

    Returns:
        `[N, C, top + H + bottom, left + W + right]`
    """
    left, right, top, bottom = margins
    for axis, before, after, repeats in ((2, top, bottom, "y" in tile), (3, left, right, "x" in tile)):
        if before or after:
            x = _repeated(x, axis, before, after) if repeats else _with_zeros(x, axis, before, after)
    return x


def _repeated(x: Tensor, axis: int, before: int, after: int) -> Tensor:
    size = x.shape[axis]
    if max(before, after) > size:
        return x.index_select(axis, torch.arange(-before, size + after, device=x.device) % size)
    return torch.cat([x.narrow(axis, size - before, before), x, x.narrow(axis, 0, after)], dim=axis)


def _with_zeros(x: Tensor, axis: int, before: int, after: int) -> Tensor:
    padding = [0, 0, before, after] if axis == 2 else [before, after]
    return torch.nn.functional.pad(x, padding)


def roll(images: Tensor, shift: Tensor) -> Tensor:
    """Each image moved by a shift of its own, what leaves at one border entering at the opposite one.

    A permutation of pixels, whose derivative moves gradients back.

    Args:
        images: `[N, C, H, W]`.
        shift: whole pixels (down, right), integers `[N, 2]`.
    """
    return linear(images, _rolled, _rolled_back, shift)


def _rolled(images: Tensor, shift: Tensor) -> Tensor:
    for axis, by in ((2, shift[:, 0]), (3, shift[:, 1])):
        size = images.shape[axis]
        index = (torch.arange(size, device=images.device) - by[:, None]) % size
        shape = [len(images), 1, 1, 1]
        shape[axis] = size
        images = images.gather(axis, index.view(shape).expand(images.shape))
    return images


def _rolled_back(images: Tensor, shift: Tensor) -> Tensor:
    return _rolled(images, -shift)


def seams(images: Tensor) -> tuple[float, float]:
    """The visibility of the seam between copies of images `[N, C, H, W]`, along (y, x).

    Each is the mean absolute difference of opposite border pixels, as a multiple of that of neighbouring pixels: about
    1 for images that repeat seamlessly, more for others.
    """
    x = images.float()
    found = []
    for axis in (2, 3):
        size = x.shape[axis]
        across = (x.select(axis, 0) - x.select(axis, size - 1)).abs().mean()
        inside = x.diff(dim=axis).abs().mean()
        found.append(float(across / inside.clamp_min(1e-12)))
    return found[0], found[1]
