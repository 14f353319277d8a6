"""Linear maps that come with their adjoints, as differentiable as wanted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Map = Callable[..., Tensor]


def linear(x: Tensor, forward: Map, adjoint: Map, *constants: Tensor) -> Tensor:
    """`forward(x, *constants)`, a linear map of x; its derivative is `adjoint(gradient, *constants)`, and that one's is the map.

    Nothing of x is kept, and the constants have no gradient. In compiled regions, where a custom Function inside
    `torch.func.grad` has no second derivative (PyTorch 2.13), and under transforms of `torch.func` PyTorch
    differentiates `forward` itself.
    """
    transformed = torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()
    if transformed or not x.requires_grad:
        return forward(x, *constants)
    return _Linear.apply(x, forward, adjoint, *constants)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, forward: Map, adjoint: Map, *constants: Tensor) -> Tensor:
        ctx.maps = adjoint, forward
        ctx.save_for_backward(*constants)
        return forward(x, *constants)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        constants = ctx.saved_tensors
        return linear(gradients[0], *ctx.maps, *constants), None, None, *[None] * len(constants)
