"""Search: seeds ranked by how well their images fit a text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from frugan.latent.code import render_points
from frugan.latent.edit import NO_TRUNCATION, Truncation
from frugan.latent.text.models import JointModel
from frugan.networks import Generator


class Found(NamedTuple):
    """A seed and its similarity (cosine) to the text."""

    seed: int
    similarity: float


@torch.no_grad()
def find_seeds(
    G: Generator,
    model: JointModel,
    text: Tensor,
    seeds: Sequence[int],
    *,
    c: Tensor | None = None,
    truncation: Truncation = NO_TRUNCATION,
    batch: int = 16,
    progress: Callable[[int, int], None] | None = None,
) -> list[Found]:
    """Seeds ordered by the similarity of their images to a text, the most similar first; equal ones by number.

    Args:
        G: the generator.
        model: the joint model.
        text: a unit vector `[d]` (`prompt_vector`).
        seeds: to look at.
        c: their label `[K]`, or None for a generator without.
        truncation: of the images.
        batch: images at once.
        progress: called with (done, in all).
    """
    scores: list[float] = []
    for i in range(0, len(seeds), batch):
        some = list(seeds[i : i + batch])
        scores += (model.images(render_points(G, some, c, truncation=truncation)) @ text).tolist()
        if progress:
            progress(len(scores), len(seeds))
    return sorted(map(Found, seeds, scores), key=lambda found: (-found.similarity, found.seed))
