"""Discriminator augmentation that does not leak, and the controllers of its strength."""

from frugan.augment.controller import CONTROLLERS, Controller, ControllerConfig
from frugan.augment.pipeline import AugmentConfig, AugmentPipeline, Draw
from frugan.augment.transforms import PRESETS, TRANSFORMS, Transform, parse_transforms

__all__ = [
    "CONTROLLERS",
    "PRESETS",
    "TRANSFORMS",
    "AugmentConfig",
    "AugmentPipeline",
    "Controller",
    "ControllerConfig",
    "Draw",
    "Transform",
    "parse_transforms",
]
