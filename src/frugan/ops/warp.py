"""Affine warps of images through an orthonormal wavelet filter: band-limited, of fixed cost, twice differentiable.

The image is extended by reflection, upsampled twofold with the sym6 low-pass, sampled bilinearly, and downsampled
with the time-reversed filter (Karras et al., "Training Generative Adversarial Networks with Limited Data", 2020,
appendix B). sym6 is orthonormal, so the identity warp returns the image up to rounding.

Two observations keep the cost fixed. A signal of W samples extended by reflection has the period 2(W − 1), so all of
its upsampled extension is a ring of 4(W − 1) samples, whatever the transform: nothing depends on the drawn values.
And "extend and upsample" and "downsample and crop" are linear maps along one axis: a dense matrix for short axes, the
blocks of its band for long ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

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

_DENSE_UP_TO, _BLOCK = 96, 32
"""Axes of more inputs than this use the band of their matrix, in blocks of so many outputs (measured on a CPU)."""

_WORKSPACE, _WORKSPACE_CPU = 2**26, 2**19
"""Ring samples held at once; a larger batch is warped in parts. On a CPU these stay in its cache."""


def reflect(index: np.ndarray, size: int) -> np.ndarray:
    """Positions on an axis extended by reflection about its ends, as often as needed → positions in [0, size)."""
    period = 2 * (size - 1)
    index = index % period
    return np.minimum(index, period - index)


def upsampling_matrix(size: int) -> np.ndarray:
    """float64 `[4(size − 1) + 1, size]`: one period of the reflected, twofold upsampled axis, and its first row again.

    Row m sits at pixel m/2: the largest tap is the middle of the filter.
    """
    period = 4 * (size - 1)
    matrix = np.zeros((period + 1, size))
    rows = np.arange(period + 1)
    for tap, weight in enumerate(SYM6):
        hit = (rows - tap + _REACH) % 2 == 0
        matrix[rows[hit], reflect((rows[hit] - tap + _REACH) // 2, size)] += weight * np.sqrt(2)
    return matrix


def downsampling_matrix(size: int) -> np.ndarray:
    """float64 `[size, 2·size + 10]`: filtering by the time-reversed sym6 and taking every second sample.

    Column m sits at pixel (m − 5)/2.
    """
    matrix = np.zeros((size, 2 * size + 2 * _REACH))
    for tap, weight in enumerate(SYM6):
        matrix[np.arange(size), 2 * np.arange(size) + tap] = weight / np.sqrt(2)
    return matrix


class RowMap:
    """A fixed linear map along axis −2 of `[N, C, H, W]`, from a matrix `[H', H]` whose rows touch few neighbours."""

    def __init__(self, matrix: np.ndarray, device: torch.device | str | None = None) -> None:
        self.size, inputs = matrix.shape
        self.windows: Tensor | None = None
        if inputs > _DENSE_UP_TO:
            matrix = np.pad(matrix, ((0, -self.size % _BLOCK), (0, 0))).reshape(-1, _BLOCK, inputs)
            touched = [np.flatnonzero(block.any(0)) for block in matrix]
            width = max(t[-1] - t[0] + 1 for t in touched)
            windows = np.stack([min(t[0], inputs - width) + np.arange(width) for t in touched])
            matrix = np.stack([block[:, window] for block, window in zip(matrix, windows)])
            self.windows = torch.as_tensor(windows.ravel(), device=device)
        self.matrix = torch.as_tensor(matrix, dtype=torch.float32, device=device)

    def __call__(self, x: Tensor) -> Tensor:
        matrix = self.matrix.to(x.dtype)
        if self.windows is None:
            return matrix @ x
        blocks = x.index_select(-2, self.windows).unflatten(-2, (matrix.shape[0], matrix.shape[2]))
        return (matrix @ blocks).flatten(-3, -2)[..., : self.size, :]


class AffineWarp:
    """Warps images of one size `(H, W)`, H and W ≥ 2, each by its own matrix.

    Workspace per image: less than 16 times its pixels for the upsampled rings, about 4 times for the samples.
    """

    def __init__(self, resolution: tuple[int, int], device: torch.device | str | None = None) -> None:
        self.resolution = resolution
        self.up = [RowMap(upsampling_matrix(size), device) for size in resolution]
        self.down = [RowMap(downsampling_matrix(size), device) for size in resolution]
        self.y, self.x = (
            (torch.arange(2 * size + 2 * _REACH, device=device) - (size - 1 + _REACH)) / 2 for size in resolution
        )

    def __call__(self, images: Tensor, inverse: Tensor) -> Tensor:
        """`[N, C, H, W]` float32 or float64 → the same shape.

        `inverse` `[N, 3, 3]` takes an output position (x, y, 1), in pixels from the image's centre, x to the right
        and y downwards, to the input position shown there. Beyond H − 1 or W − 1 reflected pixels on a side all is
        zero.
        """
        if images.device.type != "cpu" or torch.compiler.is_compiling():
            return self._in_parts(images, inverse, _WORKSPACE)
        # Where values can be looked at for nothing, images that stay as they are cost nothing.
        moved = (inverse != torch.eye(3, dtype=inverse.dtype)).flatten(1).any(dim=1).nonzero().flatten()
        if len(moved) == len(images):
            return self._in_parts(images, inverse, _WORKSPACE_CPU)
        if not len(moved):
            return images
        return images.index_copy(0, moved, self._in_parts(images[moved], inverse[moved], _WORKSPACE_CPU))

    def _in_parts(self, images: Tensor, inverse: Tensor, workspace: int) -> Tensor:
        some = max(1, workspace // (self.up[0].size * self.up[1].size * images.shape[1]))
        if images.shape[0] <= some:
            return self._warp(images, inverse)
        return torch.cat([self._warp(*part) for part in zip(images.split(some), inverse.split(some))])

    def _warp(self, images: Tensor, inverse: Tensor) -> Tensor:
        rings = _separable(self.up, images)
        samples = _sample(rings, self._grid(inverse).to(images.dtype))
        return _separable(self.down, samples)

    def _grid(self, inverse: Tensor) -> Tensor:
        """Sampling positions `[N, 2H + 10, 2W + 10, 2]` on the rings, in [−1, 1]; 2 where nothing is to be seen."""
        coordinates = []
        for row, size in zip((0, 1), reversed(self.resolution)):
            a, b, c = (inverse[:, row, k, None, None] for k in range(3))
            pixels = self.x * a + (self.y[:, None] * b + c)
            turns = pixels / (2 * (size - 1)) + 0.25
            place = (turns - turns.floor()) * 2 - 1
            coordinates.append(place.masked_fill(pixels.abs() > 1.5 * size - 1, 2))
        return torch.stack(coordinates, dim=-1)


def _separable(maps: list[RowMap], x: Tensor) -> Tensor:
    along_h, along_w = maps
    return along_h(along_w(x.mT).mT)


def _sample(image: Tensor, grid: Tensor) -> Tensor:
    # In a compiled region a custom Function inside `torch.func.grad` has no second derivative (PyTorch 2.13).
    return _grid_sample(image, grid) if torch.compiler.is_compiling() else _Sample.apply(image, grid)


def _grid_sample(image: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=True)


class _Sample(torch.autograd.Function):
    """Bilinear sampling as a linear map of the image: its derivative is its adjoint, whose derivative it is in turn.

    `grid_sample` alone is twice differentiable in recent PyTorch only, and keeps the whole rings for a derivative that
    nobody asks for: the grid's.
    """

    forward = staticmethod(_grid_sample)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])
        ctx.size = inputs[0].shape

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _Spread.apply(gradients[0], ctx.saved_tensors[0], ctx.size), None


class _Spread(torch.autograd.Function):
    """The adjoint of `_Sample`: adds every sample to the four pixels around its position."""

    @staticmethod
    def forward(samples: Tensor, grid: Tensor, size: torch.Size) -> Tensor:
        shape_only = samples.new_zeros(1).expand(size)
        return torch.ops.aten.grid_sampler_2d_backward(
            samples.contiguous(), shape_only, grid, 0, 0, True, [True, False]
        )[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, torch.Size], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return _Sample.apply(gradients[0], ctx.saved_tensors[0]), None, None
