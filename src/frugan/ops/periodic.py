"""One period of an infinitely extended axis of an image, upsampled twofold by the sym6 wavelet: what the affine warp samples.

An axis of W pixels extended by reflection has the period 2(W − 1), so that 4(W − 1) samples hold all of its upsampled
extension; where images repeat, the period is W, which gives 2·W samples. "Extend and upsample" and "downsample and crop"
are matrices along one axis. sym6 is orthonormal, so the second undoes the first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from frugan.ops.linear import linear_operator
from frugan.ops.operator import transformed

if TYPE_CHECKING:
    from jaxtyping import Float

SYM6 = (
    0.015404109327027373,
    0.0034907120842174702,
    -0.11799011114819057,
    -0.048311742585633,
    0.4910559419267466,
    0.787641141030194,
    0.3379294217276218,
    -0.07263752278646252,
    -0.021060292512300564,
    0.04472490177066578,
    0.0017677118642428036,
    -0.007800708325034148,
)
"""Orthonormal low-pass analysis filter of the symlet with 6 vanishing moments (Daubechies 1992)."""

_REACH = 5
"""Index of the filter's largest tap, which counts as its centre: 5 taps lie before it and 6 behind it."""


def reflect(index: np.ndarray, size: int) -> np.ndarray:
    """The pixels of an axis that stand at integer positions of its extension by repeated reflection.

    Args:
        index: integers of any shape; 0 is the first pixel, `size − 1` the last.
        size: pixels of the axis, 2 or more.

    Returns:
        Integers in [0, size), of the same shape.
    """
    period = 2 * (size - 1)
    index = index % period
    return np.minimum(index, period - index)


def wrap(index: np.ndarray, size: int) -> np.ndarray:
    """The pixels of an axis that stand at integer positions of its periodic extension: `index` mod `size`.

    Args:
        index: integers of any shape; 0 is the first pixel, `size − 1` the last.
        size: pixels of the axis, 1 or more.

    Returns:
        Integers in [0, size), of the same shape.
    """
    return index % size


def period(size: int, *, repeats: bool = False) -> int:
    """Samples of one period of an axis that is extended and then upsampled twofold: 4·(size − 1) by reflection, 2·size
    where it `repeats`.
    """
    return 2 * size if repeats else 4 * (size - 1)


def upsampling_matrix(size: int, *, repeats: bool = False) -> np.ndarray:
    """The matrix that extends an axis and upsamples it twofold by sym6: the rows of one period, and the first row once more.

    Args:
        size: pixels of the axis, 2 or more.
        repeats: whether it is extended periodically instead of by reflection.

    Returns:
        float64 `[period + 1, size]`. Row m lies at pixel m/2, the filter's largest tap being its centre.
    """
    length, extended = period(size, repeats=repeats), wrap if repeats else reflect
    matrix = np.zeros((length + 1, size))
    rows = np.arange(length + 1)
    for tap, weight in enumerate(SYM6):
        hit = (rows - tap + _REACH) % 2 == 0
        matrix[rows[hit], extended((rows[hit] - tap + _REACH) // 2, size)] += weight * np.sqrt(2)
    return matrix


def downsampling_matrix(size: int) -> np.ndarray:
    """The matrix that filters an axis by the time-reversed sym6 and keeps every second sample.

    Returns:
        float64 `[size, 2·size + 10]`. Column m lies at pixel (m − 5)/2: the filter reaches five samples beyond either end.
    """
    matrix = np.zeros((size, 2 * size + 2 * _REACH))
    for tap, weight in enumerate(SYM6):
        matrix[np.arange(size), 2 * np.arange(size) + tap] = weight / np.sqrt(2)
    return matrix


def sample_places(size: int) -> np.ndarray:
    """The positions of the columns of `downsampling_matrix`, in pixels from the centre of the axis: float64 `[2·size + 10]`."""
    return (np.arange(2 * size + 2 * _REACH) - (size - 1 + _REACH)) / 2


def folding(size: int, *, repeats: bool = False) -> tuple[float, float, float]:
    """(period, start, reach) of an axis: position p, in pixels from its centre, becomes the fractional part of p/period + start,
    and positions further than `reach` from the centre lie beyond the extension.

    The arguments are those of `fold`.
    """
    return (size, (size - 1) / (2 * size), np.inf) if repeats else (2 * (size - 1), 0.25, 1.5 * size - 1)


def fold(pixels: Tensor, size: int, *, repeats: bool = False) -> tuple[Tensor, Tensor]:
    """Positions on an infinitely extended axis, as fractions of its period.

    Args:
        pixels: positions in pixels from the centre of the axis, float, of any shape.
        size: pixels of the axis.
        repeats: whether the axis is extended periodically instead of by reflection.

    Returns:
        Fractions in [0, 1) from the first pixel on, and a boolean mask of the positions beyond the extension, where the
        warped image is 0: more than one reflection away. A periodic extension does not end, and the mask is all False.
    """
    length, start, reach = folding(size, repeats=repeats)
    turns = pixels / length + start
    return turns - turns.floor(), pixels.abs() > reach


def bilinear(image: Float[Tensor, "N C H W"], grid: Float[Tensor, "N gh gw 2"]) -> Float[Tensor, "N C gh gw"]:
    """Bilinear interpolation as by `grid_sample`: linear in the image, and differentiable with respect to it any number
    of times.

    `grid_sample` itself is twice differentiable in recent PyTorch only, and keeps the image for the gradient of the
    grid, which is not needed.

    Args:
        image: `[N, C, H, W]`, float.
        grid: positions (x, y) `[N, H', W', 2]`, −1 at the centre of the first pixel, 1 at that of the last. Zeros lie
            beyond. No gradient reaches it.

    Returns:
        `[N, C, H', W']`
    """
    if transformed():
        return _grid_sample(image, grid)
    return _sample(image, grid, *image.shape[2:], False)


def spread(
    samples: Float[Tensor, "N C gh gw"], grid: Float[Tensor, "N gh gw 2"], size: tuple[int, int]
) -> Float[Tensor, "N C H W"]:
    """The adjoint of `bilinear`: adds each sample to the four pixels around its position, in proportion to their
    bilinear weights.

    Args:
        samples: `[N, C, H', W']`, float.
        grid: positions as in `bilinear`, `[N, H', W', 2]`.
        size: (H, W) of the result.

    Returns:
        `[N, C, H, W]`
    """
    return _sample(samples, grid, *size, True)


def _grid_sample(image: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=True)


def _sampled(x: Tensor, grid: Tensor, height: int, width: int, adjoint: bool) -> Tensor:
    if not adjoint:
        return _grid_sample(x, grid)
    shape_only = x.new_zeros(1).expand(*x.shape[:2], height, width)
    backward = torch.ops.aten.grid_sampler_2d_backward
    return backward(x.contiguous(), shape_only, grid, 0, 0, True, [True, False])[0]


_sample = linear_operator("bilinear", _sampled)
