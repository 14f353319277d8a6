"""Images drawn for a measurement: each its own, whatever the batch, the device or the number of processes."""

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
    """What a metric needs of a generator.

    `mapping(z, c)` takes z `[N, z_dim]` and c `[N, label_size]` (None where that is 0) to ws, and `truncation` if that is
    to be other than 1; `synthesis(ws, *, noise, generator)` takes ws to images `[N, C, H, W]`. Its noise is "random",
    drawn from the `torch.Generator`; or, if synthesis has `draw_noise(n, generator)`, a sequence of such draws.
    """

    z_dim: int
    label_size: int

    @property
    def mapping(self) -> Callable[..., Tensor]: ...
    @property
    def synthesis(self) -> Callable[..., Tensor]: ...


@dataclass(frozen=True)
class Draw:
    """What image i of a measurement is made from: z `[N, z_dim]`, c `[N, K]` or None, and a seed of noise for each."""

    z: Tensor
    c: Tensor | None
    noise_seeds: list[int]

    def __getitem__(self, rows: slice) -> Draw:
        return Draw(self.z[rows], None if self.c is None else self.c[rows], self.noise_seeds[rows])


def draw(
    generator: GeneratorLike, numbers: Sequence[int], *, seed: int = 0, labels: np.ndarray | None = None
) -> tuple[Draw, np.ndarray]:
    """Latent, label and noise of each image by its number, which follow from (seed, number) alone; and the rows, int64
    `[N]`, of `labels` `[M, K]` that they have."""
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
    """ws → images `[N, C, H, W]`, each with its own noise: the same on all devices if synthesis has `draw_noise`.

    Without it images are made one at a time.
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
    """Images by their numbers, for instance `range(5000)`, in batches `[≤ batch, C, H, W]`, for a generator on `device`,
    each batch with the rows of `labels` `[M, K]` that it was made for (see `draw`)."""
    options = {} if truncation == 1 else {"truncation": truncation}
    for start in range(0, len(numbers), batch):
        drawn, rows = draw(generator, numbers[start : start + batch], seed=seed, labels=labels)
        c = None if drawn.c is None else drawn.c.to(device)
        ws = generator.mapping(drawn.z.to(device), c, **options)
        yield synthesise(generator, ws, drawn.noise_seeds), rows
