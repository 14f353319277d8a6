"""Linear maps that come with their adjoints, as differentiable as wanted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from frugan.ops.operator import operator, transformed

Map = Callable[..., Tensor]


def linear(x: Tensor, forward: Map, adjoint: Map, *constants: Tensor) -> Tensor:
    """`forward(x, *constants)`, a linear map of x; its derivative is `adjoint(gradient, *constants)`, and that one's is the map.

    Nothing of x is kept, and the constants have no gradient. In compiled regions, where there is no second derivative of a
    custom Function (PyTorch 2.13), and under transforms of `torch.func` PyTorch differentiates `forward` itself.
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
    """A linear map of images that comes with its adjoint: `compute(x, constant, height, width, …, adjoint)`.

    The constant has no gradient; `height` and `width` are those of the map's inputs; what follows are numbers.
    """

    def keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, constant, *size, adjoint = inputs
        ctx.save_for_backward(constant)
        ctx.map = *size, not adjoint

    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return made(gradient, *ctx.saved_tensors, *ctx.map), *[None] * (len(ctx.map) + 1)

    made = operator(name, compute, backward, keep, shape)
    return made
