"""Numbers that say how good a generator is: distances between sets of features, and the networks that give them."""

from frugan.metrics.card import EvaluationCard, compare
from frugan.metrics.config import EvaluateConfig, default_metric
from frugan.metrics.copying import (
    Authenticity,
    Cell,
    DataCopying,
    NearestDistances,
    authenticity,
    data_copying,
    independent_of,
    memorisation,
    nearest_distances,
)
from frugan.metrics.distances import (
    Moments,
    frechet_distance,
    frechet_distance_extrapolated,
    inception_score,
    kernel_distance,
    kernel_distance_full,
)
from frugan.metrics.evaluator import Evaluator
from frugan.metrics.evidence import Evidence, FeatureSet, Measurement
from frugan.metrics.features.base import Features, ModuleFeatures
from frugan.metrics.features.registry import FEATURES, load_features
from frugan.metrics.image_evidence import ImageScore
from frugan.metrics.image_set import ImageSet
from frugan.metrics.likelihood import FeatureLikelihood, feature_likelihood
from frugan.metrics.membership import NOT_TRIED, Attack, auc_estimate, membership_attack
from frugan.metrics.metric import METRICS, Metric
from frugan.metrics.neighbours import density_coverage, nearest, precision_recall
from frugan.metrics.path_length import perceptual_path_length, trimmed_mean
from frugan.metrics.resampling import Estimate, floor, half_sample_intervals
from frugan.metrics.sampling import GeneratorLike, sample_images
from frugan.metrics.user_statistics import StatisticComparison, compare_statistic, load_statistic
from frugan.metrics.utility import Examples, Utility, UtilityConfig, utility

__all__ = [
    "FEATURES",
    "METRICS",
    "NOT_TRIED",
    "Attack",
    "Authenticity",
    "Cell",
    "DataCopying",
    "Estimate",
    "EvaluateConfig",
    "EvaluationCard",
    "Evaluator",
    "Evidence",
    "Examples",
    "FeatureLikelihood",
    "FeatureSet",
    "Features",
    "GeneratorLike",
    "ImageScore",
    "ImageSet",
    "Measurement",
    "Metric",
    "ModuleFeatures",
    "Moments",
    "NearestDistances",
    "StatisticComparison",
    "Utility",
    "UtilityConfig",
    "auc_estimate",
    "authenticity",
    "compare",
    "compare_statistic",
    "data_copying",
    "default_metric",
    "density_coverage",
    "feature_likelihood",
    "floor",
    "frechet_distance",
    "frechet_distance_extrapolated",
    "half_sample_intervals",
    "inception_score",
    "independent_of",
    "kernel_distance",
    "kernel_distance_full",
    "load_features",
    "load_statistic",
    "membership_attack",
    "memorisation",
    "nearest",
    "nearest_distances",
    "perceptual_path_length",
    "precision_recall",
    "sample_images",
    "trimmed_mean",
    "utility",
]
