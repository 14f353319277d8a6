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

from frugan.ops.kernels import runs

_BLOCK = 1024
"""Outputs of one program."""


@cache
def _kernel() -> Any:
    """The kernel, made when it is first needed: importing Triton takes a second."""
    import triton  # pyright: ignore[reportMissingImports]
    import triton.language as tl  # pyright: ignore[reportMissingImports]

    @triton.jit
    def upfirdn(
        x, weight, y, channels, height, width, out_h, out_w, x_n, x_c, x_h, x_w, left, top, up_y, up_x, down_y, down_x,
        taps_y: tl.constexpr, taps_x: tl.constexpr, last: tl.constexpr, wide: tl.constexpr, sums: tl.constexpr,
        block: tl.constexpr,
    ):  # fmt: skip  # pragma: no cover (runs on the device)
        row = tl.program_id(0)
        inner = tl.program_id(1) * block + tl.arange(0, block)
        if last:  # a row of an image: pixels, and their channels
            n, oy = row // out_h, row % out_h
            c, ox = inner % channels, inner // channels
            inside, at = inner < out_w * channels, out_w * channels
        else:  # a channel of an image: rows of pixels
            n, c = row // channels, row % channels
            oy, ox = inner // out_w, inner % out_w
            inside, at = inner < out_h * out_w, out_h * out_w
        if wide:  # offsets beyond 31 bits
            n, row = n.to(tl.int64), row.to(tl.int64)
        start = x + n * x_n + c * x_c
        total = tl.zeros((block,), dtype=sums)
        for ky in tl.static_range(taps_y):
            py = oy * down_y + (ky - top)
            iy = py // up_y
            here_y = (py >= 0) & (iy < height) & (iy * up_y == py)
            for kx in tl.static_range(taps_x):
                px = ox * down_x + (kx - left)
                ix = px // up_x
                here = inside & here_y & (px >= 0) & (ix < width) & (ix * up_x == px)
                value = tl.load(start + iy * x_h + ix * x_w, mask=here, other=0.0)
                total += value.to(sums) * tl.load(weight + (ky * taps_x + kx)).to(sums)
        tl.store(y + row * at + inner, total.to(y.dtype.element_ty), mask=inside)

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
    rows, inner = (n * out_h, out_w * channels) if last else (n * channels, out_h * out_w)
    wide = max(x.numel(), y.numel()) >= 2**31
    block = min(_BLOCK, 1 << max(inner - 1, 1).bit_length())
    kernel[(rows, -(-inner // block))](
        x, weight.contiguous(), y, channels, height, width, out_h, out_w, *x.stride(), padding[0], padding[2], up[1], up[0],
        down[1], down[0], *weight.shape, last, wide, wider.get(x.dtype, usual), block,
    )  # fmt: skip
    return y


def usable(device: torch.device) -> bool:
    """Whether the kernel runs on that GPU; if not, a warning says why, once."""
    return _usable(device)


@cache
def _usable(device: torch.device) -> bool:
    return runs(_is_right, device, "FIR filters run without Triton here, which is several times slower")


def _is_right(device: torch.device) -> bool:
    probe = torch.ones(1, 1, 2, 2, device=device)
    return bool(upfirdn(probe, probe[0, 0], (1, 1), (1, 1), (0, 0, 0, 0)).item() == 4)
