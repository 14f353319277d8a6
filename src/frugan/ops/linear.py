"""Linear maps that come with their adjoints, as differentiable as wanted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Map = Callable[..., Tensor]


def linear(x: Tensor, forward: Map, adjoint: Map, *constants: Tensor) -> Tensor:
    """`forward(x, *constants)`, a linear map of x. Its derivative is `adjoint(gradient, *constants)`, whose derivative it is in turn.

    Nothing of x is kept, and the constants have no gradient. Not for compiled regions: a custom Function inside
    `torch.func.grad` has no second derivative there (PyTorch 2.13).
    """
    return _Linear.apply(x, forward, adjoint, *constants) if x.requires_grad else forward(x, *constants)


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
