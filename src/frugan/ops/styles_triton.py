"""Triton kernels of `frugan.ops.styles`, for channels-last feature maps on a GPU. Sums are in float32."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from frugan.ops.kernels import LAUNCH, usable_where

_BLOCK, _TILE, _TILES = 1024, 4096, 8
"""Elements of one program that scales; elements in a tile of the other kernels, which holds all channels of its pixels, and
tiles that one program of `scaled_backward` works through."""


@cache
def _kernels() -> tuple[Any, ...]:
    """The kernels, made when they are first needed: importing Triton takes a second."""
    import triton  # pyright: ignore[reportMissingImports]
    import triton.language as tl  # pyright: ignore[reportMissingImports]

    @triton.jit
    def scaled(
        x, scale, y, total, pixels, channels, huge: tl.constexpr, block: tl.constexpr
    ):  # fmt: skip  # pragma: no cover (runs on the device)
        first = tl.program_id(0)
        if huge:  # offsets beyond 31 bits
            first = first.to(tl.int64)
        at = first * block + tl.arange(0, block)
        inside = at < total
        factor = tl.load(scale + (at // channels // pixels) * channels + at % channels, mask=inside, other=0.0)
        value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32) * factor.to(tl.float32)
        tl.store(y + at, value.to(y.dtype.element_ty), mask=inside)

    @triton.jit
    def scaled_backward(
        up, x, scale, for_x, for_scale, pixels, channels, parts,
        wide: tl.constexpr, tall: tl.constexpr, tiles: tl.constexpr,
    ):  # fmt: skip  # pragma: no cover (runs on the device)
        part, n = tl.program_id(0), tl.program_id(1)
        c = tl.arange(0, wide)
        there = c < channels
        factor = tl.load(scale + n * channels + c, mask=there, other=0.0).to(tl.float32)
        sums = tl.zeros((wide,), dtype=tl.float32)
        image = n.to(tl.int64) * pixels
        for i in range(tiles):
            pixel = (part * tiles + i) * tall + tl.arange(0, tall)
            mask = (pixel < pixels)[:, None] & there[None, :]
            at = (image + pixel)[:, None] * channels + c[None, :]
            gradient = tl.load(up + at, mask=mask, other=0.0).to(tl.float32)
            tl.store(for_x + at, (gradient * factor[None, :]).to(for_x.dtype.element_ty), mask=mask)
            sums += tl.sum(gradient * tl.load(x + at, mask=mask, other=0.0).to(tl.float32), axis=0)
        tl.store(for_scale + (n * parts + part) * channels + c, sums, mask=there)

    @triton.jit
    def projected(
        x, weight, y, pixels, channels, maps: tl.constexpr, wide: tl.constexpr, tall: tl.constexpr
    ):  # fmt: skip  # pragma: no cover (runs on the device)
        n = tl.program_id(1)
        c = tl.arange(0, wide)
        there = c < channels
        pixel = tl.program_id(0) * tall + tl.arange(0, tall)
        image = n.to(tl.int64) * pixels
        mask = (pixel < pixels)[:, None] & there[None, :]
        value = tl.load(x + (image + pixel)[:, None] * channels + c[None, :], mask=mask, other=0.0).to(tl.float32)
        for k in tl.static_range(maps):
            row = tl.load(weight + (n * maps + k) * channels + c, mask=there, other=0.0).to(tl.float32)
            tl.store(y + (image + pixel) * maps + k, tl.sum(value * row[None, :], axis=1), mask=pixel < pixels)

    @triton.jit
    def projected_backward(
        up, x, weight, for_x, for_weight, pixels, channels, parts,
        maps: tl.constexpr, wide: tl.constexpr, tall: tl.constexpr,
    ):  # fmt: skip  # pragma: no cover (runs on the device)
        part, n = tl.program_id(0), tl.program_id(1)
        c = tl.arange(0, wide)
        there = c < channels
        pixel = part * tall + tl.arange(0, tall)
        image = n.to(tl.int64) * pixels
        mask = (pixel < pixels)[:, None] & there[None, :]
        at = (image + pixel)[:, None] * channels + c[None, :]
        total = tl.zeros((tall, wide), dtype=tl.float32)
        value = tl.load(x + at, mask=mask, other=0.0).to(tl.float32)
        for k in tl.static_range(maps):
            gradient = tl.load(up + (image + pixel) * maps + k, mask=pixel < pixels, other=0.0).to(tl.float32)
            row = tl.load(weight + (n * maps + k) * channels + c, mask=there, other=0.0).to(tl.float32)
            total += gradient[:, None] * row[None, :]
            sums = tl.sum(gradient[:, None] * value, axis=0)
            tl.store(for_weight + ((n * parts + part) * maps + k) * channels + c, sums, mask=there)
        tl.store(for_x + at, total.to(for_x.dtype.element_ty), mask=mask)

    return scaled, scaled_backward, projected, projected_backward


def scaled(x: Tensor, scale: Tensor) -> Tensor:
    """`ops.styles.scaled` by a Triton kernel.

    Args:
        x: `[N, C, H, W]` on a GPU.
        scale: `[N, C]`.

    Returns:
        `[N, C, H, W]`, channels-last, in x's dtype. Raises `ValueError` where shapes do not match.
    """
    x, _, channels, pixels = _checked(x, scale, x.shape[:2])
    y = torch.empty_like(x)
    huge = x.numel() + _BLOCK > 2**31
    grid = (-(-x.numel() // _BLOCK),)
    _kernels()[0][grid](x, scale.contiguous(), y, x.numel(), pixels, channels, huge, _BLOCK, **LAUNCH)
    return y


def scaled_backward(up: Tensor, x: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of `scaled`: up·scale, and Σ up·x over pixels.

    Args:
        up: the gradient of the result, `[N, C, H, W]`.
        x, scale: as given to `scaled`.

    Returns:
        The gradient of x in `up`'s dtype, that of scale in float32.
    """
    x, n, channels, pixels = _checked(x, scale, x.shape[:2])
    up = up.contiguous(memory_format=torch.channels_last)
    wide, tall = _tile(channels)
    parts = -(-pixels // (tall * _TILES))
    for_x = torch.empty_like(up)
    sums = torch.empty(n, parts, channels, dtype=torch.float32, device=x.device)
    _kernels()[1][(parts, n)](
        up, x, scale.contiguous(), for_x, sums, pixels, channels, parts, wide, tall, _TILES, **LAUNCH
    )
    return for_x, sums.sum(1)


def projected(x: Tensor, weight: Tensor) -> Tensor:
    """`ops.styles.projected` by a Triton kernel.

    Args:
        x: `[N, C, H, W]` on a GPU.
        weight: `[N, K, C]`.

    Returns:
        float32 `[N, K, H, W]`, channels-last. Raises `ValueError` where shapes do not match.
    """
    maps = weight.shape[1]
    x, n, channels, pixels = _checked(x, weight, (x.shape[0], maps, x.shape[1]))
    y = _maps(x, maps)
    wide, tall = _tile(channels)
    _kernels()[2][(-(-pixels // tall), n)](x, weight.contiguous(), y, pixels, channels, maps, wide, tall, **LAUNCH)
    return y


def projected_backward(up: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of `projected`.

    Args:
        up: the gradient of the result, `[N, K, H, W]`.
        x, weight: as given to `projected`.

    Returns:
        The gradient of x in its dtype, that of weight in float32.
    """
    maps = weight.shape[1]
    x, n, channels, pixels = _checked(x, weight, (x.shape[0], maps, x.shape[1]))
    up = _maps(x, maps).copy_(up)
    wide, tall = _tile(channels)
    parts = -(-pixels // tall)
    for_x = torch.empty_like(x)
    sums = torch.empty(n, parts, maps, channels, dtype=torch.float32, device=x.device)
    _kernels()[3][(parts, n)](
        up, x, weight.contiguous(), for_x, sums, pixels, channels, parts, maps, wide, tall, **LAUNCH
    )
    return for_x, sums.sum(1)


def _checked(x: Tensor, other: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, int, int, int]:
    """x channels-last, N, C and the number of pixels; `ValueError` where `other` has another shape than `shape`."""
    if other.shape != shape:
        raise ValueError(f"feature maps {tuple(x.shape)} with {tuple(other.shape)}: {shape} is needed")
    n, channels, h, w = x.shape
    return x.contiguous(memory_format=torch.channels_last), n, channels, h * w


def _maps(x: Tensor, maps: int) -> Tensor:
    """Memory for `[N, maps, H, W]` float32 whose maps are neighbours at each pixel."""
    n, _, h, w = x.shape
    return torch.empty(n, h, w, maps, dtype=torch.float32, device=x.device).permute(0, 3, 1, 2)


def _tile(channels: int) -> tuple[int, int]:
    """(channels, pixels) of a tile, both powers of two."""
    wide = 1 << max(channels - 1, 1).bit_length()
    return wide, max(_TILE // wide, 1)


def _is_right(device: torch.device) -> bool:
    x = torch.ones(1, 2, 2, 2, device=device).contiguous(memory_format=torch.channels_last)
    scale, weight = x[:, :, 0, 0], x[:, :, :, 0]
    found = [scaled(x, scale), *scaled_backward(x, x, scale), projected(x, weight)]
    found += projected_backward(x, x, weight)
    return [float(t.sum()) for t in found] == [8, 8, 8, 16, 16, 16]


usable = usable_where(_is_right, "styles are applied without Triton here, which is slower")
