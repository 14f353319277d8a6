"""Blending two generators with one ancestor: some levels of one, the others of the other (Pinkney & Adler, 2020).

Fine-tuned from one another, generators agree on what their weights mean, so that weights can be mixed level by level: coarse
levels give pose and shape, fine ones texture and colour. Unrelated networks give noise, and are refused.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from frugan.checks import check_number
from frugan.command_line import command
from frugan.errors import FruganError
from frugan.latent.direction import RELATED
from frugan.latent.path import WPath, render_styles
from frugan.latent.statistics import draw_latents
from frugan.networks import Generator


class Alignment(NamedTuple):
    """The agreement of two generators for the same latents: correlations, 1 for the same network and about 0 for unrelated ones."""

    w: float
    """Of the ws of the same z."""
    images: float
    """Of the images of the same z, at 16 pixels, each network's mean image taken off."""


@torch.no_grad()
def alignment(A: Generator, B: Generator, samples: int = 64) -> Alignment:
    """The correlation of two generators' ws and images for the same latents, which is high for relatives.

    Args:
        A, B: generators whose latents and labels have the same sizes.
        samples: number of latents.

    Raises `FruganError` where the sizes differ.
    """
    if (A.z_dim, A.w_dim, A.label_size) != (B.z_dim, B.w_dim, B.label_size):
        raise FruganError(
            f"these generators have latents of other sizes (z {A.z_dim}, w {A.w_dim}, labels {A.label_size} and z {B.z_dim}, "
            f"w {B.w_dim}, labels {B.label_size}): they have no common ancestor"
        )
    z, c = draw_latents(A, samples, 1 << 21)
    found = []
    for G in (A, B):
        device = G.mapping.w_avg.device
        w = G.mapping.features(z.to(device), None if c is None else c.to(device))
        images = G.synthesis(w[:, None].repeat(1, G.num_ws, 1), noise="const")
        found.append((w.cpu(), F.adaptive_avg_pool2d(images.mean(1, keepdim=True), 16).cpu()))
    return Alignment(*(_correlation(a, b) for a, b in zip(*found)))


def check_aligned(A: Generator, B: Generator) -> Alignment:
    """Raises `FruganError` for generators that have no common ancestor."""
    found = alignment(A, B)
    if found.w < RELATED:
        raise FruganError(
            f"these generators are unrelated: ws of the same latents correlate by {found.w:.2f}, {RELATED} is needed; blend a "
            f"network with one that was fine-tuned from it ({command('train', '--init-from')}), or two that share an ancestor"
        )
    if A.channels != B.channels:
        raise FruganError(
            f"images of {A.channels} and of {B.channels} channels cannot be blended; train with equal ones"
        )
    if A.config.synthesis.architecture != B.config.synthesis.architecture:
        raise FruganError(
            "these generators have different architectures (skip, resnet or orig); they cannot be blended"
        )
    return found


@dataclass(frozen=True)
class Swap:
    """`at`: the first level (index from the base grid, by A's levels) that B gives; `width` 0 is a hard switch.

    With a width in levels, level k takes the share 1 / (1 + exp(-(k - at + ½) / width)) of B.
    """

    at: int
    width: float = 0.0

    def share(self, level: int) -> float:
        """The share of B in level k."""
        if self.width == 0:
            return float(level >= self.at)
        return 1 / (1 + math.exp(-(level - self.at + 0.5) / self.width))


def blend(A: Generator, B: Generator, swap: Swap) -> Generator:
    """A generator with A's mapping network and coarse levels, and B's fine ones; of the larger resolution of both.

    Levels are matched from the base grid on. A level that only one generator has is taken from that one.

    Args:
        A, B: relatives, such as a generator and one fine-tuned from it, with layers of equal widths.
        swap: the level at which B takes over, and over how many levels.

    Raises `FruganError` where their levels do not match.
    """
    check_number("width", swap.width, at_least=0, at_most=100)
    big = A if len(A.synthesis.sizes) >= len(B.synthesis.sizes) else B
    if A.synthesis.sizes[0] != B.synthesis.sizes[0]:
        raise FruganError(
            f"base grids {A.synthesis.sizes[0]} and {B.synthesis.sizes[0]} differ: these images have other shapes"
        )
    check_number("at (a level)", swap.at, at_least=0, at_most=len(big.synthesis.sizes), whole=True)
    made = copy.deepcopy(big)
    made.mapping.load_state_dict(A.mapping.state_dict())
    for level, size in enumerate(big.synthesis.sizes):
        own = made.synthesis.blocks[level]
        if level >= min(len(A.synthesis.sizes), len(B.synthesis.sizes)):
            continue  # of the larger one alone, which `made` is a copy of
        a, b = (G.synthesis.blocks[level].state_dict() for G in (A, B))
        if {k: v.shape for k, v in a.items()} != {k: v.shape for k, v in b.items()}:
            raise FruganError(
                f"level {size[0]}x{size[1]} has weights of other shapes in both; blend generators of equal widths, and of equal "
                "resolution unless their architecture is skip"
            )
        own.load_state_dict(_mixed(a, b, swap.share(level)))
    return made


def interpolate(A: Generator, B: Generator, share: float) -> Generator:
    """All weights, (1 - share)·A + share·B: a network between parent and child. 0 is A and 1 is B, bit for bit."""
    check_number("share", share, at_least=-1, at_most=2)
    a, b = A.state_dict(), B.state_dict()
    if {k: v.shape for k, v in a.items()} != {k: v.shape for k, v in b.items()}:
        raise FruganError("whole networks are interpolated where all their weights have the same shapes; these differ")
    made = copy.deepcopy(A)
    made.load_state_dict(_mixed(a, b, share))
    return made


class Morph:
    """One generator turning into the other and back (closed), while both walk the same path: ws and all weights in between.

    `path` and `other` are the same path of A and of B, for instance a tour of the same seeds.
    """

    closed = True
    legs = 2

    def __init__(self, A: Generator, B: Generator, path: WPath, other: WPath) -> None:
        self.A, self.B, self.paths = A, B, (path, other)

    @torch.no_grad()
    def render(self, t: Tensor, side: int | None = None) -> Tensor:
        """See `Path`."""
        images = []
        for time in t.tolist():
            share = 1 - abs(1 - time)
            at = torch.tensor([time / self.legs])
            own, others = (path.ws(at * path.legs) for path in self.paths)
            between = interpolate(self.A, self.B, share)
            images.append(render_styles(between, between.synthesis.styles(torch.lerp(own, others, share)), side))
        return torch.cat(images)


def _mixed(a: dict[str, Tensor], b: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    if share in (0.0, 1.0):
        return b if share else a
    return {k: torch.lerp(v, b[k], share) if v.is_floating_point() else v for k, v in a.items()}


def _correlation(a: Tensor, b: Tensor) -> float:
    return float(F.cosine_similarity((a - a.mean(0)).flatten(), (b - b.mean(0)).flatten(), dim=0))
