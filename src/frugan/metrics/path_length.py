"""Perceptual path length: the change of an image, as a network perceives it, for a small step in latent space."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from frugan.errors import FruganError
from frugan.metrics.sampling import GeneratorLike, draw, synthesise

Distance = Callable[[Tensor, Tensor], Tensor]  # two batches of images [N, C, H, W] in [-1, 1] -> [N]

EPSILON = 1e-4


@torch.no_grad()
def perceptual_path_length(
    generator: GeneratorLike,
    distance: Distance,
    numbers: range,
    *,
    space: Literal["w", "z"] = "w",
    sampling: Literal["full", "end"] = "end",
    epsilon: float = EPSILON,
    seed: int = 0,
    batch: int = 32,
    labels: np.ndarray | None = None,
    device: torch.device | str = "cpu",
) -> np.ndarray:
    """The integrand of perceptual path length at random places: d(G(t), G(t + ε)) / ε², to be averaged by `trimmed_mean`.

    Karras et al., "A Style-Based Generator Architecture", 2019, §4.1. Paths between two latents are straight in W and
    great circles in Z. Both images of a pair have the same noise and label.

    Args:
        generator: whose images are compared.
        distance: two batches of images `[n, C, H, W]` in [-1, 1] → their distances `[n]`.
        numbers: of the pairs: pair i follows from (seed, i) alone.
        space: "w" or "z", where the paths are.
        sampling: t is uniform in [0, 1] ("full") or 0 ("end").
        epsilon: the step ε.
        seed: of latents, labels and noise.
        batch: pairs at once.
        labels: float32 `[M, K]`, from whose rows labels are drawn; None for a generator without.
        device: of the generator.

    Returns:
        float64 `[N]`, a value for each pair.
    """
    values = []
    for start in range(numbers.start, numbers.stop, batch):
        own = range(start, min(start + batch, numbers.stop))
        first, _ = draw(generator, own, seed=seed, labels=labels)
        second, _ = draw(generator, own, seed=seed + (1 << 32), labels=labels)
        rngs = [np.random.default_rng((seed, number, 1)) for number in own]
        t = torch.tensor([rng.uniform() if sampling == "full" else 0.0 for rng in rngs], dtype=torch.float64)
        c = None if first.c is None else first.c.to(device)
        z0, z1 = (z.to(torch.float64) for z in (first.z, second.z))
        if space == "z":
            points = [slerp(z0, z1, t + step).float().to(device) for step in (0, epsilon)]
            ws = [generator.mapping(z, c) for z in points]
        else:
            w0, w1 = (generator.mapping(z.to(device), c).cpu().double() for z in (first.z, second.z))
            at = t.reshape(-1, *[1] * (w0.ndim - 1))
            ws = [torch.lerp(w0, w1, at + step).float().to(device) for step in (0, epsilon)]
        images = [synthesise(generator, w, first.noise_seeds) for w in ws]
        values.append(distance(*images).cpu().double().numpy() / epsilon**2)
    return np.concatenate(values) if values else np.zeros(0)


def trimmed(values: np.ndarray, share: float = 0.01) -> np.ndarray:
    """The values without the lowest and the highest `share`, of which the measure's authors took the mean."""
    if not len(values) or not np.isfinite(values).all():
        raise FruganError(
            f"{len(values)} path lengths, {np.isfinite(values).sum()} of them finite: check the generator"
        )
    low, high = np.quantile(values, [share, 1 - share], method="nearest")
    return values[(values >= low) & (values <= high)]


def trimmed_mean(values: np.ndarray, share: float = 0.01) -> float:
    """Their mean."""
    return float(trimmed(values, share).mean())


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """The point at t `[N]` along the great circle from a to b `[N, D]`, on the unit sphere."""
    a, b = (x / x.norm(dim=1, keepdim=True) for x in (a, b))
    cosine = (a * b).sum(dim=1, keepdim=True)
    angle = t[:, None] * cosine.clamp(-1, 1).acos()
    across = b - cosine * a
    return a * angle.cos() + across / across.norm(dim=1, keepdim=True) * angle.sin()
