"""Judging a generator: its samples against a reference set, in the features of a frozen network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from frugan.errors import FruganError
from frugan.metrics.distances import METRICS, Array
from frugan.metrics.features import FEATURES, Features, load_features
from frugan.pictures import to_float, to_uint8


class GeneratorLike(Protocol):
    """What a metric needs of a generator."""

    z_dim: int

    def mapping(self, z: Tensor, c: Tensor | None = None, /) -> Tensor: ...

    def synthesis(
        self, ws: Tensor, /, *, noise: Literal["random"], generator: torch.Generator | None
    ) -> Tensor: ...


@dataclass(frozen=True)
class EvaluateConfig:
    """`samples` generated images, drawn with `seed`, through the network `features`."""

    metrics: tuple[str, ...] = ("kid",)
    features: str = "efficientnet-lite0"
    samples: int = 5000
    seed: int = 0
    batch: int = 64

    def __post_init__(self) -> None:
        if unknown := [name for name in self.metrics if name not in METRICS]:
            raise FruganError(f"metric {unknown[0]!r}: choose from {', '.join(METRICS)}")
        if self.features not in FEATURES:
            raise FruganError(f"feature network {self.features!r}: choose one of {', '.join(FEATURES)}")
        if self.samples < 10 or self.batch < 1:
            raise FruganError(f"{self.samples} samples in batches of {self.batch}: give at least 10 samples, batches from 1")


class Evaluator:
    """Measures generators against one reference set, whose features are computed once.

    `reference` uint8 or uint16 `[N, H, W, C]`; `labels` float32 `[M, K]` are what generated images' labels are drawn from.
    """

    def __init__(
        self,
        reference: np.ndarray,
        config: EvaluateConfig,
        *,
        device: torch.device | str = "cpu",
        labels: np.ndarray | None = None,
        features: Features | None = None,
    ) -> None:
        self.config, self.labels, self.device = config, labels, torch.device(device)
        self.features = features or load_features(config.features, device)
        chunks = (reference[i : i + config.batch] for i in range(0, len(reference), config.batch))
        self.reference = self.embed(to_float(torch.from_numpy(np.ascontiguousarray(chunk))) for chunk in chunks)

    def embed(self, images: Iterable[Tensor]) -> Array:
        """Batches of images `[n, C, H, W]` → features float64 `[N, D]`."""
        return np.concatenate([self.features(batch).cpu().double().numpy() for batch in images])

    def __call__(self, generator: GeneratorLike) -> dict[str, float]:
        """One number for each name of each metric asked for. Random noise, no truncation, images rounded to uint8."""
        config = self.config
        images = sample_images(
            generator, config.samples, seed=config.seed, batch=config.batch, labels=self.labels, device=self.device
        )
        generated = self.embed(to_float(torch.from_numpy(to_uint8(batch))) for batch in images)
        values: dict[str, float] = {}
        for name in config.metrics:
            metric = METRICS[name]
            values |= dict(zip(metric.names, metric.compute(self.reference, generated)))
        return values


@torch.no_grad()
def sample_images(
    generator: GeneratorLike,
    n: int,
    *,
    seed: int = 0,
    batch: int = 64,
    labels: np.ndarray | None = None,
    device: torch.device | str = "cpu",
) -> Iterator[Tensor]:
    """n images in batches `[≤ batch, C, H, W]`; latents and labels follow from the seed alone, whatever the batch."""
    rng = np.random.default_rng(seed)
    z = torch.from_numpy(rng.standard_normal((n, generator.z_dim), dtype=np.float32))
    c = None
    if labels is not None and labels.shape[1]:
        c = torch.from_numpy(labels[rng.integers(len(labels), size=n)])
    noise = torch.Generator(device).manual_seed(seed)
    for i in range(0, n, batch):
        chunk = None if c is None else c[i : i + batch].to(device)
        ws = generator.mapping(z[i : i + batch].to(device), chunk)
        yield generator.synthesis(ws, noise="random", generator=noise)
