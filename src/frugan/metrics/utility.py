"""Usefulness: a small network trained on synthetic images and tested on real ones, beside the same one trained on real ones.

Esteban et al., "Real-valued (Medical) Time Series Generation", 2017 (train on synthetic, test on real); Ravuri & Vinyals,
"Classification Accuracy Score for Conditional Generative Models", 2019. All networks see equally many images in equally many
steps, except those of the arm "both". The number is about what a small network learns, not about the best there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frugan.checks import Limits, check_fields
from frugan.distributed import gather, own_share
from frugan.errors import FruganError
from frugan.images import to_float
from frugan.label_parts import LabelPart
from frugan.metrics.distances import Array
from frugan.metrics.resampling import Estimate, mean_error

Kind = Literal["classes", "number", "mask"]
FEWEST = 10


class Examples(NamedTuple):
    """Images uint8, uint16 or float32 in [0, 1] `[N, H, W, C]`, and what is to be told of each: class numbers int64 or numbers
    float `[N]`, or of each pixel a value's number, uint8 `[N, H, W]`."""

    images: np.ndarray
    targets: np.ndarray


@dataclass(frozen=True)
class UtilityConfig:
    """The networks that are trained: `seeds` for each arm."""

    seeds: Annotated[int, Limits(at_least=1, at_most=100)] = 3
    steps: Annotated[int, Limits(at_least=1, at_most=100_000)] = 200
    batch: Annotated[int, Limits(at_least=1, at_most=4096)] = 64
    learning_rate: Annotated[float, Limits(above=0, at_most=1)] = 2e-3
    """Of AdamW; it falls to 0 by a cosine."""
    side: Annotated[int, Limits(at_least=8, at_most=512)] = 32
    """Pixels a side that images are brought down to, by averaging areas; smaller ones stay."""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class Utility:
    """Scores on real test images: of classes balanced accuracy (the mean of the classes' recalls), of numbers R², of masks the
    intersection over union, averaged over each image's values and then over images."""

    kind: Kind
    score: str
    arms: dict[str, Estimate]
    """"real": `count` real images; "synthetic": as many synthetic; "half": half of each; "both": all of both."""
    difference: Estimate
    """Synthetic less real: 0 as good, below worse."""
    chance: float
    """The score without looking: of masks that of the best single value."""
    count: int
    test: int


def utility(
    kind: Kind,
    real: Examples,
    synthetic: Examples,
    test: Examples,
    *,
    test_groups: np.ndarray | None = None,
    config: UtilityConfig = UtilityConfig(),
    device: torch.device | str = "cpu",
) -> Utility:
    """Measures the usefulness of samples: a small network is trained on real images, on samples and on both, and tested
    on unseen real images.

    Intervals cover the choice of test images and of the networks' seeds.

    Args:
        kind: what is predicted: classes, or a number.
        real: training images with their answers.
        synthetic: samples with their answers; as many of them are used as of real ones.
        test: real images that the generator did not see, with their answers.
        test_groups: `[N]`; test images of one group count as one observation.
        config: of the small network's training.
        device: where it is trained.

    Raises `FruganError` where there are too few images, or only one answer.
    """
    count = min(len(real.targets), len(synthetic.targets))
    if min(count, len(test.targets)) < FEWEST:
        raise FruganError(
            f"{len(real.targets)} real, {len(synthetic.targets)} synthetic and {len(test.targets)} test images: "
            f"usefulness needs {FEWEST} of each"
        )
    if min(len(np.unique(x.targets)) for x in (real, test)) < 2:
        thing = "value" if kind == "number" else "class"
        raise FruganError(
            f"the real images have one {thing} only, so there is nothing to learn; give images of several"
        )
    rng = np.random.default_rng(0)
    picked = [np.sort(rng.permutation(len(x.targets))[:count]) for x in (real, synthetic)]
    a, b, tested = (
        _small(x, rows, config.side)
        for x, rows in zip((real, synthetic, test), (*picked, np.arange(len(test.targets))))
    )
    question = QUESTIONS[kind](a.targets, b.targets, tested.targets)
    half = count // 2
    mixed, both = _joined(a, b, half, count - half), _joined(a, b, count, count)
    arms = {"real": a, "synthetic": b, "half": mixed, "both": both}
    jobs = [(arm, seed) for arm in arms.values() for seed in range(config.seeds)]
    own = [_train(*jobs[i], question, tested.images, config, device) for i in own_share(len(jobs))]
    scores = np.stack([one for some in gather(own) for one in some]).reshape(len(arms), config.seeds, -1)
    found = dict(zip(arms, scores))
    return Utility(
        kind=kind,
        score=question.score,
        arms={name: _estimate(scores, test_groups, question.limits) for name, scores in found.items()},
        difference=_estimate(found["synthetic"] - found["real"], test_groups),
        chance=question.chance,
        count=count,
        test=len(test.targets),
    )


