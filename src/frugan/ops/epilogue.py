"""The operations after a convolution in one pass: scale, noise, bias, leaky ReLU of slope 0.2, clamp.

    y = clamp(leaky_relu(x·scale + noise + bias), ±clamp)

On a GPU with Triton one kernel computes y, and another one all four gradients. Elsewhere PyTorch's operations compute y
in x's memory; x is the fresh result of a convolution, which nothing else needs.

Second derivatives (R1, path length) need one kernel more. Let m be the slope of leaky ReLU and clamp, 1, 0.2 or 0, which
is read from y. The gradients of x and scale for a gradient u of y are G(u, x, scale) = (m·u·scale, Σ m·u·x). For gradients
(g, h) of those two, the gradient of u is m·(g·scale + x·h), the tangent of y, and the gradients of x and scale are
G(u, g, h). The gradients of the tangent are again given by G.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from frugan.ops import epilogue_triton
from frugan.ops.kernels import fused
from frugan.ops.operator import operator

if TYPE_CHECKING:
    from jaxtyping import Float

SLOPE = 0.2


def epilogue(
    x: Float[Tensor, "N C H W"],
    scale: Float[Tensor, "N C"] | None,
    noise: Float[Tensor, "... H W"] | None,
    bias: Float[Tensor, " C"],
    clamp: float | None,
) -> Float[Tensor, "N C H W"]:
    """y = clamp(leaky_relu(x·scale + noise + bias), ±clamp); x may be overwritten.

    Args:
        x: `[N, C, H, W]`, any float dtype.
        scale: `[N, C]`, or None for 1.
        noise: `[N, 1, H, W]`, or a shape that expands to it, or None.
        bias: `[C]`.
        clamp: the largest modulus of the result, or None for no limit.

    Returns:
        `[N, C, H, W]` in x's dtype.
    """
    if fused(x, epilogue_triton.usable):
        noise = None if noise is None else noise.expand(x.shape[0], 1, *x.shape[2:])
        return _epilogue(x, scale, noise, bias, float("inf") if clamp is None else clamp)
    if scale is not None:
        x = x * scale.to(x.dtype)[:, :, None, None]
    if noise is not None:
        x.add_(noise.to(x.dtype))
    x.add_(bias.to(x.dtype)[:, None, None])
    x = F.leaky_relu(x, SLOPE, inplace=True)
    return x if clamp is None else x.clamp(-clamp, clamp)


def _compute(x: Tensor, scale: Tensor | None, noise: Tensor | None, bias: Tensor, clamp: float) -> Tensor:
    return epilogue_triton.forward(x, scale, noise, bias, clamp)


def _shape(x: Tensor, scale: Tensor | None, noise: Tensor | None, bias: Tensor, clamp: float) -> Tensor:
    return torch.empty_like(x, memory_format=torch.channels_last)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, scale, noise, bias, ctx.clamp = inputs
    ctx.dtypes = scale.dtype if scale is not None else None, noise.dtype if noise is not None else None, bias.dtype
    ctx.save_for_backward(x if scale is not None else None, scale, output)


def _backward(ctx: Any, up: Tensor) -> tuple[Tensor | None, ...]:
    x, scale, y = ctx.saved_tensors
    _, by_scale, by_noise, by_bias, _ = ctx.needs_input_grad
    for_x, *others = _gradients(up, x, scale, y.detach(), ctx.clamp, by_noise, by_bias)
    wanted = by_scale, by_noise, by_bias
    return for_x, *(t.to(dtype) if by else None for t, by, dtype in zip(others, wanted, ctx.dtypes)), None


def _differentiate(
    up: Tensor, x: Tensor | None, scale: Tensor | None, y: Tensor, clamp: float, by_noise: bool, by_bias: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    for_x, *others = epilogue_triton.backward(up, x, scale, y, clamp, by_noise, by_bias)
    for_scale, for_noise, for_bias = (up.new_empty(0) if t is None else t for t in others)
    return for_x, for_scale, for_noise, for_bias


def _shapes(
    up: Tensor, x: Tensor | None, scale: Tensor | None, y: Tensor, clamp: float, by_noise: bool, by_bias: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    n, channels, h, w = y.shape
    shapes = ((n, channels), scale is not None), ((n, 1, h, w), by_noise), ((channels,), by_bias)
    for_scale, for_noise, for_bias = (
        up.new_empty(shape if there else 0, dtype=torch.float32) for shape, there in shapes
    )
    return torch.empty_like(up, memory_format=torch.channels_last), for_scale, for_noise, for_bias


def _keep_gradients(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.clamp, _, _ = inputs
    ctx.save_for_backward(*tensors)
    ctx.set_materialize_grads(False)


def _gradients_backward(
    ctx: Any, g: Tensor | None, g_scale: Tensor | None, g_noise: Tensor | None, g_bias: Tensor | None
) -> tuple[Tensor | None, ...]:
    up, x, scale, y = ctx.saved_tensors
    rest = y, ctx.clamp, False, False
    g = torch.zeros_like(up) if g is None else g
    for_x = for_scale = None
    if scale is None:
        for_up = _gradients(g, None, None, *rest)[0]
    else:
        g_scale = torch.zeros_like(scale) if g_scale is None else g_scale
        for_up = _tangent(g, scale, x, g_scale, y, ctx.clamp)
        for_x, for_scale, *_ = _gradients(up, g, g_scale, *rest)
        for_scale = for_scale.to(scale.dtype)
    for t in (g_noise, None if g_bias is None else g_bias[:, None, None]):  # which no penalty differentiates
        if t is not None:
            for_up = for_up + _gradients(t.to(up.dtype).expand_as(up), None, None, *rest)[0]
    return for_up, for_x, for_scale, *[None] * 4


def _move(x: Tensor, scale: Tensor, other: Tensor, by: Tensor, y: Tensor, clamp: float) -> Tensor:
    return epilogue_triton.tangent(x, scale, other, by, y, clamp)


def _moved(x: Tensor, scale: Tensor, other: Tensor, by: Tensor, y: Tensor, clamp: float) -> Tensor:
    return torch.empty_like(y, memory_format=torch.channels_last)


def _keep_tangent(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.clamp = inputs
    ctx.save_for_backward(*tensors)


def _tangent_backward(ctx: Any, up: Tensor) -> tuple[Tensor | None, ...]:
    *pairs, y = ctx.saved_tensors
    found = []
    for x, scale in (pairs[:2], pairs[2:]):
        for_x, for_scale, *_ = _gradients(up, x, scale, y, ctx.clamp, False, False)
        found += [for_x, for_scale.to(scale.dtype)]
    return *found, None, None


_epilogue = operator("epilogue", _compute, _backward, _keep, _shape)
_gradients = operator("epilogue_gradients", _differentiate, _gradients_backward, _keep_gradients, _shapes)
_tangent = operator("epilogue_tangent", _move, _tangent_backward, _keep_tangent, _moved)
