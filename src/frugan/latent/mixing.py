"""Style mixing: coarse levels of one image, the others of another (Karras et al., "A Style-Based Generator", 2019, Fig. 3)."""

from __future__ import annotations

import torch
from torch import Tensor

from frugan.latent.levels import ws_of_levels
from frugan.networks import Generator


def mixed_ws(rows: Tensor, columns: Tensor, levels: tuple[int, ...]) -> Tensor:
    """ws `[R, num_ws, D]` and `[C, num_ws, D]` → `[R, C, num_ws, D]`: each row's ws, those of `levels` the column's."""
    grid = rows[:, None].expand(-1, len(columns), -1, -1).clone()
    at = ws_of_levels(levels)
    grid[:, :, at] = columns[None, :, at]
    return grid


@torch.no_grad()
def mixing_grid(
    G: Generator, rows: Tensor, columns: Tensor, levels: tuple[int, ...], *, batch: int = 16
) -> tuple[Tensor, Tensor, Tensor]:
    """Images of the rows `[R, C, H, W]`, of the columns, and of all mixtures, row by row; float32 in [-1, 1]."""
    grid = mixed_ws(rows, columns, levels).flatten(0, 1)
    sources = torch.cat([rows, columns, grid])
    images = torch.cat([G.synthesis(some, noise="const").clamp_(-1, 1) for some in sources.split(batch)])
    return images[: len(rows)], images[len(rows) : len(rows) + len(columns)], images[len(rows) + len(columns) :]
