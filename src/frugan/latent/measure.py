"""Measures of an edit's effect on images, without a trained network: how much, where, at which scales, how consistently."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from frugan.latent.direction import Direction
from frugan.latent.edit import NO_TRUNCATION, Edit, Truncation, render_edited
from frugan.latent.scores import SCORES
from frugan.networks import Generator

Advance = Callable[[int, int], None] | None

VISIBLE = 0.1
"""A pixel counts as changed where a channel moves by more than this (of the range of 2)."""
SLIDER_SHARE = 0.8
"""A slider ends where images are this share of the distance between two samples away from where they were."""
STRONGEST = 40.0


def pyramid_distance(a: Tensor, b: Tensor) -> Tensor:
    """The distance of images `[N, C, H, W]`: the RMS difference, averaged over scales (1, 1/2, … down to 4 pixels); `[N]`."""
    difference = a.float() - b.float()
    levels = []
    while True:
        levels.append(difference.square().mean(dim=(1, 2, 3)).sqrt())
        if min(difference.shape[2:]) < 8:
            return torch.stack(levels).mean(0)
        difference = F.avg_pool2d(difference, 2)


def scale_shares(a: Tensor, b: Tensor) -> Tensor:
    """The shares of scales in the squared difference, coarsest first: `[scales]`, sum 1.

    The difference is taken apart into a Laplacian pyramid of 2×2 averages, whose bands are orthogonal.
    """
    difference, bands = a.float() - b.float(), []
    while min(difference.shape[2:]) >= 8 and not any(side % 2 for side in difference.shape[2:]):
        coarse = F.avg_pool2d(difference, 2)
        detail = difference - F.interpolate(coarse, scale_factor=2.0, mode="nearest")
        bands.append(detail.square().mean())
        difference = coarse
    bands.append(difference.square().mean())
    shares = torch.stack(bands[::-1])
    return shares / shares.sum().clamp_min(1e-12)


@dataclass(frozen=True)
class Effect:
    """The effect of strength 1 of a direction, averaged over seeds."""

    distance: float
    """`pyramid_distance`, as a share of that of two samples."""
    pixels: float
    """Share of pixels that change visibly."""
    scales: tuple[float, ...]
    """See `scale_shares`."""
    scores: dict[str, float]
    """Change of each built-in score, in standard deviations over samples."""
    consistency: float
    """Mean cosine of the change between seeds, at 8 pixels or so: 1 where all images change alike."""
    slider: tuple[float, float]
    """Strengths between which images stay recognisable (`SLIDER_SHARE`)."""


@dataclass(frozen=True)
class Baseline:
    """Images to measure edits on, and how far samples of this generator are apart."""

    z: Tensor
    c: Tensor | None
    truncation: Truncation
    images: Tensor
    spread: float
    score_std: dict[str, float]

    @classmethod
    def of(
        cls, G: Generator, seeds: Sequence[int], c: Tensor | None = None, truncation: Truncation = NO_TRUNCATION
    ) -> Baseline:
        """The images of some seeds, and how much they differ among themselves.

        Args:
            G: the generator.
            seeds: of the images.
            c: labels `[N, K]`, or None for a generator without.
            truncation: of the images.
        """
        z = G.latents(list(seeds))
        images = render_edited(G, z, c, truncation=truncation)
        pairs = pyramid_distance(images, images.roll(1, 0))
        stds = {name: float(score.function(images).std()) for name, score in SCORES.items()}
        return cls(z, c, truncation, images, max(float(pairs.mean()), 1e-6), stds)

    def edited(self, G: Generator, edits: Sequence[Edit], rows: slice = slice(None)) -> Tensor:
        """The edited images `[n, C, H, W]` of some of the baseline's latents.

        Args:
            G: the generator.
            edits: what is changed, all at once.
            rows: of the latents; all of them by default.
        """
        c = None if self.c is None else self.c[rows]
        return render_edited(G, self.z[rows], c, edits, self.truncation)


def measure(G: Generator, direction: Direction, baseline: Baseline) -> Effect:
    """Measures the effect of a direction, at strength 1.

    Args:
        G: the generator.
        direction: to move along.
        baseline: the images that are edited, and their scores before.
    """
    after = baseline.edited(G, [Edit(direction, 1.0)])
    before = baseline.images
    change = (after - before).abs().amax(dim=1)
    scores = {
        name: float((score.function(after) - score.function(before)).mean()) / baseline.score_std[name]
        for name, score in SCORES.items()
        if baseline.score_std[name] > 1e-6
    }
    small = F.adaptive_avg_pool2d(after - before, 8).flatten(1)
    cosines = F.normalize(small, dim=1) @ F.normalize(small, dim=1).T
    n = len(cosines)
    return Effect(
        distance=float(pyramid_distance(before, after).mean()) / baseline.spread,
        pixels=float((change > VISIBLE).float().mean()),
        scales=tuple(scale_shares(before, after).tolist()),
        scores=scores,
        consistency=float((cosines.sum() - cosines.trace()) / max(n * (n - 1), 1)),
        slider=(-_reach(G, direction, baseline, -1.0), _reach(G, direction, baseline, 1.0)),
    )


def _reach(G: Generator, direction: Direction, baseline: Baseline, sign: float) -> float:
    """The strength at which images have moved `SLIDER_SHARE` of the way to another sample, to two digits."""
    rows = slice(0, 4)

    def moved(strength: float) -> float:
        edited = baseline.edited(G, [Edit(direction, sign * strength)], rows)
        return float(pyramid_distance(baseline.images[rows], edited).mean()) / baseline.spread

    low, high = 0.0, 1.0
    while moved(high) < SLIDER_SHARE:
        low, high = high, high * 2
        if high > STRONGEST:
            return STRONGEST
    for _ in range(4):
        middle = (low + high) / 2
        low, high = (middle, high) if moved(middle) < SLIDER_SHARE else (low, middle)
    return float(f"{(low + high) / 2:.2g}")
