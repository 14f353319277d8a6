"""The objective: which adversarial loss, penalties and optional terms a run trains with, and their weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from frugan.checks import Count, NotNegative, Positive, Probability, check_choice, check_fields, check_number
from frugan.errors import FruganError
from frugan.losses.adversarial import LOSSES


@dataclass(frozen=True)
class ObjectiveConfig:
    """The objective. Intervals are in steps; a lazy penalty is scaled by its interval (StyleGAN2, appendix B).

    `path_length_shrink` divides the batch of the path-length penalty; weight 0 switches a term off. With
    `keep_path_length_phase` or `keep_r1_phase` a penalty of weight 0 still counts as a phase for Adam's lazy correction, as in
    the published runs; False is what earlier configurations, which lack these fields, trained with. `r2` takes R1's penalty
    on generated images too, measured where real ones are. Terms of every step, in D unless said: `gradient_penalty` between
    real and generated images, `drift` · D(x)², `lecam`; `consistency_real` and `consistency_fake` with the augmentation
    `consistency_transforms`, its translations `consistency_reach` times as far as ADA's; zCR in D and in G, with z + N(0,
    `latent_consistency_sigma`²); the prediction of quarter turns, in both. With `pseudo` a real image is a generated one
    with probability p (APA). `vicinity`: images of nearly the same measured label stand in for those of just that label
    (`frugan.training.vicinity`), with the widths `vicinity_sigma` and `vicinity_kappa` of each label column, 0 for classes.
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
