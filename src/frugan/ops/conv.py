"""2-D convolutions with cheap second derivatives, for penalties on gradients.

PyTorch takes a second derivative with respect to a weight by a convolution with kernels as large as the image. But a
convolution and its gradients are bilinear, and each is the derivative of another: all can be computed as a first one is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

_to_be_differentiated = False


@contextmanager
def image_gradients() -> Iterator[None]:
    """Around f(x) and its gradient by an image, where that is to be differentiated again.

    The weights' own gradients are left out there: those of built-in operations are, unless asked for, but an operation of
    one's own is not told.
    """
    global _to_be_differentiated
    before, _to_be_differentiated = _to_be_differentiated, True
    try:
        yield
    finally:
        _to_be_differentiated = before


def conv2d(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, stride: int = 1, padding: int = 0) -> Tensor:
    """As `torch.nn.functional.conv2d`: x `[N, I, H, W]`, weight `[O, I, k_y, k_x]`, bias `[O]` → `[N, O, H', W']`."""
    if _built_in():
        return F.conv2d(x, weight, bias, stride=stride, padding=padding)
    return _Convolution.apply(x, weight, bias, _how(stride, padding))


def conv_transpose2d(x: Tensor, weight: Tensor, *, stride: int = 1) -> Tensor:
    """As `torch.nn.functional.conv_transpose2d`: x `[N, I, H, W]`, weight `[I, O, k_y, k_x]` → `[N, O, H', W']`."""
    if _built_in():
        return F.conv_transpose2d(x, weight, stride=stride)
    return _Convolution.apply(x, weight, None, _how(stride, transposed=True))


def _built_in() -> bool:
    # In a compiled region a custom Function inside `torch.func.grad` has no second derivative (PyTorch 2.13).
    transformed = torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()
    return transformed or not (_to_be_differentiated and torch.is_grad_enabled())


class _How(NamedTuple):
    """The further arguments of PyTorch's convolution."""

    stride: list[int]
    padding: list[int]
    dilation: list[int]
    transposed: bool
    output_padding: list[int]
    groups: int


def _how(stride: int, padding: int = 0, *, transposed: bool = False) -> _How:
    return _How([stride] * 2, [padding] * 2, [1, 1], transposed, [0, 0], 1)


class _Convolution(torch.autograd.Function):
    """(image, weight, bias) → output; bilinear but for the bias."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, how: _How) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.how = how
        return torch.ops.aten.convolution(x, weight, bias, *how)

    @staticmethod
    def backward(ctx: Any, *up: Tensor) -> tuple[Tensor | None, ...]:
        image, *parameters = ctx.needs_input_grad[:3]
        wanted = [image, *(needs and not _to_be_differentiated for needs in parameters)]
        return *_Gradients.apply(up[0], *ctx.saved_tensors, wanted, ctx.how), None


class _Gradients(torch.autograd.Function):
    """(output's gradient, image, weight) → the gradients of image, weight and bias that are wanted."""

    @staticmethod
    def forward(ctx: Any, up: Tensor, x: Tensor, weight: Tensor, wanted: list[bool], how: _How) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(up, x, weight)
        ctx.how = how
        return torch.ops.aten.convolution_backward(up, x, weight, [up.shape[1]], *how, wanted)

    @staticmethod
    def backward(ctx: Any, *by: Tensor | None) -> tuple[Tensor | None, ...]:
        (by_x, by_weight, by_bias), (up, x, weight), how = by, ctx.saved_tensors, ctx.how
        for_up = for_x = for_weight = None
        if by_x is not None:
            for_up = _Convolution.apply(by_x, weight, None, how)
            if ctx.needs_input_grad[2]:
                for_weight = _Gradients.apply(up, by_x, weight, [False, True, False], how)[1]
        if by_weight is not None:
            along = _Convolution.apply(x, by_weight, None, how)
            for_up = along if for_up is None else for_up + along
            if ctx.needs_input_grad[1]:
                for_x = _Gradients.apply(up, x, by_weight, [True, False, False], how)[0]
        if by_bias is not None:
            along = by_bias[:, None, None].expand_as(up)
            for_up = along if for_up is None else for_up + along
        return for_up, for_x, for_weight, None, None
