"""The table of metrics: what each looks at, and the names of its numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from frugan.metrics.distances import (
    Features2D,
    Moments,
    frechet_distance,
    frechet_distance_extrapolated,
    frechet_distance_of_sets,
    inception_score,
    kernel_distance,
    kernel_distance_full,
)
from frugan.metrics.evidence import Evidence, Measurement, Sampling, Space
from frugan.metrics.held_out import (
    measure_authenticity,
    measure_c_t,
    measure_fld,
    measure_membership,
    measure_memorisation,
    measure_utility,
)
from frugan.metrics.neighbours import density_coverage, precision_recall
from frugan.metrics.path_length import trimmed
from frugan.metrics.resampling import Estimate, SetStatistic, mean_estimate


@dataclass(frozen=True)
class Metric:
    """One row of `METRICS`: how a metric is computed, and its properties.

    Attributes:
        compute: evidence → a number for each of `names`, or a `Measurement` with some of them.
        names: of the numbers.
        higher_is_better: about the number that has the metric's own name.
        holds_features: whether the features of all generated images are needed. Where no metric needs them, they are
            not kept, and memory is that of one batch.
        of_sets: whether nothing but the two sets of features is needed, so that it can be computed for each class alone.
        needs_train: whether training images are needed, apart from the reference.
        needs_classifier: whether the feature network must have classes.
        statistic: the first of its numbers from two sets of features, for intervals and floors; None: it has none.
        floor_repeats: divisions of the real images for its floor; few where each takes seconds.
        limits: the range that intervals cannot leave.
    """

    compute: Callable[[Evidence], tuple[float, ...] | Measurement]
    names: tuple[str, ...]
    higher_is_better: bool
    holds_features: bool = True
    of_sets: bool = True
    needs_train: bool = False
    needs_classifier: bool = False
    statistic: SetStatistic | None = None
    floor_repeats: int = 20
    limits: tuple[float, float] = (-np.inf, np.inf)

    def measure(self, evidence: Evidence) -> Measurement:
        """The metric's numbers for that evidence."""
        found = self.compute(evidence)
        return found if isinstance(found, Measurement) else Measurement(dict(zip(self.names, found, strict=True)))


def _kid(e: Evidence) -> tuple[float, float]:
    return kernel_distance(e.real.features, e.generated.features)


def _kid_full(e: Evidence) -> tuple[float]:
    return (kernel_distance_full(e.real.features, e.generated.features),)


def _fid(e: Evidence) -> tuple[float]:
    real, generated = e.real.moments, e.generated.moments
    return (frechet_distance(real.mean, real.covariance, generated.mean, generated.covariance),)


def _fid_infinity(e: Evidence) -> Measurement:
    found, error = frechet_distance_extrapolated(e.real.moments, e.generated.features)
    total = Measurement()
    total.add("fid_infinity", Estimate.of(found, error))
    total.values["fid_infinity_error"] = error
    return total


def _is(e: Evidence) -> tuple[float, float]:
    assert e.classify is not None
    return inception_score(e.classify(e.generated.features))


def _precision_recall(e: Evidence) -> tuple[float, float]:
    return precision_recall(e.real.features, e.generated.features)


def _density_coverage(e: Evidence) -> tuple[float, float]:
    return density_coverage(e.real.features, e.generated.features)


def _path_length(e: Evidence, *, space: Space, sampling: Sampling) -> Measurement:
    assert e.path_lengths is not None
    total = Measurement()
    total.add(f"ppl_{space}_{sampling}", mean_estimate(trimmed(e.path_lengths(space, sampling))))
    return total


def _ppl(space: Space, sampling: Sampling) -> Metric:
    return Metric(
        partial(_path_length, space=space, sampling=sampling),
        (f"ppl_{space}_{sampling}",),
        higher_is_better=False,
        holds_features=False,
        of_sets=False,
    )


def _kid_statistic(real: Features2D, generated: Features2D) -> tuple[float]:
    return (kernel_distance_full(real, generated),)


def _fid_statistic(real: Features2D, generated: Features2D) -> tuple[float]:
    return (frechet_distance_of_sets(real, generated),)


def _fid_infinity_statistic(real: Features2D, generated: Features2D) -> tuple[float]:
    return (frechet_distance_extrapolated(Moments.of([real]), generated)[0],)


_LOWER: dict[str, Any] = {"higher_is_better": False, "of_sets": False, "needs_train": True}
_HIGHER: dict[str, Any] = {**_LOWER, "higher_is_better": True}
_FRECHET: dict[str, Any] = {"higher_is_better": False, "floor_repeats": 3}
_SHARES: dict[str, Any] = {"higher_is_better": True, "limits": (0, 1)}
_DENSITIES: dict[str, Any] = {"higher_is_better": True, "limits": (0, np.inf)}
_UTILITY = ("utility", "utility_real", "utility_synthetic", "utility_both")
_ATTACKS = tuple(
    f"membership_{name}{number}" for name in ("distance", "discriminator", "reconstruction") for number in ("", "_tpr")
)

