"""Feature maps times styles: scaling of channels, and projection to a few maps with weights of each image's own.

On a GPU with Triton one kernel computes each, and another one both gradients in one pass over the feature maps, where
PyTorch's operations take three. Elsewhere PyTorch's operations compute both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from frugan.ops import styles_triton
from frugan.ops.kernels import fused
from frugan.ops.operator import operator

if TYPE_CHECKING:
    from jaxtyping import Float

MOST_MAPS = 8
"""Most maps that `projected` computes in one kernel."""


def scaled(x: Float[Tensor, "N C H W"], scale: Float[Tensor, "N C"]) -> Float[Tensor, "N C H W"]:
    """x · scale, by image and channel.

    Args:
        x: `[N, C, H, W]`, any float dtype.
        scale: `[N, C]`.

    Returns:
        `[N, C, H, W]` in x's dtype.
    """
    if fused(x, styles_triton.usable):
        return _scaled(x, scale)
    return x * scale.to(x.dtype)[:, :, None, None]


def projects(x: Tensor, maps: int) -> bool:
    """Whether `projected` serves for feature maps of x's dtype and device, and so many maps."""
    return maps <= MOST_MAPS and fused(x, styles_triton.usable)


def projected(x: Float[Tensor, "N C H W"], weight: Float[Tensor, "N K C"]) -> Float[Tensor, "N K H W"]:
    """A 1×1 convolution with weights of each image's own: y_k = Σ_c weight_kc · x_c. Only where `projects` says so.

    Args:
        x: `[N, C, H, W]`.
        weight: `[N, K, C]`, float32.

    Returns:
        float32 `[N, K, H, W]`.
    """
    return _projected(x, weight)


def _scale(x: Tensor, scale: Tensor) -> Tensor:
    return styles_triton.scaled(x, scale)


def _like(x: Tensor, scale: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.channels_last)


def _keep(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _scaled_backward(ctx: Any, up: Tensor) -> tuple[Tensor | None, ...]:
    x, scale = ctx.saved_tensors
    by_x, by_scale = ctx.needs_input_grad
    if torch.is_grad_enabled():  # to be differentiated again
        return _scaled(up, scale) if by_x else None, _products(up, x).to(scale.dtype) if by_scale else None
    for_x, for_scale = styles_triton.scaled_backward(up, x, scale, by_x, by_scale)
    return for_x, None if for_scale is None else for_scale.to(scale.dtype)


def _multiply(a: Tensor, b: Tensor) -> Tensor:
    found = styles_triton.scaled_backward(a, b, b[:, :, 0, 0], False, True)[1]
    assert found is not None
    return found


def _sums(a: Tensor, b: Tensor) -> Tensor:
    return a.new_empty(a.shape[:2], dtype=torch.float32)


def _products_backward(ctx: Any, up: Tensor) -> tuple[Tensor | None, ...]:
    a, b = ctx.saved_tensors
    by_a, by_b = ctx.needs_input_grad
    return _scaled(b, up).to(a.dtype) if by_a else None, _scaled(a, up).to(b.dtype) if by_b else None


def _project(x: Tensor, weight: Tensor) -> Tensor:
    return styles_triton.projected(x, weight)


def _maps(x: Tensor, weight: Tensor) -> Tensor:
    n, _, h, w = x.shape
    return x.new_empty(n, h, w, weight.shape[1], dtype=torch.float32).permute(0, 3, 1, 2)


def _projected_backward(ctx: Any, up: Tensor) -> tuple[Tensor | None, ...]:
    x, weight = ctx.saved_tensors
    by_x, by_weight = ctx.needs_input_grad
    if torch.is_grad_enabled():
        return _by_operations(up, x, weight, by_x, by_weight)
    for_x, for_weight = styles_triton.projected_backward(up, x, weight, by_x, by_weight)
    return for_x, None if for_weight is None else for_weight.to(weight.dtype)


def _by_operations(
    up: Tensor, x: Tensor, weight: Tensor, by_x: bool, by_weight: bool
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of `projected` by operations that autograd can differentiate again.

    The arguments are those of `styles_triton.projected_backward`.
    """
    pixels = up.to(x.dtype).permute(0, 2, 3, 1).flatten(1, 2)  # [N, H·W, K]
    for_x = for_weight = None
    if by_x:
        for_x = (pixels @ weight.to(x.dtype)).unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)
    if by_weight:
        for_weight = (pixels.transpose(1, 2) @ x.permute(0, 2, 3, 1).flatten(1, 2)).to(weight.dtype)
    return for_x, for_weight


_scaled = operator("scaled", _scale, _scaled_backward, _keep, _like)
_products = operator("products", _multiply, _products_backward, _keep, _sums)
_projected = operator("projected", _project, _projected_backward, _keep, _maps)
