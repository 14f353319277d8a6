"""Low-dimensional features of images for comparing distributions: a few hundred numbers for each image, computed
without a network.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from frugan.errors import FruganError

Array = NDArray[np.float64]
Function = Callable[[Tensor], Tensor]
"""Images `[N, C, H, W]` in [-1, 1] → as many alike; may draw from torch's global generator."""

FEWEST = 100
"""Fewest images that can be compared."""
_SIDE = 16
"""Largest side in pixels of small images."""
_COMPONENTS, _WAVES = 64, 512
"""Most principal components; number of random cosines."""


def applied(function: Function, images: Tensor) -> Tensor:
    """The result of a user's function of images; raises `FruganError` where it is not as many finite images of the same shape."""
    out = function(images.clone())
    if not isinstance(out, Tensor) or out.shape != images.shape or not out.isfinite().all():
        made = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise FruganError(
            f"the function made {made} of images {tuple(images.shape)}; return as many, alike, all finite"
        )
    return out


def small(images: Tensor) -> Array:
    """Small versions of images, of 16 pixels a side at most, by area averages, and the covariances of their channels.

    At that size generated images differ least from real ones.

    Args:
        images: `[N, C, H, W]` in [-1, 1].

    Returns:
        float64 `[N, D]`: the averaged pixels, then the upper triangle of the covariance matrix of their channels.
    """
    images = images.to("cpu", torch.float32)
    pixels = F.interpolate(images, size=[min(size, _SIDE) for size in images.shape[2:]], mode="area").flatten(2)
    centred = pixels - pixels.mean(2, keepdim=True)
    rows, columns = np.triu_indices(pixels.shape[1])
    covariances = (centred @ centred.mT / pixels.shape[2])[:, rows, columns]
    return torch.cat([pixels.flatten(1), pixels.shape[2] ** 0.5 * covariances], dim=1).double().numpy()


class ImageFeatures:
    """Features of small images: principal components, and random cosines of these whose inner products approximate a
    Gaussian kernel.

    The kernel's width is the median distance (Rahimi & Recht, "Random Features for Large-Scale Kernel Machines", 2007).

    Args:
        pixels: `[N, D]`, from which the components and the width are taken.
        rng: draws the cosines' frequencies and phases.
    """

    def __init__(self, pixels: Array, rng: np.random.Generator) -> None:
        self.mean = pixels.mean(0)
        values, vectors = np.linalg.eigh(np.cov(pixels - self.mean, rowvar=False))
        self.axes = vectors[:, -_COMPONENTS:] / max(values[-1], 1e-12) ** 0.5
        some = self.components(pixels[rng.permutation(len(pixels))[:500]])
        width = np.median(np.linalg.norm(some[:, None] - some, axis=2)) or 1.0
        self.waves = rng.standard_normal((self.axes.shape[1], _WAVES)) / width
        self.phases = rng.uniform(0, 2 * np.pi, _WAVES)

    def components(self, pixels: Array) -> Array:
        """Principal components `[…, 64]` at most of `[…, D]`, scaled so that the first one has variance 1."""
        return (pixels - self.mean) @ self.axes

    def kernel(self, pixels: Array) -> Array:
        """Random cosine features `[…, 512]` of `[…, D]`, of mean squared norm 1."""
        return np.cos(self.components(pixels) @ self.waves + self.phases) * (2 / _WAVES) ** 0.5

    def for_classifier(self, pixels: Array) -> Array:
        """The inputs of a linear classifier: a constant 1, the components, and the cosines in [−1, 1], `[…, 577]` at most."""
        one = np.ones((*pixels.shape[:-1], 1))
        return np.concatenate([one, self.components(pixels), (_WAVES / 2) ** 0.5 * self.kernel(pixels)], axis=-1)
