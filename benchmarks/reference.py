"""frugan's own slow paths, which the fast ones are measured against.

`channels_first`: the same operations, activations stored channels-first. `specification`: besides, each operation spelled
out as its definition reads: weights modulated for each sample, zeros inserted, filtered, convolved and dropped.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from frugan.networks import layers
from frugan.networks.stylegan2 import synthesis
from frugan.ops import fir


def channels_first() -> None:
    """For the rest of this process, "channels last" means channels-first."""
    torch.channels_last = torch.contiguous_format


def specification() -> None:
    """For the rest of this process, networks compute by the definitions."""
    channels_first()
    fir.upfirdn = upfirdn
    layers.conv_upsample = conv_upsample
    synthesis.modulated_conv2d = modulated_conv2d


def upfirdn(
    x: Tensor,
    f: Tensor,
    *,
    up: int = 1,
    down: int = 1,
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    gain: float = 1.0,
) -> Tensor:
    """`fir.upfirdn`: inserted zeros are filtered like pixels."""
    n, c, h, w = x.shape
    spread = F.pad(x.reshape(n, c, h, 1, w, 1), (0, up - 1, 0, 0, 0, up - 1)).reshape(n, c, h * up, w * up)
    kernel = (f * gain).flip(0, 1).to(x.dtype).expand(c, 1, *f.shape)
    return F.conv2d(F.pad(spread, padding), kernel, groups=c)[:, :, ::down, ::down]


def conv_upsample(x: Tensor, weight: Tensor, f: Tensor, groups: int = 1) -> Tensor:
    """`fir.conv_upsample`: up-sampled first, then convolved."""
    margin, taps = weight.shape[-1] // 2, f.shape[-1]
    before, after = (taps + 1) // 2 + margin, (taps - 2) // 2 + margin
    wide = upfirdn(x, f, up=2, padding=(before, after, before, after), gain=4)
    return F.conv2d(wide, weight.flip(2, 3), groups=groups)


def modulated_conv2d(
    x: Tensor,
    weight: Tensor,
    styles: Tensor,
    *,
    demodulate: bool = True,
    resample_filter: Tensor | None = None,
    gain: float = 1.0,
) -> Tensor:
    """`modulated_conv.modulated_conv2d`: each sample's own weights, in one grouped convolution."""
    n = len(x)
    own = weight[None] * styles[:, None, :, None, None]
    if demodulate:
        own = own * (own.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    own = (own * gain).to(x.dtype).flatten(0, 1)
    x = x.reshape(1, -1, *x.shape[2:])
    if resample_filter is not None:
        y = conv_upsample(x, own, resample_filter, groups=n)
    else:
        y = F.conv2d(x, own, padding=own.shape[-1] // 2, groups=n)
    return y.view(n, -1, *y.shape[2:])
