"""Optional terms of the discriminator's and the generator's loss: one class each, which says what it draws and what it adds.

    loss = adversarial loss + Σ terms

over the terms that have a weight in the objective, in the order of `TERMS`. Random tensors are drawn for n images
outside of the loss, so that a loss is a pure function; for real and generated images together they are drawn once and
halved. All losses are 0-d and minimised.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from frugan.losses.config import ObjectiveConfig
from frugan.losses.consistency import consistency, diversity
from frugan.losses.penalties import Critic, gradient_penalty, lecam_penalty
from frugan.ops.rotations import quarter_turns

Drawn: TypeAlias = "Tensor | Sequence[Drawn] | Mapping[str, Drawn] | None"
"""Random tensors `[n, …]` for n images, nested; None where nothing is drawn."""


class Augmentation(Protocol):
    """A random transform of images, drawn in one step and applied, differentiably, in another (`frugan.augment`)."""

    def draw(self, n: int, p: float | Tensor, *, generator: torch.Generator) -> Drawn:
        """Draws the transform of n images.

        Args:
            n: number of images.
            p: the probability of the transform, a number in [0, 1] or a 0-d tensor.
            generator: on the device of the images.

        Returns:
            Random tensors `[n, …]`, for `apply`.
        """
        ...

    def apply(self, images: Tensor, draw: Any) -> Tensor: ...


class Seen(NamedTuple):
    """A batch of n images together with D's view of it: D's functions below include the batch's labels and random draws."""

    images: Tensor
    """`[n, C, H, W]`, augmented."""
    logits: Tensor
    """`[n]`."""
    judge: Critic
    """Augmented images → logits `[n]`."""
    rotation_logits: Critic
    """Augmented images → logits `[n, 4]` of D's rotation head."""
    show: Callable[[Tensor], Tensor]
    """Generated images → images for `judge`, by the same random draws: corrupted as real ones are (AmbientGAN), then augmented."""
    before: Tensor
    """`[n, C, H, W]`: the images before corruption and augmentation."""
    perturbed: Tensor | None
    """`[n, C, H, W]`: G(z + Δz) for the generated images G(z), before corruption and augmentation (zCR); else None."""


class Term:
    """An optional term of both losses. By default it draws nothing and adds nothing."""

    @classmethod
    def of(cls, config: ObjectiveConfig, across: Callable[[], Augmentation]) -> Term | None:
        """The term with its weights in an objective; None where they are 0.

        Args:
            config: the objective.
            across: makes the augmentation for consistency, called only where a term needs it.
        """
        raise NotImplementedError

    def draw(self, n: int, rng: torch.Generator) -> Drawn:
        """Random tensors `[n, …]` for n images, on the generator's device; None where the term needs none."""
        return None

    def discriminator_loss(
        self, real: Seen, fake: Seen, drawn_real: Any, drawn_fake: Any, means: Tensor
    ) -> Tensor | float:
        """The term of D's loss.

        Args:
            real: real images as D saw them.
            fake: generated images as D saw them.
            drawn_real, drawn_fake: what `draw` gave for these images.
            means: `[2]`, moving averages of the logits of real and of generated images.
        """
        return 0.0

    def generator_loss(self, fake: Seen, drawn: Any) -> Tensor | float:
        """The term of G's loss.

        Args:
            fake: generated images as D saw them.
            drawn: what `draw` gave for them.
        """
        return 0.0


class Consistency(Term):
    """CR and bCR: D is trained to give equal logits to an image and to its augmented version.

    w · mean (D(T(x)) − D(x))² (`losses/consistency.py`).

    Args:
        real_weight, fake_weight: w for real and for generated images.
        augment: T.
    """

    def __init__(self, real_weight: float, fake_weight: float, augment: Augmentation) -> None:
        self.real_weight, self.fake_weight, self.augment = real_weight, fake_weight, augment

    @classmethod
    def of(cls, config: ObjectiveConfig, across: Callable[[], Augmentation]) -> Term | None:
        weights = config.consistency_real, config.consistency_fake
        return cls(*weights, across()) if any(weights) else None

    def draw(self, n: int, rng: torch.Generator) -> Drawn:
        return self.augment.draw(n, 1.0, generator=rng)

    def discriminator_loss(
        self, real: Seen, fake: Seen, drawn_real: Drawn, drawn_fake: Drawn, means: Tensor
    ) -> Tensor | float:
        loss = 0.0
        for weight, seen, drawn in ((self.real_weight, real, drawn_real), (self.fake_weight, fake, drawn_fake)):
            if weight:
                augmented = seen.judge(self.augment.apply(seen.images, drawn))
                loss = loss + weight * consistency(seen.logits, augmented)
        return loss


