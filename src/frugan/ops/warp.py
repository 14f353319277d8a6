"""Affine warps of images through an orthonormal wavelet filter: band-limited, of fixed cost, twice differentiable.

The image is extended by reflection, or periodically where it repeats, upsampled twofold with the sym6 low-pass, sampled
bilinearly, and downsampled with the time-reversed filter (Karras et al., "Training Generative Adversarial Networks with
Limited Data", 2020, appendix B). The identity warp returns the image up to rounding.

The cost is fixed: one period of the upsampled extension is computed whatever the transform, so nothing depends on the drawn
values, which a GPU would have to wait for. There Triton kernels compute the maps along the axes and the sampling positions
(`warp_triton`). On a CPU, where reading values is free, each image is warped by the cheapest method that its matrix allows
instead (`warp_cpu`).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from frugan.ops import warp_cpu, warp_triton
from frugan.ops.kernels import fused
from frugan.ops.linear import linear
from frugan.ops.operator import transformed
from frugan.ops.periodic import bilinear, downsampling_matrix, fold, folding, sample_places, upsampling_matrix
from frugan.ops.tiling import Tile, tiles_along

if TYPE_CHECKING:
    from jaxtyping import Float

_DENSE_UP_TO, _BLOCK = 160, 32
"""Most inputs with which a matrix is multiplied whole; larger ones are multiplied in blocks of so many outputs."""

_WORKSPACE = 2**26
"""Samples of upsampled extensions that are held at once; a larger batch is warped in parts."""


def _in_kernels(x: Tensor) -> bool:
    """Whether Triton kernels warp x. Compiled code does without them, since they have no derivative there (`ops.linear`)."""
    return not torch.compiler.is_compiling() and fused(x, warp_triton.usable)


class AxisMap:
    """A fixed linear map along one axis of `[N, C, H, W]`, given as a banded matrix `[outputs, inputs]`.

    On a GPU with Triton one kernel multiplies by the entries of the matrix, and the adjoint by those of its transpose. Elsewhere
    a large matrix is multiplied in blocks of outputs, each with only those inputs that its rows have entries for.
    """

    def __init__(self, matrix: np.ndarray, device: torch.device | str | None = None) -> None:
        self.size, inputs = matrix.shape
        self.rows, self.columns = _entries(matrix, device), _entries(matrix.T, device)
        self.touched: Tensor | None = None
        if inputs > _DENSE_UP_TO:
            matrix = np.pad(matrix, ((0, -self.size % _BLOCK), (0, 0))).reshape(-1, _BLOCK, inputs)
            touched = [np.flatnonzero(block.any(0)) for block in matrix]
            width = max(t[-1] - t[0] + 1 for t in touched)
            columns = np.stack([min(t[0], inputs - width) + np.arange(width) for t in touched])
            matrix = np.stack([block[:, column] for block, column in zip(matrix, columns)])
            self.touched = torch.as_tensor(columns.ravel(), device=device)
        self.matrix = torch.as_tensor(matrix, dtype=torch.float32, device=device)

    def __call__(self, x: Tensor, axis: int) -> Tensor:
        """The map of x `[N, C, H, W]` along `axis` −2 → `[N, C, H', W]`, or along −1 → `[N, C, H, W']`, in x's dtype."""
        if _in_kernels(x):
            forward, adjoint = (
                partial(warp_triton.mapped, axis=axis, **entries) for entries in (self.rows, self.columns)
            )
            return linear(x, forward, adjoint)
        if axis == -2:
            return self(x.mT, -1).mT
        matrix = self.matrix.to(x.dtype)
        if self.touched is None:
            return x @ matrix.mT
        blocks = x.mT.index_select(-2, self.touched).unflatten(-2, (matrix.shape[0], matrix.shape[2]))
        return (matrix @ blocks).flatten(-3, -2)[..., : self.size, :].mT


def _entries(matrix: np.ndarray, device: torch.device | str | None) -> dict[str, Tensor]:
    """The non-zero entries of each row of a matrix `[outputs, inputs]`: `columns` and `weights` of `warp_triton.mapped`. Rows with
    fewer than others have weights of zero besides.
    """
    most = np.count_nonzero(matrix, axis=1).max()
    columns = np.argsort(matrix == 0, axis=1, kind="stable")[:, :most]
    weights = np.take_along_axis(matrix, columns, axis=1)
    return {
        "columns": torch.as_tensor(columns.T, dtype=torch.int32, device=device).contiguous(),
        "weights": torch.as_tensor(weights.T, dtype=torch.float32, device=device).contiguous(),
    }


