"""Linear maps that come with their adjoints, as differentiable as wanted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Map = Callable[..., Tensor]


def linear(x: Tensor, forward: Map, adjoint: Map, *constants: Tensor) -> Tensor:
    """`forward(x, *constants)`, a linear map of x; its derivative is `adjoint(gradient, *constants)`, and that one's is the map.

    Nothing of x is kept, and the constants have no gradient. In compiled regions and under transforms of `torch.func`
    PyTorch differentiates `forward` itself: there a custom Function has no second derivative (PyTorch 2.13).
    """
    transformed = torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()
    if transformed or not x.requires_grad:
        return forward(x, *constants)
    return _Linear.apply(x, forward, adjoint, *constants)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, forward: Map, adjoint: Map, *constants: Tensor) -> Tensor:
        return forward(x, *constants)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.map, ctx.adjoint, *constants = inputs
        ctx.save_for_backward(*constants)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        constants = ctx.saved_tensors
        return linear(gradients[0], ctx.adjoint, ctx.map, *constants), None, None, *[None] * len(constants)
