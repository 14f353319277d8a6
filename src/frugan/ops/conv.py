"""2-D convolutions with cheap second derivatives, for penalties on gradients.

PyTorch takes a second derivative with respect to a weight by a convolution with kernels as large as the image. But a
convolution and its gradients are bilinear, and each is the derivative of another: all can be computed as a first one is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from frugan.ops.operator import operator, transformed

if TYPE_CHECKING:
    from jaxtyping import Float


class InnerGradient:
    """One block of `image_gradients`. The convolutions made in it keep it, since their derivatives may run in another thread."""

    def __init__(self) -> None:
        self.active = True


_here = threading.local()  # .inner: the block that this thread is in, or None


def current() -> InnerGradient | None:
    """The block of `image_gradients` that this thread is in."""
    return getattr(_here, "inner", None)


@contextmanager
def image_gradients(inner: InnerGradient | None = None) -> Iterator[None]:
    """Around f(x) and its gradient by an image, where that is to be differentiated again.

    The weights' own gradients are left out there: those of built-in operations are, unless asked for, but an operation of
    one's own is not told. It holds for what this thread does, and for derivatives of that, in whatever thread they run; other
    threads are not touched. Given an active block, it is entered here too, and does not end here.
    """
    before = current()
    if inner is not None:
        _here.inner = inner if inner.active else before
        try:
            yield
        finally:
            _here.inner = before
        return
    made = _here.inner = InnerGradient()
    try:
        yield
    finally:
        made.active = False
        _here.inner = before


def conv2d(
    x: Float[Tensor, "N I H W"],
    weight: Float[Tensor, "O I kh kw"],
    bias: Float[Tensor, " O"] | None = None,
    *,
    stride: int = 1,
    padding: int = 0,
) -> Float[Tensor, "N O oh ow"]:
    """As `torch.nn.functional.conv2d`: x `[N, I, H, W]`, weight `[O, I, k_y, k_x]`, bias `[O]` → `[N, O, H', W']`."""
    if _built_in():
        return F.conv2d(x, weight, bias, stride=stride, padding=padding)
    return _convolution(x, weight, bias, stride, padding, False)


def conv_transpose2d(
    x: Float[Tensor, "N I H W"], weight: Float[Tensor, "I O kh kw"], *, stride: int = 1
) -> Float[Tensor, "N O oh ow"]:
    """As `torch.nn.functional.conv_transpose2d`: x `[N, I, H, W]`, weight `[I, O, k_y, k_x]` → `[N, O, H', W']`."""
    if _built_in():
        return F.conv_transpose2d(x, weight, stride=stride)
    return _convolution(x, weight, None, stride, 0, True)


def _built_in() -> bool:
    return transformed() or current() is None or not torch.is_grad_enabled()


def _how(stride: int, padding: int, transposed: bool) -> tuple[Any, ...]:
    """The further arguments of PyTorch's convolution."""
    return [stride] * 2, [padding] * 2, [1, 1], transposed, [0, 0], 1


def _forward(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int, transposed: bool) -> Tensor:
    return torch.ops.aten.convolution(x, weight, bias, *_how(stride, padding, transposed))


def _gradient(by: int) -> Callable[..., Tensor]:
    """By the image (0) or by the weight (1)."""

    def compute(up: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int, transposed: bool) -> Tensor:
        how, wanted = _how(stride, padding, transposed), [by == 0, by == 1, False]
        return torch.ops.aten.convolution_backward(up, x, weight, None, *how, wanted)[by]

    return compute


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, stride, padding, transposed = inputs
    ctx.save_for_backward(*tensors)
    ctx.how, ctx.inner = (stride, padding, transposed), current()


def _forward_backward(ctx: Any, up: Tensor) -> tuple[Tensor | None, ...]:
    (x, weight, _), (image, *parameters) = ctx.saved_tensors, ctx.needs_input_grad[:3]
    left_out = ctx.inner is not None and ctx.inner.active
    by_weight, by_bias = (needs and not left_out for needs in parameters)
    return (
        _image_gradient(up, x, weight, *ctx.how) if image else None,
        _weight_gradient(up, x, weight, *ctx.how) if by_weight else None,
        up.sum((0, 2, 3)) if by_bias else None,
        *[None] * 3,
    )


def _by_image_backward(ctx: Any, by: Tensor) -> tuple[Tensor | None, ...]:
    up, _, weight = ctx.saved_tensors
    for_weight = _weight_gradient(up, by, weight, *ctx.how) if ctx.needs_input_grad[2] else None
    return _convolution(by, weight, None, *ctx.how), None, for_weight, *[None] * 3


def _by_weight_backward(ctx: Any, by: Tensor) -> tuple[Tensor | None, ...]:
    up, x, _ = ctx.saved_tensors
    for_x = _image_gradient(up, x, by, *ctx.how) if ctx.needs_input_grad[1] else None
    return _convolution(x, by, None, *ctx.how), for_x, *[None] * 4


_convolution = operator("convolution", _forward, _forward_backward, _keep)
_image_gradient = operator("image_gradient", _gradient(0), _by_image_backward, _keep)
_weight_gradient = operator("weight_gradient", _gradient(1), _by_weight_backward, _keep)
