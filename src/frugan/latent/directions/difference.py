"""The difference of two means: from one image to another, from one set to another, from one class to another."""

from __future__ import annotations

import torch
from torch import Tensor

from frugan.errors import FruganError
from frugan.latent.direction import Direction, Identity
from frugan.latent.statistics import Statistics
from frugan.networks import Generator


def difference_direction(
    G: Generator,
    statistics: Statistics,
    start: Tensor,
    end: Tensor,
    *,
    name: str,
    levels: tuple[int, ...] | None = None,
) -> Direction:
    """The direction from the mean of some ws to the mean of others; strength 1 goes the whole way.

    It has a vector for each of the ws, or one for all of them where they agree.

    Args:
        G: the generator.
        statistics: of its w.
        start: `[N, num_ws, w_dim]`.
        end: `[M, num_ws, w_dim]`.
        name: of the direction.
        levels: that edits act on; None: all.

    Raises `FruganError` where both means are the same.
    """
    step = end.cpu().double().mean(0) - start.cpu().double().mean(0)
    if torch.equal(step, step[:1].expand_as(step)):
        step = step[0]
    length = float(step.norm(dim=-1).max())
    if not length > 1e-6 * float(statistics.covariance.trace().sqrt()):
        raise FruganError(f"difference {name!r}: both sides are the same; give two that differ")
    vector = step / length
    return Direction(
        name,
        "w",
        vector.float(),
        length,
        Identity.of(G),
        centre=float(vector @ statistics.mean) if vector.ndim == 1 else 0.0,
        levels=levels,
        slider=(-1.0, 2.0),
        source={"method": "difference", "start": len(start), "end": len(end)},
    )
