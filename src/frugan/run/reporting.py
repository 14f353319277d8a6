"""Sample grids of a run: their shape, their labels, and how varied they are."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def grid_shape(resolution: tuple[int, int]) -> tuple[int, int]:
    """(columns, rows) of a sample sheet: about 1000 pixels wide, 12 × 8 at most."""
    h, w = resolution
    return min(max(1024 // w, 4), 12), min(max(768 // h, 3), 8)


def grid_labels(labels: Tensor, columns: int, rows: int) -> Tensor | None:
    """Labels `[columns·rows, K]` for a sheet with one class a column, or numbers from left to right, from training labels
    `[N, K]`; None without labels."""
    if not labels.shape[1]:
        return None
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
