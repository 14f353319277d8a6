"""The objective: which adversarial loss, penalties and optional terms a run trains with, and their weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from frugan.checks import Count, NotNegative, Positive, Probability, check_choice, check_fields, check_number
from frugan.errors import FruganError
from frugan.losses.adversarial import LOSSES


@dataclass(frozen=True)
class ObjectiveConfig:
    """The objective. A term of weight 0 is not computed.

    Attributes:
        loss: the adversarial loss, a key of `LOSSES`.
        r1_gamma: γ of R1, a lazy penalty of D.
        r1_interval: it is computed every so many steps, and scaled by that (Karras et al. 2020, StyleGAN2, appendix B).
        path_length_weight: weight of path-length regularisation, a lazy penalty of G.
        path_length_interval: likewise.
        path_length_decay: by which the running mean of path lengths moves in a step.
        path_length_shrink: divides the number of images of that penalty.
        style_mixing: probability that a second latent gives the styles from a random layer on.
        keep_path_length_phase, keep_r1_phase: whether a penalty of weight 0 still counts for the correction of Adam's
            rates (`training.state.lazy_adam`), as in the published runs. Configurations without these fields were
            trained with False.
        r2: whether R1's penalty is computed on generated images, too.
        gradient_penalty: weight of WGAN-GP's penalty in D, in every step as all of the following.
        drift: ε of ε·mean D(x)², with the gradient penalty.
        lecam: weight of LeCam's penalty in D.
        lecam_decay: of its moving averages of logits.
        consistency_real, consistency_fake: weights of D's consistency on real and on generated images (bCR).
        consistency_transforms: the transforms across which D is to be consistent.
        consistency_reach: how far these translate images, as a multiple of ADA's.
        latent_consistency_sigma: σ of the step N(0, σ²) in z (zCR).
        latent_consistency_generator, latent_consistency_discriminator: its weights in G and in D.
        rotation_generator, rotation_discriminator: weights of the auxiliary rotation loss.
        pseudo: whether a real image is replaced by a generated one with probability p (APA).
        vicinity: of measured labels (`frugan.training.vicinity`).
        vicinity_sigma, vicinity_kappa: its widths σ and κ for each column of the labels in its unit, 0 for classes.
    """

    loss: str = "non-saturating"
    r1_gamma: NotNegative = 1.0
    r1_interval: Count = 16
    path_length_weight: NotNegative = 2.0
    path_length_interval: Count = 4
    path_length_decay: Probability = 0.01
    path_length_shrink: Count = 2
    style_mixing: Probability = 0.9
    keep_path_length_phase: bool = False
    keep_r1_phase: bool = False
    r2: bool = False
    gradient_penalty: NotNegative = 0.0
    drift: NotNegative = 0.0
    lecam: NotNegative = 0.0
    lecam_decay: Probability = 0.99
    consistency_real: NotNegative = 0.0
    consistency_fake: NotNegative = 0.0
    consistency_transforms: tuple[str, ...] = ("xint",)
    consistency_reach: Positive = 0.25
    latent_consistency_sigma: NotNegative = 0.1
    latent_consistency_generator: NotNegative = 0.0
    latent_consistency_discriminator: NotNegative = 0.0
    rotation_generator: NotNegative = 0.0
    rotation_discriminator: NotNegative = 0.0
    pseudo: bool = False
    vicinity: Literal["none", "hard", "soft"] = "none"
    vicinity_sigma: tuple[float, ...] = ()
    vicinity_kappa: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        check_choice("loss", self.loss, LOSSES)
        check_fields(self)
        for name in ("vicinity_sigma", "vicinity_kappa"):
            for width in getattr(self, name):
                check_number(name, width, at_least=0)
        if self.vicinity != "none" and not any(self.vicinity_kappa):
            raise FruganError(f"vicinity {self.vicinity}: give vicinity_kappa a width above 0 for a measured label")

    @property
    def has_path_length_phase(self) -> bool:
        return self.path_length_weight > 0 or self.keep_path_length_phase

    @property
    def consistent(self) -> bool:
        """Whether D is trained to be consistent across `consistency_transforms`."""
        return self.consistency_real > 0 or self.consistency_fake > 0

    @property
    def has_r1_phase(self) -> bool:
        return self.r1_gamma > 0 or self.keep_r1_phase
