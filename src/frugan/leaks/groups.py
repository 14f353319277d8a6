"""Leaks of augmentations that draw from a finite group: their exact effect on a distribution, and whether that can be inverted.

An augmentation acts linearly on distributions. If that action is invertible, only the true distribution matches the
augmented real one after augmentation, and nothing leaks (Karras et al. 2020, "Training GANs with Limited Data", section
2.2 and appendix C). On the orbit of an image, the images that the elements of a finite group make of it, the action is
a matrix of transition probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from frugan.errors import FruganError

SINGULAR = 1e-9


@dataclass(frozen=True)
class FiniteGroup:
    """A random draw from a finite group that acts on an orbit of k states.

    Attributes:
        permutations: integers `[G, k]`: element g takes state s to state `permutations[g, s]`.
        draw: `[G]`: the probability of each element, given that the transform is applied.

    Raises `FruganError` where a row is no permutation, or `draw` is no distribution.
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
        """The transition matrix T of the transform applied with probability p: shares of states before → shares after it.

        T = (1 − p)·I + p·Σ_g draw_g·P_g, `[k, k]`, each column of sum 1, with the permutation matrices P_g.
        """
        if not 0 <= p <= 1:
            raise FruganError(f"p is {p:g}; a probability lies between 0 and 1")
        k = self.permutations.shape[1]
        matrix = (1 - p) * np.eye(k)
        for permutation, probability in zip(self.permutations, self.draw):
            matrix[permutation, np.arange(k)] += p * probability
        return matrix

    def eigenvalues(self, p: float) -> np.ndarray:
        """The eigenvalues of the transition matrix at p: complex `[k]`, by descending modulus; the first one is 1."""
        values = np.linalg.eigvals(self.transition(p))
        return values[np.argsort(-abs(values), kind="stable")]

    def condition(self, p: float) -> float:
        """The condition number of the transition matrix at p: the factor by which its inverse amplifies errors;
        infinite where it leaks.
        """
        values = np.linalg.svd(self.transition(p), compute_uv=False)
        return float("inf") if values[-1] < SINGULAR else float(values[0] / values[-1])

    def safe_p(self, condition: float) -> float:
        """The largest p up to which the condition number stays at most `condition`, which is 1 or more."""
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
        """The shares of states `[k]` after the transform with probability p, from those before it."""
        return self.transition(p) @ self._checked(shares)

    def invert(self, shares: Sequence[float], p: float) -> np.ndarray:
        """The shares of states `[k]` before the transform with probability p, from those after it.

        Raises `FruganError` where the transform leaks at p: many distributions then give the same shares.
        """
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
    """The cyclic group of n rotations, n = `len(draw)`: element g takes state s to s + g (mod n), and `draw` has its
    probability.
    """
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
