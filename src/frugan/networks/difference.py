"""Networks as differences from a parent: a tuned generator's change of weights, in half precision or of low rank.

difference.safetensors    for each weight that differs: its difference as float16, or two factors of it, `NAME.left`, `NAME.right`
config.json               the generator's configuration, and under "difference" the parent's path and hash
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from frugan.checks import check_number
from frugan.errors import FruganError

FILE = "difference.safetensors"


def make_difference(
    parent: Mapping[str, Tensor], child: Mapping[str, Tensor], rank: int | None = None
) -> dict[str, Tensor]:
    """The difference of two networks' weights, float16, which `apply_difference` adds to the parent.

    Args:
        parent, child: state dicts of the same shapes.
        rank: weights, as matrices `[O, rest]` of a higher rank, become a product of two factors of this rank with the
            least squared error (truncated SVD); None keeps the whole difference.

    Raises `FruganError` where the difference exceeds half precision.
    """
    check_number("rank", rank, at_least=1, whole=True)
    found: dict[str, Tensor] = {}
    for name, value in child.items():
        change = (value.detach().float() - parent[name].detach().float()).cpu()
        if not change.any():
            continue
        matrix = change.flatten(1) if change.ndim > 1 else change[:, None] if change.ndim else change[None, None]
        if rank is None or min(matrix.shape) * rank == 0 or rank * sum(matrix.shape) >= matrix.numel():
            found[name] = change.half()
            continue
        u, s, v = torch.linalg.svd(matrix, full_matrices=False)
        root = s[:rank].sqrt()
        found |= {f"{name}.left": (u[:, :rank] * root).half(), f"{name}.right": (root[:, None] * v[:rank]).half()}
    if any(not t.isfinite().all() for t in found.values()):
        raise FruganError(
            "the tuned weights are too far from their parent's for half precision; tune with a smaller rate"
        )
    return found


def apply_difference(parent: Mapping[str, Tensor], difference: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The child's state dict. Raises `FruganError` for a difference that does not fit the parent."""
    state = {k: v.clone() for k, v in parent.items()}
    for name, value in difference.items():
        base = name.removesuffix(".left").removesuffix(".right")
        if base not in state:
            raise FruganError(f"the difference holds {base}, which its parent does not have")
        if name.endswith(".right"):
            continue
        try:
            change = value.float() @ difference[f"{base}.right"].float() if name.endswith(".left") else value.float()
            state[base] = state[base] + change.reshape(state[base].shape)
        except (RuntimeError, KeyError) as error:
            raise FruganError(f"the difference of {base} does not fit its parent's weight") from error
    return state
