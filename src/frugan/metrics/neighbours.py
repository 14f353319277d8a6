"""Metrics from nearest neighbours among features `[N, D]`: precision and recall, density and coverage; float64, in blocks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from frugan.errors import FruganError
from frugan.metrics.distances import Array, Features2D, blocks, checked


def precision_recall(real: Features2D, generated: Features2D, k: int = 3) -> tuple[float, float]:
    """The shares of generated samples within the real manifold (precision), and of real ones within the generated
    manifold (recall).

    A manifold is the union of closed balls around samples, each out to its k-th nearest neighbour among them
    (Kynkäänniemi et al., "Improved Precision and Recall Metric", 2019, eqs. 1 and 2).

    Args:
        real: `[N, D]`.
        generated: `[M, D]`.
        k: 1 or more, and below both counts.
    """
    real, generated = checked(real, generated, k)
    return _share_covered(generated, real, k), _share_covered(real, generated, k)


def density_coverage(real: Features2D, generated: Features2D, k: int = 5) -> tuple[float, float]:
    """Density and coverage of generated samples: how many real balls hold a sample on average, and the share of balls
    that hold any.

    A ball around a real image reaches to its k-th nearest real neighbour (Naeem et al., "Reliable Fidelity and
    Diversity Metrics for Generative Models", 2020). For equal distributions and counts the expected density is 1 (it
    may exceed that), the expected coverage 1 − ½ᵏ.

    Args:
        real: `[N, D]`.
        generated: `[M, D]`.
        k: 1 or more, and below both counts.
    """
    real, generated = checked(real, generated, k)
    radii = _squared_radii(real, k)
    inside, nearest = 0, np.full(len(real), np.inf)
    for squared in squared_distances(generated, real):
        inside += np.count_nonzero(squared < radii)
        nearest = np.minimum(nearest, squared.min(axis=0))
    return inside / (k * len(generated)), float((nearest < radii).mean())


def nearest(points: Features2D, others: Features2D, k: int = 1) -> tuple[Array, np.ndarray]:
    """The k nearest of `others` to each point, nearest first.

    Args:
        points: `[N, D]`.
        others: `[M, D]`.
        k: 1 to M.

    Returns:
        Distances, float64 `[N, k]`, and the rows of `others`, int64 `[N, k]`.
    """
    points, others = np.asarray(points, np.float64), np.asarray(others, np.float64)
    if not 1 <= k <= len(others):
        raise FruganError(f"{k} nearest of {len(others)}: give 1 to {len(others)}")
    distances, rows = [], []
    for squared in squared_distances(points, others):
        near = np.argpartition(squared, k - 1, axis=1)[:, :k]
        order = np.take_along_axis(squared, near, axis=1).argsort(axis=1, kind="stable")
        rows.append(np.take_along_axis(near, order, axis=1))
        distances.append(np.sqrt(np.take_along_axis(squared, rows[-1], axis=1)))
    return np.concatenate(distances), np.concatenate(rows)


def nearest_of_other_groups(points: Features2D, groups: np.ndarray | None = None) -> Array:
    """The distance of each point to the nearest one of another group: float64 `[N]`, infinite where all are of one group.

    Args:
        points: `[N, D]`.
        groups: `[N]`; None: each point is its own group.
    """
    points = np.asarray(points, np.float64)
    _, owner = np.unique(np.arange(len(points)) if groups is None else groups, return_inverse=True)
    found = []
    for rows, squared in zip(blocks(points, points), squared_distances(points, points)):
        squared[owner[rows, None] == owner] = np.inf
        found.append(np.sqrt(squared.min(axis=1)))
    return np.concatenate(found)


def squared_distances(x: Array, y: Array) -> Iterator[Array]:
    """‖x − y‖² of blocks of x against all of y: `[rows, M]`."""
    norms = np.square(y).sum(axis=1)
    for rows in blocks(x, y):
        own = np.square(x[rows]).sum(axis=1, keepdims=True)
        yield np.maximum(own + norms - 2 * x[rows] @ y.T, 0)


def _squared_radii(x: Array, k: int) -> Array:
    """The squared distance of each sample to its k-th nearest neighbour, itself (the nearest) not counted."""
    return np.concatenate([np.partition(squared, k, axis=1)[:, k] for squared in squared_distances(x, x)])


def _share_covered(points: Array, centres: Array, k: int) -> float:
    radii = _squared_radii(centres, k)
    inside = sum(np.count_nonzero((squared <= radii).any(axis=1)) for squared in squared_distances(points, centres))
    return inside / len(points)
