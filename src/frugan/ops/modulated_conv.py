"""Modulated convolution (Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020, eqs. 1–3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from frugan.ops.conv import current
from frugan.ops.fir import conv_same, conv_upsample
from frugan.ops.operator import transformed
from frugan.ops.styles import scaled
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
    """Modulated convolution: the weights are scaled by sample and input channel, then normalised by output channel.

        w'_{oik} = s_i · w_{oik},   w''_{oik} = w'_{oik} / sqrt(Σ_{i,k} w'_{oik}² + 1e-8)

    Both scalings commute with the convolution. They are therefore applied to the activations, before and after it, and
    the whole batch shares one set of weights.

    Args:
        x: `[N, I, H, W]`, any float dtype.
        weight: w, `[O, I, k, k]` with odd k, float32.
        styles: s, `[N, I]`, float32.
        demodulate: whether to normalise (w'' instead of w').
        resample_filter: `[taps, taps]`; if given, the image is up-sampled 2× on the way.
        gain: factor on the result.
        tile: axes along which the image repeats.

    Returns:
        `[N, O, H, W]` (or twice the size), in x's dtype.
    """
    if not demodulate:
        return _convolved(x, weight, styles * gain, resample_filter, tile)
    y, scale = demodulated_conv2d(x, weight, styles, resample_filter=resample_filter, gain=gain, tile=tile)
    return scaled(y, scale)


def demodulated_conv2d(
    x: Float[Tensor, "N I H W"],
    weight: Float[Tensor, "O I k k"],
    styles: Float[Tensor, "N I"],
    *,
    resample_filter: Float[Tensor, "*taps"] | None = None,
    gain: float = 1.0,
    tile: Tile = "none",
) -> tuple[Float[Tensor, "N O oh ow"], Float[Tensor, "N O"]]:
    """A modulated convolution without its last scaling, for a caller that fuses the scaling with what follows (`ops.epilogue`).

    The arguments are those of `modulated_conv2d`.

    Returns:
        `[N, O, H, W]` (or twice the size) in x's dtype, and the factor by which each channel is to be multiplied, `[N,
        O]`, float32.
    """
    if x.dtype == torch.float16:
        # Demodulation undoes any scale of weights and styles; taking it out first keeps float16 within its range.
        weight = weight * (weight[0].numel() ** -0.5 / weight.abs().amax(dim=(1, 2, 3), keepdim=True))
        styles = styles / styles.abs().amax(dim=1, keepdim=True)
    plain = torch.compiler.is_compiling() or transformed() or torch.is_autocast_enabled(styles.device.type)
    scale = _demodulation if plain else _Demodulation.apply
    return _convolved(x, weight, styles, resample_filter, tile), scale(styles, weight, gain)


def _demodulation(styles: Tensor, weight: Tensor, gain: float) -> Tensor:
    """d_no = gain / sqrt(Σ_{i,k} (s_ni · w_oik)² + 1e-8), `[N, O]`."""
    return _normalisation(styles, _squares(weight), gain)


def _squares(weight: Tensor) -> Tensor:
    return weight.square().sum(dim=(2, 3))


def _normalisation(styles: Tensor, squares: Tensor, gain: float) -> Tensor:
    return (styles.square() @ squares.t() + 1e-8).rsqrt() * gain


class _Squares(torch.autograd.Function):
    """The squares of a weight that are known, with a gradient in one pass over the weight."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, squares: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        return squares.view_as(squares)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.saved_tensors[0] * (2 * gradients[0])[:, :, None, None], None


class _Demodulation(torch.autograd.Function):
    """`_demodulation` with a gradient in a third of the operations that autograd needs.

    With t = −u · d³ / gain², for the gradient u of d: ∂s_ni = s_ni Σ_o t_no Σ_k w_oik² and ∂w_oik = w_oik Σ_n t_no s_ni².
    """

    @staticmethod
    def forward(ctx: Any, styles: Tensor, weight: Tensor, gain: float) -> Tensor:
        squares = _squares(weight)
        d = _normalisation(styles, squares, gain)
        ctx.save_for_backward(styles, weight, squares, d)
        ctx.gain, ctx.inner = gain, current()
        return d

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        styles, weight, squares, d = ctx.saved_tensors
        by_styles, by_weight, _ = ctx.needs_input_grad
        t = gradients[0] * d.pow(3) * (-1 / ctx.gain**2)
        for_styles = for_weight = None
        if by_styles:
            for_styles = styles * (t @ (_Squares.apply(weight, squares) if torch.is_grad_enabled() else squares))
        if by_weight and (ctx.inner is None or not ctx.inner.active):  # as in `ops.conv`
            for_weight = weight * (t.t() @ styles.square())[:, :, None, None]
        return for_styles, for_weight, None


def _convolved(x: Tensor, weight: Tensor, styles: Tensor, resample_filter: Tensor | None, tile: Tile) -> Tensor:
    x = scaled(x, styles)
    w = weight.to(x.dtype)
    return conv_same(x, w, tile=tile) if resample_filter is None else conv_upsample(x, w, resample_filter, tile=tile)
