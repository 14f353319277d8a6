"""What the networks are trained for: adversarial losses and penalties, as functions of logits and callables."""

from frugan.losses.adversarial import LOSSES, AdversarialLoss, NonSaturating
from frugan.losses.consistency import consistency, diversity
from frugan.losses.penalties import (
    AUTOGRAD_TRACED,
    gradient_norm,
    gradient_penalty,
    lecam_penalty,
    path_length_noise,
    path_length_penalty,
    path_lengths,
    r1_penalty,
)

__all__ = [
    "AUTOGRAD_TRACED",
    "LOSSES",
    "AdversarialLoss",
    "NonSaturating",
    "consistency",
    "diversity",
    "gradient_norm",
    "gradient_penalty",
    "lecam_penalty",
    "path_length_noise",
    "path_length_penalty",
    "path_lengths",
    "r1_penalty",
]
