"""Distances between two sets of features, as pure functions of arrays, in float64.

Features are `[N, D]`; "real" is the reference, "generated" what is judged. No function holds more than a block of the
N × M pairs at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from frugan.errors import FruganError

Array = NDArray[np.float64]

_BLOCK_PAIRS = 1 << 22  # 32 MiB


def kernel_distance(
    real: Array, generated: Array, *, subsets: int = 100, subset_size: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """KID as usually given: mean and standard deviation of `kernel_distance_full` over random subsets of both sets.

    `subset_size` is lowered to the smaller set. The deviation is that of one subset, not of the mean. Bińkowski et al.,
    "Demystifying MMD GANs", 2018, §4.
    """
    real, generated = _checked(real, generated)
    size = min(subset_size, len(real), len(generated))
    if subsets < 1 or size < 2:
        raise FruganError(f"{subsets} subsets of {size}: KID needs at least 1 subset of at least 2 samples")
    rng = np.random.default_rng(seed)
    values = [
        kernel_distance_full(
            real[rng.choice(len(real), size, replace=False)],
            generated[rng.choice(len(generated), size, replace=False)],
        )
        for _ in range(subsets)
    ]
    return float(np.mean(values)), float(np.std(values))


def kernel_distance_full(real: Array, generated: Array) -> float:
    """The same squared maximum mean discrepancy, kernel (x·y/D + 1)³, unbiased, from all pairs at once (ibid., eq. 4).

    It estimates what `kernel_distance` does, with the least noise that the samples allow. Near 0 for equal
    distributions, below it by chance; not biased by the number of samples. Often shown × 1000.
    """
    real, generated = _checked(real, generated)
    across = sum(_kernel(real[rows], generated).sum() for rows in _blocks(real, generated))
    pairs = len(real) * len(generated)
    return float(_kernel_mean_within(real) + _kernel_mean_within(generated) - 2 * across / pairs)


def moments(batches: Iterable[Array]) -> tuple[Array, Array]:
    """Batches `[n, D]` → their mean `[D]` and covariance `[D, D]` (over N − 1), one batch in memory at a time.

    Chan, Golub & LeVeque 1983: each batch's own scatter about its own mean, merged; nothing cancels.
    """
    n, mean, scatter = 0, np.zeros(()), np.zeros(())
    for batch in batches:
        x = np.asarray(batch, np.float64)
        m, own_mean = len(x), x.mean(axis=0)
        delta = own_mean - mean
        centred = x - own_mean
        scatter = scatter + centred.T @ centred + np.outer(delta, delta) * (n * m / (n + m))
        mean = mean + delta * (m / (n + m))
        n += m
    if n < 2:
        raise FruganError(f"{n} samples have no covariance; give at least 2")
    return mean, scatter / (n - 1)


def frechet_distance(mean: Array, covariance: Array, other_mean: Array, other_covariance: Array) -> float:
    """FID: ‖μ − μ'‖² + tr(Σ + Σ' − 2(Σ Σ')^½) for means `[D]` and covariances `[D, D]` (Heusel et al. 2017, eq. 6).

    With Σ = VΛVᵀ, (Σ Σ')^½ has the singular values of Λ^½ Vᵀ V' Λ'^½ for eigenvalues: two symmetric decompositions and
    no matrix square root, so covariances of fewer samples than dimensions are no harder than others. Biased upwards for
    few samples: compare only at equal counts.
    """
    root, other_root = _scaled_eigenvectors(covariance), _scaled_eigenvectors(other_covariance)
    trace = np.trace(covariance) + np.trace(other_covariance)
    cross = np.linalg.svd(root.T @ other_root, compute_uv=False).sum()
    return float(np.square(mean - other_mean).sum() + trace - 2 * cross)


def precision_recall(real: Array, generated: Array, k: int = 3) -> tuple[float, float]:
    """The shares of generated samples within the real manifold, and of real ones within the generated manifold.

    A manifold is the union of closed balls around samples, each out to its k-th nearest neighbour among them
    (Kynkäänniemi et al., "Improved Precision and Recall Metric", 2019, eqs. 1 and 2).
    """
    real, generated = _checked(real, generated, k)
    return _share_covered(generated, real, k), _share_covered(real, generated, k)


def density_coverage(real: Array, generated: Array, k: int = 5) -> tuple[float, float]:
    """How densely generated samples lie in the balls around real ones, and the share of those balls that hold any.

    Naeem et al., "Reliable Fidelity and Diversity Metrics for Generative Models", 2020. For equal
    distributions and counts, the expected density is 1 (it may be more) and the expected coverage 1 − ½ᵏ.
    """
    real, generated = _checked(real, generated, k)
    radii = _squared_radii(real, k)
    inside, nearest = 0, np.full(len(real), np.inf)
    for squared in _squared_distances(generated, real):
        inside += np.count_nonzero(squared < radii)
        nearest = np.minimum(nearest, squared.min(axis=0))
    return inside / (k * len(generated)), float((nearest < radii).mean())


@dataclass(frozen=True)
class Metric:
    """`compute` takes (real, generated) features and gives one number for each of `names`.

    `higher_is_better` is about the name that the metric has in `METRICS`.
    """

    compute: Callable[[Array, Array], tuple[float, ...]]
    names: tuple[str, ...]
    higher_is_better: bool


def _frechet(real: Array, generated: Array) -> tuple[float]:
    real, generated = _checked(real, generated)
    return (frechet_distance(*moments([real]), *moments([generated])),)


METRICS: dict[str, Metric] = {
    "kid": Metric(kernel_distance, ("kid", "kid_std"), higher_is_better=False),
    "kid_full": Metric(lambda x, y: (kernel_distance_full(x, y),), ("kid_full",), higher_is_better=False),
    "fid": Metric(_frechet, ("fid",), higher_is_better=False),
    "precision": Metric(precision_recall, ("precision", "recall"), higher_is_better=True),
    "recall": Metric(precision_recall, ("precision", "recall"), higher_is_better=True),
    "density": Metric(density_coverage, ("density", "coverage"), higher_is_better=True),
    "coverage": Metric(density_coverage, ("density", "coverage"), higher_is_better=True),
}
"""What can be measured, by the name of the number that one asks for; some come in pairs."""


def _checked(real: Array, generated: Array, k: int = 1) -> tuple[Array, Array]:
    real, generated = np.asarray(real, np.float64), np.asarray(generated, np.float64)
    if real.ndim != 2 or real.shape[1:] != generated.shape[1:]:
        raise FruganError(f"features {real.shape} and {generated.shape} cannot be compared: give [N, D] and [M, D]")
    if k < 1 or min(len(real), len(generated)) <= k:
        raise FruganError(
            f"{len(real)} real and {len(generated)} generated samples with k = {k}: give k ≥ 1, and more than k of each"
        )
    if not (np.isfinite(real).all() and np.isfinite(generated).all()):
        raise FruganError("some features are not finite; check the images and the feature network")
    return real, generated


def _blocks(x: Array, y: Array) -> Iterator[slice]:
    """Slices of x's rows, such that a slice against all of y is one block of pairs."""
    rows = max(_BLOCK_PAIRS // len(y), 1)
    return (slice(i, i + rows) for i in range(0, len(x), rows))


def _kernel(x: Array, y: Array) -> Array:
    k = x @ y.T / x.shape[1] + 1
    return k * k * k


def _kernel_mean_within(x: Array) -> float:
    """The kernel's mean over pairs of different samples; of each pair of blocks one is computed."""
    total = 0.0
    for rows in _blocks(x, x):
        block = _kernel(x[rows], x[rows.start :])
        own = block[:, : len(block)]
        total += 2 * block.sum() - own.sum() - np.trace(own)
    return total / (len(x) * (len(x) - 1))


def _scaled_eigenvectors(covariance: Array) -> Array:
    """V Λ^½; eigenvalues that are zero but for rounding, and might come out negative, are zero."""
    values, vectors = np.linalg.eigh(covariance)
    floor = values[-1] * len(values) * np.finfo(np.float64).eps
    return vectors * np.sqrt(np.where(values > floor, values, 0))


def _squared_distances(x: Array, y: Array) -> Iterator[Array]:
    """‖x − y‖² of blocks of x against all of y: `[rows, M]`."""
    norms = np.square(y).sum(axis=1)
    for rows in _blocks(x, y):
        own = np.square(x[rows]).sum(axis=1, keepdims=True)
        yield np.maximum(own + norms - 2 * x[rows] @ y.T, 0)


def _squared_radii(x: Array, k: int) -> Array:
    """The squared distance of each sample to its k-th nearest neighbour, itself (the nearest) not counted."""
    return np.concatenate([np.partition(squared, k, axis=1)[:, k] for squared in _squared_distances(x, x)])


def _share_covered(points: Array, centres: Array, k: int) -> float:
    radii = _squared_radii(centres, k)
    inside = sum(np.count_nonzero((squared <= radii).any(axis=1)) for squared in _squared_distances(points, centres))
    return inside / len(points)
