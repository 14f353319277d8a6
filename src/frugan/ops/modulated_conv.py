"""Modulated convolution (Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020, eqs. 1–3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from frugan.ops.fir import conv_same, conv_upsample
from frugan.ops.tiling import Tile

if TYPE_CHECKING:
    from jaxtyping import Float


def modulated_conv2d(
    x: Float[Tensor, "N I H W"],
    weight: Float[Tensor, "O I k k"],
    styles: Float[Tensor, "N I"],
    *,
    demodulate: bool = True,
    resample_filter: Float[Tensor, "*taps"] | None = None,
    gain: float = 1.0,
    tile: Tile = "none",
) -> Float[Tensor, "N O oh ow"]:
    """Convolution whose weights are scaled per sample and input channel, then normalised per output channel.

    w'_{oik} = s_i · w_{oik};  w'' = w' / sqrt(Σ_{ik} w'² + 1e-8). Both scalings commute with the convolution, so they are
    applied to the activations, and the whole batch shares one set of weights.

    Args:
        x: `[N, I, H, W]`, any float dtype; weight: `[O, I, k, k]` float32; styles: `[N, I]` float32.
        demodulate: whether to normalise.
        resample_filter: `[taps, taps]`; if given, the image is up-sampled 2× on the way.
        gain: factor on the result.
        tile: axes along which the image repeats.

    Returns:
        `[N, O, H, W]` (or twice the size), in x's dtype.
    """
    if not demodulate:
        return _convolved(x, weight, styles * gain, resample_filter, tile)
    y, scale = demodulated_conv2d(x, weight, styles, resample_filter=resample_filter, gain=gain, tile=tile)
    return y * scale.to(x.dtype)[:, :, None, None]


def demodulated_conv2d(
    x: Float[Tensor, "N I H W"],
    weight: Float[Tensor, "O I k k"],
    styles: Float[Tensor, "N I"],
    *,
    resample_filter: Float[Tensor, "*taps"] | None = None,
    gain: float = 1.0,
    tile: Tile = "none",
) -> tuple[Float[Tensor, "N O oh ow"], Float[Tensor, "N O"]]:
    """As `modulated_conv2d`, before the last scaling: (`[N, O, H, W]` in x's dtype, float32 `[N, O]` to multiply it by)."""
    if x.dtype == torch.float16:
        # Demodulation undoes any scale of weights and styles; taking it out first keeps float16 within its range.
        weight = weight * (weight[0].numel() ** -0.5 / weight.abs().amax(dim=(1, 2, 3), keepdim=True))
        styles = styles / styles.abs().amax(dim=1, keepdim=True)
    power = styles.square() @ weight.square().sum(dim=(2, 3)).t()
    return _convolved(x, weight, styles, resample_filter, tile), (power + 1e-8).rsqrt() * gain


def _convolved(x: Tensor, weight: Tensor, styles: Tensor, resample_filter: Tensor | None, tile: Tile) -> Tensor:
    x = x * styles.to(x.dtype)[:, :, None, None]
    w = weight.to(x.dtype)
    return conv_same(x, w, tile=tile) if resample_filter is None else conv_upsample(x, w, resample_filter, tile=tile)
