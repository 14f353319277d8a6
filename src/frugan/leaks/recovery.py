"""Leaks of an augmentation that is any function of images, measured on images by a kernel distance.

P are real images, T(P) the same images augmented. A generator that makes T(P) in place of P goes unnoticed where
T(T(P)) looks like T(P). For T = (1 − p)·I + p·U with a projection U, such as the mean over a group, mean embeddings
satisfy ‖TTP − TP‖ = (1 − p)·‖TP − P‖ exactly: the ratio of the two is the smallest eigenvalue of T.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from frugan.errors import FruganError
from frugan.leaks.features import FEWEST, Array, Function, ImageFeatures, applied, small

UNRECOVERABLE = 0.15
"""The share `remains` below which generators leak in practice: 1 − p at p = 0.85 for a group (Karras et al. 2020, Fig. 3)."""
_DRAWS = 4
"""Augmented versions of each image, whose features are averaged."""


@dataclass(frozen=True)
class Recovery:
    """The part of an augmentation's effect that a second application still changes, and that can therefore be recovered.

    Attributes:
        effect: ‖TP − P‖, the distance of mean embeddings, √2 at most.
        remains: ‖TTP − TP‖ / ‖TP − P‖ in [0, 1]; None where T does not change the distribution measurably.
        low, high: its 95 % interval, None likewise.
    """

    effect: float
    remains: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def leaks(self) -> bool | None:
        """Whether the augmentation leaks; None where it takes more images to tell."""
        if self.remains is None or self.low is None or self.high is None:
            return False
        return None if self.low < UNRECOVERABLE < self.high else self.remains < UNRECOVERABLE

    def sentence(self) -> str:
        if self.remains is None or self.low is None or self.high is None:
            return "these images look the same after it: nothing can leak"
        verdict = {True: "it leaks", False: "it can be undone", None: "too few images to say whether it leaks"}
        told = f"{self.remains:.0%} ({self.low:.0%} to {self.high:.0%}) of its effect is told apart from a second application"
        return f"{verdict[self.leaks]}: {told}"


@torch.no_grad()
def recovery(images: Tensor, augment: Function, *, seed: int = 0) -> Recovery:
    """Measures how much of an augmentation's effect on a distribution of images can be recovered.

    Args:
        images: `[N, C, H, W]` in [-1, 1], 100 or more.
        augment: a function of images that returns as many of the same shape; it may draw from torch's global generator,
            which is seeded for it and restored afterwards.
        seed: of these draws and of the random features.

    Raises `FruganError` for too few images, or where `augment` returns something else.
    """
    if len(images) < FEWEST:
        raise FruganError(f"{len(images)} images are too few to compare distributions; give {FEWEST} or more")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        once = [applied(augment, images) for _ in range(_DRAWS)]
        twice = [applied(augment, applied(augment, images)) for _ in range(_DRAWS)]
    clean = small(images)
    features = ImageFeatures(np.concatenate([clean, *map(small, once)]), np.random.default_rng(seed))
    p, tp, ttp = features.kernel(clean), _mean(features, once), _mean(features, twice)
    effect, error, without = _squared_mean(tp - p)
    if effect <= 2 * error:
        return Recovery(max(effect, 0) ** 0.5)
    again, _, again_without = _squared_mean(ttp - tp)
    ratio, error = again / effect, _jackknife_error(again_without / without)
    squares = (ratio, ratio - 2 * error, ratio + 2 * error)
    remains, low, high = (float(max(square, 0) ** 0.5) for square in squares)
    return Recovery(effect**0.5, remains, low, high)


def _mean(features: ImageFeatures, draws: list[Tensor]) -> Array:
    """The mean features `[N, D]` of each image over its draws."""
    return np.mean([features.kernel(small(x)) for x in draws], axis=0)


def _squared_mean(x: Array) -> tuple[float, float, Array]:
    """An estimate of ‖E x‖² from independent rows `[N, D]`, its standard error, and the estimate without each row, `[N]`.

    It is the mean of ⟨x_i, x_j⟩ over all pairs of different rows, which is unbiased: (‖Σ x_i‖² − Σ ‖x_i‖²) / (N·(N − 1)).
    """
    n, total, own = len(x), x.sum(0), np.square(x).sum(1)
    without = (np.square(total - x).sum(1) - (own.sum() - own)) / ((n - 1) * (n - 2))
    return float((total @ total - own.sum()) / (n * (n - 1))), _jackknife_error(without), without


def _jackknife_error(without: Array) -> float:
    """The standard error of an estimate, from its values without each of N rows: √((N − 1)·variance)."""
    return float(np.sqrt((len(without) - 1) * without.var()))
