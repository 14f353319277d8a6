"""Tests for data copying: whether samples are nearer to the training images than images are that the generator never saw.

T denotes training images, P held-out ones, Q generated ones, all as features `[N, D]`; L(x) is the distance of x to its
nearest image in T. Held-out images are the control: they show how near independent images come to T. That holds only if
they are drawn as the training images are, and no group (patient, film, slide) has images in both sets: leave such
images out first (`independent_of`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from frugan.errors import FruganError
from frugan.metrics.distances import Array, Features2D, checked
from frugan.metrics.membership import auc_estimate
from frugan.metrics.neighbours import nearest, nearest_of_other_groups
from frugan.metrics.resampling import Estimate, group_sums, mean_error, mean_estimate, shares_below

PRINCIPAL = 64
"""Principal components that cells are found in."""
CELL_FEWEST = 10
"""Held-out and generated images that a cell needs for its z-score."""
MOST_CELLS = 10
COPY_QUANTILE = 0.01
QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Cell:
    """A cell of the feature space: the number of images of each kind in it, and its z-score, None where there are too few."""

    train: int
    unseen: int
    generated: int
    z: float | None


@dataclass(frozen=True)
class DataCopying:
    """The result of the data-copying test. Each z-score: far below 0 samples copy, far above 0 they are off; within ±3
    neither is shown.
    """

    c_t: float
    """Mean of the cells' z, weighted by their shares of held-out images."""
    error: float
    """Standard deviation of `c_t` where nothing is copied: √Σ w²."""
    z: float
    """Of all images at once: the standardised `memorisation`."""
    cells: tuple[Cell, ...]


