"""Latents and noise from seeds: image n follows from seed n alone, whatever the batch, its order and the device.

A seed has two independent random streams, one for its latent z and one for its noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from frugan.checks import check_number
from frugan.errors import FruganError

LARGEST_SEED = 2**32 - 1
AVERAGE_LATENTS = 10_000
"""From how many latents `estimate_average` takes the average of w."""

_NOISE_STREAM = 1  # beside a seed, parts its noise from its latent
_CHUNK = 1000


def check_seeds(seeds: Iterable[int]) -> list[int]:
    """The seeds as Python integers. Raises `FruganError` unless they are one or more whole numbers from 0 to 2³² − 1."""
    try:
        found = [s.item() if isinstance(s, (np.generic, Tensor)) else s for s in seeds]
    except TypeError:
        raise FruganError(f"seeds {seeds!r}: give several, for instance seeds=range(16) or seeds=[3]") from None
    if not found:
        raise FruganError("seeds: none were given; give at least one, for instance seeds=[0]")
    for seed in found:
        check_number("seed", seed, at_least=0, at_most=LARGEST_SEED, whole=True)
    return [int(seed) for seed in found]


def seed_latents(seeds: Sequence[int], z_dim: int) -> Tensor:
    """Latents z, float32 `[N, z_dim]`, standard normal, on the CPU; a seed gives the same latent in every version."""
    return torch.from_numpy(np.stack([np.random.RandomState(s).randn(z_dim) for s in seeds])).float()


def noise_seeds(seeds: Sequence[int]) -> list[int]:
    """The seed of each image's noise stream, from the image's seed."""
    return [int(np.random.SeedSequence((s, _NOISE_STREAM)).generate_state(1, np.uint64)[0]) >> 1 for s in seeds]


def stream_noise(
    draw_noise: Callable[[int, torch.Generator], list[Tensor]], streams: Sequence[int], device: torch.device
) -> list[Tensor]:
    """Noise for N images, `[N, 1, H, W]` for each convolution; image i's is drawn on the CPU from a stream of its own.

    Args:
        draw_noise: that of a `Synthesis`.
        streams: a seed for each image, for instance from `noise_seeds`.
        device: where the noise is moved to.
    """
    draws = [draw_noise(1, torch.Generator().manual_seed(s)) for s in streams]
    return [torch.cat(layer).to(device) for layer in zip(*draws)]


@torch.no_grad()
def estimate_average(features: Callable[[Tensor, None], Tensor], z_dim: int) -> Tensor:
    """The mean of w over `AVERAGE_LATENTS` fixed latents, float32 `[w_dim]`, for truncation.

    Args:
        features: z `[N, z_dim]` and no label → w `[N, w_dim]`, as `Mapping.features`.
        z_dim: width of z.
    """
    z = torch.from_numpy(np.random.RandomState(0).randn(AVERAGE_LATENTS, z_dim)).float()
    total = sum(features(chunk, None).double().sum(dim=0) for chunk in z.split(_CHUNK))
    return (torch.as_tensor(total) / AVERAGE_LATENTS).float()
