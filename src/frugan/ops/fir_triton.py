"""FIR resampling on a GPU as one Triton kernel: each output pixel is read, filtered and written once, in the image's own layout.

cuDNN runs a depthwise convolution of channels-last images in half precision by way of several reorderings; on an H100 that was
most of a training step. Triton comes with PyTorch for CUDA and ROCm on Linux. Where it cannot be used, `frugan.ops.fir` computes
the same by convolutions.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from frugan.ops.kernels import LAUNCH, usable_where

_BLOCK, _ROWS = 1024, 4
"""Outputs of a row that one program computes, and neighbouring rows, which share most of what they read."""


@cache
def _kernel() -> Any:
    """The kernel, made when it is first needed: importing Triton takes a second."""
    import triton  # pyright: ignore[reportMissingImports]
    import triton.language as tl  # pyright: ignore[reportMissingImports]

    @triton.jit
    def upfirdn(
        x, weight, y, channels, height, width, out_h, out_w, x_n, x_c, x_h, x_w, left, top, bands,
        up_y: tl.constexpr, up_x: tl.constexpr, down_y: tl.constexpr, down_x: tl.constexpr, taps_y: tl.constexpr,
        taps_x: tl.constexpr, rows: tl.constexpr, phase: tl.constexpr, last: tl.constexpr, wide: tl.constexpr,
        sums: tl.constexpr, block: tl.constexpr,
    ):  # fmt: skip  # pragma: no cover (runs on the device)
        plane, first = tl.program_id(0) // bands, (tl.program_id(0) % bands) * rows
        inner = tl.program_id(1) * block + tl.arange(0, block)
        if last:  # rows of an image: pixels, and their channels
            n, c, ox, line = plane, inner % channels, inner // channels, out_w * channels
        else:  # rows of a channel of an image: pixels
            n, c, ox, line = plane // channels, plane % channels, inner, out_w
        if wide:  # offsets beyond 31 bits
            n, plane = n.to(tl.int64), plane.to(tl.int64)
        start = x + n * x_n + c * x_c
        inside = inner < line
        total0 = tl.zeros((block,), dtype=sums)
        total1, total2, total3 = total0, total0, total0
        tap = tl.load(weight).to(sums)
        tap1, tap2, tap3, tap4, tap5, tap6 = tap, tap, tap, tap, tap, tap  # those of the last rows read
        for kx in tl.static_range(taps_x):
            px = ox * down_x + (kx - left)
            ix = px // up_x
            here_x = inside & (px >= 0) & (ix < width) & (ix * up_x == px)
            for i in tl.static_range((rows - 1) * down_y + taps_y):
                tap6, tap5, tap4, tap3, tap2, tap1 = tap5, tap4, tap3, tap2, tap1, tap
                if i < taps_y:
                    tap = tl.load(weight + (i * taps_x + kx)).to(sums)
                if phase < 0 or i % up_y == phase:  # else zeros were inserted here
                    py = first * down_y + (i - top)
                    iy = py // up_y
                    here = here_x & (py >= 0) & (iy < height) & (iy * up_y == py)
                    value = tl.load(start + iy * x_h + ix * x_w, mask=here, other=0.0).to(sums)
                    if i < taps_y:
                        total0 += value * tap
                    if rows == 4:
                        if i >= down_y and i < down_y + taps_y:
                            total1 += value * (tap1 if down_y == 1 else tap2)
                        if i >= 2 * down_y and i < 2 * down_y + taps_y:
                            total2 += value * (tap2 if down_y == 1 else tap4)
                        if i >= 3 * down_y:
                            total3 += value * (tap3 if down_y == 1 else tap6)
        at = y + (plane * out_h + first) * line + inner
        tl.store(at, total0.to(y.dtype.element_ty), mask=inside)
        if rows == 4:
            tl.store(at + line, total1.to(y.dtype.element_ty), mask=inside & (first + 1 < out_h))
            tl.store(at + 2 * line, total2.to(y.dtype.element_ty), mask=inside & (first + 2 < out_h))
            tl.store(at + 3 * line, total3.to(y.dtype.element_ty), mask=inside & (first + 3 < out_h))

    return upfirdn, {torch.float64: tl.float64}, tl.float32


def empty_result(x: Tensor, weight: Tensor, up: Sequence[int], down: Sequence[int], padding: Sequence[int]) -> Tensor:
    """Uninitialised memory for the result of `upfirdn` with the same arguments; channels-last where x is."""
    up_x, up_y = up
    down_x, down_y = down
    taps_y, taps_x = weight.shape
    left, right, top, bottom = padding
    n, channels, height, width = x.shape
    out_h = (height * up_y + top + bottom - taps_y) // down_y + 1
    out_w = (width * up_x + left + right - taps_x) // down_x + 1
    layout = torch.channels_last if is_channels_last(x) else torch.contiguous_format
    return torch.empty((n, channels, out_h, out_w), dtype=x.dtype, device=x.device, memory_format=layout)


def is_channels_last(x: Tensor) -> bool:
    """Whether the channels of a pixel are neighbours in memory. Images of one channel are in both layouts at once and
    count as contiguous: False.
    """
    return x.shape[1] > 1 and x.stride(1) == 1 and x.is_contiguous(memory_format=torch.channels_last)


def upfirdn(x: Tensor, weight: Tensor, up: Sequence[int], down: Sequence[int], padding: Sequence[int]) -> Tensor:
    """Zero-insertion, padding, correlation and decimation in one kernel; `frugan.ops.fir.upfirdn` describes the operation.

    Args:
        x: `[N, C, H, W]` on a GPU, any float dtype.
        weight: filter, `[taps_y, taps_x]`; correlated, not convolved.
        up, down: factors (x, y).
        padding: zeros at (left, right, top, bottom); negative numbers crop.

    Returns:
        The resampled images in x's dtype, channels-last where x is. Sums are in float32, for float64 in float64.
    """
    kernel, wider, usual = _kernel()
    y = empty_result(x, weight, up, down, padding)
    if y.numel() == 0:
        return y
    n, channels, height, width = x.shape
    out_h, out_w = y.shape[2:]
    last = is_channels_last(y)
    planes, inner = (n, out_w * channels) if last else (n * channels, out_w)
    (up_x, up_y), (down_x, down_y) = up, down
    rows = _ROWS if down_y <= 2 else 1
    bands = -(-out_h // rows)
    phase = padding[2] % up_y if rows * down_y % up_y == 0 else -1
    wide = max(x.numel(), y.numel()) >= 2**31
    block = min(_BLOCK, 1 << max(inner - 1, 1).bit_length())
    kernel[(planes * bands, -(-inner // block))](
        x, weight.contiguous(), y, channels, height, width, out_h, out_w, *x.stride(), padding[0], padding[2], bands,
        up_y, up_x, down_y, down_x, *weight.shape, rows, phase, last, wide, wider.get(x.dtype, usual), block, **LAUNCH,
    )  # fmt: skip
    return y


def _is_right(device: torch.device) -> bool:
    probe = torch.ones(1, 1, 2, 2, device=device)
    return bool(upfirdn(probe, probe[0, 0], (1, 1), (1, 1), (0, 0, 0, 0)).item() == 4)


usable = usable_where(_is_right, "FIR filters run without Triton here, which is several times slower")
