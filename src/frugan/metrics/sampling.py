"""Samples for a measurement: image i follows from (seed, i) alone, whatever the batch, the device or the number of processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from frugan.errors import FruganError
from frugan.networks.sampling import stream_noise


class GeneratorLike(Protocol):
    """The four attributes of a generator that metrics use.

    `mapping(z, c)` takes z `[N, z_dim]` and c `[N, label_size]` (None where that is 0) to ws; it takes `truncation`
    too, if that is to differ from 1. `synthesis(ws, *, noise, generator)` takes ws to images `[N, C, H, W]`, with noise
    "random" drawn from the `torch.Generator`. If synthesis has `draw_noise(n, generator)`, noise can be a sequence of
    such draws, and images are made in batches.
    """

    z_dim: int
    label_size: int

    @property
    def mapping(self) -> Callable[..., Tensor]: ...
    @property
    def synthesis(self) -> Callable[..., Tensor]: ...


@dataclass(frozen=True)
class Draw:
    """The inputs of some images: z `[N, z_dim]`, labels c `[N, K]` or None, and a noise seed for each."""

    z: Tensor
    c: Tensor | None
    noise_seeds: list[int]

    def __getitem__(self, rows: slice) -> Draw:
        return Draw(self.z[rows], None if self.c is None else self.c[rows], self.noise_seeds[rows])


def draw(
    generator: GeneratorLike, numbers: Sequence[int], *, seed: int = 0, labels: np.ndarray | None = None
) -> tuple[Draw, np.ndarray]:
    """Draws the inputs of images by their numbers.

    Args:
        generator: for the sizes of z and of labels.
        numbers: of the images; the inputs of image i follow from (seed, i) alone.
        seed: of the measurement.
        labels: float32 `[M, K]`, from whose rows labels are drawn; None for a generator without.

    Returns:
        The inputs, and the rows of `labels` that were drawn, int64 `[N]`. Raises `FruganError` where labels are of
        another size.
    """
    size = generator.label_size
    if size and (labels is None or labels.ndim != 2 or labels.shape[1] != size or not len(labels)):
        given = "none" if labels is None else f"an array {labels.shape}"
        raise FruganError(
            f"this generator needs labels of size {size}, got {given}; give rows [M, {size}] to draw from"
        )
    z = np.empty((len(numbers), generator.z_dim), np.float32)
    rows, noise_seeds = np.empty(len(numbers), np.int64), []
    for i, number in enumerate(numbers):
        rng = np.random.default_rng((seed, number))
        z[i] = rng.standard_normal(generator.z_dim, np.float32)
        rows[i] = rng.integers(len(labels)) if labels is not None and len(labels) else 0
        noise_seeds.append(int(rng.integers(1 << 63)))
    c = torch.from_numpy(labels[rows]).float() if size and labels is not None else None
    return Draw(torch.from_numpy(z), c, noise_seeds), rows


@torch.no_grad()
def synthesise(generator: GeneratorLike, ws: Tensor, noise_seeds: Sequence[int]) -> Tensor:
    """Images `[N, C, H, W]`, each with noise of its own seed.

    Noise is the same on all devices if synthesis has `draw_noise`; without it images are made one at a time.

    Args:
        generator: whose synthesis makes them.
        ws: `[N, …]`, as its mapping gives them.
        noise_seeds: one for each image.
    """
    draw_noise = getattr(generator.synthesis, "draw_noise", None)
    if draw_noise is None:
        rngs = [torch.Generator(ws.device).manual_seed(s) for s in noise_seeds]
        images = [generator.synthesis(w[None], noise="random", generator=rng) for w, rng in zip(ws, rngs)]
        return torch.cat(images)
    return generator.synthesis(ws, noise=stream_noise(draw_noise, noise_seeds, ws.device))


@torch.no_grad()
def sample_images(
    generator: GeneratorLike,
    numbers: Sequence[int],
    *,
    seed: int = 0,
    batch: int = 64,
    truncation: float = 1.0,
    labels: np.ndarray | None = None,
    device: torch.device | str = "cpu",
) -> Iterator[tuple[Tensor, np.ndarray]]:
    """Generated images by their numbers, in batches.

    Args:
        generator: on `device`.
        numbers: for instance `range(5000)`; image i follows from (seed, i) alone.
        seed: of the measurement.
        batch: images at once.
        truncation: ψ; 1 is none.
        labels: float32 `[M, K]`, from whose rows labels are drawn; None for a generator without.
        device: of the generator.

    Yields:
        Images `[≤ batch, C, H, W]`, and the rows of `labels` that they were made for, int64 `[≤ batch]`.
    """
    options = {} if truncation == 1 else {"truncation": truncation}
    for start in range(0, len(numbers), batch):
        drawn, rows = draw(generator, numbers[start : start + batch], seed=seed, labels=labels)
        c = None if drawn.c is None else drawn.c.to(device)
        ws = generator.mapping(drawn.z.to(device), c, **options)
        yield synthesise(generator, ws, drawn.noise_seeds), rows
