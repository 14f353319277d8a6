"""Images and affine matrices to warp them by."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def affine(n: int, *, angle: float = 0.0, zoom: float = 1.0, shift: tuple[float, float] = (0.0, 0.0)) -> Tensor:
    c, s = zoom * math.cos(angle), zoom * math.sin(angle)
    return torch.tensor([[c, -s, shift[0]], [s, c, shift[1]], [0, 0, 1]]).repeat(n, 1, 1)


def images(*shape: int, device: torch.device | None = None) -> Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1).to(device)
