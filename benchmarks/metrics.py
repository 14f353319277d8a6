"""Time and memory of the metrics themselves, against torchmetrics on the same features.

Features (float32, EfficientNet's 1280 dimensions) come in batches of 64, as from a network; the time to make them is
taken off.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

import numpy as np
import torch

from benchmarks.harness import Figures, Peak, seconds

BATCH = 64


def batches(n: int, dimension: int, seed: int) -> Iterator[np.ndarray]:
    """Correlated, skewed features: a random linear mixture, rectified."""
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((dimension, dimension)).astype(np.float32) / dimension**0.5
    rng = np.random.default_rng(seed)
    for start in range(0, n, BATCH):
        x = rng.standard_normal((min(BATCH, n - start), dimension)).astype(np.float32)
        yield np.maximum(x @ mixing + 0.05 * seed, 0)


def ours_fid(n: int, dimension: int) -> float:
    from frugan.metrics import Moments, frechet_distance

    a, b = (Moments.of(batches(n, dimension, seed)) for seed in (1, 2))
    return frechet_distance(a.mean, a.covariance, b.mean, b.covariance)


def ours_kid(n: int, dimension: int) -> float:
    from frugan.metrics import kernel_distance

    real, generated = (np.concatenate(list(batches(n, dimension, seed))) for seed in (1, 2))
    return kernel_distance(real, generated)[0]


class Same(torch.nn.Module):
    """The features are the images."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.num_features = dimension

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def theirs(metric: Callable[[torch.nn.Module], torch.nn.Module], n: int, dimension: int) -> float:
    found = metric(Same(dimension))
    for seed, real in ((1, True), (2, False)):
        for batch in batches(n, dimension, seed):
            found.update(torch.from_numpy(batch), real=real)
    value = found.compute()
    return float(value[0] if isinstance(value, tuple) else value)


def theirs_fid(n: int, dimension: int) -> float:
    from torchmetrics.image.fid import FrechetInceptionDistance

    return theirs(lambda same: FrechetInceptionDistance(feature=same, input_img_size=(1, 1, 1)), n, dimension)


def theirs_kid(n: int, dimension: int) -> float:
    from torchmetrics.image.kid import KernelInceptionDistance

    return theirs(lambda same: KernelInceptionDistance(feature=same, subsets=100, subset_size=1000), n, dimension)


def arm(metric: Callable[[int, int], float]) -> Callable[..., Figures]:
    def run(device: str, *, samples: int, dimension: int) -> Figures:
        warnings.simplefilter("ignore")
        metric(1100, 16)  # imports
        making = seconds(lambda: [sum(1 for _ in batches(samples, dimension, seed)) for seed in (1, 2)], device)
        peak, values = Peak(device), []
        taken = seconds(lambda: values.append(metric(samples, dimension)), device) - making
        return {"value": values[0], "s": taken, "peak MB": peak.megabytes()}

    return run


METRICS = {
    "fid": {"frugan": arm(ours_fid), "torchmetrics": arm(theirs_fid)},
    "kid": {"frugan": arm(ours_kid), "torchmetrics": arm(theirs_kid)},
}
