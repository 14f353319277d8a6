"""Leaks of a trained generator: the share of its samples that look augmented.

The samples are modelled as a mixture of three kinds of image: real images as they are, real images in the other states
of each question (mirrored, say), and averages of the two, which belong to neither. A classifier learns the states on
some of the real images. Its answers on the other real images give, for each part of the mixture, a histogram of
answers; the shares are those for which the mixture of these histograms makes the answers on samples most likely. The
classifier's errors therefore cost precision, not accuracy, as long as it errs on samples as it does on real images. All
questions are asked at once, because a classifier that knows only mirror images would take an image that is rotated by
90° for half of one.
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
from frugan.leaks.features import FEWEST, Array, Function, ImageFeatures, applied, small
from frugan.ops.rotations import quarter_turns

Answers = NDArray[np.int64]

SIGNIFICANCE = 0.01
"""Largest p-value of a leak."""
NEGLIGIBLE = 0.02
"""Share of samples up to which there is no leak, however significant it is."""
_SYMMETRIC = 0.5
"""`visible` up to which images count as symmetric, so that a question has no answer."""
_VAGUE = 0.3
"""Upper end of the interval from which on "no leak" cannot be said."""

_AT_ONCE = 32  # images that are carried into other states at once
_FOLDS = 5  # of cross-fitting
_LEVELS = 4  # into which the classifier's lead is divided
_REPLICATES = 1000  # of the bootstrap
_STEPS = 300  # of expectation maximisation
_IN_CACHE = 32  # replicates that are worked on at once: their histograms stay near the processor
_RIDGE = 1e-3  # as a share of the mean eigenvalue


@dataclass(frozen=True)
class Question:
    """One augmentation that samples may show.

    Attributes:
        about: its name in sentences, in the plural.
        carry: images `[N, C, H, W]` → a list with those images in each of the states, unchanged first.
        states: the names of the states.
    """

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
    """Images translated by ⅛ of the side to each side, the border reflected."""
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
    """The question whether samples look as if `function`, a function of images that may draw at random, had been
    applied to them.
    """
    return Question(name, lambda x: [x, applied(function, x)], ("as they are", "changed"))


def fitting(channels: int, resolution: tuple[int, int]) -> dict[str, Question]:
    """The rows of `QUESTIONS` that apply to images of so many channels and that resolution (height, width)."""
    fits = {"rotate90": resolution[0] == resolution[1], "lumaflip": channels in (3, 4), "hue": channels in (3, 4)}
    return {name: question for name, question in QUESTIONS.items() if fits.get(name, True)}


@dataclass(frozen=True)
class Leak:
    """The answer to one question.

    Attributes:
        name: the question's name.
        about: its subject, for sentences.
        shares: the share of samples in each state.
        undecided: the share of samples halfway between the first state and another.
        share: the share of samples in all states but the first.
        low, high: a 95 % interval of it, which counts undecided samples in either state.
        p_value: the probability that so large a share arises by chance where there is no leak, times the number of
            questions (Bonferroni).
        visible: in [0, 1], the distance between real images in the first state and in the most similar other one (total
            variation of the classifier's answers). Near 0 the images are symmetric, and nothing can be said.
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
        """Whether the question has an answer: the states look different, and samples resemble real images enough for a
        narrow interval.
        """
        return self.visible > _SYMMETRIC and (self.leaks or self.high < _VAGUE)

    @property
    def leaks(self) -> bool:
        """Whether more than 2 % of the samples are in another state than the first, at a significance of 1 %."""
        return self.visible > _SYMMETRIC and self.p_value < SIGNIFICANCE and self.low > NEGLIGIBLE

    def sentence(self) -> str:
        """The answer as one sentence, for people."""
        if self.visible <= _SYMMETRIC:
            return f"{self.about}: cannot tell, since the images themselves are nearly symmetric"
        if self.leaks:
            return f"leaks {self.about}: {self.share:.0%}, {self.low:.0%} to {self.high:.0%} (p = {self.p_value:.2g})"
        if self.answerable:
            return f"no leak of {self.about}: {self.share:.0%}, at most {self.high:.0%}"
        return f"{self.about}: cannot tell, anything from {self.low:.0%} to {self.high:.0%}; the samples look unlike the images"

    def to_dict(self) -> dict[str, Any]:
        """All attributes, both verdicts and the sentence, for JSON."""
        return asdict(self) | {"answerable": self.answerable, "leaks": self.leaks, "sentence": self.sentence()}


@torch.no_grad()
def measure_leaks(
    samples: Tensor, real: Tensor, questions: Mapping[str, Question] | None = None, *, seed: int = 0
) -> list[Leak]:
    """Estimates the share of a generator's samples in each state of each question.

    Samples can differ from real images in ways that no question covers. A part u of the classifier's answers that no
    mixture explains, beyond chance, could hide or imitate a share of u / `visible`; the intervals are wider by that at
    both ends.

    Args:
        samples: generated images `[M, C, H, W]` in [-1, 1], 100 or more.
        real: real images `[N, C, H, W]` in [-1, 1], 100 or more.
        questions: by name; by default all of `QUESTIONS` that apply to such images.
        seed: of the classifier's folds, of resampling, and of random draws within questions.

    Returns:
        One `Leak` for each question. Raises `FruganError` for too few images.
    """
    if min(len(samples), len(real)) < FEWEST:
        raise FruganError(f"{min(len(samples), len(real))} images are too few to compare; give {FEWEST} or more")
    questions = fitting(real.shape[1], (real.shape[2], real.shape[3])) if questions is None else questions
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        states, between = _in_states(real, questions)
    answers, seen = _classify(states, between, small(samples), rng)

    owner = np.array([i for i, question in enumerate(questions.values()) for _ in question.states[1:]])
    fit = _Mixture(answers, seen, len(owner) + 1, rng)
    shares, replicates = fit.shares[1:], fit.replicates[:, 1:]  # but for the images as they are
    elsewhere, halfway = np.split(shares, 2)  # in each other state; between the first state and that one
    found = []
    for i, (name, question) in enumerate(questions.items()):
        mine = np.flatnonzero(owner == i)
        share = elsewhere[mine].sum()
        chance = fit.without(mine + 1)[:, mine + 1].sum(1)
        visible = min(abs(fit.parts[j + 1] - fit.parts[0]).sum() / 2 for j in mine)
        low, high = np.quantile(replicates[:, mine].sum(1), (0.025, 0.975))
        undecided = float(halfway[mine].sum())
        doubt = fit.unexplained / max(visible, 1e-9)  # widens the interval, see above
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


def _in_states(images: Tensor, questions: Mapping[str, Question]) -> tuple[Array, Array]:
    """Small versions of images in each state, `[N, S, D]`, unchanged first; and of images halfway there, `[N, S - 1, D]`."""
    states, between = [], []
    for some in images.split(_AT_ONCE):
        carried, halfway = [small(some)], []
        for question in questions.values():
            for state in question.carry(some)[1:]:
                carried.append(small(state))
                halfway.append(small((some + state) / 2))
        states.append(np.stack(carried, axis=1))
        between.append(np.stack(halfway, axis=1))
    return np.concatenate(states), np.concatenate(between)


def _classify(states: Array, between: Array, samples: Array, rng: np.random.Generator) -> tuple[Answers, Answers]:
    """The states that a classifier sees in images: answers on real images, and on samples.

    The classifier is a ridge regression on the features of `ImageFeatures`, cross-fitted: it never judges an image that it
    learned in any state. An answer is one integer below 4·K: the winning state, and in which quartile its lead over the
    second one lies.

    Args:
        states: small images in K states, `[N, K, D]`.
        between: averages of the first state and each other one, `[N, K − 1, D]`.
        samples: `[M, D]`.
        rng: chooses the folds.

    Returns:
        Integers `[N, 2·K − 1]` and `[M]`.
    """
    n, k, _ = states.shape
    features = ImageFeatures(states.reshape(n * k, -1), rng).for_classifier
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
    """The difference of the best score and the second one: `[…, K]` → `[…]`."""
    best = np.partition(scores, -2, axis=-1)
    return best[..., -1] - best[..., -2]


class _Mixture:
    """Maximum-likelihood shares of the P parts of a mixture, from the histograms of answers on each part.

    Attributes:
        parts: histograms `[P, B]` of the answers on each part.
        shares: `[P]`.
        replicates: `[R, P]`, shares from bootstrap replicates of images and samples.
        unexplained: in [0, 1], the part of the observed answers that the mixture lacks (total variation), beyond what
            chance causes.
    """

    def __init__(self, answers: Answers, seen: Answers, states: int, rng: np.random.Generator) -> None:
        self.answers, self.samples, self.bins, self.rng = answers, len(seen), states * _LEVELS, rng
        self.parts = self._histograms(np.arange(len(answers)))
        observed = np.bincount(seen, minlength=self.bins) / len(seen)
        self.shares = _unmix(self.parts[None], observed[None])[0]
        self.replicates = _unmix(*self._resampled(observed))
        fitted = self.shares @ self.parts
        parts, drawn = self._resampled(fitted)
        refitted = np.einsum("rp,rpb->rb", _unmix(parts, drawn), parts)
        usual = abs(drawn - refitted).sum(1).mean()  # the difference that chance alone causes
        self.unexplained = max(float(abs(observed - fitted).sum() - usual), 0) / 2

    def without(self, parts: NDArray[np.int64]) -> Array:
        """Shares `[R, P]` estimated from samples that are drawn from the mixture with these `parts` left out: the null
        distribution.
        """
        shares = self.shares.copy()
        shares[parts] = 0
        if shares.sum() < 1e-9:
            shares[0] = 1
        return _unmix(*self._resampled(shares / shares.sum() @ self.parts))

    def _resampled(self, distribution: Array) -> tuple[Array, Array]:
        """A bootstrap: histograms `[R, P, B]` of resampled images, and frequencies `[R, B]` of samples drawn from
        `distribution`.
        """
        n = len(self.answers)
        parts = np.stack([self._histograms(self.rng.integers(n, size=n)) for _ in range(_REPLICATES)])
        return parts, self.rng.multinomial(self.samples, distribution, size=_REPLICATES) / self.samples

    def _histograms(self, rows: NDArray[np.int64]) -> Array:
        """Histograms of the answers on those rows of images: `[P, B]`, each of sum 1. Half an answer is spread over all
        bins, so that none is 0.
        """
        count = self.answers.shape[1]
        flat = (np.arange(count) * self.bins + self.answers[rows]).ravel()
        histograms = np.bincount(flat, minlength=count * self.bins).reshape(count, self.bins) + 0.5 / self.bins
        return histograms / histograms.sum(1, keepdims=True)


def _unmix(parts: Array, frequencies: Array) -> Array:
    """Most likely shares `[R, P]` of parts `[R, P, B]` behind frequencies `[R, B]`, by expectation maximisation."""
    found = []
    for i in range(0, len(parts), _IN_CACHE):
        some, answers = parts[i : i + _IN_CACHE], frequencies[i : i + _IN_CACHE, None]
        shares = np.full((len(some), 1, some.shape[1]), 1 / some.shape[1])
        for _ in range(_STEPS):
            shares = shares * ((answers / (shares @ some)) @ some.transpose(0, 2, 1))
        found.append(shares[:, 0])
    return np.concatenate(found)