class LatentConsistency(Term):
    """zCR: D is trained to give equal logits to G(z) and G(z + Δz), and G to make these images differ (`losses/consistency.py`).

    Args:
        sigma: σ of Δz ~ N(0, σ²).
        generator_weight, discriminator_weight: of the term in either loss.
    """

    def __init__(self, sigma: float, generator_weight: float, discriminator_weight: float) -> None:
        self.sigma, self.generator_weight, self.discriminator_weight = sigma, generator_weight, discriminator_weight

    @classmethod
    def of(cls, config: ObjectiveConfig, across: Callable[[], Augmentation]) -> Term | None:
        weights = config.latent_consistency_generator, config.latent_consistency_discriminator
        return cls(config.latent_consistency_sigma, *weights) if any(weights) else None

    def draw_step(self, z: Tensor, rng: torch.Generator) -> Tensor:
        """The difference N(0, σ²) between the neighbouring latents, shaped like z."""
        return torch.randn(z.shape, generator=rng, device=rng.device) * self.sigma

    def discriminator_loss(
        self, real: Seen, fake: Seen, drawn_real: None, drawn_fake: None, means: Tensor
    ) -> Tensor | float:
        if fake.perturbed is None:
            return 0.0
        return self.discriminator_weight * consistency(fake.logits, fake.judge(fake.show(fake.perturbed)))

    def generator_loss(self, fake: Seen, drawn: None) -> Tensor | float:
        return 0.0 if fake.perturbed is None else self.generator_weight * diversity(fake.before, fake.perturbed)


class AuxiliaryRotation(Term):
    """Auxiliary rotation loss: D classifies by how many quarter turns an image was rotated, by cross-entropy (SS-GAN:
    Chen et al. 2019, eq. 3).
    """

    def __init__(self, generator_weight: float, discriminator_weight: float) -> None:
        self.generator_weight, self.discriminator_weight = generator_weight, discriminator_weight

    @classmethod
    def of(cls, config: ObjectiveConfig, across: Callable[[], Augmentation]) -> Term | None:
        weights = config.rotation_generator, config.rotation_discriminator
        return cls(*weights) if any(weights) else None

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        """One-hot `[n, 4]`."""
        return F.one_hot(torch.randint(4, (n,), generator=rng, device=rng.device), 4).float()

    def discriminator_loss(
        self, real: Seen, fake: Seen, drawn_real: Tensor, drawn_fake: Tensor, means: Tensor
    ) -> Tensor | float:
        return self.discriminator_weight * self._loss(real, drawn_real) if self.discriminator_weight else 0.0

    def generator_loss(self, fake: Seen, drawn: Tensor) -> Tensor | float:
        return self.generator_weight * self._loss(fake, drawn) if self.generator_weight else 0.0

    def _loss(self, seen: Seen, turned: Tensor) -> Tensor:
        return F.cross_entropy(seen.rotation_logits(quarter_turns(seen.images, turned)), turned)


class GradientPenalty(Term):
    """WGAN-GP's penalty at x̂ = (1 − u)·generated + u·real with u ~ U(0, 1), and the drift term ε·mean D(x)²."""

    def __init__(self, weight: float, drift: float) -> None:
        self.weight, self.drift = weight, drift

    @classmethod
    def of(cls, config: ObjectiveConfig, across: Callable[[], Augmentation]) -> Term | None:
        return cls(config.gradient_penalty, config.drift) if config.gradient_penalty else None

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        """u `[n, 1, 1, 1]`."""
        return torch.rand(n, 1, 1, 1, generator=rng, device=rng.device)

    def discriminator_loss(
        self, real: Seen, fake: Seen, drawn_real: Tensor, drawn_fake: Tensor, means: Tensor
    ) -> Tensor | float:
        between = torch.lerp(fake.images, real.images, drawn_real)
        return self.weight * gradient_penalty(real.judge, between) + self.drift * real.logits.square().mean()


class LeCam(Term):
    """LeCam's penalty: the logits of real images are held near the moving average of generated images' logits, and vice versa."""

    def __init__(self, weight: float) -> None:
        self.weight = weight

    @classmethod
    def of(cls, config: ObjectiveConfig, across: Callable[[], Augmentation]) -> Term | None:
        return cls(config.lecam) if config.lecam else None

    def discriminator_loss(
        self, real: Seen, fake: Seen, drawn_real: None, drawn_fake: None, means: Tensor
    ) -> Tensor | float:
        return self.weight * lecam_penalty(real.logits, fake.logits, means)


TERMS: tuple[type[Term], ...] = (Consistency, LatentConsistency, AuxiliaryRotation, GradientPenalty, LeCam)


def terms_of(config: ObjectiveConfig, across: Callable[[], Augmentation]) -> tuple[Term, ...]:
    """The optional terms of an objective, in the order in which they draw and are added.

    Args:
        config: the objective.
        across: makes the augmentation for consistency, called only where a term needs it.
    """
    return tuple(term for kind in TERMS if (term := kind.of(config, across)) is not None)
