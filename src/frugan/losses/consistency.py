"""Consistency: the discriminator is to answer alike for images that should be the same to it."""

from __future__ import annotations

from torch import Tensor


def consistency(one: Tensor, other: Tensor) -> Tensor:
    """Mean squared difference of two batches of logits `[N]`, a scalar.

    CR-GAN takes real images and their augmented selves (Zhang et al. 2020, eq. 2), bCR generated ones too, and zCR images
    of neighbouring latents (Zhao et al., "Improved Consistency Regularization for GANs", 2021, algorithms 1 and 2).
    """
    return (one - other).square().mean()


def diversity(one: Tensor, other: Tensor) -> Tensor:
    """−mean squared difference of images `[N, C, H, W]` of neighbouring latents: the generator's part of zCR, a scalar."""
    return -(one - other).square().mean()
