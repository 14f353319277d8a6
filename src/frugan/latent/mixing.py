"""Style mixing: coarse levels of one image, the others of another (Karras et al., "A Style-Based Generator", 2019, Fig. 3)."""

from __future__ import annotations

import torch
from torch import Tensor

from frugan.latent.code import PointNoise
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
    G: Generator,
    rows: Tensor,
    columns: Tensor,
    levels: tuple[int, ...],
    *,
    noise: PointNoise = "const",
    batch: int = 16,
) -> tuple[Tensor, Tensor, Tensor]:
    """Images of rows `[R, C, H, W]`, of columns, and of all their mixtures, row by row; float32 in [-1, 1].

    Args:
        G: the generator.
        rows, columns: ws, as in `mixed_ws`.
        levels: that the columns give, with their noise.
        noise: of rows, then of columns, `[R + C, 1, h, w]` for each convolution, see `frugan.latent.code.point_noise`.
        batch: images at once.
    """
    grid = mixed_ws(rows, columns, levels).flatten(0, 1)
    sources = torch.cat([rows, columns, grid])
    made = []
    for images in torch.arange(len(sources), device=sources.device).split(batch):
        some = noise if noise == "const" else _noise_of(G, noise, images, len(rows), len(columns), levels)
        made.append(G.synthesis(sources[images], noise=some).clamp_(-1, 1))
    images = torch.cat(made)
    return images[: len(rows)], images[len(rows) : len(rows) + len(columns)], images[len(rows) + len(columns) :]


def _noise_of(
    G: Generator, noise: list[Tensor | None], images: Tensor, rows: int, columns: int, levels: tuple[int, ...]
) -> list[Tensor | None]:
    """The noise maps of some of the images: rows, columns, then mixtures, which have the column's at `levels`."""
    mixture = (images - rows - columns).clamp(min=0)
    alone = images < rows + columns
    of_level = {True: rows + mixture % columns, False: mixture // columns}
    convolutions = [i for i, block in enumerate(G.synthesis.blocks) for _ in range(block.num_conv)]
    return [
        None if maps is None else maps[torch.where(alone, images, of_level[level in levels])]
        for level, maps in zip(convolutions, noise)
    ]
