"""Numbers that say how good a generator is: distances between sets of features, and the networks that give them."""

from frugan.metrics.distances import (
    METRICS,
    Metric,
    density_coverage,
    frechet_distance,
    kernel_distance,
    kernel_distance_full,
    moments,
    precision_recall,
)
from frugan.metrics.evaluate import EvaluateConfig, Evaluator, GeneratorLike, sample_images
from frugan.metrics.features import FEATURES, Features, ModuleFeatures, load_features

__all__ = [
    "FEATURES",
    "METRICS",
    "EvaluateConfig",
    "Evaluator",
    "Features",
    "GeneratorLike",
    "Metric",
    "ModuleFeatures",
    "density_coverage",
    "frechet_distance",
    "kernel_distance",
    "kernel_distance_full",
    "load_features",
    "moments",
    "precision_recall",
    "sample_images",
]
