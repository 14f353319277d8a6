"""Discriminator augmentation that does not leak, and the controllers of its strength."""

from frugan.augment.controller import CONTROLLERS, Controller, ControllerConfig, heuristics, logit_sums
from frugan.augment.diffaugment import POLICIES, DiffAugment
from frugan.augment.measurements import MEASUREMENTS, Measurement
from frugan.augment.pipeline import Augmentation, AugmentConfig, AugmentPipeline, Chain, Draw
from frugan.augment.shift import CircularShift
from frugan.augment.transforms import PRESETS, TRANSFORMS, Transform, parse_transforms

__all__ = [
    "CONTROLLERS",
    "MEASUREMENTS",
    "POLICIES",
    "PRESETS",
    "TRANSFORMS",
    "AugmentConfig",
    "AugmentPipeline",
    "Augmentation",
    "Chain",
    "CircularShift",
    "Controller",
    "ControllerConfig",
    "DiffAugment",
    "Draw",
    "Measurement",
    "Transform",
    "heuristics",
    "logit_sums",
    "parse_transforms",
]
