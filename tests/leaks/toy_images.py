"""Toy images whose state under a group is known."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def toy_images(n: int, seed: int = 0, shape: tuple[int, int, int] = (3, 16, 16)) -> Tensor:
    """`[n, C, H, W]` of a `shape` C, H, W: a sky above, a ground below, a coloured disc to the left; positions and colours vary.

    One channel is the mean of three colours; a fourth, opacity, grows from the left; further ones are mixtures of the colours.
    """
    images, (channels, h, w) = _squares(n, seed), shape
    grow = torch.linspace(-1, 1, 16).expand(n, 1, 16, 16)
    mixed = torch.einsum("kc,nchw->nkhw", torch.eye(9, 3).roll(1, 1) + 0.2, images)
    images = {1: images.mean(1, keepdim=True), 3: images, 4: torch.cat([images, grow], 1)}.get(
        channels, mixed[:, :channels]
    )
    return images if (h, w) == (16, 16) else F.interpolate(images, size=(h, w), mode="bilinear").clamp(-1, 1)


def _squares(n: int, seed: int) -> Tensor:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:16, :16]
    horizon = rng.integers(7, 12, n)[:, None, None]
    cx, cy, r = (rng.uniform(*span, n)[:, None, None] for span in ((3, 6), (4, 11), (2, 4)))
    disc = (x - cx) ** 2 + (y - cy) ** 2 < r**2
    sky = np.array([0.2, 0.4, 0.9])[:, None, None] + rng.normal(0, 0.1, (n, 3, 1, 1))
    ground = np.array([-0.4, -0.2, -0.7])[:, None, None] + rng.normal(0, 0.1, (n, 3, 1, 1))
    ball = np.array([0.9, -0.3, -0.5])[:, None, None] + rng.normal(0, 0.1, (n, 3, 1, 1))
    images = np.where((y < horizon)[:, None], sky, ground)
    images = np.where(disc[:, None], ball, images) + rng.normal(0, 0.03, (n, 3, 16, 16))
    return torch.from_numpy(images).float().clamp(-1, 1)