class AffineWarp:
    """Affine warp of images of one size, each image by a matrix of its own.

    Memory needed for each image: 16 times its pixels at most for the upsampled extension, about 4 times for the
    samples.

    Args:
        resolution: (H, W), each 2 or more.
        device: of the matrices, which should be that of the images.
        tile: axes along which images repeat and are extended periodically; along the others by reflection.
    """

    def __init__(
        self, resolution: tuple[int, int], device: torch.device | str | None = None, *, tile: Tile = "none"
    ) -> None:
        self.resolution, self.repeats = resolution, tiles_along(tile)
        self.tile: Tile = tile
        self.up = [AxisMap(upsampling_matrix(size, repeats=r), device) for size, r in zip(resolution, self.repeats)]
        self.down = [AxisMap(downsampling_matrix(size), device) for size in resolution]
        self.y, self.x = (
            torch.as_tensor(sample_places(size), dtype=torch.float32, device=device) for size in resolution
        )

    def __call__(self, images: Float[Tensor, "N C H W"], inverse: Float[Tensor, "N 3 3"]) -> Float[Tensor, "N C H W"]:
        """Warps a batch.

        Args:
            images: `[N, C, H, W]`, float32 or float64.
            inverse: `[N, 3, 3]`: takes the position of an output pixel (x, y, 1) to that of the input shown there.
                Positions are in pixels from the image's centre, x to the right and y downwards.

        Returns:
            `[N, C, H, W]`. Further than H − 1 or W − 1 pixels beyond a border, reflected there, everything is zero;
            along axes of `tile` nothing is.
        """
        if images.device.type == "cpu" and not transformed():
            return warp_cpu.warp(images, inverse, self.tile)
        return self.in_parts(images, inverse)

    def in_parts(self, images: Tensor, inverse: Tensor) -> Tensor:
        """The warp on any device, in parts that fit the workspace. The arguments are those of `__call__`."""
        some = max(1, _WORKSPACE // (16 * images.shape[1:].numel()))
        if len(images) <= some:
            return self.whole(images, inverse)
        return torch.cat([self.whole(*part) for part in zip(images.split(some), inverse.split(some))])

    def whole(self, images: Tensor, inverse: Tensor) -> Tensor:
        """The warp of all images at once, by interpolation in one period of the upsampled extension of each. The arguments
        are those of `__call__`.
        """
        extended = self.up[1](self.up[0](images, -2), -1)
        if _in_kernels(images):
            folded = [folding(size, repeats=r) for size, r in zip(self.resolution, self.repeats)]
            grid = warp_triton.positions(inverse, (len(self.y), len(self.x)), folded)
        else:
            grid = self._grid(inverse)
        samples = bilinear(extended, grid.to(images.dtype))
        return self.down[0](self.down[1](samples, -1), -2)

    def _grid(self, inverse: Tensor) -> Tensor:
        """Sampling positions (x, y) `[N, 2H + 10, 2W + 10, 2]` in one period, in [−1, 1]; beyond the extension 2, which is
        outside, where `bilinear` gives 0.
        """
        coordinates = []
        for row, (size, repeats) in enumerate(zip(self.resolution[::-1], self.repeats[::-1])):
            a, b, c = (inverse[:, row, k, None, None] for k in range(3))
            turns, beyond = fold(self.x * a + (self.y[:, None] * b + c), size, repeats=repeats)
            coordinates.append((turns * 2 - 1).masked_fill(beyond, 2))
        return torch.stack(coordinates, dim=-1)


class NearestWarp:
    """The warp of `AffineWarp` by the nearest pixel, for channels whose values are codes (of masks): no value arises
    between two of them.

    It selects pixels, so it is linear in the image and differentiable any number of times. The arguments are those of
    `AffineWarp`.
    """

    def __init__(
        self, resolution: tuple[int, int], device: torch.device | str | None = None, *, tile: Tile = "none"
    ) -> None:
        self.resolution, self.repeats = resolution, tiles_along(tile)
        self.y, self.x = (torch.arange(size, device=device) - (size - 1) / 2 for size in resolution)

    def __call__(self, images: Float[Tensor, "N C H W"], inverse: Float[Tensor, "N 3 3"]) -> Float[Tensor, "N C H W"]:
        """`[N, C, H, W]` → the same shape; `inverse` `[N, 3, 3]` and what lies beyond the border as in `AffineWarp`."""
        h, w = self.resolution
        places, seen = [], []
        for row, size, repeats in ((1, h, self.repeats[0]), (0, w, self.repeats[1])):
            a, b, c = (inverse[:, row, k, None, None] for k in range(3))
            pixels = self.x * a + (self.y[:, None] * b + c)
            index = (pixels + size / 2).floor().long()  # pixel i covers i - size/2 to i + 1 - size/2
            if repeats:
                places.append(index % size)
            else:
                around = index % (2 * size - 2)
                places.append(torch.minimum(around, 2 * size - 2 - around))
                seen.append(pixels.abs() <= 1.5 * size - 1)
        index = (places[0] * w + places[1]).flatten(1)[:, None].expand(-1, images.shape[1], -1)
        found = images.flatten(2).gather(2, index).view_as(images)
        for inside in seen:
            found = found * inside[:, None].to(found.dtype)
        return found
