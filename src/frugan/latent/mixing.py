"""Style mixing: coarse levels of one image, the others of another (Karras et al., "A Style-Based Generator", 2019, Fig. 3)."""

from __future__ import annotations

import torch
from torch import Tensor

from frugan.latent.levels import ws_of_levels
from frugan.networks import Generator


def mixed_ws(rows: Tensor, columns: Tensor, levels: tuple[int, ...]) -> Tensor:
    """Style mixing: each row's ws, in which those of `levels` are replaced by each column's.

    Args:
        rows: ws `[R, num_ws, D]`.
        columns: ws `[C, num_ws, D]`.
        levels: of the synthesis network, from 0.

    Returns:
        `[R, C, num_ws, D]`
    """
    grid = rows[:, None].expand(-1, len(columns), -1, -1).clone()
    at = ws_of_levels(levels)
    grid[:, :, at] = columns[None, :, at]
    return grid


@torch.no_grad()
def mixing_grid(
    G: Generator, rows: Tensor, columns: Tensor, levels: tuple[int, ...], *, batch: int = 16
) -> tuple[Tensor, Tensor, Tensor]:
    """Images of rows `[R, C, H, W]`, of columns, and of all their mixtures, row by row; float32 in [-1, 1].

    Args:
        G: the generator.
        rows, columns: ws, as in `mixed_ws`.
        levels: that the columns give.
        batch: images at once.
    """
    grid = mixed_ws(rows, columns, levels).flatten(0, 1)
    sources = torch.cat([rows, columns, grid])
    images = torch.cat([G.synthesis(some, noise="const").clamp_(-1, 1) for some in sources.split(batch)])
    return images[: len(rows)], images[len(rows) : len(rows) + len(columns)], images[len(rows) + len(columns) :]
