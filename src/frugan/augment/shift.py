"""Circular shifts: images that repeat, shown from anywhere, so that no place in them is the border."""

from __future__ import annotations

import torch
from torch import Tensor

from frugan.ops.tiling import Tile, roll, tiles_along


class CircularShift:
    """Moves each image `[N, C, H, W]` around its border by any whole number of pixels; always on.

    Args:
        tile: axes along which images repeat, and are moved.
        resolution: (H, W).
        device: of the images.
    """

    def __init__(self, tile: Tile, *, resolution: tuple[int, int], device: torch.device | str | None = None) -> None:
        reach = [size if repeats else 1 for size, repeats in zip(resolution, tiles_along(tile))]
        self.reach = torch.tensor(reach, device=device)

    @torch.no_grad()
    def draw(self, n: int, p: float | Tensor, *, generator: torch.Generator) -> Tensor:
        """Draws the shifts of n images.

        Args:
            n: number of images.
            p: has no effect, since images are always moved.
            generator: on the device of the images.

        Returns:
            Pixels (down, right), int64 `[n, 2]`, all shifts equally likely.
        """
        return (torch.rand(n, 2, generator=generator, device=generator.device) * self.reach).long() % self.reach

    def apply(self, images: Tensor, draw: Tensor) -> Tensor:
        """Images `[N, C, H, W]` → the same, moved."""
        return roll(images, draw)
