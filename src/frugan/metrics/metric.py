"""The table of metrics: what each looks at, and the names of its numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Literal

import numpy as np

from frugan.metrics.distances import (
    Array,
    Features2D,
    Moments,
    frechet_distance,
    frechet_distance_extrapolated,
    inception_score,
    kernel_distance,
    kernel_distance_full,
)
from frugan.metrics.neighbours import density_coverage, memorisation, nearest, precision_recall
from frugan.metrics.path_length import trimmed_mean

_MOMENTS_BATCH = 4096

Space = Literal["w", "z"]
Sampling = Literal["full", "end"]


class FeatureSet:
    """Features `[N, D]` of a set of images, or only their moments where the features were not kept."""

    def __init__(self, features: Features2D | None = None, moments: Moments | None = None) -> None:
        self._features = features
        if moments is not None:
            self.moments = moments

    @property
    def features(self) -> Features2D:
        assert self._features is not None, "a metric with holds_features=False asked for features"
        return self._features

    @cached_property
    def moments(self) -> Moments:
        x = self.features
        return Moments.of(x[i : i + _MOMENTS_BATCH] for i in range(0, len(x), _MOMENTS_BATCH))


@dataclass(frozen=True)
class Evidence:
    """What a metric may look at. `train`: the training images, where the reference is others. `classify` gives logits
    `[N, K]` of features. `path_lengths(space, sampling)`: `[N]`, see `perceptual_path_length`."""

    real: FeatureSet
    generated: FeatureSet
    train: FeatureSet | None = None
    classify: Callable[[Features2D], Array] | None = None
    path_lengths: Callable[[Space, Sampling], np.ndarray] | None = None

    @cached_property
    def nearest_train(self) -> tuple[Array, np.ndarray]:
        """Of every generated image, the distance to the nearest training image and which that is: `[N]`, `[N]`."""
        assert self.train is not None
        distances, rows = nearest(self.generated.features, self.train.features)
        return distances[:, 0], rows[:, 0]


@dataclass(frozen=True)
class Metric:
    """`compute` gives one number for each of `names`; `higher_is_better` is about the name that it has in `METRICS`.

    Where no metric asked for `holds_features`, those of generated images are not kept: memory is that of one batch.
    `of_sets` metrics need nothing but the two sets, and can be taken for each class alone.
    """

    compute: Callable[[Evidence], tuple[float, ...]]
    names: tuple[str, ...]
    higher_is_better: bool
    holds_features: bool = True
    of_sets: bool = True
    needs_train: bool = False
    needs_classifier: bool = False


def _kid(e: Evidence) -> tuple[float, float]:
    return kernel_distance(e.real.features, e.generated.features)


def _kid_full(e: Evidence) -> tuple[float]:
    return (kernel_distance_full(e.real.features, e.generated.features),)


def _fid(e: Evidence) -> tuple[float]:
    real, generated = e.real.moments, e.generated.moments
    return (frechet_distance(real.mean, real.covariance, generated.mean, generated.covariance),)


def _fid_infinity(e: Evidence) -> tuple[float, float]:
    return frechet_distance_extrapolated(e.real.moments, e.generated.features)


def _is(e: Evidence) -> tuple[float, float]:
    assert e.classify is not None
    return inception_score(e.classify(e.generated.features))


def _precision_recall(e: Evidence) -> tuple[float, float]:
    return precision_recall(e.real.features, e.generated.features)


def _density_coverage(e: Evidence) -> tuple[float, float]:
    return density_coverage(e.real.features, e.generated.features)


def _memorisation(e: Evidence) -> tuple[float, float]:
    assert e.train is not None
    unseen, _ = nearest(e.real.features, e.train.features)
    return memorisation(e.nearest_train[0], unseen[:, 0])


def _path_length(e: Evidence, *, space: Space, sampling: Sampling) -> tuple[float]:
    assert e.path_lengths is not None
    return (trimmed_mean(e.path_lengths(space, sampling)),)


def _ppl(space: Space, sampling: Sampling) -> Metric:
    return Metric(
        partial(_path_length, space=space, sampling=sampling),
        (f"ppl_{space}_{sampling}",),
        higher_is_better=False,
        holds_features=False,
        of_sets=False,
    )


# fmt: off
METRICS: dict[str, Metric] = {
    "kid":          Metric(_kid, ("kid", "kid_std"), higher_is_better=False),
    "kid_full":     Metric(_kid_full, ("kid_full",), higher_is_better=False),
    "fid":          Metric(_fid, ("fid",), higher_is_better=False, holds_features=False),
    "fid_infinity": Metric(_fid_infinity, ("fid_infinity", "fid_infinity_error"), higher_is_better=False),
    "is":           Metric(_is, ("is", "is_std"), higher_is_better=True, needs_classifier=True),
    "precision":    Metric(_precision_recall, ("precision", "recall"), higher_is_better=True),
    "recall":       Metric(_precision_recall, ("precision", "recall"), higher_is_better=True),
    "density":      Metric(_density_coverage, ("density", "coverage"), higher_is_better=True),
    "coverage":     Metric(_density_coverage, ("density", "coverage"), higher_is_better=True),
    "memorisation": Metric(_memorisation, ("memorisation", "copied"), higher_is_better=False, of_sets=False, needs_train=True),
    "ppl_w_full":   _ppl("w", "full"),
    "ppl_w_end":    _ppl("w", "end"),
    "ppl_z_full":   _ppl("z", "full"),
    "ppl_z_end":    _ppl("z", "end"),
}
# fmt: on
"""What can be measured, by the name of the number that one asks for; some come in pairs."""

MEANINGS: dict[str, str] = {
    "kid": "distance of the two sets of features; 0 (give or take kid_std) for equal distributions, unbiased for few images",
    "kid_std": "scatter of kid over its subsets of images",
    "kid_full": "as kid, over all pairs of images at once instead of subsets",
    "fid": "distance of the means and covariances of the features; 0 for equal distributions, but larger the fewer images",
    "fid_infinity": "fid extrapolated to endlessly many samples",
    "fid_infinity_error": "standard error of that extrapolation",
    "is": "Inception score, without regard to the real images; from 1 to the number of classes",
    "is_std": "scatter of is over parts of the samples",
    "precision": "share of samples that look like real images; 1 at most",
    "recall": "share of real images that the generator could have made; 1 at most, low where variety is missing",
    "density": "how densely samples lie around real images; about 1 for equal distributions",
    "coverage": "share of real images with a sample near them; about 0.97 for equal distributions, low where variety is missing",
    "memorisation": "chance that a sample is nearer to a training image than an unseen image is; above 0.5 it copies",
    "copied": "share of samples nearer to a training image than 99 of 100 unseen images; 0.01 by chance",
    "ppl_w_full": "how abruptly images change between two w; smaller is smoother",
    "ppl_w_end": "how abruptly images change with w, at random w; smaller is smoother",
    "ppl_z_full": "how abruptly images change between two z; smaller is smoother",
    "ppl_z_end": "how abruptly images change with z, at random z; smaller is smoother",
}
"""What each number of `METRICS` means, in a line."""


def explain_value(name: str) -> str:
    """Which way a number is better, where it is a metric of its own, and what it means."""
    better = f"{'higher' if METRICS[name].higher_is_better else 'lower'} is better; " if name in METRICS else ""
    return better + MEANINGS[name]
