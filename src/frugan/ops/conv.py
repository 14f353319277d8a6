"""2-D convolutions with cheap second derivatives, for penalties on gradients.

For an image x, a weight w and a gradient u of the result let L(u, x, w) = ⟨u, x ∗ w⟩. The convolution is x ∗ w = ∂L/∂u, and
its backward pass computes the gradients ∂L/∂x and ∂L/∂w. Since L is linear in each argument, each of the three has
derivatives among the three: a second derivative costs as much as a first one. PyTorch's own second derivative with
respect to a weight is a convolution whose kernel is as large as the image.
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
    """The state of one `image_gradients` block: whether execution is still within it.

    Convolutions made in the block keep a reference to it, since autograd may compute their derivatives in another
    thread.
    """

    def __init__(self) -> None:
        self.active = True


_here = threading.local()  # .inner: the block that this thread is in, or None


def current() -> InnerGradient | None:
    """The `image_gradients` block that this thread is in, or None."""
    return getattr(_here, "inner", None)


@contextmanager
def image_gradients(inner: InnerGradient | None = None) -> Iterator[None]:
    """Context for a gradient with respect to images that is itself to be differentiated, as R1 and path length
    regularisation need.

    Within it a backward pass through `conv2d` and `conv_transpose2d` leaves out the gradients of weights and biases.
    For PyTorch's own operations autograd omits what was not asked for; a custom operation always computes all of its
    gradients, unless it is told here. It applies to the operations of this thread and to their derivatives, in
    whichever thread these run; other threads are unaffected.

    Args:
        inner: a block to enter again (in the thread that differentiates, say), which does not end here; None begins a
            new one.
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
    """2-D convolution as `torch.nn.functional.conv2d`, with cheap second derivatives within `image_gradients`.

    Args:
        x: `[N, I, H, W]`, any float dtype.
        weight: `[O, I, k_y, k_x]`, in x's dtype.
        bias: `[O]`, in x's dtype, or None.
        stride, padding: the same along both axes.

    Returns:
        `[N, O, (H + 2·padding − k_y) // stride + 1, (W + 2·padding − k_x) // stride + 1]`
    """
    if _built_in():
        return F.conv2d(x, weight, bias, stride=stride, padding=padding)
    return _convolution(x, weight, bias, stride, padding, False)


def conv_transpose2d(
    x: Float[Tensor, "N I H W"], weight: Float[Tensor, "I O kh kw"], *, stride: int = 1
) -> Float[Tensor, "N O oh ow"]:
    """Transposed 2-D convolution as `torch.nn.functional.conv_transpose2d`, with cheap second derivatives within
    `image_gradients`.

    Args:
        x: `[N, I, H, W]`, any float dtype.
        weight: `[I, O, k_y, k_x]`, in x's dtype.
        stride: the same along both axes.

    Returns:
        `[N, O, (H − 1)·stride + k_y, (W − 1)·stride + k_x]`
    """
    if _built_in():
        return F.conv_transpose2d(x, weight, stride=stride)
    return _convolution(x, weight, None, stride, 0, True)


def _built_in() -> bool:
    """Whether PyTorch's own convolution serves: outside of `image_gradients`, where no gradient is taken, and under
    `torch.func`, where a custom operator has no derivative.
    """
    return transformed() or current() is None or not torch.is_grad_enabled()


def _how(stride: int, padding: int, transposed: bool) -> tuple[Any, ...]:
    """The further arguments of `aten.convolution`: stride, padding, dilation, transposed, output padding, groups."""
    return [stride] * 2, [padding] * 2, [1, 1], transposed, [0, 0], 1


def _forward(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int, transposed: bool) -> Tensor:
    return torch.ops.aten.convolution(x, weight, bias, *_how(stride, padding, transposed))


def _gradient(by: int) -> Callable[..., Tensor]:
    """A function that computes ∂L/∂x (`by` 0) or ∂L/∂w (`by` 1) from `up` (u), x and w."""

    def compute(up: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int, transposed: bool) -> Tensor:
        how, wanted = _how(stride, padding, transposed), [by == 0, by == 1, False]
        return torch.ops.aten.convolution_backward(up, x, weight, None, *how, wanted)[by]

    return compute


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    """Saves the operator's tensors and numbers, and the `image_gradients` block that it was called in."""
    *tensors, stride, padding, transposed = inputs
    ctx.save_for_backward(*tensors)
    ctx.how, ctx.inner = (stride, padding, transposed), current()


def _forward_backward(ctx: Any, up: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients of x ∗ w + bias; of x only, while the `image_gradients` block of the forward pass lasts."""
    x, weight, _ = ctx.saved_tensors
    by_image, by_weight, by_bias = ctx.needs_input_grad[:3]
    of_parameters = ctx.inner is None or not ctx.inner.active
    return (
        _image_gradient(up, x, weight, *ctx.how) if by_image else None,
        _weight_gradient(up, x, weight, *ctx.how) if by_weight and of_parameters else None,
        up.sum((0, 2, 3)) if by_bias and of_parameters else None,
        *[None] * 3,
    )


def _image_gradient_backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients of ∂L/∂x by u and w: those of ⟨g, ∂L/∂x⟩ = L(u, g, w), with g in x's place."""
    up, _, weight = ctx.saved_tensors
    for_weight = _weight_gradient(up, g, weight, *ctx.how) if ctx.needs_input_grad[2] else None
    return _convolution(g, weight, None, *ctx.how), None, for_weight, *[None] * 3


def _weight_gradient_backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients of ∂L/∂w by u and x: those of ⟨g, ∂L/∂w⟩ = L(u, x, g), with g in w's place."""
    up, x, _ = ctx.saved_tensors
    for_x = _image_gradient(up, x, g, *ctx.how) if ctx.needs_input_grad[1] else None
    return _convolution(x, g, None, *ctx.how), for_x, *[None] * 4


_convolution = operator("convolution", _forward, _forward_backward, _keep)
_image_gradient = operator("image_gradient", _gradient(0), _image_gradient_backward, _keep)
_weight_gradient = operator("weight_gradient", _gradient(1), _weight_gradient_backward, _keep)
