"""User-defined scalar statistics of an image (phase fraction, brightness, area …), compared as distributions."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from frugan.errors import FruganError
from frugan.metrics.distances import Array, Features2D
from frugan.metrics.resampling import Estimate, half_sample_intervals, mean_error, shuffled_sides

Statistic = Callable[[np.ndarray], Any]
"""One image, uint8, uint16 or float32 in [0, 1] `[H, W, C]` as the set holds it, to what `float` takes."""

FEWEST = 10


@dataclass(frozen=True)
class StatisticComparison:
    """A statistic's distributions among real and generated images."""

    name: str
    real_mean: float
    real_std: float
    generated_mean: float
    generated_std: float
    ks: Estimate
    """Kolmogorov–Smirnov distance: the largest difference of the shares below a value, 0 to 1."""
    wasserstein: Estimate
    """Wasserstein-1 distance, in the statistic's own unit."""
    null_ks: float
    """95 % of random divisions of all images into two such sets have less."""
    null_wasserstein: float
    difference: Estimate
    """Of the means, generated less real."""
    p: float
    """Share of these divisions with a Wasserstein distance as large; small where the distributions differ."""


def load_statistic(name: str) -> Statistic:
    """Imports the callable that `package.module:callable` names. That runs the module's code: name only what you trust.

    Raises `FruganError` where there is no such callable.
    """
    home, mark, attribute = name.partition(":")
    if not (home and mark and attribute):
        raise FruganError(f"statistic {name!r}: give package.module:callable, which takes an image [H, W, C]")
    try:
        found = getattr(importlib.import_module(home), attribute)
    except (ImportError, AttributeError) as error:
        raise FruganError(f"statistic {name}: {error}") from error
    if not callable(found):
        raise FruganError(f"statistic {name} is {type(found).__name__}, which cannot be called with an image")
    return found


def statistic_values(name: str, statistic: Statistic, images: Iterable[np.ndarray]) -> Array:
    """The statistic of each image: float64 `[N]`.

    Args:
        name: of the statistic, for messages.
        statistic: one image `[H, W, C]` → a number.
        images: uint8 or uint16 `[H, W, C]`.

    Raises `FruganError` where the statistic fails or is not a finite number.
    """
    values = []
    for i, image in enumerate(images):
        try:
            value = float(statistic(image))
        except Exception as error:  # the user's own code: whatever it raises
            raise FruganError(f"statistic {name} fails at image {i}: {type(error).__name__}: {error}") from error
        if not math.isfinite(value):
            raise FruganError(f"statistic {name} is {value} at image {i}; it must be a finite number")
        values.append(value)
    return np.array(values, np.float64)


def compare_statistic(
    name: str,
    real: Array,
    generated: Array,
    *,
    real_groups: np.ndarray | None = None,
    repeats: int = 200,
    seed: int = 0,
) -> StatisticComparison:
    """Compares the distributions of a statistic among real and generated images.

    Args:
        name: of the statistic.
        real: its values `[N]` for real images, 10 or more.
        generated: its values `[M]` for generated images, 10 or more.
        real_groups: `[N]`; images of one group stay together in half-samples (for intervals) and divisions (for the
            null distribution).
        repeats: random divisions for the null distribution.
        seed: of half-samples and divisions.
    """
    if min(len(real), len(generated)) < FEWEST:
        raise FruganError(
            f"statistic {name} of {len(real)} real and {len(generated)} generated images: give {FEWEST} of each"
        )
    try:
        from scipy.stats import ks_2samp, wasserstein_distance
    except ImportError as error:
        raise FruganError("statistics are compared by SciPy: pip install 'frugan[metrics]'") from error

    def distances(x: Features2D, y: Features2D) -> tuple[float, float]:
        return float(ks_2samp(x.ravel(), y.ravel()).statistic), float(wasserstein_distance(x.ravel(), y.ravel()))  # pyright: ignore[reportAttributeAccessIssue]

    ks, wasserstein = half_sample_intervals(
        distances, real, generated, seed=seed, real_groups=real_groups, limits=(0, np.inf)
    )
    rng, pooled = np.random.default_rng(seed), np.concatenate([real, generated])
    null = np.array(
        [
            distances(pooled[side], pooled[~side])
            for side in (shuffled_sides(len(real), len(generated), rng, real_groups) for _ in range(repeats))
        ]
    )
    quantiles = np.quantile(null, 0.95, axis=0)
    return StatisticComparison(
        name,
        *(float(v) for x in (real, generated) for v in (x.mean(), x.std())),
        ks=ks,
        wasserstein=wasserstein,
        null_ks=float(quantiles[0]),
        null_wasserstein=float(quantiles[1]),
        difference=_difference(real, generated, real_groups),
        p=(1 + int((null[:, 1] >= wasserstein.value).sum())) / (1 + repeats),
    )


def _difference(real: Array, generated: Array, real_groups: np.ndarray | None) -> Estimate:
    error = np.hypot(mean_error(real, real_groups), mean_error(generated))
    return Estimate.of(float(generated.mean() - real.mean()), float(error))
