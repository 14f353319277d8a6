"""Usefulness: a small network trained on synthetic images and tested on real ones, beside the same one trained on real ones.

Esteban et al., "Real-valued (Medical) Time Series Generation", 2017 (train on synthetic, test on real); Ravuri & Vinyals,
"Classification Accuracy Score for Conditional Generative Models", 2019. All networks see equally many images in equally many
steps, except those of the arm "both". The number is about what a small network learns, not about the best there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frugan.checks import Limits, check_fields
from frugan.errors import FruganError
from frugan.images import to_float
from frugan.label_parts import LabelPart
from frugan.metrics.distances import Array
from frugan.metrics.resampling import Estimate, mean_error

Kind = Literal["classes", "number"]
FEWEST = 10


class Examples(NamedTuple):
    """Images uint8, uint16 or float32 in [0, 1] `[N, H, W, C]`, and what is to be told of each: class numbers int64, or numbers
    float `[N]`."""

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
    """Scores on real test images: of classes balanced accuracy (the mean of the classes' recalls), of numbers R²."""

    kind: Kind
    score: str
    arms: dict[str, Estimate]
    """"real": `count` real images; "synthetic": as many synthetic; "half": half of each; "both": all of both."""
    difference: Estimate
    """Synthetic less real: 0 as good, below worse."""
    chance: float
    """The score without looking."""
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
    """Trains a small network on each arm's images and tests it on `test`, real images that the generator did not see.

    Intervals cover the choice of test images and of seeds. `test_groups` `[N]`: images of one group are one observation.
    """
    count = min(len(real.targets), len(synthetic.targets))
    if min(count, len(test.targets)) < FEWEST:
        raise FruganError(
            f"{len(real.targets)} real, {len(synthetic.targets)} synthetic and {len(test.targets)} test images: "
            f"usefulness needs {FEWEST} of each"
        )
    answers = [x.targets for x in (real, synthetic, test)]
    if min(len(np.unique(own)) for own in (answers[0], answers[2])) < 2:
        what = "class" if kind == "classes" else "value"
        raise FruganError(f"the real images have one {what} only, so there is nothing to learn; give images of several")
    scores_of = _Scorer(kind, test.targets)
    outputs = int(max(own.max() for own in answers)) + 1 if kind == "classes" else 0
    rng = np.random.default_rng(0)
    a, b = (_chosen(x, np.sort(rng.permutation(len(x.targets))[:count]), config.side) for x in (real, synthetic))
    half = count // 2
    arms = {
        "real": a,
        "synthetic": b,
        "half": (torch.cat([a[0][:half], b[0][: count - half]]), np.concatenate([a[1][:half], b[1][: count - half]])),
        "both": (torch.cat([a[0], b[0]]), np.concatenate([a[1], b[1]])),
    }
    images, _ = _chosen(test, np.arange(len(test.targets)), config.side)
    found = {
        name: np.stack([scores_of(_train(*arm, outputs, images, seed, config, device)) for seed in range(config.seeds)])
        for name, arm in arms.items()
    }
    limits = (0.0, 1.0) if kind == "classes" else (-np.inf, 1.0)
    return Utility(
        kind=kind,
        score="balanced accuracy" if kind == "classes" else "R²",
        arms={name: _estimate(scores, test_groups, limits) for name, scores in found.items()},
        difference=_estimate(found["synthetic"] - found["real"], test_groups),
        chance=1 / len(np.unique(test.targets)) if kind == "classes" else 0.0,
        count=count,
        test=len(test.targets),
    )


def task_of(part: LabelPart, labels: np.ndarray) -> tuple[Kind, np.ndarray, np.ndarray]:
    """What a part of labels float32 `[N, K]` asks for: the kind, the rows of images that have an answer, and the answers."""
    own = labels[:, part.columns.start : part.columns.stop]
    if part.measured:
        return "number", np.arange(len(own)), own[:, 0].astype(np.float64)
    if part.is_flag:
        return "classes", np.arange(len(own)), (own[:, 0] > 0.5).astype(np.int64)
    rows = np.flatnonzero(((own == 0) | (own == 1)).all(axis=1) & (own.sum(axis=1) == 1))
    return "classes", rows, own[rows].argmax(axis=1)


class _Scorer:
    """From outputs `[n, O]` on the test images to one score for each `[n]`, whose mean is the score."""

    def __init__(self, kind: Kind, targets: np.ndarray) -> None:
        self.kind, self.targets = kind, targets
        if kind == "classes":
            _, owner, counts = np.unique(targets, return_inverse=True, return_counts=True)
            self.weights = len(targets) / (len(counts) * counts[owner])

    def __call__(self, outputs: Array) -> Array:
        if self.kind == "classes":
            return self.weights * (outputs.argmax(axis=1) == self.targets)
        return 1 - np.square(outputs[:, 0] - self.targets) / self.targets.var()


def _chosen(examples: Examples, rows: np.ndarray, side: int) -> tuple[Tensor, np.ndarray]:
    """Images float32 `[n, C, s, s']` in [-1, 1], brought down to `side`, and their targets."""
    small = []
    for i in range(0, len(rows), 256):
        images = to_float(torch.from_numpy(np.ascontiguousarray(examples.images[rows[i : i + 256]])))
        size = [min(side, n) for n in images.shape[2:]]
        small.append(F.interpolate(images, size=size, mode="area").contiguous())
    return torch.cat(small), examples.targets[rows]


def _train(
    images: Tensor,
    targets: np.ndarray,
    classes: int,
    test: Tensor,
    seed: int,
    config: UtilityConfig,
    device: torch.device | str,
) -> Array:
    """Outputs `[n, O]` for the test images of a network trained on the images; of a number, in its own unit."""
    mean, std = (0.0, 1.0) if classes else (float(targets.mean()), float(targets.std()) or 1.0)
    answers = torch.from_numpy(targets if classes else ((targets - mean) / std).astype(np.float32)).to(device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _network(images.shape[1], classes or 1).to(device)
        rng = torch.Generator().manual_seed(seed)
        optimizer = torch.optim.AdamW(network.parameters(), config.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
        for _ in range(config.steps):
            rows = torch.randint(len(images), (config.batch,), generator=rng)
            found = network(images[rows].to(device))
            expected = answers[rows.to(device)]
            loss = F.cross_entropy(found, expected) if classes else F.mse_loss(found[:, 0], expected)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        outputs = torch.cat([network.eval()(some.to(device)).cpu() for some in test.split(256)])
    return outputs.double().numpy() * std + mean


def _network(channels: int, outputs: int, widths: Sequence[int] = (32, 64, 128)) -> nn.Sequential:
    """Three convolutions of stride 2, the mean over pixels, one linear layer."""
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Conv2d(channels, width, 3, stride=2, padding=1), nn.GroupNorm(8, width), nn.SiLU()]
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, outputs))


def _estimate(scores: Array, groups: np.ndarray | None, limits: tuple[float, float] = (-np.inf, np.inf)) -> Estimate:
    """The mean of scores `[seeds, n]`; its error is that of the images and that of the seeds."""
    of_images = mean_error(scores.mean(axis=0), groups)
    of_seeds = scores.mean(axis=1).std(ddof=1) / np.sqrt(len(scores)) if len(scores) > 1 else 0.0
    return Estimate.of(float(scores.mean()), float(np.hypot(of_images, of_seeds)), limits)
