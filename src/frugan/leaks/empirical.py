"""Leaks measured on pictures: of an augmentation, and of a trained generator.

Of an augmentation T, any function of images: P are real pictures, and a generator of T(P) instead of P goes unnoticed where
T(T(P)) looks like T(P). For T = (1 − p)·I + p·U with a projection U, such as the mean over a group, the mean embeddings obey
‖TTP − TP‖ = (1 − p)·‖TP − P‖ exactly: their ratio is what remains to tell the two apart, the smallest eigenvalue.

Of a generator: if it leaks, its samples are a mixture of real pictures carried by the group's elements. A classifier of elements,
trained on carried real pictures, sees its own confusion in the shares that it reports; solving for that gives the mixture
(Lipton et al., "Detecting and Correcting for Label Shift with Black Box Predictors", 2018).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from frugan.augment import AugmentPipeline
from frugan.augment.measurements import quarter_turns
from frugan.augment.pipeline import AugmentConfig
from frugan.errors import FruganError

Function = Callable[[Tensor], Tensor]
FEWEST = 100
JITTER = 0.15
UNRECOVERABLE = 0.15
"""Below this share (p ≈ 0.85 for a group) generators were seen to leak (Karras et al. 2020, Fig. 3)."""


@dataclass(frozen=True)
class Recovery:
    """`remains` = ‖TTP − TP‖ / ‖TP − P‖ with its standard error; None where T leaves this distribution as it is."""

    effect: float
    remains: float | None
    error: float | None

    @property
    def leaks(self) -> bool:
        return self.remains is not None and self.remains < UNRECOVERABLE

    def sentence(self) -> str:
        if self.remains is None or self.error is None:
            return "these pictures look the same after it: nothing can leak"
        verdict = "it leaks" if self.leaks else "it can be undone"
        return f"{verdict}: {self.remains:.0%} ± {2 * self.error:.0%} of its effect is told apart from a second application"


@torch.no_grad()
def recovery(images: Tensor, augment: Function, *, seed: int = 0, repeats: int = 10) -> Recovery:
    """What of an augmentation of images `[N, C, H, W]` in [-1, 1] can be undone; `augment` draws anew at each call.

    Each repeat splits the images at random into P, TP and TTP of their own, so that the estimates are independent of what one
    picture has become.
    """
    if len(images) < FEWEST:
        raise FruganError(f"{len(images)} pictures are too few to compare distributions; give {FEWEST} or more")
    rng = torch.Generator().manual_seed(seed)
    first, second = [], []
    scale = _scale(_flat(images))
    for _ in range(repeats):
        parts = images[torch.randperm(len(images), generator=rng)].tensor_split(3)
        p, tp, ttp = _flat(parts[0]), _flat(augment(parts[1])), _flat(augment(augment(parts[2])))
        first.append(_mmd2(p, tp, scale))
        second.append(_mmd2(tp, ttp, scale))
    a, b = torch.stack(first), torch.stack(second)
    effect = float(a.mean())
    if effect < 2 * float(a.std()) / repeats**0.5 + 1e-5:
        return Recovery(max(effect, 0) ** 0.5, None, None)
    ratio = float((b.mean() / a.mean()).clamp_min(0).sqrt())
    halves = [(b[i::2].mean() / a[i::2].mean()).clamp_min(0).sqrt() for i in (0, 1)]
    spread = float(b.std()) / repeats**0.5 / (2 * max(ratio, 0.1) * effect)
    return Recovery(effect**0.5, ratio, max(spread, float(abs(halves[0] - halves[1])) / 2))


def _flat(images: Tensor) -> Tensor:
    side = [min(size, 16) for size in images.shape[2:]]
    return F.interpolate(images.float(), size=side, mode="area").flatten(1)


def _scale(x: Tensor) -> float:
    """The median distance, the usual width of a Gaussian kernel."""
    some = x[:500]
    return float(torch.pdist(some).median()) or 1.0


def _mmd2(x: Tensor, y: Tensor, scale: float) -> Tensor:
    """Unbiased squared distance of mean embeddings under a Gaussian kernel (Gretton et al. 2012, eq. 3)."""

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return torch.exp(-torch.cdist(a, b).square() / (2 * scale**2))

    n, m = len(x), len(y)
    within = (kernel(x, x).sum() - n) / (n * (n - 1)) + (kernel(y, y).sum() - m) / (m * (m - 1))
    return within - 2 * kernel(x, y).mean()


# What a generator can be asked about: the elements of a group, or of a few places in it, the identity first.


def _flip(x: Tensor) -> list[Tensor]:
    return [x, x.flip(3)]


def _turn(x: Tensor) -> list[Tensor]:
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
            raise FruganError(f"{name} needs colour pictures, and these have {x.shape[1]} channels")
        size = (x.shape[2], x.shape[3])
        pipeline = AugmentPipeline(AugmentConfig((name,)), channels=x.shape[1], resolution=size, device=x.device)
        rng = torch.Generator(x.device)
        drawn = [pipeline.draw(1, 1.0, generator=rng, percentile=u) for u in values]
        return [x, *(pipeline.apply(x, d._replace(color=d.color.expand(len(x), -1, -1))) for d in drawn)]  # pyright: ignore[reportOptionalMemberAccess]

    return carry


@dataclass(frozen=True)
class Question:
    """One row of `QUESTIONS`: what it asks about, how pictures are carried, and the names of where to, the identity first."""

    about: str
    carry: Callable[[Tensor], list[Tensor]]
    states: tuple[str, ...]


QUESTIONS: dict[str, Question] = {
    "xflip": Question("mirror images", _flip, ("as they are", "mirrored")),
    "rotate90": Question("90° rotations", _turn, ("upright", "90°", "180°", "270°")),
    "translation": Question("translations by ⅛", _shift, ("in place", "right", "left", "down", "up")),
    "lumaflip": Question("inverted brightness", _colour("lumaflip", (0.75,)), ("as it is", "inverted")),
    "hue": Question(
        "turned hues", _colour("hue", (0.625, 0.75, 0.99, 0.25)), ("as they are", "45°", "90°", "180°", "270°")
    ),
}
"""By name; `rotate90` asks of square pictures only, colour of RGB."""


@dataclass(frozen=True)
class Leak:
    """`shares` `[k]`: how the samples divide among the question's states, with standard errors. `accuracy`: how well states are
    told apart on real pictures; where that is near chance, the set is symmetric, and nothing can be said."""

    name: str
    shares: list[float]
    errors: list[float]
    accuracy: float
    answerable: bool

    @property
    def share(self) -> float:
        """What is not in the first state."""
        return 1 - self.shares[0]

    @property
    def leaks(self) -> bool:
        """Whether more than 2 % are elsewhere, at a significance level of 2.5 %."""
        return self.answerable and self.share - 1.96 * self.errors[0] > 0.02

    def sentence(self) -> str:
        about = QUESTIONS[self.name].about
        if not self.answerable:
            return f"{about}: cannot tell, since the pictures themselves are nearly symmetric ({self.accuracy:.0%} told apart)"
        amount = f"{max(self.share, 0):.0%} ± {1.96 * self.errors[0]:.0%}"
        return f"leaks {about}: {amount}" if self.leaks else f"no leak of {about}: {amount}"

    def to_dict(self) -> dict[str, Any]:
        states = dict(zip(QUESTIONS[self.name].states, self.shares))
        return {"question": self.name, "leaks": self.leaks, "share": self.share, "error": self.errors[0], "shares": states,
                "accuracy": self.accuracy, "answerable": self.answerable, "sentence": self.sentence()}  # fmt: skip


@torch.no_grad()
def leak(name: str, samples: Tensor, real: Tensor, *, seed: int = 0, resamples: int = 200) -> Leak:
    """How a generator's samples `[N, C, H, W]` divide among the states of `QUESTIONS[name]`, given real images, in [-1, 1].

    One half of the real images trains the classifier, the other gives its confusion; samples and confusion are resampled for
    the error. All are jittered, so that the classifier does not live on detail that a generator draws otherwise. Raises
    `FruganError` where the question does not fit the pictures.
    """
    if min(len(samples), len(real)) < FEWEST:
        raise FruganError(f"{min(len(samples), len(real))} pictures are too few to compare; give {FEWEST} or more")
    if name == "rotate90" and real.shape[2] != real.shape[3]:
        raise FruganError(f"rotate90 asks of square pictures, and these are {real.shape[2]}x{real.shape[3]}")
    rng = torch.Generator().manual_seed(seed)
    carry = QUESTIONS[name].carry

    def jittered(x: Tensor) -> Tensor:
        x = _flat(x)
        return x + JITTER * torch.randn(x.shape, generator=rng)

    train, test = real[torch.randperm(len(real), generator=rng)].tensor_split(2)
    classify = _classifier([jittered(x) for x in carry(train)], rng)
    answers = [classify(jittered(x)) for x in carry(test)]
    seen = classify(jittered(samples))
    k = len(answers)
    shares, confusion = _unmix(answers, seen)
    accuracy = float(confusion.diagonal().mean())
    drawn = torch.stack([_unmix([_again(a, rng) for a in answers], _again(seen, rng))[0] for _ in range(resamples)])
    chance = 1 / k
    answerable = (accuracy - chance) / (1 - chance) > 0.3
    return Leak(name, shares.tolist(), drawn.std(dim=0).tolist(), accuracy, answerable)


def _again(x: Tensor, rng: torch.Generator) -> Tensor:
    return x[torch.randint(len(x), (len(x),), generator=rng)]


def _classifier(states: list[Tensor], rng: torch.Generator, width: int = 1024) -> Function:
    """Ridge regression on random ReLU features (Rahimi & Recht 2007): `[N, F]` → state `[N]`."""
    x = torch.cat(states)
    targets = F.one_hot(torch.arange(len(states)).repeat_interleave(len(states[0])), len(states)).double()
    mean, std = x.mean(dim=0), x.std(dim=0) + 1e-3
    weight = torch.randn(x.shape[1], width, generator=rng) / x.shape[1] ** 0.5
    bias = torch.randn(width, generator=rng)

    def features(x: Tensor) -> Tensor:
        z = (x - mean) / std
        return torch.cat([F.relu(z @ weight + bias), z, torch.ones(len(x), 1)], dim=1).double()

    f = features(x)
    ridge = 1e-2 * len(f) * torch.eye(f.shape[1], dtype=torch.float64)
    solution = torch.linalg.solve(f.T @ f + ridge, f.T @ (targets - 1 / len(states)))
    return lambda x: (features(x) @ solution).argmax(dim=1)


def _unmix(answers: list[Tensor], seen: Tensor) -> tuple[Tensor, Tensor]:
    """(shares `[k]`, confusion `[k, k]`: column j is how state j is answered): confusion · shares = answers' frequencies."""
    k = len(answers)
    confusion = torch.stack([torch.bincount(a, minlength=k) / len(a) for a in answers], dim=1).double()
    observed = (torch.bincount(seen, minlength=k) / len(seen)).double()
    return torch.linalg.lstsq(confusion, observed[:, None], driver="gelsd").solution[:, 0], confusion
