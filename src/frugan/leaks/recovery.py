"""Leaks of an augmentation, any function of images, measured on images.

P are real images, T(P) the same augmented. A generator that makes T(P) instead of P goes unnoticed where T(T(P)) looks like T(P).
For T = (1 − p)·I + p·U with a projection U, such as the mean over a group, mean embeddings obey ‖TTP − TP‖ = (1 − p)·‖TP − P‖
exactly: the ratio is what remains to tell the two apart, the smallest eigenvalue.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from frugan.errors import FruganError
from frugan.leaks.looks import FEWEST, Array, Function, Look, applied, small

UNRECOVERABLE = 0.15
"""Below this share (p ≈ 0.85 for a group) generators were seen to leak (Karras et al. 2020, Fig. 3)."""
_DRAWS = 4


@dataclass(frozen=True)
class Recovery:
    """`effect` = ‖TP − P‖ of at most √2; `remains` = ‖TTP − TP‖ / ‖TP − P‖, between `low` and `high` with 95 % confidence, all
    None where T leaves this distribution as it is."""

    effect: float
    remains: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def leaks(self) -> bool | None:
        """None where more images are needed to tell."""
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
    """What of an augmentation of images `[N, C, H, W]` in [-1, 1] can be undone.

    `augment` returns as many images of that shape, and may draw from torch's global generator, which is seeded and put back.
    """
    if len(images) < FEWEST:
        raise FruganError(f"{len(images)} images are too few to compare distributions; give {FEWEST} or more")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        once = [applied(augment, images) for _ in range(_DRAWS)]
        twice = [applied(augment, applied(augment, images)) for _ in range(_DRAWS)]
    clean = small(images)
    look = Look(np.concatenate([clean, *map(small, once)]), np.random.default_rng(seed))
    p, tp, ttp = look.kernel(clean), _mean(look, once), _mean(look, twice)
    effect, error, without = _squared_mean(tp - p)
    if effect <= 2 * error:
        return Recovery(max(effect, 0) ** 0.5)
    again, _, again_without = _squared_mean(ttp - tp)
    ratio, error = again / effect, _jackknife_error(again_without / without)
    remains, low, high = (float(max(square, 0) ** 0.5) for square in (ratio, ratio - 2 * error, ratio + 2 * error))
    return Recovery(effect**0.5, remains, low, high)


def _mean(look: Look, draws: list[Tensor]) -> Array:
    return np.mean([look.kernel(small(x)) for x in draws], axis=0)


def _squared_mean(x: Array) -> tuple[float, float, Array]:
    """‖E x‖² from independent rows `[N, D]`, unbiased (the mean over pairs), its standard error, and itself without each row."""
    n, total, own = len(x), x.sum(0), np.square(x).sum(1)
    without = (np.square(total - x).sum(1) - (own.sum() - own)) / ((n - 1) * (n - 2))
    return float((total @ total - own.sum()) / (n * (n - 1))), _jackknife_error(without), without


def _jackknife_error(without: Array) -> float:
    return float(np.sqrt((len(without) - 1) * without.var()))
