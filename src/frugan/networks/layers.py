"""Layers with an equalised learning rate (Karras et al., "Progressive Growing of GANs", 2018, section 4.1).

Weights are stored with unit variance and scaled by 1/√fan-in at run time, so that Adam moves every layer alike. The gain
√2 of a leaky ReLU is folded into the scale: the activation is positively homogeneous.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frugan.networks.activation_checkpointing import Recomputable
from frugan.ops import epilogue_triton
from frugan.ops.epilogue import epilogue
from frugan.ops.fir import conv_downsample, conv_same, conv_upsample, normalized_filter
from frugan.ops.kernels import fused
from frugan.ops.tiling import Tile

if TYPE_CHECKING:
    from jaxtyping import Float

Activation = Literal["linear", "lrelu"]
ACTIVATION_GAIN: dict[Activation, float] = {"linear": 1.0, "lrelu": math.sqrt(2)}


def activate(x: Tensor, activation: Activation, clamp: float | None = None) -> Tensor:
    """Leaky ReLU of slope 0.2, or nothing, then a clamp. Its gain √2 is not applied: the caller folds it into the weights.

    Args:
        x: any shape; overwritten, which saves a feature map, as the derivative follows from the result.
        activation: "lrelu" or "linear".
        clamp: the largest modulus of the result, or None for no limit.
    """
    if activation == "lrelu":
        x = F.leaky_relu(x, 0.2, inplace=True)
    return x if clamp is None else x.clamp(-clamp, clamp)


def normalize_2nd_moment(x: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
    """Vectors `[N, D]` scaled to unit mean square along D."""
    return x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


class EqualizedLinear(nn.Module):
    """Linear layer with an equalised learning rate: `[N, I]` → `[N, O]`.

    Args:
        in_features, out_features: I and O.
        bias_init: initial value of the bias.
        lr_multiplier: factor on the effect of an optimiser step.
        activation: of the result.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias_init: float = 0.0,
        lr_multiplier: float = 1.0,
        activation: Activation = "linear",
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((out_features,), float(bias_init)))
        self.activation: Activation = activation
        self.bias_gain = lr_multiplier * ACTIVATION_GAIN[activation]
        self.weight_gain = self.bias_gain / math.sqrt(in_features)

    def forward(self, x: Float[Tensor, "N I"], factor: Float[Tensor, "N O"] | None = None) -> Float[Tensor, "N O"]:
        """x `[N, I]` → `[N, O]`; `factor` `[N, O]`, if given, multiplies the activation's input."""
        y = torch.addmm(self.bias, x, self.weight.t(), beta=self.bias_gain, alpha=self.weight_gain)
        return activate(y if factor is None else y * factor, self.activation)


class EqualizedConv2d(Recomputable):
    """Convolution with an equalised learning rate and "same" borders: `[N, I, H, W]` → `[N, O, H, W]`, or 2× up- or
    down-sampled.

    It computes in x's dtype.

    Args:
        in_channels, out_channels: I and O.
        kernel_size: odd.
        bias: whether there is one.
        activation: of the result.
        resample: "up" or "down" for 2× resampling.
        resample_filter: its low-pass filter.
        clamp: the largest modulus of the result, before the `gain` of a call; None for no limit.
        spectral: whether the weight is divided by its largest singular value, of which `power_iteration` keeps an
            estimate (Miyato et al., "Spectral Normalization for Generative Adversarial Networks", 2018, algorithm 1).
        tile: axes along which images repeat.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        bias: bool = True,
        activation: Activation = "linear",
        resample: Literal["up", "down"] | None = None,
        resample_filter: tuple[float, ...] = (1, 3, 3, 1),
        clamp: float | None = None,
        spectral: bool = False,
        tile: Tile = "none",
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.singular: Tensor | None
        self.register_buffer("singular", F.normalize(torch.randn(out_channels), dim=0) if spectral else None)
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.activation: Activation = activation
        self.resample = resample
        self.clamp = clamp
        self.tile: Tile = tile
        self.bias_gain = ACTIVATION_GAIN[activation]
        self.weight_gain = self.bias_gain / math.sqrt(in_channels * kernel_size**2)
        self.resample_filter: Tensor | None
        self.register_buffer(
            "resample_filter", normalized_filter(resample_filter) if resample else None, persistent=False
        )

    @torch.no_grad()
    def power_iteration(self) -> None:
        """One power iteration: improves the estimate of the left singular vector of the largest singular value."""
        if self.singular is not None:
            self.singular.copy_(F.normalize(self.weight.flatten(1) @ self._right(), dim=0))

    def _right(self) -> Tensor:
        assert self.singular is not None
        return F.normalize(self.weight.detach().flatten(1).T @ self.singular, dim=0)

    def forward(
        self, x: Float[Tensor, "N I H W"], gain: float = 1.0, factor: Float[Tensor, "N O"] | None = None
    ) -> Float[Tensor, "N O oh ow"]:
        """x `[N, I, H, W]` → the convolved images in x's dtype.

        Args:
            x: any float dtype.
            gain: factor on the result, clamp included.
            factor: `[N, O]`, multiplies the activation's input; None for 1.
        """
        if self.singular is None:
            weight = self.weight * (self.weight_gain * gain)
        else:
            sigma = self.singular @ self.weight.flatten(1) @ self._right()
            weight = self.weight * (self.bias_gain * gain / sigma)
        weight = weight.to(x.dtype)
        clamp = None if self.clamp is None else self.clamp * gain
        bias = None if self.bias is None else self.bias * (self.bias_gain * gain)
        is_fused = self.activation == "lrelu" and fused(x, epilogue_triton.usable, len(weight))
        if is_fused and bias is not None and factor is None:
            return epilogue(self._convolved(x, weight, None), None, None, bias, clamp)
        y = self._convolved(x, weight, None if bias is None else bias.to(x.dtype))
        if factor is not None:
            y = y * factor.to(y.dtype)[:, :, None, None]
        return activate(y, self.activation, clamp)

    def _convolved(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.resample is None:
            return conv_same(x, weight, bias, tile=self.tile)
        assert self.resample_filter is not None
        if self.resample == "down":
            return conv_downsample(x, weight, self.resample_filter, bias, tile=self.tile)
        y = conv_upsample(x, weight, self.resample_filter, tile=self.tile)
        return y if bias is None else y + bias[:, None, None]
