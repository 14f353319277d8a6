"""Consistency regularisation: the discriminator is trained to give equal logits to two versions of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float


def consistency(one: Float[Tensor, " N"], other: Float[Tensor, " N"]) -> Float[Tensor, ""]:
    """mean (one − other)² of two batches of logits `[N]`: a scalar.

    In CR-GAN these are D(x) and D(T(x)) of real images x and an augmentation T (Zhang et al., "Consistency Regularization
    for GANs", 2020, eq. 2); bCR adds generated images (Zhao et al., "Improved Consistency Regularization for GANs", 2021,
    algorithm 1); zCR takes images of neighbouring latents, D(G(z)) and D(G(z + Δz)) (algorithm 2).
    """
    return (one - other).square().mean()


def diversity(one: Float[Tensor, "N C H W"], other: Float[Tensor, "N C H W"]) -> Float[Tensor, ""]:
    """−mean (one − other)² of images `[N, C, H, W]`, G(z) and G(z + Δz): a scalar, the term of zCR in the generator's loss."""
    return -(one - other).square().mean()
