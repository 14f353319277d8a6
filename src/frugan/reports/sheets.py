"""Sheets of images for a report, small enough for a page."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from frugan.latent.sheets import table
from frugan.reports import blocks
from frugan.reports.blocks import Block

LARGEST_CELL = 128
"""Pixels of an image's longer side; larger images are averaged down to it."""


def sheet(title: str, images: Tensor, columns: int, *, note: str = "", row_names: Sequence[str] = ()) -> Block:
    """A block with images, row by row.

    Args:
        title: above it.
        images: `[N, C, H, W]` in [-1, 1].
        columns: number of columns.
        note: below it.
        row_names: captions, as text beside the image; none by default.
    """
    side = max(images.shape[2:])
    if side > LARGEST_CELL:
        size = [max(1, round(n * LARGEST_CELL / side)) for n in images.shape[2:]]
        images = F.interpolate(images, size=size, mode="area")
    return blocks.image(title, table(images.cpu(), columns), note=note, row_names=row_names)
