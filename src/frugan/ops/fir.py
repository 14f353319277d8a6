"""FIR resampling of images: zero-insertion, filtering and decimation in one operation.

A filter is a float tensor, `[taps]` (separable: the same on both axes) or `[taps_y, taps_x]`. Filtering is true
convolution: the filter is mirrored as it slides, unless `flip` is set. Outside the image there are zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from frugan.ops import fir_triton
from frugan.ops.conv import conv2d, conv_transpose2d
from frugan.ops.linear import linear
from frugan.ops.operator import operator, transformed
from frugan.ops.tiling import Tile, extend

if TYPE_CHECKING:
    from jaxtyping import Float


def normalized_filter(taps: Sequence[float] | Tensor) -> Tensor:
    """Filter taps → float32 2-D filter with unit sum; 1-D taps become their outer product."""
    f = torch.as_tensor(taps, dtype=torch.float32)
    if f.ndim == 1:
        f = torch.outer(f, f)
    return f / f.sum()


def upfirdn(
    x: Tensor,
    f: Tensor,
    *,
    up: int | tuple[int, int] = 1,
    down: int | tuple[int, int] = 1,
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    flip: bool = False,
    gain: float = 1.0,
) -> Tensor:
    """Insert `up − 1` zeros after every pixel, pad, convolve with `f`, keep every `down`-th pixel.

    Args:
        x: `[N, C, H, W]`, any float dtype.
        f: filter, `[taps]` or `[taps_y, taps_x]`.
        up, down: factors, one number or (x, y).
        padding: zeros to add to the zero-inserted image at (left, right, top, bottom); negative numbers crop.
        flip: correlate instead of convolving.
        gain: factor on the result.

    Returns:
        `[N, C, (H·up_y + top + bottom − taps_y) // down_y + 1, …]`, in x's dtype.
    """
    up = (up, up) if isinstance(up, int) else up
    down = (down, down) if isinstance(down, int) else down
    f = torch.outer(f, f) if f.ndim == 1 else f
    weight = f if gain == 1 else f * gain
    weight = weight if flip else weight.flip(0, 1)
    if _in_one_kernel(x) and not f.requires_grad:  # in any dtype
        return _in_one(x, weight, list(up), list(down), list(padding))
    weight = weight.to(x.dtype)
    if f.requires_grad:
        return _upfirdn(x, weight, up, down, padding)
    # PyTorch's own derivative would keep x for the gradient of the filter, which is not needed here, and a second
    # derivative would compute that gradient for each channel.
    forward = partial(_upfirdn, up=up, down=down, padding=padding)
    adjoint = partial(_adjoint, up=up, down=down, padding=padding, size=x.shape[2:])
    return linear(x, forward, adjoint, weight)


def _in_one_kernel(x: Tensor) -> bool:
    """Whether the Triton kernel filters x, as it does on GPUs that run it, but for exports and under `torch.func`."""
    return x.is_cuda and not transformed() and not torch.compiler.is_exporting() and fir_triton.usable(x.device)


def _adjoint(
    y: Tensor,
    weight: Tensor,
    up: tuple[int, int],
    down: tuple[int, int],
    padding: tuple[int, int, int, int],
    size: torch.Size,
) -> Tensor:
    """The adjoint of `_upfirdn` for images of `size` (H, W): a resampling in which `up` and `down` change places and the
    filter is mirrored.
    """
    return _upfirdn(y, weight.flip(0, 1), down, up, _adjoint_padding(y, weight, up, down, padding, size))


def _adjoint_padding(
    y: Tensor, weight: Tensor, up: Sequence[int], down: Sequence[int], padding: Sequence[int], size: Sequence[int]
) -> tuple[int, int, int, int]:
    """The padding of the adjoint, at (left, right, top, bottom).

    Along an axis y[o] = Σ_k f[k] · x↑[o·down + k − left], x↑ being x with zeros inserted. In the adjoint with the mirrored
    filter, tap k therefore reads y↑[i·up + k − (taps − 1 − left)]; the other end is padded so that `size` pixels result.
    """
    h, w = size
    out_h, out_w = y.shape[2:]
    taps_y, taps_x = weight.shape
    left, _, top, _ = padding
    right = w * up[0] - out_w * down[0] + left - up[0] + 1
    bottom = h * up[1] - out_h * down[1] + top - up[1] + 1
    return taps_x - 1 - left, right, taps_y - 1 - top, bottom


def _resampled(x: Tensor, weight: Tensor, up: list[int], down: list[int], padding: list[int]) -> Tensor:
    return fir_triton.upfirdn(x, weight, up, down, padding)


def _resampled_shape(x: Tensor, weight: Tensor, up: list[int], down: list[int], padding: list[int]) -> Tensor:
    return fir_triton.empty_result(x, weight, up, down, padding)


def _resampled_inputs(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, *ctx.how = inputs
    ctx.size = x.shape[2:]
    ctx.save_for_backward(weight)


def _resampled_backward(ctx: Any, y: Tensor) -> tuple[Tensor | None, ...]:
    (weight,) = ctx.saved_tensors
    up, down, padding = ctx.how
    back = _adjoint_padding(y, weight, up, down, padding, ctx.size)
    return _in_one(y, weight.flip(0, 1), down, up, list(back)), None, None, None, None


_in_one = operator("upfirdn", _resampled, _resampled_backward, _resampled_inputs, _resampled_shape)


def _upfirdn(
    x: Tensor, weight: Tensor, up: tuple[int, int], down: tuple[int, int], padding: tuple[int, int, int, int]
) -> Tensor:
    """Zero-insertion, padding, correlation with `weight` `[taps_y, taps_x]` and decimation by PyTorch's convolutions.

    `weight` has x's dtype, in which everything is computed: `torch.autocast` is switched off, since it would give the
    backward pass a gradient of another dtype than the weight's.
    """
    if torch.is_autocast_enabled(x.device.type):
        with torch.autocast(x.device.type, enabled=False):
            return _upfirdn(x, weight, up, down, padding)
    up_x, up_y = up
    down_x, down_y = down
    taps_y, taps_x = weight.shape
    channels = x.shape[1]
    left, right, top, bottom = padding

    if x.device.type == "cpu" and (up_x, up_y) != (1, 1):  # less to write than by a transposed convolution
        n, _, h, w = x.shape
        last = torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
        rows, columns = h * up_y + max(top, 0) + max(bottom, 0), w * up_x + max(left, 0) + max(right, 0)
        inserted = torch.empty(n, channels, rows, columns, dtype=x.dtype, memory_format=last).zero_()
        inserted[:, :, max(top, 0) :: up_y, max(left, 0) :: up_x][:, :, :h, :w] = x
        x, up_x, up_y = inserted, 1, 1
        left, right, top, bottom = (min(p, 0) for p in padding)

    if up_x == up_y == 1:
        weight = weight.expand(channels, 1, taps_y, taps_x)
        if left == right >= 0 and top == bottom >= 0:
            inner = (top, left)  # padding inside the convolution saves a copy
        else:
            x, inner = F.pad(x, (left, right, top, bottom)), (0, 0)
        if x.device.type == "cpu" and torch.compiler.is_compiling():
            # Compiled code takes PyTorch's gradient; oneDNN's is up to 10 times slower where a depthwise convolution has strides.
            return F.conv2d(x, weight, padding=inner, groups=channels)[:, :, ::down_y, ::down_x]
        return F.conv2d(x, weight, padding=inner, stride=(down_y, down_x), groups=channels)

    # A transposed convolution is zero-insertion and convolution at once. Its output begins taps − 1 pixels before the
    # first whole window and lacks the zeros behind the last pixel, so padding turns into a shift.
    weight = weight.flip(0, 1).expand(channels, 1, taps_y, taps_x)
    full = F.conv_transpose2d(x, weight, stride=(up_y, up_x), groups=channels)
    out_w = x.shape[3] * up_x + left + right - taps_x + 1
    out_h = x.shape[2] * up_y + top + bottom - taps_y + 1
    shift_x, shift_y = left - taps_x + 1, top - taps_y + 1
    y = F.pad(full, (shift_x, out_w - full.shape[3] - shift_x, shift_y, out_h - full.shape[2] - shift_y))
    return y[:, :, ::down_y, ::down_x] if down_x * down_y > 1 else y


def upsample(
    x: Float[Tensor, "N C H W"], f: Float[Tensor, "*taps"], factor: int = 2, *, tile: Tile = "none"
) -> Float[Tensor, "N C {factor}*H {factor}*W"]:
    """Up-sampling by `factor` with a low-pass filter: zeros are inserted, and the result is filtered by `f · factor²`.

    Args:
        x: `[N, C, H, W]`, any float dtype.
        f: low-pass filter of unit sum, `[taps, taps]` or `[taps]` (separable).
        factor: 1 or more.
        tile: axes along which images repeat: beyond a border lies the other end of the image there, and zeros elsewhere.

    Returns:
        `[N, C, factor·H, factor·W]`, in x's dtype.
    """
    taps = f.shape[-1]
    before, after = (taps + factor - 1) // 2, (taps - factor) // 2
    if tile != "none":
        x, before, after = _continued(x, before, after, factor, tile)
    return upfirdn(x, f, up=factor, padding=(before, after, before, after), gain=factor**2)


def downsample(
    x: Float[Tensor, "N C H W"], f: Float[Tensor, "*taps"], factor: int = 2, *, tile: Tile = "none"
) -> Float[Tensor, "N C H//{factor} W//{factor}"]:
    """Down-sampling by `factor`: filtering by the low-pass filter `f`, then every `factor`-th pixel. The counterpart of
    `upsample`.

    Args:
        x: `[N, C, H, W]`, any float dtype; H and W are multiples of `factor`.
        f: low-pass filter of unit sum, `[taps, taps]` or `[taps]` (separable).
        factor: 1 or more.
        tile: axes along which images repeat, as in `upsample`.

    Returns:
        `[N, C, H/factor, W/factor]`, in x's dtype.
    """
    taps = f.shape[-1]
    before, after = (taps - factor + 1) // 2, (taps - factor) // 2
    if tile != "none":
        x, before, after = _continued(x, before, after, 1, tile)
    return upfirdn(x, f, down=factor, padding=(before, after, before, after))


def _continued(x: Tensor, before: int, after: int, up: int, tile: Tile) -> tuple[Tensor, int, int]:
    """Replaces zero padding by pixels of the opposite border, along the axes of `tile`.

    Args:
        x: `[N, C, H, W]`.
        before, after: the zeros that would be added at either border of the zero-inserted image.
        up: x is to be zero-inserted by this factor, so that a pixel extends it by `up`.
        tile: axes along which images repeat.

    Returns:
        The extended image, and the padding (before, after) that remains: 0, or negative to crop what whole pixels
        extended too far.
    """
    first, last = max(-(-before // up), 0), max(-(-after // up), 0)
    return extend(x, (first, last, first, last), tile), before - up * first, after - up * last


def conv_upsample(
    x: Float[Tensor, "N I H W"], weight: Float[Tensor, "O I k k"], f: Float[Tensor, "*taps"], *, tile: Tile = "none"
) -> Float[Tensor, "N O 2*H 2*W"]:
    """2× up-sampling, then convolution with "same" borders, as one transposed convolution and one filtering: (↑2 x) ∗
    weight ∗ f.

    Args:
        x: `[N, I, H, W]`, any float dtype.
        weight: `[O, I, k, k]` with odd k, in x's dtype.
        f: low-pass filter of unit sum, `[taps, taps]`.
        tile: axes along which images repeat, as in `upsample`.

    Returns:
        `[N, O, 2H, 2W]`, in x's dtype.
    """
    k, taps = weight.shape[-1], f.shape[-1]
    if k == 1:
        return upsample(conv2d(x, weight), f, tile=tile)
    before = (taps + 1) // 2 + k // 2 - (k - 1)
    after = (taps - 2) // 2 + k // 2 - (k - 2)
    if tile != "none":  # the transposed convolution lacks terms in k − 2 positions on each side
        x, before, after = _continued(x, before + k - 2, after + k - 2, 2, tile)
        before, after = before - (k - 2), after - (k - 2)
    y = conv_transpose2d(x, weight.transpose(0, 1), stride=2)
    return upfirdn(y, f, padding=(before, after, before, after), gain=4)


def conv_downsample(
    x: Float[Tensor, "N I H W"],
    weight: Float[Tensor, "O I k k"],
    f: Float[Tensor, "*taps"],
    bias: Float[Tensor, " O"] | None = None,
    *,
    tile: Tile = "none",
) -> Float[Tensor, "N O H//2 W//2"]:
    """Low-pass filter, convolution with "same" borders, and 2× decimation: ↓2 (x ∗ f ∗ weight) + bias.

    Args:
        x: `[N, I, H, W]` with even H and W, any float dtype.
        weight: `[O, I, k, k]` with odd k, in x's dtype.
        f: low-pass filter of unit sum, `[taps, taps]`.
        bias: `[O]`, in x's dtype, or None.
        tile: axes along which images repeat, as in `upsample`.

    Returns:
        `[N, O, H/2, W/2]`, in x's dtype.
    """
    k, taps = weight.shape[-1], f.shape[-1]
    if k == 1:
        return conv2d(downsample(x, f, tile=tile), weight, bias)
    before, after = (taps - 1) // 2 + k // 2, (taps - 2) // 2 + k // 2
    if tile != "none":
        x, before, after = _continued(x, before, after, 1, tile)
    return conv2d(upfirdn(x, f, padding=(before, after, before, after)), weight, bias, stride=2)


def conv_same(
    x: Float[Tensor, "N I H W"],
    weight: Float[Tensor, "O I k k"],
    bias: Float[Tensor, " O"] | None = None,
    *,
    tile: Tile = "none",
) -> Float[Tensor, "N O H W"]:
    """Convolution with "same" borders.

    Args:
        x: `[N, I, H, W]`, any float dtype.
        weight: `[O, I, k, k]` with odd k, in x's dtype.
        bias: `[O]`, in x's dtype, or None.
        tile: axes along which images repeat, as in `upsample`.

    Returns:
        `[N, O, H, W]`, in x's dtype.
    """
    margin = weight.shape[-1] // 2
    if tile == "none" or not margin:
        return conv2d(x, weight, bias, padding=margin)
    return conv2d(extend(x, (margin, margin, margin, margin), tile), weight, bias)
