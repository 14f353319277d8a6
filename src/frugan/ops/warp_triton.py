"""Triton kernels of `frugan.ops.warp`, for images on a GPU: sparse linear maps along an axis, and the positions of samples.

A map is given by the non-zero entries of its matrix's rows, each row padded to as many as the longest has. The adjoint is the
same kernel with the transposed matrix: no atomic additions, so that results repeat bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from frugan.ops.kernels import LAUNCH, usable_where

_TILES = {-1: (4, 128), -2: (16, 256)}
"""By axis, (rows, pixels) of what one program computes at most: neighbouring rows share what they read."""

_BLOCK = 1024
"""Coordinates that one program computes."""


@cache
def _kernels() -> tuple[Any, ...]:
    """The kernels, made when they are first needed: importing Triton takes a second.

    Those of the maps have no masks: where a tile would reach beyond the last row or pixel it is moved back instead, and what
    it shares with its neighbour is computed and written twice.
    """
    import triton  # pyright: ignore[reportMissingImports]
    import triton.language as tl  # pyright: ignore[reportMissingImports]

    @triton.jit
    def along_rows(
        x, y, columns, weights, rows,
        inputs: tl.constexpr, outputs: tl.constexpr, entries: tl.constexpr, tall: tl.constexpr, wide: tl.constexpr,
    ):  # fmt: skip  # pragma: no cover (runs on the device)
        blocks: tl.constexpr = (outputs + wide - 1) // wide
        row = tl.minimum(tl.program_id(0) // blocks * tall, rows - tall).to(tl.int64)
        out = tl.minimum(tl.program_id(0) % blocks * wide, outputs - wide) + tl.arange(0, wide)
        source = x + row * inputs
        total0 = tl.zeros((wide,), dtype=tl.float32)
        total1, total2, total3 = total0, total0, total0
        for k in tl.static_range(entries):
            weight = tl.load(weights + k * outputs + out)
            at = source + tl.load(columns + k * outputs + out)
            total0 += tl.load(at).to(tl.float32) * weight
            if tall > 1:
                total1 += tl.load(at + inputs).to(tl.float32) * weight
            if tall > 2:
                total2 += tl.load(at + 2 * inputs).to(tl.float32) * weight
                total3 += tl.load(at + 3 * inputs).to(tl.float32) * weight
        target = y + row * outputs + out
        tl.store(target, total0.to(y.dtype.element_ty))
        if tall > 1:
            tl.store(target + outputs, total1.to(y.dtype.element_ty))
        if tall > 2:
            tl.store(target + 2 * outputs, total2.to(y.dtype.element_ty))
            tl.store(target + 3 * outputs, total3.to(y.dtype.element_ty))

    @triton.jit
    def along_columns(
        x, y, columns, weights,
        inputs: tl.constexpr, outputs: tl.constexpr, width: tl.constexpr, entries: tl.constexpr,
        tall: tl.constexpr, wide: tl.constexpr,
    ):  # fmt: skip  # pragma: no cover (runs on the device)
        blocks: tl.constexpr = (width + wide - 1) // wide
        bands: tl.constexpr = (outputs + tall - 1) // tall
        tile = tl.program_id(0) // blocks
        plane = (tile // bands).to(tl.int64)
        out = tl.minimum(tile % bands * tall, outputs - tall) + tl.arange(0, tall)
        pixel = tl.minimum(tl.program_id(0) % blocks * wide, width - wide) + tl.arange(0, wide)
        source = x + plane * (inputs * width) + pixel[None, :]
        total = tl.zeros((tall, wide), dtype=tl.float32)
        for k in tl.static_range(entries):
            column = tl.load(columns + k * outputs + out)
            weight = tl.load(weights + k * outputs + out)
            total += tl.load(source + column[:, None] * width).to(tl.float32) * weight[:, None]
        target = y + plane * (outputs * width) + out[:, None] * width + pixel[None, :]
        tl.store(target, total.to(y.dtype.element_ty))

    @triton.jit
    def positions(
        inverse, grid, high, wide, period_y, period_x, start_y, start_x, reach_y, reach_x, blocks, block: tl.constexpr
    ):  # fmt: skip  # pragma: no cover (runs on the device)
        n = (tl.program_id(0) // blocks).to(tl.int64)
        at = tl.program_id(0) % blocks * block + tl.arange(0, block)
        upright = at % 2 == 1  # y follows x
        x = (at // 2 % wide - wide // 2 + 1) * 0.5
        y = (at // 2 // wide - high // 2 + 1) * 0.5
        line = inverse + n * 9 + at % 2 * 3
        pixels = x * tl.load(line) + (y * tl.load(line + 1) + tl.load(line + 2))
        turns = pixels / tl.where(upright, period_y, period_x) + tl.where(upright, start_y, start_x)
        place = (turns - tl.floor(turns)) * 2 - 1
        place = tl.where(tl.abs(pixels) > tl.where(upright, reach_y, reach_x), 2.0, place)
        tl.store(grid + n * (high * wide * 2) + at, place, mask=at < high * wide * 2)

    return along_rows, along_columns, positions


def mapped(x: Tensor, columns: Tensor, weights: Tensor, axis: int) -> Tensor:
    """A sparse linear map along an axis of images, in one kernel.

    Args:
        x: `[N, C, H, W]` on a GPU, float32, bfloat16 or float16.
        columns: int32 `[K, outputs]`, contiguous: the inputs that each output takes, each less than the size of the axis.
        weights: float32 `[K, outputs]`, contiguous: their weights.
        axis: −2 or −1.

    Returns:
        `[N, C, outputs, W]` for axis −2 or `[N, C, H, outputs]`, contiguous, in x's dtype. Sums are in float32.
    """
    x = x.contiguous()
    y = empty_result(x, columns, axis)
    if y.numel() == 0:
        return y
    n, channels, h, w = x.shape
    entries, outputs = columns.shape
    planes, rows, width = (1, n * channels * h, outputs) if axis == -1 else (n * channels, outputs, w)
    tall, wide = (1 << (min(most, count).bit_length() - 1) for most, count in zip(_TILES[axis], (rows, width)))
    grid = (planes * -(-rows // tall) * -(-width // wide),)
    options = LAUNCH | {"num_warps": min(max(tall * wide // 128, 1), 4)}
    along_rows, along_columns, _ = _kernels()
    if axis == -1:
        along_rows[grid](x, y, columns, weights, rows, w, outputs, entries, tall, wide, **options)
    else:
        along_columns[grid](x, y, columns, weights, h, outputs, w, entries, tall, wide, **options)
    return y


def empty_result(x: Tensor, columns: Tensor, axis: int) -> Tensor:
    """Uninitialised memory for the result of `mapped` with the same arguments."""
    shape = list(x.shape)
    shape[axis] = columns.shape[1]
    return x.new_empty(shape)


def positions(inverse: Tensor, size: tuple[int, int], axes: Sequence[tuple[float, float, float]]) -> Tensor:
    """The positions at which the upsampled extension of each image is sampled, in one kernel.

    Args:
        inverse: `[N, 3, 3]` on a GPU, as in `AffineWarp`.
        size: lengths, even numbers, of `periodic.sample_places` along (y, x).
        axes: `periodic.folding` of (y, x).

    Returns:
        float32 `[N, *size, 2]` (x, y): fractions of a period, scaled to [−1, 1); beyond the extension 2.
    """
    grid = torch.empty(len(inverse), *size, 2, dtype=torch.float32, device=inverse.device)
    blocks = -(-2 * size[0] * size[1] // _BLOCK)
    numbers = [float(number) for pair in zip(*axes) for number in pair]
    if len(grid):
        inverse = inverse.float().contiguous()
        _kernels()[2][(len(inverse) * blocks,)](inverse, grid, *size, *numbers, blocks, _BLOCK, **LAUNCH)
    return grid


def _is_right(device: torch.device) -> bool:
    x = torch.arange(16.0, device=device).view(1, 1, 4, 4)
    columns = torch.tensor([[3, 2, 1, 0]], dtype=torch.int32, device=device)
    mirrored = all(
        torch.equal(mapped(x, columns, torch.ones_like(x[0, 0, :1]), axis), x.flip(axis)) for axis in (-1, -2)
    )
    grid = positions(torch.eye(3, device=device)[None], (2, 2), [(2.0, 0.25, 1.0)] * 2)
    return mirrored and float(grid.sum()) == -2


usable = usable_where(_is_right, "images are warped without Triton here, which is several times slower")
