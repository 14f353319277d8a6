"""Adversarial losses: what the two networks play for."""

from __future__ import annotations

from typing import Protocol

import torch.nn.functional as F
from torch import Tensor


class AdversarialLoss(Protocol):
    """Losses per sample `[N]` from logits `[N]`; both are minimised."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor: ...

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor: ...


class NonSaturating:
    """The non-saturating logistic loss (Goodfellow et al., "Generative Adversarial Nets", 2014, section 3)."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """−log σ(D(x)) − log(1 − σ(D(G(z))))."""
        return F.softplus(-real) + F.softplus(fake)

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """−log σ(D(G(z)))."""
        return F.softplus(-fake)


LOSSES: dict[str, AdversarialLoss] = {"non-saturating": NonSaturating()}
