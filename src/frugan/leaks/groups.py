"""Transforms that draw from a finite group: exactly what they do to a distribution, and whether it can be undone.

An augmentation acts linearly on distributions. It does not leak if that action is invertible: then only the true distribution
looks right after it (Karras et al. 2020, "Training GANs with Limited Data", section 2.2 and appendix C). On the orbit of a finite
group, the images that an image is carried to, the action is a matrix of transition probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from frugan.errors import FruganError

SINGULAR = 1e-9


@dataclass(frozen=True)
class FiniteGroup:
    """A draw from a group that acts on an orbit of k states.

    `permutations` `[G, k]`: element g carries state s to `permutations[g, s]`. `draw` `[G]`: with what probability each element
    is drawn when the transform fires.
    """

    permutations: np.ndarray
    draw: np.ndarray

    def __post_init__(self) -> None:
        count, k = self.permutations.shape
        if any(sorted(row) != list(range(k)) for row in self.permutations.tolist()):
            raise FruganError(f"each element of a group on {k} states is a permutation of 0 … {k - 1}")
        if len(self.draw) != count or self.draw.min() < 0 or abs(self.draw.sum() - 1) > 1e-6:
            raise FruganError(f"{self.draw.tolist()} are not {count} probabilities that sum to 1")

    def transition(self, p: float) -> np.ndarray:
        """Column-stochastic `[k, k]`: shares before → shares after the transform, applied with probability p."""
        if not 0 <= p <= 1:
            raise FruganError(f"p is {p:g}; a probability lies between 0 and 1")
        k = self.permutations.shape[1]
        matrix = (1 - p) * np.eye(k)
        for permutation, probability in zip(self.permutations, self.draw):
            matrix[permutation, np.arange(k)] += p * probability
        return matrix

    def eigenvalues(self, p: float) -> np.ndarray:
        """Complex `[k]`, from the largest modulus (1) down."""
        values = np.linalg.eigvals(self.transition(p))
        return values[np.argsort(-abs(values), kind="stable")]

    def condition(self, p: float) -> float:
        """By how much undoing it amplifies errors: largest over smallest singular value; infinite where it leaks."""
        values = np.linalg.svd(self.transition(p), compute_uv=False)
        return float("inf") if values[-1] < SINGULAR else float(values[0] / values[-1])

    def safe_p(self, condition: float) -> float:
        """The largest p up to which the condition number stays within `condition`."""
        if condition < 1:
            raise FruganError(f"condition {condition:g}: a condition number is 1 or more")
        grid = np.linspace(0, 1, 1001)
        beyond = [p for p in grid if self.condition(p) > condition * (1 + 1e-9)]
        if not beyond:
            return 1.0
        high = float(beyond[0])
        low = max(high - 1e-3, 0.0)
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (low, middle) if self.condition(middle) > condition else (middle, high)
        return low

    def apply(self, shares: Sequence[float], p: float) -> np.ndarray:
        """Clean shares `[k]` → those seen after the transform."""
        return self.transition(p) @ self._checked(shares)

    def invert(self, shares: Sequence[float], p: float) -> np.ndarray:
        """Shares `[k]` seen after the transform → the clean ones. Raises `FruganError` where they cannot be known."""
        if np.isinf(self.condition(p)):
            raise FruganError(
                f"at p = {p:g} the transform leaks: many clean distributions give these shares; use a smaller p"
            )
        return np.linalg.solve(self.transition(p), self._checked(shares))

    def _checked(self, shares: Sequence[float]) -> np.ndarray:
        values, k = np.asarray(shares, dtype=float), self.permutations.shape[1]
        if values.shape != (k,) or values.min() < 0 or abs(values.sum() - 1) > 1e-6:
            raise FruganError(f"{list(shares)} are not {k} shares that sum to 1")
        return values


def cyclic(draw: Sequence[float]) -> FiniteGroup:
    """The group of n turns, each carrying state s to s + g, drawn with these n probabilities."""
    n = len(draw)
    if n < 2:
        raise FruganError(f"a draw of {n} probabilities: a group has two elements or more")
    return FiniteGroup((np.arange(n)[:, None] + np.arange(n)) % n, np.asarray(draw, dtype=float))


GROUPS: dict[str, FiniteGroup] = {
    "xflip": cyclic([1 / 2] * 2),
    "rotate90": cyclic([1 / 4] * 4),
    "lumaflip": cyclic([1 / 2] * 2),
}
"""The transforms of `frugan.augment.TRANSFORMS` that are such draws."""
