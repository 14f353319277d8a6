"""Sample grids of a run: their shape, the labels in them, and how varied the images are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from frugan.data import Dataset
from frugan.image_files import choose_sheet, save
from frugan.images import beside_masks, grid
from frugan.label_parts import Measured
from frugan.networks import Generator


class SampleGrid:
    """Images of fixed seeds in a grid, beside as many training images to compare them with: PNG of the data's bits and colours.

    Attributes:
        reals: training images, float32 `[columns·rows, C, H, W]` in [-1, 1], on the CPU.
    """

    def __init__(self, dataset: Dataset) -> None:
        h, w = dataset.resolution
        self.masks = len(dataset.masks)
        self.sheet = choose_sheet(dataset.pixel_format, dataset.image_channels, "png")
        self.columns, self.rows = grid_shape((h, w * (1 + self.masks)))
        self.reals, _ = dataset.images(dataset.preview(self.columns * self.rows))
        self.labels = grid_labels(dataset.label_pool, self.columns, self.rows, dataset.measured)

    def save_reals(self, file: Path) -> None:
        self.save(self.reals, file)

    def save(self, images: Tensor, file: Path) -> None:
        """Writes images `[columns·rows, C, H, W]` in [-1, 1] as one, masks beside their images."""
        alpha = self.sheet.output.pixels.alpha
        values = self.sheet.values(beside_masks(images, self.masks, alpha=alpha))
        save(grid(values, columns=self.columns), file, alpha=alpha)

    def sample(self, generator: Generator) -> Tensor:
        """Images `[columns·rows, C, H, W]` of seeds 0, 1, …"""
        return generator.sample(range(self.columns * self.rows), c=self.labels)

    def relative_diversity(self, images: Tensor) -> float:
        """The diversity of images `[N, C, H, W]`, as a share of that of training images."""
        return diversity(images.cpu()) / max(diversity(self.reals), 1e-8)


def grid_shape(resolution: tuple[int, int]) -> tuple[int, int]:
    """(columns, rows) of a sample grid: about 1000 pixels wide, 12 × 8 at most."""
    h, w = resolution
    return min(max(1024 // w, 4), 12), min(max(768 // h, 3), 8)


def grid_labels(labels: Tensor, columns: int, rows: int, measured: Sequence[Measured] = ()) -> Tensor | None:
    """Labels for a grid of samples: a class for each column, or numbers from left to right. None for a generator without labels.

    Where a label holds a number and something else, each row varies one number over its range, in turn, and the rest of
    the label is that of one training image.

    Args:
        labels: of training images, `[N, K]`.
        columns, rows: of the grid.
        measured: the label's columns that are numbers.

    Returns:
        `[columns·rows, K]`
    """
    if not labels.shape[1]:
        return None
    if measured and labels.shape[1] > 1:
        fixed = labels[torch.linspace(0, len(labels) - 1, -(-rows // len(measured))).long()]
        found = fixed.repeat_interleave(len(measured), 0)[:rows].repeat_interleave(columns, 0)
        for row in range(rows):
            m = measured[row % len(measured)]
            found[row * columns : (row + 1) * columns, m.column] = torch.linspace(m.minimum, m.maximum, columns)
        return found
    kinds = labels.unique(dim=0)
    if ((labels == 0) | (labels == 1)).all():
        kinds = kinds.flip(0)  # one-hot rows: the first class first
    if len(kinds) > columns:
        kinds = kinds[torch.linspace(0, len(kinds) - 1, columns).long()]
    return kinds[torch.arange(columns) % len(kinds)].repeat(rows, 1)


def diversity(images: Tensor) -> float:
    """Mean distance of two images of `[N, C, H, W]`, in [-1, 1], at 32×32: root mean square over channels and pixels."""
    flat = torch.nn.functional.adaptive_avg_pool2d(images.float(), (32, 32)).flatten(1)
    return float(torch.pdist(flat).mean() / math.sqrt(flat.shape[1])) if len(flat) > 1 else 0.0