# fmt: off
METRICS: dict[str, Metric] = {
    "kid":          Metric(_kid, ("kid", "kid_std"), higher_is_better=False, statistic=_kid_statistic),
    "kid_full":     Metric(_kid_full, ("kid_full",), higher_is_better=False, statistic=_kid_statistic),
    "fid":          Metric(_fid, ("fid",), holds_features=False, **_FRECHET, statistic=_fid_statistic),
    "fid_infinity": Metric(_fid_infinity, ("fid_infinity", "fid_infinity_error"), **_FRECHET, statistic=_fid_infinity_statistic),
    "is":           Metric(_is, ("is", "is_std"), higher_is_better=True, needs_classifier=True),
    "precision":    Metric(_precision_recall, ("precision", "recall"), **_SHARES, statistic=precision_recall),
    "recall":       Metric(_precision_recall, ("precision", "recall"), **_SHARES, statistic=precision_recall),
    "density":      Metric(_density_coverage, ("density", "coverage"), **_DENSITIES, statistic=density_coverage),
    "coverage":     Metric(_density_coverage, ("density", "coverage"), **_DENSITIES, statistic=density_coverage),
    "memorisation": Metric(measure_memorisation, ("memorisation", "copied"), **_LOWER),
    "c_t":          Metric(measure_c_t, ("c_t", "c_t_error", "c_t_one_cell"), **_HIGHER),
    "authenticity": Metric(measure_authenticity, ("authenticity", "authenticity_unseen"), **_HIGHER),
    "fld":          Metric(measure_fld, ("fld", "fld_gap", "fld_copying"), **_LOWER),
    "membership":   Metric(measure_membership, ("membership", *_ATTACKS), **_LOWER),
    "utility":      Metric(measure_utility, _UTILITY, **_HIGHER),
    "ppl_w_full":   _ppl("w", "full"),
    "ppl_w_end":    _ppl("w", "end"),
    "ppl_z_full":   _ppl("z", "full"),
    "ppl_z_end":    _ppl("z", "end"),
}
# fmt: on
"""What can be measured, by the name of the number that one asks for; some come in pairs."""

NO_INTERVAL: dict[str, str] = {
    "fid": "it moves with the number of images, so that halves show that instead of its scatter; kid and fid_infinity have one",
    "is": "its scatter is is_std",
    "membership": "it is the highest of the attacks, each of which has one",
}
"""Why a number comes without an interval; besides these only numbers that are a scatter themselves do."""

NO_DIRECTION = ("c_t",)
"""Metrics that are best near 0, bad on either side."""

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
    "c_t": "data-copying test, a z-score: below -3 samples copy training images, above 3 they are off, between neither",
    "c_t_error": "standard deviation of c_t where nothing is copied",
    "c_t_one_cell": "the same z-score of all images at once; the standardised memorisation",
    "authenticity": "share of samples farther from their nearest training image than that from the next; see authenticity_unseen",
    "authenticity_unseen": "authenticity of held-out images in the samples' place: what copying nothing gives",
    "fld": "feature likelihood divergence: how badly samples explain held-out images; 0 as well as real ones do",
    "fld_gap": "how much better samples explain training images than held-out ones; below -1000 all are copies",
    "fld_copying": "fld_gap less what it is by chance: 0 where nothing is copied, below 0 copies",
    "membership": "the highest chance, over attacks, that a training image is told from an unseen one; 0.5: none can be",
    "membership_distance": "that chance by the distance to the nearest sample (AUC); 0.5: nothing can be told",
    "membership_distance_tpr": "share of training images found so where 1 % of others are accused; 0.01 by chance",
    "membership_discriminator": "that chance by the discriminator's output (AUC): the worst case, where it is published",
    "membership_discriminator_tpr": "share of training images found so where 1 % of others are accused; 0.01 by chance",
    "membership_reconstruction": "that chance by how well the generator can rebuild an image (AUC), on a few images",
    "membership_reconstruction_tpr": "share of training images found so where 1 % of others are accused; coarse for few images",
    "utility": "score on real images after training on samples, less that after training on as many real ones; 0: as good",
    "utility_real": "score of a small network trained on real images and tested on held-out ones; 1 is perfect",
    "utility_synthetic": "score of the same network trained on as many samples; 1 is perfect",
    "utility_both": "score of the same network trained on the real images and the samples; 1 is perfect",
    "ppl_w_full": "how abruptly images change between two w; smaller is smoother",
    "ppl_w_end": "how abruptly images change with w, at random w; smaller is smoother",
    "ppl_z_full": "how abruptly images change between two z; smaller is smoother",
    "ppl_z_end": "how abruptly images change with z, at random z; smaller is smoother",
}
"""What each number of `METRICS` means, in a line."""


def explain_value(name: str) -> str:
    """The direction in which a number is better, where it is a metric of its own and has one, and its meaning."""
    if name not in METRICS or name in NO_DIRECTION:
        return MEANINGS[name]
    return f"{'higher' if METRICS[name].higher_is_better else 'lower'} is better; {MEANINGS[name]}"
