"""Affine warps of images through an orthonormal wavelet filter: band-limited, of fixed cost, twice differentiable.

The image is extended by reflection, or by itself where it repeats, upsampled twofold with the sym6 low-pass, sampled
bilinearly, and downsampled with the time-reversed filter (Karras et al., "Training Generative Adversarial Networks with
Limited Data", 2020, appendix B). The identity warp returns the image up to rounding.

The cost is fixed: the upsampled extension is a ring, whatever the transform, and nothing depends on the drawn values. On a
CPU, where values can be looked at for nothing, each image is warped the cheapest way instead (`warp_cpu`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from frugan.ops import warp_cpu
from frugan.ops.operator import transformed
from frugan.ops.rings import bilinear, downsampling_matrix, fold, sample_places, upsampling_matrix
from frugan.ops.tiling import Tile, tiles_along

if TYPE_CHECKING:
    from jaxtyping import Float

_DENSE_UP_TO, _BLOCK = 160, 32
"""Axes of more inputs than this use the band of their matrix, in blocks of so many outputs."""

_WORKSPACE = 2**26
"""Ring samples held at once; a larger batch is warped in parts."""


class AxisMap:
    """A fixed linear map along an axis of `[N, C, H, W]`, from a matrix whose rows touch few neighbours."""

    def __init__(self, matrix: np.ndarray, device: torch.device | str | None = None) -> None:
        self.size, inputs = matrix.shape
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
        """`[N, C, H, W]` → `[N, C, H', W]` (axis −2) or `[N, C, H, W']` (axis −1)"""
        if axis == -2:
            return self(x.mT, -1).mT
        matrix = self.matrix.to(x.dtype)
        if self.touched is None:
            return x @ matrix.mT
        blocks = x.mT.index_select(-2, self.touched).unflatten(-2, (matrix.shape[0], matrix.shape[2]))
        return (matrix @ blocks).flatten(-3, -2)[..., : self.size, :].mT


class AffineWarp:
    """Warps images of one size `(H, W)`, H and W ≥ 2, each by its own matrix; they repeat along the axes of `tile`.

    Workspace per image: at most 16 times its pixels for the upsampled rings, about 4 times for the samples.
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
        """`[N, C, H, W]` float32 or float64 → the same shape.

        `inverse` `[N, 3, 3]` takes an output position (x, y, 1), in pixels from the image's centre, x to the right
        and y downwards, to the input position shown there. Beyond H − 1 or W − 1 reflected pixels on a side all is
        zero; along an axis that repeats nothing is.
        """
        if images.device.type == "cpu" and not transformed():
            return warp_cpu.warp(images, inverse, self.tile)
        return self.by_rings(images, inverse)

    def by_rings(self, images: Tensor, inverse: Tensor) -> Tensor:
        """The same on any device, in parts."""
        some = max(1, _WORKSPACE // (16 * images.shape[1:].numel()))
        parts = [self.whole(*part) for part in zip(images.split(some), inverse.split(some))]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def whole(self, images: Tensor, inverse: Tensor) -> Tensor:
        """The same for all images at once, each by way of its whole rings."""
        rings, grid = self.up[1](self.up[0](images, -2), -1), self._grid(inverse).to(images.dtype)
        return self.down[0](self.down[1](bilinear(rings, grid), -1), -2)

    def _grid(self, inverse: Tensor) -> Tensor:
        """Sampling positions (x, y) `[N, 2H + 10, 2W + 10, 2]` on the rings, in [−1, 1]; 2 where nothing is to be seen."""
        coordinates = []
        for row, (size, repeats) in enumerate(zip(self.resolution[::-1], self.repeats[::-1])):
            a, b, c = (inverse[:, row, k, None, None] for k in range(3))
            turns, beyond = fold(self.x * a + (self.y[:, None] * b + c), size, repeats=repeats)
            coordinates.append((turns * 2 - 1).masked_fill(beyond, 2))
        return torch.stack(coordinates, dim=-1)


class NearestWarp:
    """The same warp by the nearest pixel, for channels whose values mean something: nothing new arises between two of them.

    A selection of pixels, linear in the image and differentiable as often as wanted.
    """

    def __init__(
        self, resolution: tuple[int, int], device: torch.device | str | None = None, *, tile: Tile = "none"
    ) -> None:
        self.resolution, self.repeats = resolution, tiles_along(tile)
        self.y, self.x = (torch.arange(size, device=device) - (size - 1) / 2 for size in resolution)

    def __call__(self, images: Float[Tensor, "N C H W"], inverse: Float[Tensor, "N 3 3"]) -> Float[Tensor, "N C H W"]:
        """`[N, C, H, W]` → the same shape; `inverse` `[N, 3, 3]` and what lies beyond the border as in `AffineWarp`."""
        (h, w), places, seen = self.resolution, [], []
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
