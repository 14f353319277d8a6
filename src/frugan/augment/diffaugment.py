"""DiffAugment: an augmentation that is always on (Zhao et al., "Differentiable Augmentation for Data-Efficient GAN
Training", 2020, section 3.2). As in `AugmentPipeline`, drawing and applying are apart.
"""

from __future__ import annotations

import torch
from torch import Tensor

from frugan.channels import colour_channels
from frugan.checks import check_choice
from frugan.ops.tiling import Tile, tiles_along

Drawn = dict[str, Tensor]

POLICIES: dict[str, str] = {
    "color": "uuu",  # brightness ±0.5, saturation ×[0, 2] about the mean of the channels, contrast ×[0.5, 1.5] about the image's
    "translation": "uu",  # whole pixels up to ⅛ of a side, behind them zeros or, where the image repeats, its other end
    "cutout": "uu",  # a box of half the sides, anywhere, set to zero
}
"""By name, in the order of application: a letter for each uniform number that it draws for an image."""


class DiffAugment:
    """DiffAugment: colour, translation and cutout, always applied, for images `[N, C, H, W]` nominally in [-1, 1].

    Colour acts on the first one or three channels, as in `AugmentPipeline`, and never on masks; the rest on all
    channels.

    Args:
        policy: some of "color,translation,cutout".
        channels: C, masks included.
        resolution: (height, width).
        masks: how many of the last channels are masks.
        tile: axes along which images repeat.
        device: of the images.
    """

    def __init__(
        self,
        policy: str,
        *,
        channels: int,
        resolution: tuple[int, int],
        masks: int = 0,
        tile: Tile = "none",
        device: torch.device | str | None = None,
    ) -> None:
        names = policy.split(",")
        for name in names:
            check_choice("unknown policy of DiffAugment", name, POLICIES)
        self.policy = [name for name in POLICIES if name in names]
        self.color_channels = colour_channels(channels - masks)
        self.resolution, self.device = resolution, device
        self.tile: Tile = tile

    @torch.no_grad()
    def draw(self, n: int, p: float | Tensor, *, generator: torch.Generator) -> Drawn:
        """Draws the transforms of n images.

        Args:
            n: number of images.
            p: has no effect, since the policy is always on.
            generator: on the device of the images.

        Returns:
            Uniform variates `[n, k]` for each part of the policy.
        """
        device = generator.device
        return {k: torch.rand(n, len(POLICIES[k]), generator=generator, device=device) for k in self.policy}

    def apply(self, images: Tensor, draw: Drawn) -> Tensor:
        """Images `[N, C, H, W]` → the same shape."""
        x = images
        if "color" in draw and self.color_channels:
            c = self.color_channels
            x = torch.cat([_color(x[:, :c], draw["color"]), x[:, c:]], dim=1)
        if "translation" in draw:
            x = _translate(x, draw["translation"], self.tile)
        if "cutout" in draw:
            x = _cut(x, draw["cutout"])
        return x


def _color(x: Tensor, u: Tensor) -> Tensor:
    brightness, saturation, contrast = (u[:, i, None, None, None] for i in range(3))
    x = x + (brightness - 0.5)
    mean = x.mean(dim=1, keepdim=True)
    x = mean + (x - mean) * (saturation * 2)
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (x - mean) * (contrast + 0.5)


def _translate(x: Tensor, u: Tensor, tile: Tile) -> Tensor:
    """Images translated by −m … m pixels along each axis, m = ⅛ of the side (rounded), all shifts equally likely."""
    n, _, h, w = x.shape
    repeats_y, repeats_x = tiles_along(tile)
    rows, inside_h = _shifted(h, u[:, 0], repeats_y)
    columns, inside_w = _shifted(w, u[:, 1], repeats_x)
    batch = torch.arange(n, device=x.device)[:, None, None]
    moved = x.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    inside = inside_h[:, :, None] & inside_w[:, None, :]
    return moved * inside[:, None]


def _shifted(size: int, u: Tensor, repeats: bool) -> tuple[Tensor, Tensor]:
    """For each image the positions on an axis that a shift by its variate u `[N]` in [0, 1) shows `[N, size]`, and which exist."""
    most = round(size / 8)
    at = torch.arange(size, device=u.device) - _whole(u, 2 * most + 1)[:, None] + most
    at = at % size if repeats else at
    return at.clamp(0, size - 1), (at >= 0) & (at < size)


def _cut(x: Tensor, u: Tensor) -> Tensor:
    """A box of half the sides, its centre at any pixel, or between the last and the border."""
    spans = []
    for i, size in enumerate(x.shape[2:]):
        half = round(size / 2)
        first = _whole(u[:, i], size + (1 - half % 2)) - half // 2
        at = torch.arange(size, device=x.device) - first[:, None]
        spans.append((at >= 0) & (at < half))
    box = spans[0][:, :, None] & spans[1][:, None, :]
    return x.masked_fill(box[:, None], 0)


def _whole(u: Tensor, count: int) -> Tensor:
    """u in [0, 1) → 0 … count − 1, equally likely."""
    return (u * count).long().clamp(max=count - 1)