def data_copying(
    generated: Features2D,
    unseen: Features2D,
    train: Features2D,
    *,
    cells: int | None = None,
    unseen_groups: np.ndarray | None = None,
    seed: int = 0,
) -> DataCopying:
    """The data-copying test C_T (Meehan, Chaudhuri & Dasgupta, "A Non-Parametric Test to Detect Data-Copying", 2020).

    Z_U = (U − nm/2) / √(nm(n + m + 1)/12), U = #{(q, p): L(q) > L(p)}, ties ½: once for all, and once for each cell of a
    k-means of T, whose mean, weighted by the share of P, is C_T. Cells with fewer than `CELL_FEWEST` of P or of Q are left out.

    Args:
        generated: Q `[m, D]`.
        unseen: P `[n, D]`.
        train: T `[t, D]`.
        cells: of the k-means, in T's first `PRINCIPAL` principal components; None: one for every 20 of P or Q, 10 at most.
        unseen_groups: `[n]`; images of one group count as one observation.
        seed: of the k-means.
    """
    generated, train = checked(generated, train)
    unseen, _ = checked(unseen, train)
    far, control = (nearest(x, train)[0][:, 0] for x in (generated, unseen))
    if cells is None:
        cells = int(np.clip(min(len(far), len(control)) // 20, 1, MOST_CELLS))
    if cells < 1 or cells > len(train):
        raise FruganError(f"{cells} cells of {len(train)} training images: give 1 to {len(train)}")
    labels = _cells([train, unseen, generated], cells, seed)
    found, weights = [], []
    for cell in range(cells):
        of_train, of_unseen, of_generated = (x == cell for x in labels)
        n, m = int(of_unseen.sum()), int(of_generated.sum())
        z = None
        if min(n, m) >= CELL_FEWEST:
            groups = None if unseen_groups is None else unseen_groups[of_unseen]
            z = rank_z(far[of_generated], control[of_unseen], groups)
            weights.append(n)
        found.append(Cell(int(of_train.sum()), n, m, z))
    if not weights:
        raise FruganError(
            f"no cell has {CELL_FEWEST} held-out and {CELL_FEWEST} generated images: hold out more, or make more samples"
        )
    w = np.array(weights) / sum(weights)
    c_t = float(w @ [cell.z for cell in found if cell.z is not None])
    return DataCopying(c_t, float(np.sqrt(np.square(w).sum())), rank_z(far, control, unseen_groups), tuple(found))


def rank_z(x: Array, y: Array, y_groups: np.ndarray | None = None) -> float:
    """The Mann–Whitney statistic of x against y as a z-score, negative where x tends to be smaller.

    Args:
        x: `[m]`.
        y: `[n]`.
        y_groups: `[n]`: values of one group may depend on each other. The variance is then that of the groups' sums
            (Obuchowski 1997), where it is larger.
    """
    m, n = len(x), len(y)
    above, under = shares_below(x, y), shares_below(y, x)  # P(y < x_i), P(x < y_j), ties ½
    _, ties = np.unique(np.concatenate([x, y]), return_counts=True)
    total = m + n
    variance = m * n / 12 * (total + 1 - (ties.astype(float) ** 3 - ties).sum() / (total * (total - 1)))
    if y_groups is not None:
        own = np.square(group_sums(under - under.mean(), y_groups)).sum() * m * m
        variance = max(variance, own + np.square(above - above.mean()).sum() * n * n)
    return 0.0 if variance <= 0 else float((above.sum() * n - m * n / 2) / math.sqrt(variance))


@dataclass(frozen=True)
class Authenticity:
    """Shares of images that are farther from their nearest training image than that is from the next one."""

    generated: Estimate
    unseen: Estimate
    """Of held-out images in the place of samples: what a generator that copies nothing gives."""
    difference: Estimate
    """Generated less unseen: 0 nothing copied, below copies."""


def authenticity(
    generated: Features2D,
    train: Features2D,
    unseen: Features2D,
    *,
    train_groups: np.ndarray | None = None,
    unseen_groups: np.ndarray | None = None,
) -> Authenticity:
    """The share of samples q with d(q, t) > d(t, t'), t nearest to q in T and t' nearest to t in T (Alaa et al., "How
    Faithful is your Synthetic Data?", 2022).

    Args:
        generated: Q `[m, D]`.
        train: T `[t, D]`.
        unseen: P `[n, D]`, the control.
        train_groups: `[t]`; t' is of another group than t. x-flipped copies of one image are one group.
        unseen_groups: `[n]`, of which the control's interval knows.
    """
    generated, train = checked(generated, train)
    unseen, _ = checked(unseen, train)
    own = nearest_of_other_groups(train, train_groups)

    def is_authentic(points: Array) -> Array:
        far, rows = nearest(points, train)
        return (far[:, 0] > own[rows[:, 0]]).astype(np.float64)

    made, others = is_authentic(generated), is_authentic(unseen)
    error = float(np.hypot(mean_error(made), mean_error(others, unseen_groups)))
    return Authenticity(
        mean_estimate(made, limits=(0, 1)),
        mean_estimate(others, unseen_groups, (0, 1)),
        Estimate.of(made.mean() - others.mean(), error, (-1, 1)),
    )


@dataclass(frozen=True)
class NearestDistances:
    """Quantiles of the distances to the nearest training image: of samples, of held-out images, and of training images
    to the nearest one of another group (empty where all are of one group).
    """

    quantiles: tuple[float, ...]
    generated: tuple[float, ...]
    unseen: tuple[float, ...]
    train: tuple[float, ...]
    copied: Estimate
    """The share of samples nearer than 99 of 100 held-out images; 0.01 by chance. Its interval covers that the quantile is that
    of few held-out images, too."""


def nearest_distances(
    generated: Features2D,
    train: Features2D,
    unseen: Features2D,
    *,
    train_groups: np.ndarray | None = None,
) -> NearestDistances:
    """Distances of samples to their nearest training images, compared with those of held-out images.

    Args:
        generated: samples `[m, D]`.
        train: training images `[t, D]`.
        unseen: held-out images `[n, D]`.
        train_groups: `[t]`, as for `authenticity`.
    """
    generated, train = checked(generated, train)
    unseen, _ = checked(unseen, train)
    far, control = (nearest(x, train)[0][:, 0] for x in (generated, unseen))
    among = nearest_of_other_groups(train, train_groups)

    def table(distances: Array) -> tuple[float, ...]:
        known = distances[np.isfinite(distances)]
        return tuple(np.quantile(known, QUANTILES).tolist()) if len(known) else ()

    return NearestDistances(QUANTILES, table(far), table(control), table(among), copied_share(far, control))


def memorisation(
    generated: Array, unseen: Array, *, unseen_groups: np.ndarray | None = None
) -> tuple[Estimate, Estimate]:
    """Whether samples lie nearer to training images than unseen images do.

    Args:
        generated: the distance of each sample to the nearest training image, `[m]`.
        unseen: the same of each unseen image, `[n]`.
        unseen_groups: `[n]`, as for `data_copying`.

    Returns:
        First, the probability that a sample is nearer than an unseen image, ties counting half: above ½ the generator
        copies, below ½ its samples lie further from the data than real images do (the Mann–Whitney statistic of Meehan
        et al., "A Non-Parametric Test to Detect Data-Copying", 2020). Second, the share of samples that are nearer than
        the `COPY_QUANTILE` quantile of the unseen images: without copies it equals that quantile's level.
    """
    return auc_estimate(-generated, -unseen, negative_groups=unseen_groups), copied_share(generated, unseen)


def copied_share(far: Array, control: Array) -> Estimate:
    """The second of `memorisation`."""
    near = float((far < np.quantile(control, COPY_QUANTILE)).mean())
    error = np.sqrt(near * (1 - near) / len(far) + COPY_QUANTILE * (1 - COPY_QUANTILE) / len(control))
    return Estimate.of(near, float(error), (0, 1))


def independent_of(groups: np.ndarray | None, others: np.ndarray | None, count: int) -> np.ndarray:
    """A mask of the images that share no group with any of the others: bool `[count]`. Raises `FruganError` where none is left.

    Args:
        groups: `[count]`, the group of each image, or None: all are independent.
        others: `[m]`, the groups of the other images, or None likewise.
        count: number of images.
    """
    if groups is None or others is None:
        return np.ones(count, bool)
    free = ~np.isin(groups, others)
    if not free.any():
        raise FruganError(
            "every held-out image has one of its group among the training images, so there is no control; "
            "hold out whole groups"
        )
    return free


def _cells(sets: list[Array], count: int, seed: int) -> list[np.ndarray]:
    """The cell of each image of each set, by k-means in principal components of the first set."""
    if count == 1:
        return [np.zeros(len(x), int) for x in sets]
    try:
        from sklearn.cluster import KMeans
    except ImportError as error:
        raise FruganError("cells of the data-copying test need scikit-learn: pip install 'frugan[metrics]'") from error
    train = sets[0]
    centre = train.mean(axis=0)
    axes = np.linalg.svd(train - centre, full_matrices=False)[2][:PRINCIPAL].T
    reduced = [(x - centre) @ axes for x in sets]
    found = KMeans(count, n_init=4, random_state=seed).fit(reduced[0])  # pyright: ignore[reportArgumentType]
    return [np.asarray(found.predict(x)) for x in reduced]
