"""The operations after a convolution in one pass: scale, noise, bias, leaky ReLU of slope 0.2, clamp.

    y = clamp(leaky_relu(x·scale + noise + bias), ±clamp)

On a GPU with Triton one kernel computes y, and another one all four gradients. Elsewhere PyTorch's operations compute y
in x's memory; x is the fresh result of a convolution, which nothing else needs. A gradient that will be differentiated
again (R1, path length) is computed by PyTorch's operations everywhere.
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
    if torch.is_grad_enabled():
        found = _by_operations(up, x, scale, y.detach(), ctx.clamp, by_scale, by_noise, by_bias)
    else:
        found = epilogue_triton.backward(up, x, scale, y, ctx.clamp, by_scale, by_noise, by_bias)
    for_x, *others = found
    return for_x, *(None if t is None else t.to(dtype) for t, dtype in zip(others, ctx.dtypes)), None


def _by_operations(
    up: Tensor,
    x: Tensor | None,
    scale: Tensor | None,
    y: Tensor,
    clamp: float,
    by_scale: bool,
    by_noise: bool,
    by_bias: bool,
) -> tuple[Tensor | None, ...]:
    """The gradients of x, scale, noise and bias by operations that autograd can differentiate again.

    The arguments are those of `epilogue_triton.backward`.
    """
    wide = torch.promote_types(up.dtype, torch.float32)
    inner = torch.ops.aten.leaky_relu_backward(up, y, SLOPE, True)
    if clamp != float("inf"):
        inner = torch.where(y.abs() < clamp, inner, 0)
    for_x = inner if scale is None else inner * scale.to(inner.dtype)[:, :, None, None]
    for_scale = (inner * x).sum((2, 3), dtype=wide) if by_scale and x is not None else None
    for_noise = inner.sum(1, keepdim=True, dtype=wide) if by_noise else None
    for_bias = inner.sum((0, 2, 3), dtype=wide) if by_bias else None
    return for_x, for_scale, for_noise, for_bias


_epilogue = operator("epilogue", _compute, _backward, _keep, _shape)
