"""Scores that need no trained classifier: numbers computed from images, to find boundaries with and to measure edits by.

Each takes images `[N, C, H, W]` in [-1, 1] to float32 `[N]`. The object is what differs from the colour of the border (or
what is opaque, where there is alpha).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from frugan.channels import has_alpha


class Score(NamedTuple):
    """A built-in score."""

    function: Callable[[Tensor], Tensor]
    summary: str


def _colours(images: Tensor) -> Tensor:
    """`[N, 3, H, W]` in [0, 1]; grey is repeated, alpha and further channels are left out."""
    channels = images.shape[1]
    kept = images[:, :3] if channels >= 3 else images[:, :1].expand(-1, 3, -1, -1)
    return (kept.float() + 1) / 2


def object_weights(images: Tensor) -> Tensor:
    """The weight of each pixel as a part of the object: `[N, H, W]` in [0, 1]."""
    if has_alpha(images.shape[1]):
        return (images[:, -1].float() + 1) / 2
    colours = _colours(images)
    border = torch.cat(
        [colours[:, :, 0], colours[:, :, -1], colours[:, :, 1:-1, 0], colours[:, :, 1:-1, -1]], dim=2
    ).median(dim=2)
    away = (colours - border.values[:, :, None, None]).abs().amax(dim=1)
    return (away / 0.25).clamp(0, 1)


def brightness(images: Tensor) -> Tensor:
    """Mean of the luma (BT.601)."""
    r, g, b = _colours(images).mean(dim=(2, 3)).unbind(1)
    return 0.299 * r + 0.587 * g + 0.114 * b


def contrast(images: Tensor) -> Tensor:
    """Standard deviation of the luma over pixels."""
    r, g, b = _colours(images).unbind(1)
    return (0.299 * r + 0.587 * g + 0.114 * b).flatten(1).std(dim=1)


def saturation(images: Tensor) -> Tensor:
    """Mean of the difference between the largest and the smallest colour channel."""
    colours = _colours(images)
    return (colours.amax(1) - colours.amin(1)).mean(dim=(1, 2))


def hue(images: Tensor) -> Tensor:
    """Colour temperature, from cold (blue) to warm (red): mean of R - B."""
    means = _colours(images).mean(dim=(2, 3))
    return means[:, 0] - means[:, 2]


def left_right(images: Tensor) -> Tensor:
    """The horizontal position of the object: -1 at the left edge to 1 at the right one; 0 where there is none."""
    weights = object_weights(images)
    x = torch.linspace(-1, 1, weights.shape[2], device=weights.device)
    return (weights * x).sum(dim=(1, 2)) / weights.sum(dim=(1, 2)).clamp_min(1e-6)


def up_down(images: Tensor) -> Tensor:
    """The vertical position of the object: -1 at the upper edge to 1 at the lower one; 0 where there is none."""
    return left_right(images.transpose(2, 3))


def size(images: Tensor) -> Tensor:
    """Share of the image that the object takes."""
    return object_weights(images).mean(dim=(1, 2))


SCORES: dict[str, Score] = {
    "brightness": Score(brightness, "mean luma"),
    "contrast": Score(contrast, "standard deviation of the luma"),
    "saturation": Score(saturation, "mean difference of the strongest and the weakest colour"),
    "hue": Score(hue, "from cold (blue) to warm (red)"),
    "left-right": Score(left_right, "where the object lies, from left to right"),
    "up-down": Score(up_down, "where the object lies, from top to bottom"),
    "size": Score(size, "share of the image that differs from the border's colour"),
}
