"""Vicinal losses for measured labels: images with nearly the same number stand in for images with exactly that number.

CcGAN (Ding et al., "CcGAN: Continuous Conditional Generative Adversarial Networks for Image Generation", ICLR 2021). A
target y is the label of a training image plus N(0, σ²). At the label y, D judges a real image whose label y' is near y,
and an image that was generated at a label near y. "Near" is one of two kinds: within κ of y, all equally likely (hard);
or with probability proportional to exp(−ν (y' − y)²), ν = 1/κ², cut off below 10⁻³ (soft). G is trained at the targets.
The paper's estimate divides its weights by their sum (its eqs. 6 and 8); here images are drawn in proportion to them,
which has the same expectation and leaves the adversarial loss as it is.

Labels of d numbers are measured in units of κ_1 … κ_d, one for each number: the interval becomes an ellipsoid. Classes
beside the numbers must agree.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from frugan.label_parts import Measured

NEIGHBOURS = 2
"""κ as a multiple of the largest gap between labels."""
CUT = 1e-3
"""Smallest weight of soft vicinity; images with less are not drawn."""
_REDRAWS = 32
"""Targets drawn for one label before its own value is taken, near which its image lies."""


def silverman_width(images: int, numbers: int) -> float:
    """σ in standard deviations of each label, by Silverman's rule: (4 / ((d + 2)·n))^(1/(d + 4)), for n `images` and d
    `numbers`.
    """
    return (4 / ((numbers + 2) * images)) ** (1 / (numbers + 4))


def largest_gap(labels: np.ndarray, measured: Sequence[Measured]) -> float:
    """The largest gap between neighbouring distinct labels of the same classes, in standard deviations; 0 where there is none.

    For one number neighbours are those in its order; for several, a label's neighbour is the nearest other one.

    Args:
        labels: `[N, K]`.
        measured: the columns that are numbers, with their standard deviations.
    """
    varying = [m for m in measured if m.std]
    if not varying:
        return 0.0
    numbers = labels[:, [m.column for m in varying]] / np.array([m.std for m in varying])
    codes = _class_codes(labels, [m.column for m in measured])
    gaps = [_gap(np.unique(numbers[codes == code], axis=0)) for code in range(codes.max() + 1)]
    return max(gaps)


def _gap(distinct: np.ndarray) -> float:
    """The largest gap of distinct points `[n, d]`, sorted by the first number."""
    if len(distinct) < 2:
        return 0.0
    if distinct.shape[1] == 1:
        return float(np.diff(distinct[:, 0]).max())
    from scipy.spatial import KDTree

    return float(KDTree(distinct).query(distinct, k=2)[0][:, 1].max())


def _class_codes(labels: np.ndarray, measured: Sequence[int]) -> np.ndarray:
    """A number for each image, int64 `[N]`, the same for labels `[N, K]` that agree in all columns but the measured ones."""
    rest = np.delete(labels, measured, axis=1)
    return np.unique(rest, axis=0, return_inverse=True)[1].ravel() if rest.size else np.zeros(len(labels), np.int64)


class Vicinity:
    """Draws target labels, and a real image near each, for one minibatch after another.

    Args:
        labels: float32 `[N, K]` of all images.
        rows: int64, the training images among them.
        kind: "hard" or "soft".
        sigma, kappa: widths σ and κ of each of the K columns in its own unit, 0 for classes.
    """

    def __init__(
        self,
        labels: np.ndarray,
        rows: np.ndarray,
        kind: Literal["hard", "soft"],
        *,
        sigma: Sequence[float],
        kappa: Sequence[float],
    ) -> None:
        self.labels, self.rows, self.soft = labels, rows, kind == "soft"
        self.sigma = np.array(sigma, np.float32)
        self.columns = [k for k, width in enumerate(kappa) if width]
        self.kappa = np.array(kappa, np.float64)[self.columns]
        codes = _class_codes(labels, self.columns)
        self._codes, self._candidate_codes = codes, codes[rows]
        self._candidates = labels[rows][:, self.columns] / self.kappa

    def draw(self, indices: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draws targets near the labels of some images, and a real image near each target.

        Args:
            indices: int64 `[n]`, numbers of images; those from N on are x-flipped copies.
            rng: of the draws.

        Returns:
            Numbers of the images near the targets, int64 `[n]`, and the targets, float32 `[n, K]`. A target without an
            image near it is drawn again.
        """
        total = len(self.labels)
        base = self.labels[indices % total]
        targets, picks = base.copy(), np.empty(len(indices), np.int64)
        for i, (label, index) in enumerate(zip(base, indices)):
            targets[i], shares = self._target(label, int(self._codes[index % total]), rng)
            picks[i] = self.rows[np.searchsorted(shares, shares[-1] * rng.random(), side="right")]
        return picks + total * (indices >= total), targets

    def _target(self, label: np.ndarray, code: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A target that has an image near it, and the cumulative sum of the images' weights."""
        for _ in range(_REDRAWS):
            target = label + self.sigma * rng.standard_normal(len(label), np.float32)
            shares = np.cumsum(self.weights(target, code))
            if shares[-1] > 0:
                return target, shares
        return label, np.cumsum(self.weights(label, code))

    def weights(self, target: np.ndarray, code: int) -> np.ndarray:
        """The weight of each training image for a target: float64 `[len(rows)]` in [0, 1].

        Args:
            target: `[K]`.
            code: of its classes; images of other classes have weight 0.
        """
        squares = np.square(self._candidates - target[self.columns] / self.kappa).sum(1)
        weights = np.exp(-squares) if self.soft else (squares <= 1).astype(np.float64)
        return np.where((weights >= CUT) & (self._candidate_codes == code), weights, 0)


def widths(label_size: int, measured: Sequence[Measured], factor: float) -> tuple[float, ...]:
    """A width for each of K columns in its own unit: `factor` standard deviations for measured ones, 0 for others.

    Args:
        label_size: K.
        measured: the columns that are numbers, with their standard deviations.
        factor: in standard deviations.
    """
    found = [0.0] * label_size
    for m in measured:
        found[m.column] = factor * m.std
    return tuple(found)


SOFT_SCALE = math.sqrt(0.5)
"""Standard deviation, in units of κ, of the normal distribution whose density is in proportion to soft weights."""
