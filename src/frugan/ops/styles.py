"""Feature maps times styles: scaling of channels, and projection to a few maps with weights of each image's own.

On a GPU with Triton one kernel computes each, and another one both gradients in one pass over the feature maps, where
PyTorch's operations take three. Elsewhere PyTorch's operations compute both.

Both are bilinear. Their gradients G(u, x, s), for a gradient u of the result y(x, s), have second derivatives among the
same: for gradients (g, h) of the two, the gradient of u is y(g, s) + y(x, h), and those of x and s are G(u, g, h).
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


def _keep(ctx: Any, inputs: tuple[Tensor, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs)


def _scaled_backward(ctx: Any, up: Tensor) -> tuple[Tensor, Tensor]:
    x, scale = ctx.saved_tensors
    for_x, for_scale = _scaled_gradients(up, x, scale)
    return for_x, for_scale.to(scale.dtype)


def _differentiate_scaled(up: Tensor, x: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    return styles_triton.scaled_backward(up, x, scale)


def _gradients_like(up: Tensor, x: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    for_x = torch.empty_like(x, memory_format=torch.channels_last)
    return for_x, other.new_empty(other.shape, dtype=torch.float32)


def _scaled_gradients_backward(ctx: Any, g: Tensor, g_scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    up, x, scale = ctx.saved_tensors
    for_x, for_scale = _scaled_gradients(up, g, g_scale)
    return _scaled(g, scale) + _scaled(x, g_scale), for_x, for_scale.to(scale.dtype)


def _project(x: Tensor, weight: Tensor) -> Tensor:
    return styles_triton.projected(x, weight)


def _maps(x: Tensor, weight: Tensor) -> Tensor:
    n, _, h, w = x.shape
    return x.new_empty(n, h, w, weight.shape[1], dtype=torch.float32).permute(0, 3, 1, 2)


def _projected_backward(ctx: Any, up: Tensor) -> tuple[Tensor, Tensor]:
    x, weight = ctx.saved_tensors
    for_x, for_weight = _projected_gradients(up, x, weight)
    return for_x, for_weight.to(weight.dtype)


def _differentiate_projected(up: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    return styles_triton.projected_backward(up, x, weight)


def _projected_gradients_backward(ctx: Any, g: Tensor, g_weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    up, x, weight = ctx.saved_tensors
    for_x, for_weight = _projected_gradients(up, g, g_weight)
    return _projected(g, weight) + _projected(x, g_weight), for_x, for_weight.to(weight.dtype)


_scaled = operator("scaled", _scale, _scaled_backward, _keep, _like)
_scaled_gradients = operator(
    "scaled_gradients", _differentiate_scaled, _scaled_gradients_backward, _keep, _gradients_like
)
_projected = operator("projected", _project, _projected_backward, _keep, _maps)
_projected_gradients = operator(
    "projected_gradients", _differentiate_projected, _projected_gradients_backward, _keep, _gradients_like
)
