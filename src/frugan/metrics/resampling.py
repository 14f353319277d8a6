"""Confidence intervals from half-samples, and the floor of a metric: its value between two halves of the real images.

Metrics of k nearest neighbours must not see an image twice, as a bootstrap with replacement would have them do.
Intervals therefore come from half-samples without replacement. For a mean, and for statistics that behave like one, a
half-sample varies about the whole as the whole does about the truth: (1 − ½)·σ²/(n/2) = σ²/n (Shao & Wu, "A General
Theory for Jackknife Variance Estimation", 1989).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from frugan.errors import FruganError
from frugan.metrics.distances import Array, Features2D

Z95 = 1.959963984540054
"""The 97.5 % quantile of the standard normal distribution."""

SetStatistic = Callable[[Features2D, Features2D], Sequence[float]]
"""Features of real and of generated images to numbers."""


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, value: float, error: float, limits: tuple[float, float] = (-np.inf, np.inf)) -> Estimate:
        """Normal interval about a value with a standard error, within `limits`."""
        low, high = (float(np.clip(value + side * Z95 * error, *limits)) for side in (-1, 1))
        return cls(float(value), low, high)

    def __str__(self) -> str:
        return f"{self.value:.3g} ({self.low:.3g} to {self.high:.3g})"


def half_sample_intervals(
    statistic: SetStatistic,
    real: Features2D,
    generated: Features2D,
    *,
    repeats: int = 40,
    seed: int = 0,
    real_groups: np.ndarray | None = None,
    limits: tuple[float, float] = (-np.inf, np.inf),
) -> list[Estimate]:
    """Each number of a statistic of two sets, with its 95 % interval.

    Args:
        statistic: features of two sets → numbers.
        real: `[N, D]`, of which half of the groups are drawn each time.
        generated: `[M, D]`.
        repeats: half-samples of both sets at once.
        seed: of these.
        real_groups: `[N]`; images of one group are drawn together. None: each is its own.
        limits: the range that the numbers cannot leave.
    """
    rng = np.random.default_rng(seed)
    halves = (
        (next(split_halves(len(real), rng, real_groups)), next(split_halves(len(generated), rng)))
        for _ in range(repeats)
    )
    drawn = [statistic(real[rows], generated[others]) for rows, others in halves]
    errors = np.std(np.asarray(drawn, np.float64), axis=0, ddof=1)
    return [Estimate.of(value, error, limits) for value, error in zip(statistic(real, generated), errors)]


def floor(
    statistic: SetStatistic, real: Features2D, *, repeats: int = 20, seed: int = 0, groups: np.ndarray | None = None
) -> list[Estimate]:
    """The values of a statistic between two random halves of the real images, for each of its numbers.

    A generator of perfect samples would reach this at such counts; nothing is expected to come below it.

    Args:
        statistic: features of two sets → numbers.
        real: `[N, D]`.
        repeats: divisions into halves.
        seed: of the divisions.
        groups: `[N]`; images of one group are in the same half. None: each is its own.

    Returns:
        The median, 2.5 % and 97.5 % quantile of each number.
    """
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(repeats):
        halves = split_halves(len(real), rng, groups)
        rows, others = next(halves), next(halves)
        values.append(statistic(real[rows], real[others]))
    quantiles = np.quantile(np.asarray(values, np.float64), (0.5, 0.025, 0.975), axis=0)
    return [Estimate(*map(float, column)) for column in quantiles.T]


def split_halves(n: int, rng: np.random.Generator, groups: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """Row numbers of one random half of n images, sorted, then those of the other half.

    Args:
        n: number of images.
        rng: of the division.
        groups: `[n]`; whole groups are divided. None: each image is its own.

    Raises `FruganError` for fewer than 4 images or groups.
    """
    owner = group_numbers(groups, n)
    count = int(owner.max(initial=-1)) + 1
    if count < 4:
        raise FruganError(f"{count} images or groups cannot be halved for an interval; give 4 or more")
    chosen = np.zeros(count, bool)
    chosen[rng.permutation(count)[: count // 2]] = True
    yield np.flatnonzero(chosen[owner])
    yield np.flatnonzero(~chosen[owner])


def shuffled_sides(
    n: int,
    m: int,
    rng: np.random.Generator,
    groups: np.ndarray | None = None,
    other_groups: np.ndarray | None = None,
) -> np.ndarray:
    """A random division of the images of two sets, for a permutation test: bool `[n + m]`, true for one side.

    Args:
        n, m: number of images of both sets.
        rng: of the division.
        groups, other_groups: `[n]` and `[m]`; whole groups are divided, and as many are on the true side as the first
            set has.
    """
    own = group_numbers(groups, n)
    first = int(own.max()) + 1
    owner = np.concatenate([own, group_numbers(other_groups, m) + first])
    chosen = np.zeros(int(owner.max()) + 1, bool)
    chosen[rng.permutation(len(chosen))[:first]] = True
    return chosen[owner]


def group_numbers(groups: np.ndarray | None, n: int) -> np.ndarray:
    """The number of each image's group, from 0 on, int64 `[n]`; without groups each image is its own."""
    return np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1].reshape(n)


def group_sums(values: Array, groups: np.ndarray | None) -> Array:
    """Sums of values `[N]` over the images of each group `[G]`; the values themselves without groups."""
    if groups is None:
        return values
    return np.asarray(np.bincount(group_numbers(groups, len(values)), weights=values), np.float64)


def mean_estimate(
    values: Array, groups: np.ndarray | None = None, limits: tuple[float, float] = (-np.inf, np.inf)
) -> Estimate:
    """The mean of values `[N]` with its 95 % interval.

    Args:
        values: `[N]`.
        groups: `[N]`; values of one group may depend on each other. None: all are independent.
        limits: the range that the interval cannot leave.
    """
    values = np.asarray(values, np.float64)
    return Estimate.of(values.mean(), mean_error(values, groups), limits)


def mean_error(values: Array, groups: np.ndarray | None = None) -> float:
    """The standard error of the mean of values `[N]`, from the variation of the groups' sums about the mean; ∞ for a
    single group.
    """
    sums = group_sums(values - values.mean(), groups)
    count = len(sums)
    if count < 2:
        return float("inf")
    return float(np.sqrt(count / (count - 1) * np.square(sums).sum()) / len(values))


def shares_below(points: Array, others: Array) -> Array:
    """For each point, the share of the others that are below it, ties counting half: `[N]`."""
    order = np.sort(others)
    below = np.searchsorted(order, points, "left") + np.searchsorted(order, points, "right")
    return np.asarray(below / (2 * len(order)), np.float64)
