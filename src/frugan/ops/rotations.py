"""Rotations of images by quarter turns, chosen for each image by a one-hot tensor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float


def quarter_turns(x: Float[Tensor, "N C S S"], chosen: Float[Tensor, "N 4"]) -> Float[Tensor, "N C S S"]:
    """Images rotated counter-clockwise by 0, 90, 180 or 270 degrees.

    Args:
        x: square images `[N, C, S, S]`.
        chosen: one-hot `[N, 4]`: the number of quarter turns of each image.
    """
    turned = torch.stack([x.rot90(k, (2, 3)) for k in range(4)], dim=1)
    return (turned * chosen.to(x.dtype)[:, :, None, None, None]).sum(dim=1)
