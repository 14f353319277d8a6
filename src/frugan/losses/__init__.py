"""Losses: adversarial losses, penalties and optional terms, as functions of logits and callables."""

from frugan.losses.adversarial import LOSSES, AdversarialLoss, NonSaturating
from frugan.losses.config import ObjectiveConfig
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
from frugan.losses.terms import TERMS, Augmentation, Drawn, LatentConsistency, Seen, Term, terms_of

__all__ = [
    "AUTOGRAD_TRACED",
    "LOSSES",
    "TERMS",
    "AdversarialLoss",
    "Augmentation",
    "Drawn",
    "LatentConsistency",
    "NonSaturating",
    "ObjectiveConfig",
    "Seen",
    "Term",
    "consistency",
    "diversity",
    "gradient_norm",
    "gradient_penalty",
    "lecam_penalty",
    "path_length_noise",
    "path_length_penalty",
    "path_lengths",
    "r1_penalty",
    "terms_of",
]
