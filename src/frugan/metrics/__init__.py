"""Numbers that say how good a generator is: distances between sets of features, and the networks that give them."""

from frugan.metrics.distances import (
    METRICS,
    Metric,
    density_coverage,
    frechet_distance,
    kernel_distance,
    precision_recall,
)
from frugan.metrics.evaluate import EvaluateConfig, Evaluator, sample_images
from frugan.metrics.features import FEATURES, Features, load_features

__all__ = [
    "FEATURES",
    "METRICS",
    "EvaluateConfig",
    "Evaluator",
    "Features",
    "Metric",
    "density_coverage",
    "frechet_distance",
    "kernel_distance",
    "load_features",
    "precision_recall",
    "sample_images",
]
