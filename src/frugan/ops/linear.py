"""Linear maps given together with their adjoints, differentiable any number of times.

The derivative of a linear map y = A·x maps a gradient g to Aᵀ·g, and the derivative of that is A again: nothing needs
to be kept of x.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from frugan.ops.operator import operator, transformed

Map = Callable[..., Tensor]


def linear(x: Tensor, forward: Map, adjoint: Map, *constants: Tensor) -> Tensor:
    """The result of a linear map of x, whose derivative is computed by the map's adjoint.

    Args:
        x: the map's input, a tensor of any shape.
        forward: `forward(x, *constants)` → A·x, linear in x.
        adjoint: `adjoint(gradient, *constants)` → Aᵀ·gradient, of x's shape.
        constants: tensors that both functions need; no gradient reaches them.

    Compiled code (a custom Function has no second derivative there in PyTorch 2.13) and the transforms of `torch.func`
    differentiate `forward` itself instead.
    """
    if torch.compiler.is_compiling() or transformed() or not x.requires_grad:
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


def linear_operator(name: str, compute: Map, shape: Map | None = None) -> Map:
    """A linear map of images and its adjoint as one PyTorch operator (`ops.operator`).

    Args:
        name: the operator's name, `frugan::name`.
        compute: `compute(x, constant, height, width, …, adjoint)`: the map of x or, if `adjoint`, its adjoint.
            `constant` is a tensor without gradient; `height` and `width` are the size of the map's inputs (of the
            adjoint's results); further numbers may follow.
        shape: as in `ops.operator.operator`.

    Returns:
        A function of the arguments of `compute`.
    """

    def keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, constant, *size, adjoint = inputs
        ctx.save_for_backward(constant)
        ctx.map = *size, not adjoint

    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return made(gradient, *ctx.saved_tensors, *ctx.map), *[None] * (len(ctx.map) + 1)

    made = operator(name, compute, backward, keep, shape)
    return made
