"""Adversarial losses of D and of G as functions of logits: non-saturating, Wasserstein, hinge, relativistic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float


class AdversarialLoss(Protocol):
    """Losses per sample `[N]` from logits `[N]`, `real` of real images and `fake` of generated ones; both are minimised."""

    paired: bool
    """Whether the generator's loss needs the logits of as many real images."""
    centred: bool
    """Whether positive logits mean "real" and negative ones "generated", as the heuristic r_t = E[sign D(x)] assumes."""

    def discriminator(self, real: Float[Tensor, " N"], fake: Float[Tensor, " N"]) -> Float[Tensor, " N"]: ...

    def generator(self, fake: Float[Tensor, " N"], real: Float[Tensor, " N"] | None = None) -> Float[Tensor, " N"]: ...


class NonSaturating:
    """The non-saturating logistic loss (Goodfellow et al., "Generative Adversarial Nets", 2014, section 3)."""

    paired, centred = False, True

    def discriminator(self, real: Float[Tensor, " N"], fake: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
        """−log σ(D(x)) − log(1 − σ(D(G(z))))."""
        return F.softplus(-real) + F.softplus(fake)

    def generator(self, fake: Float[Tensor, " N"], real: Float[Tensor, " N"] | None = None) -> Float[Tensor, " N"]:
        """−log σ(D(G(z)))."""
        return F.softplus(-fake)


class Wasserstein:
    """The dual form of the Wasserstein distance (Arjovsky et al., "Wasserstein GAN", 2017, eq. 2)."""

    paired, centred = False, False

    def discriminator(self, real: Float[Tensor, " N"], fake: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
        """D(G(z)) − D(x)."""
        return fake - real

    def generator(self, fake: Float[Tensor, " N"], real: Float[Tensor, " N"] | None = None) -> Float[Tensor, " N"]:
        """−D(G(z))."""
        return -fake


class Hinge:
    """The hinge loss (Lim & Ye, "Geometric GAN", 2017, eqs. 21 and 22)."""

    paired, centred = False, True

    def discriminator(self, real: Float[Tensor, " N"], fake: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
        """max(0, 1 − D(x)) + max(0, 1 + D(G(z)))."""
        return F.relu(1 - real) + F.relu(1 + fake)

    def generator(self, fake: Float[Tensor, " N"], real: Float[Tensor, " N"] | None = None) -> Float[Tensor, " N"]:
        """−D(G(z))."""
        return -fake


class Relativistic:
    """Relativistic pairing (Jolicoeur-Martineau, 2019; R3GAN: Huang et al., 2024, eq. 2): only differences count."""

    paired, centred = True, False

    def discriminator(self, real: Float[Tensor, " N"], fake: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
        """−log σ(D(x) − D(G(z)))."""
        return F.softplus(fake - real)

    def generator(self, fake: Float[Tensor, " N"], real: Float[Tensor, " N"] | None = None) -> Float[Tensor, " N"]:
        """−log σ(D(G(z)) − D(x))."""
        assert real is not None
        return F.softplus(real - fake)


LOSSES: dict[str, AdversarialLoss] = {
    "non-saturating": NonSaturating(),
    "wasserstein": Wasserstein(),
    "hinge": Hinge(),
    "relativistic": Relativistic(),
}