def task_of(part: LabelPart, labels: np.ndarray) -> tuple[Kind, np.ndarray, np.ndarray]:
    """The prediction task of a part of the labels.

    Args:
        part: a class, a flag or a measured number: some columns.
        labels: float32 `[N, K]`.

    Returns:
        The kind of task, the rows of images that have an answer, and these answers.
    """
    own = labels[:, part.columns.start : part.columns.stop]
    if part.measured:
        return "number", np.arange(len(own)), own[:, 0].astype(np.float64)
    if part.is_flag:
        return "classes", np.arange(len(own)), (own[:, 0] > 0.5).astype(np.int64)
    rows = np.flatnonzero(((own == 0) | (own == 1)).all(axis=1) & (own.sum(axis=1) == 1))
    return "classes", rows, own[rows].argmax(axis=1)


class _Small(NamedTuple):
    """Images float32 `[n, C, s, s']` in [-1, 1], and their targets."""

    images: Tensor
    targets: np.ndarray


class _Classes:
    """One class of each image."""

    score: ClassVar = "balanced accuracy"
    limits: ClassVar = (0.0, 1.0)

    def __init__(self, real: np.ndarray, synthetic: np.ndarray, test: np.ndarray) -> None:
        self.outputs, self.test = 1 + int(max(targets.max() for targets in (real, synthetic, test))), test
        _, owner, counts = np.unique(test, return_inverse=True, return_counts=True)
        self.weights = len(test) / (len(counts) * counts[owner])
        self.chance = 1 / len(counts)

    def network(self, channels: int) -> nn.Module:
        return _classifier(channels, self.outputs)

    def answers(self, targets: np.ndarray) -> Tensor:
        return torch.from_numpy(targets.astype(np.int64))

    def loss(self, outputs: Tensor, answers: Tensor) -> Tensor:
        return F.cross_entropy(outputs, answers)

    def told(self, outputs: Tensor) -> np.ndarray:
        """The network's answer for each image."""
        return outputs.argmax(dim=1).numpy()

    def scores(self, told: np.ndarray) -> Array:
        """A score for each test image `[n]`, whose mean is the score."""
        return self.weights * (told == self.test)


class _Number(_Classes):
    """One number of each image, standardised by the real images' mean and deviation."""

    score: ClassVar = "R²"
    limits: ClassVar = (-np.inf, 1.0)

    def __init__(self, real: np.ndarray, synthetic: np.ndarray, test: np.ndarray) -> None:
        self.outputs, self.test, self.chance = 1, test, 0.0
        self.mean, self.std = float(real.mean()), float(real.std()) or 1.0

    def answers(self, targets: np.ndarray) -> Tensor:
        return torch.from_numpy(((targets - self.mean) / self.std).astype(np.float32))

    def loss(self, outputs: Tensor, answers: Tensor) -> Tensor:
        return F.mse_loss(outputs[:, 0], answers)

    def told(self, outputs: Tensor) -> np.ndarray:
        return outputs[:, 0].double().numpy() * self.std + self.mean

    def scores(self, told: np.ndarray) -> Array:
        return 1 - np.square(told - self.test) / self.test.var()


class _Mask(_Classes):
    """One value of each pixel."""

    score: ClassVar = "intersection over union"

    def __init__(self, real: np.ndarray, synthetic: np.ndarray, test: np.ndarray) -> None:
        self.outputs, self.test = 1 + int(max(targets.max() for targets in (real, synthetic, test))), test
        self.chance = max(float(self.scores(np.full_like(test, k)).mean()) for k in range(self.outputs))

    def network(self, channels: int) -> nn.Module:
        return _Segmenter(channels, self.outputs)

    def scores(self, told: np.ndarray) -> Array:
        """The mean for each image over the values that it has or is said to have."""
        total, present = np.zeros(len(told)), np.zeros(len(told))
        for k in range(self.outputs):
            ours, theirs = told == k, self.test == k
            union = (ours | theirs).sum(axis=(1, 2))
            total += (ours & theirs).sum(axis=(1, 2)) / np.maximum(union, 1)
            present += union > 0
        return total / present


