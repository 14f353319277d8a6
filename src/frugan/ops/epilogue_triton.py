"""Triton kernels of `frugan.ops.epilogue`, for channels-last feature maps on a GPU. Sums are in float32."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from frugan.ops.kernels import LAUNCH, usable_where

_BLOCK, _TILE, _TILES = 1024, 4096, 8
"""Elements that a program of the forward and tangent kernels computes; elements in a tile of the backward kernel, and tiles that
one of its programs works through."""


@cache
def _kernels() -> tuple[Any, ...]:
    """The kernels, made when they are first needed: importing Triton takes a second."""
    import triton  # pyright: ignore[reportMissingImports]
    import triton.language as tl  # pyright: ignore[reportMissingImports]

    @triton.jit
    def forward(
        x, scale, noise, bias, y, total, pixels, channels, clamp,
        has_scale: tl.constexpr, has_noise: tl.constexpr, has_clamp: tl.constexpr, huge: tl.constexpr, block: tl.constexpr,
    ):  # fmt: skip  # pragma: no cover (runs on the device)
        first = tl.program_id(0)
        if huge:  # offsets beyond 31 bits
            first = first.to(tl.int64)
        at = first * block + tl.arange(0, block)
        inside = at < total
        c, pixel = at % channels, at // channels
        value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
        if has_scale:
            value *= tl.load(scale + (pixel // pixels) * channels + c, mask=inside, other=0.0).to(tl.float32)
        if has_noise:
            value += tl.load(noise + pixel, mask=inside, other=0.0).to(tl.float32)
        value += tl.load(bias + c, mask=inside, other=0.0).to(tl.float32)
        value = tl.where(value > 0, value, value * 0.2)
        if has_clamp:
            value = tl.minimum(tl.maximum(value, -clamp), clamp)
        tl.store(y + at, value.to(y.dtype.element_ty), mask=inside)

    @triton.jit
    def backward(
        up, x, scale, y, for_x, for_scale, for_noise, for_bias, pixels, channels, parts, clamp,
        has_scale: tl.constexpr, by_noise: tl.constexpr, has_clamp: tl.constexpr,
        wide: tl.constexpr, tall: tl.constexpr, tiles: tl.constexpr,
    ):  # fmt: skip  # pragma: no cover (runs on the device)
        part, n = tl.program_id(0), tl.program_id(1)
        c = tl.arange(0, wide)
        there = c < channels
        sum_scale = tl.zeros((wide,), dtype=tl.float32)
        sum_bias = tl.zeros((wide,), dtype=tl.float32)
        factor = tl.zeros((wide,), dtype=tl.float32) + 1.0
        if has_scale:
            factor = tl.load(scale + n * channels + c, mask=there, other=0.0).to(tl.float32)
        image = n.to(tl.int64) * pixels
        for i in range(tiles):
            pixel = (part * tiles + i) * tall + tl.arange(0, tall)
            mask = (pixel < pixels)[:, None] & there[None, :]
            at = (image + pixel)[:, None] * channels + c[None, :]
            gradient = tl.load(up + at, mask=mask, other=0.0).to(tl.float32)
            result = tl.load(y + at, mask=mask, other=0.0).to(tl.float32)
            gradient = tl.where(result > 0, gradient, gradient * 0.2)
            if has_clamp:
                gradient = tl.where(tl.abs(result) < clamp, gradient, 0.0)
            tl.store(for_x + at, (gradient * factor[None, :]).to(for_x.dtype.element_ty), mask=mask)
            sum_bias += tl.sum(gradient, axis=0)
            if has_scale:
                sum_scale += tl.sum(gradient * tl.load(x + at, mask=mask, other=0.0).to(tl.float32), axis=0)
            if by_noise:
                tl.store(for_noise + image + pixel, tl.sum(gradient, axis=1), mask=pixel < pixels)
        row = (n * parts + part) * channels + c
        tl.store(for_bias + row, sum_bias, mask=there)
        if has_scale:
            tl.store(for_scale + row, sum_scale, mask=there)

    @triton.jit
    def tangent(
        x, scale, other, by, result, y, total, pixels, channels, clamp,
        has_clamp: tl.constexpr, huge: tl.constexpr, block: tl.constexpr,
    ):  # fmt: skip  # pragma: no cover (runs on the device)
        first = tl.program_id(0)
        if huge:  # offsets beyond 31 bits
            first = first.to(tl.int64)
        at = first * block + tl.arange(0, block)
        inside = at < total
        row = (at // channels // pixels) * channels + at % channels
        value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
        value *= tl.load(scale + row, mask=inside, other=0.0).to(tl.float32)
        factor = tl.load(by + row, mask=inside, other=0.0).to(tl.float32)
        value += tl.load(other + at, mask=inside, other=0.0).to(tl.float32) * factor
        kept = tl.load(result + at, mask=inside, other=0.0).to(tl.float32)
        value = tl.where(kept > 0, value, value * 0.2)
        if has_clamp:
            value = tl.where(tl.abs(kept) < clamp, value, 0.0)
        tl.store(y + at, value.to(y.dtype.element_ty), mask=inside)

    return forward, backward, tangent


def forward(x: Tensor, scale: Tensor | None, noise: Tensor | None, bias: Tensor, clamp: float) -> Tensor:
    """`ops.epilogue` by a Triton kernel.

    Args:
        x: `[N, C, H, W]` on a GPU.
        scale: `[N, C]`, or None.
        noise: `[N, 1, H, W]`, or None.
        bias: `[C]`.
        clamp: the largest modulus of the result; infinite for no limit.

    Returns:
        `[N, C, H, W]`, channels-last, in x's dtype. Raises `ValueError` where shapes do not match, as the kernel would
        read memory beyond them.
    """
    x = x.contiguous(memory_format=torch.channels_last)
    y = torch.empty_like(x)
    n, channels, h, w = x.shape
    expected = ((scale, (n, channels)), (noise, (n, 1, h, w)), (bias, (channels,)))
    if any(t is not None and t.shape != shape for t, shape in expected):
        raise ValueError(
            f"feature maps {tuple(x.shape)} with {[None if t is None else tuple(t.shape) for t, _ in expected]}"
        )
    _kernels()[0][(-(-x.numel() // _BLOCK),)](
        x, _or(scale, bias), _or(noise, bias), bias.contiguous(), y, x.numel(), h * w, channels, _limit(clamp, y.dtype),
        scale is not None, noise is not None, clamp != float("inf"), x.numel() + _BLOCK > 2**31, _BLOCK, **LAUNCH,
    )  # fmt: skip
    return y


def backward(
    up: Tensor,
    x: Tensor | None,
    scale: Tensor | None,
    y: Tensor,
    clamp: float,
    by_noise: bool,
    by_bias: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """The gradients of `forward`.

    Args:
        up: the gradient of the result, `[N, C, H, W]`.
        x: the input, needed where there is a scale, else None.
        scale: `[N, C]`, or None.
        y: the result, from which the slope and the clamp are read.
        clamp: as in `forward`.
        by_noise, by_bias: which gradients are wanted besides those of x and scale.

    Returns:
        Gradients of x (in `up`'s dtype), of scale, noise and bias (float32); None for one that is not wanted, or without a
        scale.
    """
    up, y = (t.contiguous(memory_format=torch.channels_last) for t in (up, y))
    n, channels, h, w = y.shape
    wide = 1 << max(channels - 1, 1).bit_length()
    tall = max(_TILE // wide, 1)
    parts = -(-h * w // (tall * _TILES))
    for_x = torch.empty_like(up)
    sums = torch.empty(2, n, parts, channels, dtype=torch.float32, device=up.device)
    for_noise = torch.empty(n, 1, h, w, dtype=torch.float32, device=up.device) if by_noise else None
    x = up if x is None else x.contiguous(memory_format=torch.channels_last)
    _kernels()[1][(parts, n)](
        up, x, _or(scale, sums), y, for_x, sums[0], _or(for_noise, sums), sums[1], h * w, channels, parts, _limit(clamp, y.dtype),
        scale is not None, by_noise, clamp != float("inf"), wide, tall, _TILES, **LAUNCH,
    )  # fmt: skip
    for_scale = None if scale is None else sums[0].sum(1)
    return for_x, for_scale, for_noise, sums[1].sum((0, 1)) if by_bias else None


def tangent(x: Tensor, scale: Tensor, other: Tensor, by: Tensor, y: Tensor, clamp: float) -> Tensor:
    """m·(x·scale + other·by), m being the slope of leaky ReLU and clamp at y.

    Args:
        x, other: `[N, C, H, W]` on a GPU.
        scale, by: `[N, C]`.
        y: the result of `forward`, `[N, C, H, W]`.
        clamp: as in `forward`.

    Returns:
        `[N, C, H, W]`, channels-last, in y's dtype. Raises `ValueError` where shapes do not match.
    """
    if not x.shape == other.shape == y.shape or not scale.shape == by.shape == y.shape[:2]:
        raise ValueError(
            f"feature maps {[tuple(t.shape) for t in (x, other, y)]} with {tuple(scale.shape)}, {tuple(by.shape)}"
        )
    x, other, y = (t.contiguous(memory_format=torch.channels_last) for t in (x, other, y))
    found = torch.empty_like(y)
    total, (_, channels, h, w) = y.numel(), y.shape
    _kernels()[2][(-(-total // _BLOCK),)](
        x, scale.contiguous(), other, by.contiguous(), y, found, total, h * w, channels, _limit(clamp, y.dtype),
        clamp != float("inf"), total + _BLOCK > 2**31, _BLOCK, **LAUNCH,
    )  # fmt: skip
    return found


def _or(tensor: Tensor | None, stand_in: Tensor) -> Tensor:
    """The tensor; without one `stand_in`, since the kernel takes a pointer in any case, from which it then does not read."""
    return stand_in if tensor is None else tensor.contiguous()


def _limit(clamp: float, dtype: torch.dtype) -> float:
    """The clamp as results of that dtype have it, which the derivatives compare with."""
    return 0.0 if clamp == float("inf") else torch.tensor(clamp, device="cpu").to(dtype).item()


def _is_right(device: torch.device) -> bool:
    x = torch.ones(1, 2, 2, 2, device=device).contiguous(memory_format=torch.channels_last)
    scale = x[:, :, 0, 0]
    y = forward(x, scale, x[:, :1], scale[0], 2.5)
    found = y, backward(x, x, scale, y, 2.5, True, True)[0], tangent(x, scale, x, scale, x, 2.5)
    return [float(t.sum()) for t in found] == [8 * 2.5, 0, 16]


usable = usable_where(_is_right, "activations run without Triton here, which is slower")
