"""Leaks of a trained generator: which share of its samples looks as if an augmentation had carried it off.

Samples are taken as a mixture: of real images as they are, of real images in the other states of each question, and of
images halfway between, which do not say. A classifier learns the states on some real images; what it answers on others, as a
histogram for each part of the mixture, calibrates it; and the shares are those whose mixture of histograms makes the answers on
the samples most likely. So the classifier's errors cost precision only, as long as it errs on samples as it does on images.
All questions are asked at once: apart, a quarter turn would be half a mirror image to a classifier that knows only those.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from frugan.augment import AugmentConfig, AugmentPipeline
from frugan.errors import FruganError
from frugan.leaks.looks import FEWEST, Array, Function, Look, applied, small
from frugan.ops.rotations import quarter_turns

Answers = NDArray[np.int64]

SIGNIFICANCE = 0.01
NEGLIGIBLE = 0.02
_SYMMETRIC = 0.5
_VAGUE = 0.3

_FOLDS = 5
_LEVELS = 4
_REPLICATES = 1000
_STEPS = 300
_RIDGE = 1e-3


@dataclass(frozen=True)
class Question:
    """What a generator can be asked: `carry` takes images to each of the `states`, the images as they are first."""

    about: str
    carry: Callable[[Tensor], list[Tensor]]
    states: tuple[str, ...]


def _flip(x: Tensor) -> list[Tensor]:
    return [x, x.flip(3)]


def _turn(x: Tensor) -> list[Tensor]:
    if x.shape[2] != x.shape[3]:
        raise FruganError(f"rotate90 asks of square images, and these are {x.shape[2]}x{x.shape[3]}")
    return [quarter_turns(x, one.expand(len(x), -1)) for one in torch.eye(4, device=x.device)]


def _shift(x: Tensor) -> list[Tensor]:
    """By ⅛ of the side, to each side, the border reflected."""
    h, w = x.shape[2:]
    dy, dx = max(h // 8, 1), max(w // 8, 1)
    padded = F.pad(x, (dx, dx, dy, dy), mode="reflect")
    return [x, *(padded[:, :, a : a + h, b : b + w] for a, b in ((dy, 0), (dy, 2 * dx), (0, dx), (2 * dy, dx)))]


def _colour(name: str, values: tuple[float, ...]) -> Callable[[Tensor], list[Tensor]]:
    def carry(x: Tensor) -> list[Tensor]:
        if x.shape[1] not in (3, 4):
            raise FruganError(f"{name} needs colour images, and these have {x.shape[1]} channels")
        pipeline = AugmentPipeline(
            AugmentConfig((name,)), channels=x.shape[1], resolution=(x.shape[2], x.shape[3]), device=x.device
        )
        rng = torch.Generator(x.device)
        return [x, *(pipeline.apply(x, pipeline.draw(len(x), 1, generator=rng, percentile=u)) for u in values)]

    return carry


QUESTIONS: dict[str, Question] = {
    "xflip": Question("mirror images", _flip, ("as they are", "mirrored")),
    "rotate90": Question("90° rotations", _turn, ("upright", "90°", "180°", "270°")),
    "translation": Question("translations by ⅛", _shift, ("in place", "right", "left", "down", "up")),
    "lumaflip": Question("inverted brightness", _colour("lumaflip", (0.75,)), ("as it is", "inverted")),
    "hue": Question(
        "turned hues", _colour("hue", (0.625, 0.75, 0.99, 0.25)), ("as they are", "45°", "90°", "180°", "270°")
    ),
}
"""By name; `rotate90` asks of square images only, colour of RGB."""


def question_about(name: str, function: Function) -> Question:
    """Whether samples went through a function of images, which may draw at random."""
    return Question(name, lambda x: [x, applied(function, x)], ("as they are", "changed"))


def fitting(channels: int, resolution: tuple[int, int]) -> dict[str, Question]:
    """The rows of `QUESTIONS` that can be asked of such images."""
    fits = {"rotate90": resolution[0] == resolution[1], "lumaflip": channels in (3, 4), "hue": channels in (3, 4)}
    return {name: question for name, question in QUESTIONS.items() if fits.get(name, True)}


@dataclass(frozen=True)
class Leak:
    """The answer to one question.

    `shares` of the samples by state; `undecided` is the share halfway between the first and another. `share` is that of all
    states but the first, between `low` and `high` with 95 % confidence, the undecided being in either; `p_value`: how often
    chance would show as much where there is none, times the number of questions. `visible` in [0, 1] is how far apart real
    images in the first state and in the likest other lie (total variation of the answers): near 0, the images are
    symmetric and nothing can be said.
    """

    name: str
    about: str
    shares: dict[str, float]
    undecided: float
    share: float
    low: float
    high: float
    p_value: float
    visible: float

    @property
    def answerable(self) -> bool:
        """Whether the states look different, and the samples enough like images for an interval that says something."""
        return self.visible > _SYMMETRIC and (self.leaks or self.high < _VAGUE)

    @property
    def leaks(self) -> bool:
        """Whether more than 2 % are elsewhere, significantly (1 %)."""
        return self.visible > _SYMMETRIC and self.p_value < SIGNIFICANCE and self.low > NEGLIGIBLE

    def sentence(self) -> str:
        if self.visible <= _SYMMETRIC:
            return f"{self.about}: cannot tell, since the images themselves are nearly symmetric"
        if self.leaks:
            return f"leaks {self.about}: {self.share:.0%}, {self.low:.0%} to {self.high:.0%} (p = {self.p_value:.2g})"
        if self.answerable:
            return f"no leak of {self.about}: {self.share:.0%}, at most {self.high:.0%}"
        return f"{self.about}: cannot tell, anything from {self.low:.0%} to {self.high:.0%}; the samples look unlike the images"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"answerable": self.answerable, "leaks": self.leaks, "sentence": self.sentence()}


@torch.no_grad()
def measure_leaks(
    samples: Tensor, real: Tensor, questions: Mapping[str, Question] | None = None, *, seed: int = 0
) -> list[Leak]:
    """How a generator's samples `[M, C, H, W]` divide among the states of all questions, given real images `[N, C, H, W]`, in
    [-1, 1]; all of `QUESTIONS` that fit by default.

    Samples can differ from images in ways that no question asks about. The part u of the answers that no mixture explains,
    beyond chance, could hide or feign a share of u / `visible`: the interval is wider by that, to both sides.
    """
    if min(len(samples), len(real)) < FEWEST:
        raise FruganError(f"{min(len(samples), len(real))} images are too few to compare; give {FEWEST} or more")
    questions = fitting(real.shape[1], (real.shape[2], real.shape[3])) if questions is None else questions
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        others = [state for question in questions.values() for state in question.carry(real)[1:]]
    states = np.stack([small(x) for x in (real, *others)], axis=1)
    between = np.stack([small((real + x) / 2) for x in others], axis=1)
    answers, seen = _classify(states, between, small(samples), rng)

    owner = np.array([i for i, question in enumerate(questions.values()) for _ in question.states[1:]])
    fit = _Mixture(answers, seen, len(owner) + 1, rng)
    shares, replicates = fit.shares[1:], fit.replicates[:, 1:]  # but for the images as they are
    elsewhere, halfway = np.split(shares, 2)
    found = []
    for i, (name, question) in enumerate(questions.items()):
        mine = np.flatnonzero(owner == i)
        share = elsewhere[mine].sum()
        chance = fit.without(mine + 1)[:, mine + 1].sum(1)
        visible = min(abs(fit.parts[j + 1] - fit.parts[0]).sum() / 2 for j in mine)
        low, high = np.quantile(replicates[:, mine].sum(1), (0.025, 0.975))
        undecided = float(halfway[mine].sum())
        doubt = fit.unexplained / max(visible, 1e-9)
        p_value = (np.sum(chance >= share) + 1) / (_REPLICATES + 1) * len(questions)
        found.append(
            Leak(
                name,
                question.about,
                dict(zip(question.states, [float(1 - share), *elsewhere[mine].tolist()])),
                undecided,
                float(share),
                float(max(min(low, share) - doubt, 0)),
                float(min(max(high, share) + undecided + doubt, 1)),
                float(min(p_value, 1)),
                float(visible),
            )
        )
    return found


def _classify(states: Array, between: Array, samples: Array, rng: np.random.Generator) -> tuple[Answers, Answers]:
    """Small images in K states `[N, K, D]` and halfway to them `[N, K − 1, D]`, samples `[M, D]` → answers `[N, 2·K − 1]`
    and `[M]`: the state that wins, and how clearly, as one number below 4·K.

    Ridge regression on what a `Look` gives, cross-fitted: none answers on an image that it learned in any state.
    """
    n, k, _ = states.shape
    features = Look(states.reshape(n * k, -1), rng).everything
    x, y = features(states), features(np.concatenate([states, between], axis=1))
    z = features(samples)
    fold, sample_fold = (rng.permutation(np.arange(len(part)) % _FOLDS) for part in (states, samples))
    scores, sample_scores = np.empty((n, 2 * k - 1, k)), np.empty((len(samples), k))
    for i in range(_FOLDS):
        seen = x[fold != i].reshape(-1, x.shape[-1])
        gram = seen.T @ seen
        gram[np.diag_indices_from(gram)] += _RIDGE * np.trace(gram) / len(gram)
        weights = np.linalg.solve(gram, seen.T @ np.tile(np.eye(k), (len(seen) // k, 1)))
        scores[fold == i] = y[fold == i] @ weights
        sample_scores[sample_fold == i] = z[sample_fold == i] @ weights
    levels = np.quantile(_lead(scores[:, :k]), np.arange(1, _LEVELS) / _LEVELS)
    answers, seen = (s.argmax(-1) * _LEVELS + np.searchsorted(levels, _lead(s)) for s in (scores, sample_scores))
    return answers, seen


def _lead(scores: Array) -> Array:
    best = np.partition(scores, -2, axis=-1)
    return best[..., -1] - best[..., -2]


class _Mixture:
    """The most likely shares of P parts behind the answers on samples `[M]`, given answers on images in each part `[N, P]`.

    `replicates` `[R, P]` are shares of images and samples drawn again; `unexplained` in [0, 1] is the part of the answers
    that the mixture does not give (total variation), beyond what is usual for samples of a mixture.
    """

    def __init__(self, answers: Answers, seen: Answers, states: int, rng: np.random.Generator) -> None:
        self.answers, self.samples, self.bins, self.rng = answers, len(seen), states * _LEVELS, rng
        self.parts = self._histograms(np.arange(len(answers)))
        observed = np.bincount(seen, minlength=self.bins) / len(seen)
        self.shares = _unmix(self.parts[None], observed[None])[0]
        self.replicates = _unmix(*self._again(observed))
        fitted = self.shares @ self.parts
        parts, drawn = self._again(fitted)
        usual = abs(drawn - np.einsum("rp,rpb->rb", _unmix(parts, drawn), parts)).sum(1).mean()
        self.unexplained = max(float(abs(observed - fitted).sum() - usual), 0) / 2

    def without(self, parts: NDArray[np.int64]) -> Array:
        """Shares `[R, P]` found where these parts have none."""
        shares = self.shares.copy()
        shares[parts] = 0
        if shares.sum() < 1e-9:
            shares[0] = 1
        return _unmix(*self._again(shares / shares.sum() @ self.parts))

    def _again(self, distribution: Array) -> tuple[Array, Array]:
        """Histograms `[R, P, B]` of images drawn again, and frequencies `[R, B]` of samples drawn from a distribution."""
        n = len(self.answers)
        parts = np.stack([self._histograms(self.rng.integers(n, size=n)) for _ in range(_REPLICATES)])
        return parts, self.rng.multinomial(self.samples, distribution, size=_REPLICATES) / self.samples

    def _histograms(self, rows: NDArray[np.int64]) -> Array:
        """`[P, B]`, each of sum 1; no answer is impossible."""
        count = self.answers.shape[1]
        flat = (np.arange(count) * self.bins + self.answers[rows]).ravel()
        histograms = np.bincount(flat, minlength=count * self.bins).reshape(count, self.bins) + 0.5 / self.bins
        return histograms / histograms.sum(1, keepdims=True)


def _unmix(parts: Array, frequencies: Array) -> Array:
    """Most likely shares `[R, P]` of parts `[R, P, B]` behind frequencies `[R, B]`, by expectation maximisation."""
    shares = np.full(parts.shape[:2], 1 / parts.shape[1])
    for _ in range(_STEPS):
        mixture = np.einsum("rp,rpb->rb", shares, parts)
        shares = shares * np.einsum("rb,rpb->rp", frequencies / mixture, parts)
    return shares
