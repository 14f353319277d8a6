"""Distances between two sets of features (KID, FID, FID∞, Inception score): pure functions of arrays, computed in float64.

Features are `[N, D]`; "real" is the reference, "generated" what is judged. At no time is more than a block of the N × M
pairs in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frugan.errors import FruganError

Array = NDArray[np.float64]
Features2D = NDArray[np.floating[Any]]  # [N, D]; float32 is widened where it is used

_BLOCK_PAIRS = 1 << 22  # 32 MiB
_MOMENTS_ROWS = 512  # fewer at once, and adding up D × D scatters takes longer than making them
NOT_FINITE = "some features are not finite; check the images and the feature network"


def kernel_distance(
    real: Features2D, generated: Features2D, *, subsets: int = 100, subset_size: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """KID as it is usually reported: mean and standard deviation of `kernel_distance_full` over random subsets of both sets.

    The deviation is that of one subset, not of the mean. Bińkowski et al., "Demystifying MMD GANs", 2018, §4.

    Args:
        real: `[N, D]`.
        generated: `[M, D]`.
        subsets: 1 or more.
        subset_size: images of either set in a subset; lowered to the size of the smaller set.
        seed: of the choice of subsets.
    """
    n, m = len(real), len(generated)
    size = min(subset_size, n, m)
    if subsets < 1 or size < 2:
        raise FruganError(f"{subsets} subsets of {size}: KID needs at least 1 subset of at least 2 samples")
    rng = np.random.default_rng(seed)
    draws = [(rng.choice(n, size, replace=False), rng.choice(m, size, replace=False)) for _ in range(subsets)]
    if (n + m) ** 2 > 4 * subsets * size**2:  # all pairs are more than those of the subsets
        values = [kernel_distance_full(real[rows], generated[others]) for rows, others in draws]
    else:
        values = _kernel_distance_of_subsets(*checked(real, generated), draws)
    return float(np.mean(values)), float(np.std(values))


def _kernel_distance_of_subsets(real: Array, generated: Array, draws: list[tuple[Any, Any]]) -> Array:
    """`kernel_distance_full` of each pair of subsets. With S `[subsets, N]` of 0 and 1, Σ over a subset's pairs is
    (S K Sᵀ)ₛₛ: each kernel value is computed once, however many subsets share it."""
    own, other = np.zeros((len(draws), len(real))), np.zeros((len(draws), len(generated)))
    for i, (rows, others) in enumerate(draws):
        own[i, rows] = other[i, others] = 1

    def sums(x: Array, y: Array, in_x: Array, in_y: Array) -> Array:
        return sum(((in_x[:, rows] @ _kernel(x[rows], y)) * in_y).sum(axis=1) for rows in blocks(x, y))  # pyright: ignore[reportReturnType]

    def within(x: Array, chosen: Array) -> Array:
        itself = (np.square(x).sum(axis=1) / x.shape[1] + 1) ** 3
        return (sums(x, x, chosen, chosen) - chosen @ itself) / (size * (size - 1))

    size = len(draws[0][0])
    across = sums(real, generated, own, other) / size**2
    return within(real, own) + within(generated, other) - 2 * across


def kernel_distance_full(real: Features2D, generated: Features2D) -> float:
    """KID from all pairs: the unbiased squared maximum mean discrepancy with the kernel (x·y/D + 1)³ (Bińkowski et al.
    2018, eq. 4).

    It estimates the same number as `kernel_distance`, with the least noise that the samples allow. Near 0 for equal
    distributions, and below it by chance; not biased by the number of samples. Often shown × 1000.
    """
    real, generated = checked(real, generated)
    across = sum(_kernel(real[rows], generated).sum() for rows in blocks(real, generated))
    pairs = len(real) * len(generated)
    return float(_kernel_mean_within(real) + _kernel_mean_within(generated) - 2 * across / pairs)


@dataclass
class Moments:
    """Count, mean `[D]` and scatter matrix `[D, D]` of a stream of features, of which one batch `[n, D]` is in memory at a time.

    Each batch's scatter is taken about its own mean, and merged (Chan, Golub & LeVeque 1983), so that no digits cancel.
    """

    count: int = 0
    mean: Array = field(default_factory=lambda: np.zeros(()))
    scatter: Array = field(default_factory=lambda: np.zeros(()))

    @classmethod
    def of(cls, batches: Iterable[Features2D]) -> Moments:
        """The moments of all batches `[n, D]` of a stream."""
        total, waiting = cls(), []
        for batch in batches:
            waiting.append(batch)
            if sum(map(len, waiting)) >= _MOMENTS_ROWS:
                total.update(np.concatenate(waiting))
                waiting = []
        if waiting:
            total.update(np.concatenate(waiting))
        return total

    def update(self, batch: Features2D) -> None:
        """Adds a batch `[n, D]`. Raises `FruganError` for features that are not finite."""
        x = np.asarray(batch, np.float64)
        if not len(x):
            return
        if not np.isfinite(x).all():
            raise FruganError(NOT_FINITE)
        mean = x.mean(axis=0)
        centred = x - mean
        self.merge(Moments(len(x), mean, centred.T @ centred))

    def merge(self, other: Moments) -> None:
        """Adds the moments of another stream, as if its batches had been part of this one."""
        total = self.count + other.count
        if not other.count:
            return
        delta = other.mean - self.mean
        self.scatter = self.scatter + other.scatter + np.outer(delta, delta) * (self.count * other.count / total)
        self.mean = self.mean + delta * (other.count / total)
        self.count = total

    @property
    def covariance(self) -> Array:
        """`[D, D]`, over count − 1."""
        if self.count < 2:
            raise FruganError(f"{self.count} samples have no covariance; give at least 2")
        return self.scatter / (self.count - 1)


def frechet_distance(mean: Array, covariance: Array, other_mean: Array, other_covariance: Array) -> float:
    """FID, the Fréchet distance of two normal distributions: ‖μ − μ'‖² + tr(Σ + Σ' − 2(Σ Σ')^½) (Heusel et al. 2017, eq. 6).

    0 to rounding for a set against itself. It is biased upwards for few samples: compare values at equal counts only.

    Args:
        mean, other_mean: μ and μ', `[D]`.
        covariance, other_covariance: Σ and Σ', `[D, D]`.
    """
    return _frechet(mean, _root(covariance), other_mean, _root(other_covariance))


def frechet_distance_of_sets(real: Features2D, generated: Features2D) -> float:
    """FID of two sets of features `[N, D]` and `[M, D]`: `frechet_distance` of their moments, faster where images are few."""
    real, generated = checked(real, generated)
    return _frechet(*_mean_and_root(real), *_mean_and_root(generated))


def frechet_distance_extrapolated(
    real: Moments, generated: Features2D, *, points: int = 15, seed: int = 0
) -> tuple[float, float]:
    """FID∞: FID extrapolated to infinitely many generated samples, and its standard error.

    FID's bias falls as 1/N. A line is fitted to FID at `points` counts from N/5 to N, each for a random subset, and
    read where 1/N = 0 (Chong & Forsyth, "Effectively Unbiased FID and Inception Score", 2020). The bias from the
    reference remains. The relation is a line only where N/5 is well above the features' dimension.

    Args:
        real: moments of the reference.
        generated: `[N, D]`.
        points: number of counts.
        seed: of the choice of subsets.
    """
    n = len(generated)
    counts = np.unique(np.linspace(n / 5, n, points).round().astype(int))
    if len(counts) < 3 or counts[0] < 2:
        raise FruganError(f"{n} generated samples at {points} counts: FID∞ needs at least 3 counts from 2 samples on")
    rng, root = np.random.default_rng(seed), _root(real.covariance)

    def distance(count: int) -> float:
        x = np.asarray(generated[np.sort(rng.choice(n, count, replace=False))], np.float64)
        return _frechet(real.mean, root, *_mean_and_root(x))

    line = np.stack([np.ones(len(counts)), 1 / counts], axis=1)
    values = np.array([distance(count) for count in counts])
    solution, *_ = np.linalg.lstsq(line, values, rcond=None)
    variance = np.square(values - line @ solution).sum() / (len(counts) - 2)
    return float(solution[0]), float(np.sqrt(variance * np.linalg.inv(line.T @ line)[0, 0]))


def inception_score(logits: Features2D, splits: int = 10) -> tuple[float, float]:
    """The Inception score exp E KL(p(y|x) ‖ p(y)), from 1 to K: mean and standard deviation over parts of the samples
    (Salimans et al. 2016).

    It knows no reference: a generator of a single perfect image for each class has the best score.

    Args:
        logits: class logits of samples, `[N, K]`.
        splits: number of consecutive parts, 1 to N.
    """
    if logits.ndim != 2 or not 1 <= splits <= len(logits):
        raise FruganError(f"logits {logits.shape} in {splits} parts: give [N, K], and 1 to N parts")
    if not np.isfinite(logits).all():
        raise FruganError(NOT_FINITE)
    scores = []
    for part in np.array_split(np.asarray(logits, np.float64), splits):
        shifted = part - part.max(axis=1, keepdims=True)
        log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        p = np.exp(log_p)
        marginal = p.mean(axis=0)
        log_marginal = np.log(np.maximum(marginal, np.finfo(np.float64).tiny))
        scores.append(np.exp((p * (log_p - log_marginal)).sum(axis=1).mean()))
    return float(np.mean(scores)), float(np.std(scores))


def checked(real: Features2D, generated: Features2D, k: int = 1) -> tuple[Array, Array]:
    """Both sets as float64, after a check that raises `FruganError`.

    Args:
        real, generated: features `[N, D]` and `[M, D]`, all finite.
        k: there are more than so many of each.
    """
    real, generated = np.asarray(real, np.float64), np.asarray(generated, np.float64)
    if real.ndim != 2 or real.shape[1:] != generated.shape[1:]:
        raise FruganError(f"features {real.shape} and {generated.shape} cannot be compared: give [N, D] and [M, D]")
    if k < 1 or min(len(real), len(generated)) <= k:
        raise FruganError(
            f"{len(real)} real and {len(generated)} generated samples with k = {k}: give k ≥ 1, and more than k of each"
        )
    if not (np.isfinite(real).all() and np.isfinite(generated).all()):
        raise FruganError(NOT_FINITE)
    return real, generated


def blocks(x: Array, y: Array) -> Iterator[slice]:
    """Slices of x's rows such that the pairs of a slice with all of y fit into one block of memory."""
    rows = max(_BLOCK_PAIRS // len(y), 1)
    return (slice(i, i + rows) for i in range(0, len(x), rows))


def _kernel(x: Array, y: Array) -> Array:
    k = x @ y.T / x.shape[1] + 1
    return k * k * k


def _kernel_mean_within(x: Array) -> float:
    """The kernel's mean over pairs of different samples; of each pair of blocks one is computed."""
    total = 0.0
    for rows in blocks(x, x):
        block = _kernel(x[rows], x[rows.start :])
        own = block[:, : len(block)]
        total += 2 * block.sum() - own.sum() - np.trace(own)
    return total / (len(x) * (len(x) - 1))


def _frechet(mean: Array, root: Array, other_mean: Array, other_root: Array) -> float:
    """With Σ = R Rᵀ and Σ' = R' R'ᵀ, tr (Σ Σ')^½ is the sum of the singular values of Rᵀ R' (Rᵀ Σ' R has their squares).

    Eigenvalues of the latter would lose, to rounding, directions whose variance is below 10⁻⁸ of the largest.
    """
    if mean.shape != other_mean.shape:
        raise FruganError(f"features of sizes {mean.shape} and {other_mean.shape} cannot be compared")
    cross = np.linalg.svd(root.T @ other_root, compute_uv=False).sum()
    trace = np.square(root).sum() + np.square(other_root).sum()
    return float(np.square(mean - other_mean).sum() + trace - 2 * cross)


def _mean_and_root(x: Array) -> tuple[Array, Array]:
    """Mean `[D]` of features `[n, D]`, and R with R Rᵀ their covariance: `[D, rank]`, or `[D, n]` where these are fewer."""
    if len(x) > x.shape[1]:
        own = Moments.of([x])
        return own.mean, _root(own.covariance)
    if not np.isfinite(x).all():
        raise FruganError(NOT_FINITE)
    mean = x.mean(axis=0)
    return mean, (x - mean).T / np.sqrt(len(x) - 1)


def _root(covariance: Array) -> Array:
    """V Λ^½ `[D, rank]` of a positive semidefinite matrix `[D, D]`; eigenvalues that are zero but for rounding are left out."""
    values, vectors = np.linalg.eigh(covariance)
    kept = values > values[-1] * len(values) * np.finfo(np.float64).eps
    return vectors[:, kept] * np.sqrt(values[kept])
