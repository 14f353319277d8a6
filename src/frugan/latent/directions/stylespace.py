"""StyleSpace: single style channels (Wu et al., "StyleSpace Analysis: Disentangled Controls for StyleGAN", 2021).

A channel stands for an attribute where examples that have it agree on the channel's value, away from the population's: with
δ = (s - mean) / std of each example, channels are ranked by |mean δ| / std δ. A channel is local to a region where most of
its influence on the image lies there.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from frugan.checks import check_number
from frugan.errors import FruganError
from frugan.latent.direction import Direction, Identity
from frugan.latent.levels import level_names
from frugan.latent.statistics import Statistics, flat_styles, split_styles
from frugan.networks import Generator, typical_labels


def channels_from_examples(
    G: Generator, statistics: Statistics, ws: Tensor, count: int = 10, *, levels: tuple[int, ...] | None = None
) -> list[Direction]:
    """The style channels that best mark examples with something in common, as directions towards what they share.

    Wu et al., "StyleSpace Analysis", 2021. Strength 1 is one standard deviation of the channel.

    Args:
        G: the generator.
        statistics: of its styles.
        ws: the examples, `[N, num_ws, w_dim]`, 2 or more; 10 to 30 are usual.
        count: number of channels.
        levels: among whose channels to choose; None: all.
    """
    if len(ws) < 2:
        raise FruganError(f"{len(ws)} example: give at least 2 (10 to 30 are usual) that have something in common")
    with torch.no_grad():
        delta = (flat_styles(G, ws).cpu().double() - statistics.style_mean) / _deviation(statistics)
    mean = delta.mean(0)
    score = mean.abs() / (delta.std(0) + 1e-6)
    return _channels(G, statistics, score, mean.sign(), count, levels, {"examples": len(ws)})


def channels_in_region(
    G: Generator,
    statistics: Statistics,
    mask: Tensor,
    count: int = 10,
    *,
    images: int = 16,
    probes: int = 4,
    levels: tuple[int, ...] | None = None,
    c: Tensor | None = None,
) -> list[Direction]:
    """The `count` style channels whose influence lies most within a region drawn by the user.

    The influence of channel k on the pixels of a set P is Σ_P (∂I/∂s_k)² std_k². It is estimated without bias, for all
    channels at once, by the squared gradient of Σ_P r·I with random signs r. The score is the influence inside over
    that on the whole image, for channels that have any to speak of.

    Args:
        G: the generator.
        statistics: of its styles.
        mask: bool or float `[H, W]` at the generator's resolution, true inside.
        count: number of channels.
        images: number of samples.
        probes: number of draws of r for each.
        levels: among whose channels to choose; None: all.
        c: a label `[K]`, for a generator with labels; None: each class in turn.
    """
    check_mask(G, mask)
    inside = mask.bool().to(G.mapping.w_avg.device)
    z = G.latents(list(range(images))).to(inside.device)
    labels = None
    if G.label_size:
        pool = typical_labels(G.label_size, G.config.measured) if c is None else c[None]
        labels = pool[torch.arange(images) % len(pool)].to(inside.device)
    with torch.no_grad():
        flat = flat_styles(G, G.mapping.features(z, labels))
    rng = torch.Generator().manual_seed(0)
    energy = torch.zeros(2, flat.shape[1], dtype=torch.float64)
    for row in flat:  # one image at a time: the gradient of a sum over images would be the same, its memory not
        styles = row[None].clone().requires_grad_()
        image = G.synthesis.render(split_styles(G, styles), noise="const")
        for _ in range(probes):
            signs = (torch.randint(2, image.shape, generator=rng) * 2 - 1).to(image.device)
            for part, region in enumerate((inside, ~inside)):
                (gradient,) = torch.autograd.grad((image * signs * region).sum(), styles, retain_graph=True)
                energy[part] += gradient[0].double().square().cpu()
    energy = energy * _deviation(statistics).square()
    total = energy.sum(0)
    score = torch.where(total > 1e-3 * total.max(), energy[0] / total.clamp_min(1e-30), 0.0)
    facts = {"region": float(mask.bool().double().mean()), "images": images}
    return _channels(G, statistics, score, torch.ones_like(score), count, levels, facts)


def check_mask(G: Generator, mask: Tensor) -> None:
    """Raises `FruganError` unless the mask is of the images' size, neither empty nor the whole image."""
    size, marked = G.synthesis.sizes[-1], int(mask.bool().sum())
    if tuple(mask.shape) != size or not 0 < marked < mask.numel():
        raise FruganError(
            f"a mask of shape {tuple(mask.shape)} with {marked} pixels marked: draw a region, neither empty nor the "
            f"whole image, of {size[0]}x{size[1]} pixels"
        )


def _channels(
    G: Generator,
    statistics: Statistics,
    score: Tensor,
    sign: Tensor,
    count: int,
    levels: tuple[int, ...] | None,
    facts: dict[str, Any],
) -> list[Direction]:
    """A direction for each of the `count` channels of the highest score `[ΣC]`, on these levels; never a constant one."""
    check_number("count", count, at_least=1, at_most=len(score), whole=True)
    channels = [(layer, i) for layer in G.synthesis.style_layers for i in range(layer.width)]
    within = torch.tensor([levels is None or layer.level in levels for layer, _ in channels])
    usable = within & (statistics.style_std > 1e-6 * statistics.style_std.max())
    order = torch.where(usable, score, -torch.inf).argsort(descending=True, stable=True)
    identity, names = Identity.of(G), level_names(G)
    made = []
    for channel in order[: min(count, int(usable.sum()))].tolist():
        layer, i = channels[channel]
        vector = torch.zeros(len(score))
        vector[channel] = 1.0 if sign[channel] >= 0 else -1.0
        made.append(
            Direction(
                f"{names[layer.level]}-{layer.kind}-{i}",
                "style",
                vector,
                float(statistics.style_std[channel]),
                identity,
                centre=float(vector[channel] * statistics.style_mean[channel]),
                slider=(-10.0, 10.0),
                source={"method": "stylespace", "channel": channel, "score": float(score[channel]), **facts},
            )
        )
    return made


def _deviation(statistics: Statistics) -> Tensor:
    return statistics.style_std.double().clamp_min(1e-8)
