"""Consistency: the discriminator is to answer alike for images that should be the same to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float


def consistency(one: Float[Tensor, " N"], other: Float[Tensor, " N"]) -> Float[Tensor, ""]:
    """Mean squared difference of two batches of logits `[N]`, a scalar.

    CR-GAN takes real images and their augmented selves (Zhang et al. 2020, eq. 2), bCR generated ones too, and zCR images
    of neighbouring latents (Zhao et al., "Improved Consistency Regularization for GANs", 2021, algorithms 1 and 2).
    """
    return (one - other).square().mean()


def diversity(one: Float[Tensor, "N C H W"], other: Float[Tensor, "N C H W"]) -> Float[Tensor, ""]:
    """−mean squared difference of images `[N, C, H, W]` of neighbouring latents: the generator's part of zCR, a scalar."""
    return -(one - other).square().mean()
