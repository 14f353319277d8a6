"""Rotations of images by quarter turns, chosen for each image by a one-hot tensor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float


def quarter_turns(x: Float[Tensor, "N C S S"], chosen: Float[Tensor, "N 4"]) -> Float[Tensor, "N C S S"]:
    """Images `[N, C, S, S]`, each turned counter-clockwise by the quarter turns that `chosen` `[N, 4]` has a 1 for."""
    turned = torch.stack([x.rot90(k, (2, 3)) for k in range(4)], dim=1)
    return (turned * chosen.to(x.dtype)[:, :, None, None, None]).sum(dim=1)
