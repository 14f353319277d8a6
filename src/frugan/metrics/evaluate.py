"""Judging a generator: its samples against a reference set, in the features of a frozen network."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from frugan.errors import FruganError
from frugan.metrics.distances import METRICS, Array
from frugan.metrics.features import FEATURES, Features, load_features
from frugan.pictures import to_float, to_uint8

FEWEST = 10  # samples of either kind: every metric in the table can be computed from them


class GeneratorLike(Protocol):
    """What a metric needs of a generator.

    `mapping(z, c)` takes z `[N, z_dim]` and c `[N, label_size]` (None where that is 0) to ws; `synthesis(ws, *, noise,
    generator)` takes ws to images `[N, C, H, W]`. Its noise is "random", drawn from the `torch.Generator`; or, if
    synthesis has `draw_noise(n, generator)`, a sequence of such draws.
    """

    z_dim: int
    label_size: int

    @property
    def mapping(self) -> Callable[..., Tensor]: ...
    @property
    def synthesis(self) -> Callable[..., Tensor]: ...


@dataclass(frozen=True)
class EvaluateConfig:
    """`samples` images, drawn with `seed`, seen through the network `features`. `batch` changes speed, not results."""

    features: str = "efficientnet-lite0"
    samples: int = 5000
    metrics: tuple[str, ...] = ("kid",)
    seed: int = 0
    batch: int = 64

    def __post_init__(self) -> None:
        if unknown := [name for name in self.metrics if name not in METRICS]:
            raise FruganError(f"metric {unknown[0]!r}: choose from {', '.join(METRICS)}")
        if self.features not in FEATURES:
            raise FruganError(f"feature network {self.features!r}: choose one of {', '.join(FEATURES)}")
        if self.samples < FEWEST or self.batch < 1:
            raise FruganError(
                f"{self.samples} samples in batches of {self.batch}: give at least {FEWEST} samples, in batches from 1"
            )


class Evaluator:
    """Measures generators against one reference set, whose features are computed once.

    `reference`: uint8 or uint16 `[N, H, W, C]`, best memory-mapped; `indices` choose rows of it. `labels`: float32
    `[M, K]`, rows that generated images' labels are drawn from. `cache`: a folder that keeps the reference's features,
    by the hash of its pixels and of the network. `features` takes the place of the network named in the config.
    """

    def __init__(
        self,
        reference: np.ndarray,
        config: EvaluateConfig,
        *,
        device: torch.device | str = "cpu",
        labels: np.ndarray | None = None,
        indices: np.ndarray | None = None,
        cache: Path | None = None,
        features: Features | None = None,
    ) -> None:
        rows = np.arange(len(reference)) if indices is None else np.asarray(indices)
        if len(rows) < FEWEST:
            raise FruganError(f"{len(rows)} reference pictures are too few to measure against; give at least {FEWEST}")
        self.config, self.device, self.labels = config, torch.device(device), labels
        self.features = features or load_features(config.features, device)
        self.reference = self._reference_features(reference, rows, cache)

    def __call__(self, generator: GeneratorLike) -> dict[str, float]:
        """Each metric asked for, and its twin (see `METRICS`). No truncation, fresh noise, images rounded to uint8."""
        config = self.config
        images = sample_images(
            generator, config.samples, seed=config.seed, batch=config.batch, labels=self.labels, device=self.device
        )
        generated = self._embed(map(to_uint8, images))
        values: dict[str, float] = {}
        for name in config.metrics:
            metric = METRICS[name]
            if name not in values:
                values |= zip(metric.names, metric.compute(self.reference, generated))
        return values

    def _embed(self, batches: Iterable[np.ndarray]) -> Array:
        """Pixels `[n, H, W, C]` → features float64 `[N, D]`."""
        images = (to_float(torch.from_numpy(np.ascontiguousarray(pixels))) for pixels in batches)
        return np.concatenate([self.features(batch).cpu().numpy() for batch in images]).astype(np.float64)

    def _reference_features(self, reference: np.ndarray, rows: np.ndarray, cache: Path | None) -> Array:
        def batches() -> Iterator[np.ndarray]:
            return (reference[rows[i : i + self.config.batch]] for i in range(0, len(rows), self.config.batch))

        if cache is None:
            return self._embed(batches())
        key = hashlib.sha256(f"{self.features.digest} {reference.shape[1:]} {reference.dtype}".encode())
        for pixels in batches():
            key.update(np.ascontiguousarray(pixels).data)
        file = cache / f"{key.hexdigest()[:32]}.npy"
        if (found := _load(file)) is not None:
            return found
        computed = self._embed(batches())
        _save(file, computed.astype(np.float32))
        return computed


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
    """n images in batches `[≤ batch, C, H, W]`, for a generator on `device`; labels are drawn from the rows `[M, K]`.

    Image i has a latent, a label and noise of its own, which follow from (seed, i) alone: not from n, the batch, or the
    device if synthesis has `draw_noise`. Without it images are made one at a time.
    """
    draw_noise = getattr(generator.synthesis, "draw_noise", None)
    z_rng, label_rng, noise_rng = np.random.default_rng(seed).spawn(3)
    z = torch.from_numpy(z_rng.standard_normal((n, generator.z_dim), np.float32))
    c = _draw_labels(generator.label_size, labels, n, label_rng)
    noise_seeds: list[int] = noise_rng.integers(1 << 63, size=n).tolist()
    for i in range(0, n, batch if draw_noise else 1):
        rows = slice(i, i + (batch if draw_noise else 1))
        ws = generator.mapping(z[rows].to(device), None if c is None else c[rows].to(device))
        if draw_noise:
            draws = [draw_noise(1, torch.Generator().manual_seed(s)) for s in noise_seeds[rows]]
            noise = [torch.cat(layer).to(device) for layer in zip(*draws)]
            yield generator.synthesis(ws, noise=noise)
        else:
            rng = torch.Generator(device).manual_seed(noise_seeds[i])
            yield generator.synthesis(ws, noise="random", generator=rng)


def _draw_labels(size: int, labels: np.ndarray | None, n: int, rng: np.random.Generator) -> Tensor | None:
    if not size:
        return None
    if labels is None or labels.ndim != 2 or labels.shape[1] != size or not len(labels):
        given = "none" if labels is None else f"an array {labels.shape}"
        raise FruganError(
            f"this generator needs labels of size {size}, got {given}; give rows [M, {size}] to draw from"
        )
    return torch.from_numpy(labels[rng.integers(len(labels), size=n)]).float()


def _load(file: Path) -> Array | None:
    """The cached features, or None where there are none or the file is damaged."""
    try:
        return np.load(file, allow_pickle=False).astype(np.float64)
    except (OSError, ValueError, EOFError):
        return None


def _save(file: Path, features: np.ndarray[Any, Any]) -> None:
    """Whole or not at all, whoever else writes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    scratch = file.with_name(f".{uuid.uuid4().hex}.npy")
    np.save(scratch, features)
    os.replace(scratch, file)
