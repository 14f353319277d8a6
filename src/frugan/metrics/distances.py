"""Distances between two sets of features, as pure functions of arrays, in float64.

Features are `[N, D]`; "real" is the reference, "generated" what is judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from frugan.errors import FruganError

Array = NDArray[np.float64]
_CHUNK = 1024


def kernel_distance(real: Array, generated: Array) -> float:
    """KID: the unbiased estimate of the squared maximum mean discrepancy with the kernel (x·y/D + 1)³.

    Bińkowski et al., "Demystifying MMD GANs", 2018, eq. 4, over all pairs of both sets: unlike the usual mean over random
    subsets it has the least noise that the samples allow. Near 0 for equal distributions, negative by chance; no bias in
    the number of samples. Often shown × 1000.
    """
    real, generated = _checked(real, generated)
    n, m = len(real), len(generated)
    within_real = _kernel_sum(real, real) - _kernel(np.square(real).sum(1) / real.shape[1]).sum()
    within_generated = _kernel_sum(generated, generated) - _kernel(np.square(generated).sum(1) / real.shape[1]).sum()
    across = _kernel_sum(real, generated)
    return float(within_real / (n * (n - 1)) + within_generated / (m * (m - 1)) - 2 * across / (n * m))


def frechet_distance(real: Array, generated: Array) -> float:
    """FID: ‖μ − μ'‖² + tr(Σ + Σ' − 2(Σ Σ')^½) of Gaussians fitted to both sets (Heusel et al. 2017, eq. 6).

    Biased upwards for few samples: compare only at equal counts. The trace of the root comes from the singular values of
    Xᶜ Yᶜᵀ, since Σ Σ' has the eigenvalues of that product's square: no matrix square root is taken.
    """
    real, generated = _checked(real, generated)
    x = (real - real.mean(0)) / np.sqrt(len(real) - 1)
    y = (generated - generated.mean(0)) / np.sqrt(len(generated) - 1)
    if min(len(x), len(y)) > real.shape[1]:  # as triangular factors: Σ = RᵀR, and the singular values stay
        x, y = np.linalg.qr(x, mode="r"), np.linalg.qr(y, mode="r")
    root_trace = np.linalg.svd(x @ y.T, compute_uv=False).sum()
    shift = np.square(real.mean(0) - generated.mean(0)).sum()
    return float(shift + np.square(x).sum() + np.square(y).sum() - 2 * root_trace)


def precision_recall(real: Array, generated: Array, k: int = 3) -> tuple[float, float]:
    """The shares of generated samples within the real manifold, and of real ones within the generated manifold.

    A manifold is the union of balls around samples, out to the k-th nearest neighbour (Kynkäänniemi et al. 2019).
    """
    real, generated = _checked(real, generated, k)
    return _share_covered(generated, real, k), _share_covered(real, generated, k)


def density_coverage(real: Array, generated: Array, k: int = 5) -> tuple[float, float]:
    """How densely generated samples lie among real ones, and the share of real ones with a generated one near.

    Naeem et al., "Reliable Fidelity and Diversity Metrics for Generative Models", 2020, eqs. 5 and 6.
    """
    real, generated = _checked(real, generated, k)
    radii = _radii(real, k)
    inside, nearest = 0, np.full(len(real), np.inf)
    for distances in _distances(generated, real):
        inside += int((distances < radii).sum())
        nearest = np.minimum(nearest, distances.min(0))
    return inside / (k * len(generated)), float((nearest < radii).mean())


@dataclass(frozen=True)
class Metric:
    """`compute` takes (real, generated) features and gives one number for each of `names`."""

    compute: Callable[[Array, Array], tuple[float, ...]]
    names: tuple[str, ...]
    higher_is_better: bool


METRICS: dict[str, Metric] = {
    "kid": Metric(lambda x, y: (kernel_distance(x, y),), ("kid",), higher_is_better=False),
    "fid": Metric(lambda x, y: (frechet_distance(x, y),), ("fid",), higher_is_better=False),
    "pr": Metric(precision_recall, ("precision", "recall"), higher_is_better=True),
    "dc": Metric(density_coverage, ("density", "coverage"), higher_is_better=True),
}
"""What can be measured; the first name of a row is the one that it is judged by."""


def _checked(real: Array, generated: Array, k: int = 1) -> tuple[Array, Array]:
    real, generated = np.asarray(real, np.float64), np.asarray(generated, np.float64)
    if real.ndim != 2 or real.shape[1:] != generated.shape[1:]:
        raise FruganError(f"features of shapes {real.shape} and {generated.shape} cannot be compared: give [N, D] and [M, D]")
    if min(len(real), len(generated)) <= k:
        raise FruganError(
            f"{len(real)} real and {len(generated)} generated samples are too few: this metric needs more than {k} of each"
        )
    return real, generated


def _kernel(dot: Array) -> Array:
    return (dot + 1) ** 3


def _kernel_sum(x: Array, y: Array) -> float:
    return float(sum(_kernel(x[i : i + _CHUNK] @ y.T / x.shape[1]).sum() for i in range(0, len(x), _CHUNK)))


def _distances(x: Array, y: Array) -> Iterator[Array]:
    """Euclidean distances from a chunk of x to all of y: `[chunk, M]` at a time."""
    norms = np.square(y).sum(1)
    for i in range(0, len(x), _CHUNK):
        chunk = x[i : i + _CHUNK]
        yield np.sqrt(np.maximum(np.square(chunk).sum(1)[:, None] + norms - 2 * chunk @ y.T, 0))


def _radii(x: Array, k: int) -> Array:
    """The distance of each sample to its k-th nearest neighbour, itself not counted."""
    return np.concatenate([np.partition(d, k, axis=1)[:, k] for d in _distances(x, x)])


def _share_covered(points: Array, centres: Array, k: int) -> float:
    radii = _radii(centres, k)
    return float(np.concatenate([(d <= radii).any(1) for d in _distances(points, centres)]).mean())