QUESTIONS: dict[Kind, type[_Classes]] = {"classes": _Classes, "number": _Number, "mask": _Mask}


def _small(examples: Examples, rows: np.ndarray, side: int) -> _Small:
    """Some of the images, brought down to `side` by averaging areas; masks by their nearest pixels."""
    small, targets = [], torch.from_numpy(examples.targets[rows])
    size = [min(side, n) for n in examples.images.shape[1:3]]
    for i in range(0, len(rows), 256):
        images = to_float(torch.from_numpy(np.ascontiguousarray(examples.images[rows[i : i + 256]])))
        small.append(F.interpolate(images, size=size, mode="area").contiguous())
    if targets.ndim == 3:
        targets = F.interpolate(targets[:, None], size=size, mode="nearest-exact")[:, 0]
    return _Small(torch.cat(small), targets.numpy())


def _joined(a: _Small, b: _Small, first: int, second: int) -> _Small:
    """The first images of one set, and of the other."""
    images = torch.cat([a.images[:first], b.images[:second]])
    return _Small(images, np.concatenate([a.targets[:first], b.targets[:second]]))


def _train(
    arm: _Small, seed: int, question: _Classes, test: Tensor, config: UtilityConfig, device: torch.device | str
) -> Array:
    """A score for each test image `[n]`, of a network trained on the arm."""
    answers = question.answers(arm.targets).to(device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = question.network(arm.images.shape[1]).to(device)
        rng = torch.Generator().manual_seed(seed)
        optimizer = torch.optim.AdamW(network.parameters(), config.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
        for _ in range(config.steps):
            rows = torch.randint(len(arm.images), (config.batch,), generator=rng)
            loss = question.loss(network(arm.images[rows].to(device)), answers[rows.to(device)])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        told = [question.told(network.eval()(some.to(device)).cpu()) for some in test.split(256)]
    return question.scores(np.concatenate(told))


def _classifier(channels: int, outputs: int, widths: Sequence[int] = (32, 64, 128)) -> nn.Sequential:
    """Three convolutions of stride 2, the mean over pixels, one linear layer."""
    layers: list[nn.Module] = []
    for width in widths:
        layers.append(_convolution(channels, width, stride=2))
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, outputs))


class _Segmenter(nn.Module):
    """A U-Net of three scales (Ronneberger et al. 2015): images `[N, C, H, W]` to a score of each value `[N, O, H, W]`."""

    def __init__(self, channels: int, outputs: int, widths: tuple[int, int, int] = (16, 32, 64)) -> None:
        super().__init__()
        fine, middle, coarse = widths
        self.down = nn.ModuleList(
            [_convolution(channels, fine), _convolution(fine, middle, stride=2), _convolution(middle, coarse, stride=2)]
        )
        self.up = nn.ModuleList([_convolution(coarse + middle, middle), _convolution(middle + fine, fine)])
        self.last = nn.Conv2d(fine, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        seen: list[Tensor] = []
        for layer in self.down:
            x = layer(x)
            seen.append(x)
        for layer, finer in zip(self.up, (seen[1], seen[0])):
            x = layer(torch.cat([F.interpolate(x, size=finer.shape[2:]), finer], dim=1))
        return self.last(x)


def _convolution(channels: int, width: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, 3, stride=stride, padding=1), nn.GroupNorm(8, width), nn.SiLU())


def _estimate(scores: Array, groups: np.ndarray | None, limits: tuple[float, float] = (-np.inf, np.inf)) -> Estimate:
    """The mean of scores `[seeds, n]`; its error is that of the images and that of the seeds."""
    of_images = mean_error(scores.mean(axis=0), groups)
    of_seeds = scores.mean(axis=1).std(ddof=1) / np.sqrt(len(scores)) if len(scores) > 1 else 0.0
    return Estimate.of(float(scores.mean()), float(np.hypot(of_images, of_seeds)), limits)
