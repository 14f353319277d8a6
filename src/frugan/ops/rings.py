"""An axis of an image extended without end and upsampled twofold, as a ring: what the affine warp samples.

A signal of W samples extended by reflection has the period 2(W − 1), so all of its upsampled extension is a ring of
4(W − 1) samples; where images repeat, the period is W and the ring has 2·W samples. "Extend and upsample" and
"downsample and crop" by the sym6 wavelet are matrices along one axis. sym6 is orthonormal: the second undoes the first.
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
"""Index of the filter's largest tap, which counts as its middle: so many taps lie before it, and one more behind it."""


def reflect(index: np.ndarray, size: int) -> np.ndarray:
    """Positions on an axis extended by reflection about its ends, as often as needed → positions in [0, size)."""
    period = 2 * (size - 1)
    index = index % period
    return np.minimum(index, period - index)


def wrap(index: np.ndarray, size: int) -> np.ndarray:
    """Positions on an axis that repeats → positions in [0, size)."""
    return index % size


def period(size: int, *, repeats: bool = False) -> int:
    """Samples of the ring of an axis extended by reflection, or of one that repeats."""
    return 2 * size if repeats else 4 * (size - 1)


def upsampling_matrix(size: int, *, repeats: bool = False) -> np.ndarray:
    """float64 `[period + 1, size]`: one period of the extended, twofold upsampled axis, and its first row again.

    Row m sits at pixel m/2: the largest tap is the middle of the filter.
    """
    length, extended = period(size, repeats=repeats), wrap if repeats else reflect
    matrix = np.zeros((length + 1, size))
    rows = np.arange(length + 1)
    for tap, weight in enumerate(SYM6):
        hit = (rows - tap + _REACH) % 2 == 0
        matrix[rows[hit], extended((rows[hit] - tap + _REACH) // 2, size)] += weight * np.sqrt(2)
    return matrix


def downsampling_matrix(size: int) -> np.ndarray:
    """float64 `[size, 2·size + 10]`: filtering by the time-reversed sym6 and taking every second sample.

    Column m sits at pixel (m − 5)/2.
    """
    matrix = np.zeros((size, 2 * size + 2 * _REACH))
    for tap, weight in enumerate(SYM6):
        matrix[np.arange(size), 2 * np.arange(size) + tap] = weight / np.sqrt(2)
    return matrix


def sample_places(size: int) -> np.ndarray:
    """float64 `[2·size + 10]`: where the columns of `downsampling_matrix` sit, in pixels from the centre."""
    return (np.arange(2 * size + 2 * _REACH) - (size - 1 + _REACH)) / 2


def fold(pixels: Tensor, size: int, *, repeats: bool = False) -> tuple[Tensor, Tensor]:
    """Positions in pixels from the centre → in turns of the ring, [0, 1), and which of them nothing is to be seen at.

    Extended by reflection an axis ends where a reflection would be reflected again; one that repeats has no end.
    """
    if repeats:
        turns = pixels / size + (size - 1) / (2 * size)
        return turns - turns.floor(), torch.zeros_like(pixels, dtype=torch.bool)
    turns = pixels / (2 * (size - 1)) + 0.25
    return turns - turns.floor(), pixels.abs() > 1.5 * size - 1


def bilinear(image: Float[Tensor, "N C H W"], grid: Float[Tensor, "N gh gw 2"]) -> Float[Tensor, "N C gh gw"]:
    """`[N, C, H, W]` at positions (x, y) `[N, H', W', 2]` from −1, the first pixel, to 1, the last → `[N, C, H', W']`.

    Linear in the image, and differentiable as often as wanted; the grid has no gradient. (`grid_sample` is twice
    differentiable in recent PyTorch only, and keeps the image for a derivative that nobody asks for: the grid's.)
    """
    if transformed():
        return _grid_sample(image, grid)
    return _sample(image, grid, *image.shape[2:], False)


def spread(
    samples: Float[Tensor, "N C gh gw"], grid: Float[Tensor, "N gh gw 2"], size: tuple[int, int]
) -> Float[Tensor, "N C H W"]:
    """The adjoint of `bilinear` for images of `size` (H, W): adds every sample to the four pixels around its position."""
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
