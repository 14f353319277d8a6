"""The StyleGAN2 discriminator: images in, one logit each out (Karras et al. 2020, Fig. 7)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import torch
from torch import Tensor, nn

from frugan.checks import Limits, check_fields
from frugan.errors import FruganError
from frugan.label_parts import Measured
from frugan.networks.layers import EqualizedConv2d, EqualizedLinear
from frugan.networks.limits import (
    Base,
    Channels,
    Clamp,
    LabelSize,
    Layers,
    Side,
    Width,
    check_filter,
    check_resolution,
    check_size,
)
from frugan.networks.mapping import Mapping, MappingConfig
from frugan.networks.stylegan2.synthesis import (
    BLOCK_ARCHITECTURES,
    BlockArchitecture,
    block_name,
    level_channels,
    level_shapes,
)
from frugan.ops.fir import downsample, normalized_filter
from frugan.ops.tiling import Tile
from frugan.resolution import base_grid

if TYPE_CHECKING:
    from jaxtyping import Float


@dataclass(frozen=True)
class DiscriminatorConfig:
    """The shape of a StyleGAN2 discriminator. `resolution` is (height, width).

    `mbstd_group`: samples in a minibatch-standard-deviation group (None: the whole batch). `mapping`: the network behind
    the label embedding; the paper's own code had 0 layers with `lr_multiplier` 0.1, the PyTorch release 8 with 0.01.
    `measured`: the label columns that are numbers, as in the generator. `tile`: axes along which the images, real ones too, repeat
    without a seam.

    Variants, which the paper compares with ADA (appendix D): `spectral_norm` of the 3×3 convolutions; `dropout`, factors
    exp(n·p) before each activation; `bits`, that enter with the image and decide the sign of the logit (PA-GAN, Zhang &
    Khoreva 2019); `rotation_head`, four more outputs that tell a quarter turn (SS-GAN, Chen et al. 2019).
    """

    resolution: tuple[Side, Side]
    channels: Channels = 3
    label_size: LabelSize = 0
    channel_base: Base = 32768
    channel_max: Width = 512
    architecture: BlockArchitecture = "resnet"
    clamp: Clamp | None = None
    low_precision_blocks: Layers = 4
    resample_filter: tuple[float, ...] = (1, 3, 3, 1)
    mbstd_group: Annotated[int | None, Limits(at_least=1, at_most=1 << 20)] = 4
    mbstd_channels: Annotated[int, Limits(at_least=0, at_most=16384)] = 1
    cmap_dim: Width | None = None
    mapping: MappingConfig = MappingConfig()
    spectral_norm: bool = False
    dropout: bool = False
    bits: Annotated[int, Limits(at_least=0, at_most=1024)] = 0
    rotation_head: bool = False
    measured: tuple[Measured, ...] = ()
    tile: Tile = "none"

    def __post_init__(self) -> None:
        if self.architecture not in BLOCK_ARCHITECTURES:
            raise FruganError(f"architecture {self.architecture!r}: choose one of {', '.join(BLOCK_ARCHITECTURES)}")
        check_fields(self)
        check_resolution(self.resolution)
        check_filter(self.resample_filter)
        levels = level_shapes(self.resolution, self.channel_base, self.channel_max)
        maps, h, w = levels[0]
        outputs = self.cmap_dim or maps if self.label_size else 1
        labels = self.mapping.num_weights(0, self.label_size, outputs) if self.label_size else 0
        check_size("discriminator", levels, labels + maps * (maps * h * w + outputs))
        if self.mbstd_channels and maps % self.mbstd_channels:
            raise FruganError(f"mbstd_channels {self.mbstd_channels}: give a divisor of {maps}, the last feature maps")
        if self.rotation_head and (self.label_size or self.resolution[0] != self.resolution[1]):
            raise FruganError("auxiliary rotation needs square images without labels: turned ones must fit, and count")


class Extras(NamedTuple):
    """Random tensors for n images in variants of the discriminator; None in other variants."""

    factors: list[Tensor] | None = None
    """Of each layer with an activation, from the image on: `[n, O]`."""
    bits: Tensor | None = None
    """`[n, bits]`, 0 or 1."""


NO_EXTRAS = Extras()


def minibatch_std(
    x: Float[Tensor, "N C H W"], group: int | None, channels: int, batches: int = 1
) -> Float[Tensor, "N C+{channels} H W"]:
    """Appends feature maps with the standard deviation over a group of samples (Karras et al. 2018, section 3).

    Args:
        x: `[N, C, H, W]`.
        group: samples in a group: group j holds samples j, j + N/group, …; None: all N.
        channels: feature maps to append, each of which averages C/channels maps.
        batches: number of equal parts of x that are treated independently.

    Returns:
        `[N, C + channels, H, W]`. Raises `FruganError` where N is no multiple of the group, or C of `channels`.
    """
    c, h, w = x.shape[1:]
    n = x.shape[0] // batches
    group = n if group is None else min(group, n)
    if n % group or c % channels:
        raise FruganError(
            f"minibatch standard deviation: a batch of {n} does not divide into groups of {group}, or {c} feature maps "
            f"into {channels} parts; choose a batch (per device) that is a multiple of the group"
        )
    y = x.float().reshape(batches, group, n // group, channels, c // channels, h, w)
    y = y - y.mean(dim=1, keepdim=True)
    y = (y.square().mean(dim=1, keepdim=True) + 1e-8).sqrt().mean(dim=(4, 5, 6))  # `var` is four times slower on a CPU
    y = y[..., None, None].expand(batches, group, n // group, channels, h, w).reshape(-1, channels, h, w)
    return torch.cat([x, y.to(x.dtype)], dim=1)


class DiscriminatorBlock(nn.Module):
    """One level of the discriminator: two 3×3 convolutions, of which the second halves the size.

    Args:
        in_channels, out_channels: feature maps.
        image_channels: of the image.
        is_first: whether it is the full size.
        config: of the discriminator.
    """

    def __init__(
        self, in_channels: int, out_channels: int, image_channels: int, *, is_first: bool, config: DiscriminatorConfig
    ) -> None:
        super().__init__()
        conv: dict[str, Any] = {"activation": "lrelu", "clamp": config.clamp, "tile": config.tile}
        down: dict[str, Any] = {"resample": "down", "resample_filter": config.resample_filter}
        self.fromrgb = self.skip = None
        if is_first or config.architecture == "skip":
            self.fromrgb = EqualizedConv2d(image_channels, in_channels, 1, **conv)
        spectral = config.spectral_norm
        self.conv0 = EqualizedConv2d(in_channels, in_channels, 3, **conv, spectral=spectral)
        self.conv1 = EqualizedConv2d(in_channels, out_channels, 3, **conv, **down, spectral=spectral)
        self.bits = EqualizedLinear(config.bits, in_channels) if config.bits and is_first else None
        if config.architecture == "resnet":
            self.skip = EqualizedConv2d(in_channels, out_channels, 1, bias=False, tile=config.tile, **down)
        self.tile: Tile = config.tile
        self.resample_filter: Tensor | None
        pyramid = normalized_filter(config.resample_filter) if config.architecture == "skip" else None
        self.register_buffer("resample_filter", pyramid, persistent=False)

    def forward(
        self, x: Tensor | None, image: Tensor, dtype: torch.dtype, factors: Iterator[Tensor], bits: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Feature maps at half the size, and the image, halved too in the 'skip' architecture.

        Args:
            x: `[N, I, H, W]`; None for the first level.
            image: `[N, C, H, W]`.
            dtype: that this level computes in.
            factors: of adaptive dropout, `[N, O]`, in the order of the layers; empty in other variants.
            bits: `[N, bits]`, or None in other variants.
        """
        if self.fromrgb is not None:
            y = self.fromrgb(image.to(dtype=dtype, memory_format=torch.channels_last), factor=next(factors, None))
            if self.bits is not None and bits is not None:
                y = y + self.bits(bits).to(dtype)[:, :, None, None]
            x = y if x is None else x.to(dtype) + y
        assert x is not None
        x = x.to(dtype=dtype, memory_format=torch.channels_last)
        if self.resample_filter is not None:
            image = downsample(image, self.resample_filter, tile=self.tile)
        y = self.conv0(x, factor=next(factors, None))
        if self.skip is None:
            return self.conv1(y, factor=next(factors, None)), image
        shortcut = self.skip(x, gain=math.sqrt(0.5))
        return shortcut + self.conv1(y, gain=math.sqrt(0.5), factor=next(factors, None)), image


class Epilogue(nn.Module):
    """The last level: minibatch standard deviation, a convolution and two dense layers on the base grid, in float32.

    Args:
        channels: feature maps.
        size: (height, width) of the base grid.
        out_features: O.
        config: of the discriminator.
    """

    def __init__(self, channels: int, size: tuple[int, int], out_features: int, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.group, self.std_channels = config.mbstd_group, config.mbstd_channels
        self.fromrgb = None
        if config.architecture == "skip":
            self.fromrgb = EqualizedConv2d(config.channels, channels, 1, activation="lrelu")
        self.conv = EqualizedConv2d(
            channels + self.std_channels,
            channels,
            3,
            activation="lrelu",
            clamp=config.clamp,
            spectral=config.spectral_norm,
            tile=config.tile,
        )
        self.fc = EqualizedLinear(channels * size[0] * size[1], channels, activation="lrelu")
        self.out = EqualizedLinear(channels, out_features)

    def forward(self, x: Tensor, image: Tensor, factors: Iterator[Tensor], batches: int) -> Tensor:
        """Outputs `[N, O]`.

        Args:
            x: `[N, C', H, W]`.
            image: `[N, C, H, W]`.
            factors: as in `DiscriminatorBlock`.
            batches: as in `minibatch_std`.
        """
        x = x.float()
        if self.fromrgb is not None:
            x = x + self.fromrgb(image, factor=next(factors, None))
        if self.std_channels:
            x = minibatch_std(x, self.group, self.std_channels, batches)
        x = self.conv(x, factor=next(factors, None))
        return self.out(self.fc(x.contiguous().flatten(1), next(factors, None)))


class Discriminator(nn.Module):
    """Images float `[N, C, H, W]` in [-1, 1] (and labels `[N, K]`) → logits float32 `[N]`, high for real.

    Labels enter by projection (Miyato & Koyama 2018): the logit is the dot product of image features and an embedding.
    """

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        h0, w0, doublings = base_grid(*config.resolution)
        self.sizes = [(h0 << i, w0 << i) for i in range(doublings, -1, -1)]
        self.num_low_precision = min(config.low_precision_blocks, doublings)
        widths = [level_channels(i, config.channel_base, config.channel_max) for i in range(doublings, -1, -1)]
        self.largest = max(width * h * w for width, (h, w) in zip(widths, self.sizes))
        """Elements of an image's largest feature maps."""
        for i, size in enumerate(self.sizes[:-1]):
            block = DiscriminatorBlock(widths[i], widths[i + 1], config.channels, is_first=i == 0, config=config)
            self.add_module(block_name(size), block)
        self.cmap_dim = 0 if not config.label_size else config.cmap_dim or widths[-1]
        outputs = (self.cmap_dim or 1) + 4 * config.rotation_head
        self.add_module(block_name(self.sizes[-1]), Epilogue(widths[-1], self.sizes[-1], outputs, config))
        if config.label_size:
            self.mapping = Mapping(
                0, config.label_size, self.cmap_dim, 1, config.mapping, measured=config.measured, track_average=False
            )

    def forward(
        self,
        images: Float[Tensor, "N C H W"],
        c: Float[Tensor, "N K"] | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        extras: Extras = NO_EXTRAS,
        batches: int = 1,
    ) -> Float[Tensor, " N"]:
        """Logits float32 `[N]`.

        Args:
            images: `[N, C, H, W]`.
            c: labels `[N, K]`, or None for a discriminator without.
            dtype: that the low-precision levels compute in.
            extras: the random tensors of this variant (`draw_extras`).
            batches: number of equal parts of the batch that are judged independently.
        """
        outputs = self._outputs(images, dtype, extras, batches)
        if self.cmap_dim:
            cmap = self.mapping.features(None, c)
            logits = (outputs * cmap).sum(dim=1) / math.sqrt(self.cmap_dim)
        else:
            logits = outputs[:, 0].contiguous()
        return logits if extras.bits is None else logits * (1 - 2 * extras.bits).prod(dim=1)

    def rotation_logits(
        self, images: Float[Tensor, "N C H W"], *, dtype: torch.dtype = torch.float32, extras: Extras = NO_EXTRAS
    ) -> Float[Tensor, "N 4"]:
        """Logits `[N, 4]` of the number of quarter turns that was applied to each image; needs `rotation_head`.

        Args:
            images: `[N, C, H, W]`.
            dtype, extras: as for a call.
        """
        return self._outputs(images, dtype, extras)[:, 1:]

    def _outputs(self, images: Tensor, dtype: torch.dtype, extras: Extras, batches: int = 1) -> Tensor:
        factors = iter(extras.factors or ())
        x, image = None, images
        for i, size in enumerate(self.sizes[:-1]):
            block = self.get_submodule(block_name(size))
            x, image = block(x, image, dtype if i < self.num_low_precision else torch.float32, factors, extras.bits)
        return self.get_submodule(block_name(self.sizes[-1]))(x, image, factors, batches)

    @property
    def activated(self) -> list[int]:
        """The width of each layer with an activation, in the order of the computation."""
        layers = (EqualizedConv2d, EqualizedLinear)
        blocks = [self.get_submodule(block_name(size)) for size in self.sizes]
        return [
            m.weight.shape[0]
            for b in blocks
            for m in b.children()
            if isinstance(m, layers) and m.activation != "linear"
        ]

    @torch.no_grad()
    def draw_extras(self, n: int, p: Tensor, generator: torch.Generator) -> Extras:
        """Random tensors of this variant, Karras et al. 2020, appendix D.

        Bit i is set with probability ½·clip((B·p − i − 1)/½ + 1, 0, 1), so that the B bits become active one after
        another. A factor is exp(p·x) with x ~ N(0, 1), for each image and channel.

        Args:
            n: number of images.
            p: strength in [0, 1], 0-d.
            generator: on the networks' device.
        """
        factors = bits = None
        if self.config.dropout:
            normal = torch.randn(n, sum(self.activated), generator=generator, device=generator.device)
            factors = list((normal * p).exp().split(self.activated, dim=1))
        if self.config.bits:
            number = torch.arange(self.config.bits, device=p.device)
            rate = ((self.config.bits * p - number - 1) / 0.5 + 1).clamp(0, 1) / 2
            bits = (torch.rand(n, len(rate), generator=generator, device=generator.device) < rate).float()
        return Extras(factors, bits)

    def power_iteration(self) -> None:
        """Improves the estimates of all spectral norms by one power iteration, once in a training step."""
        if self.config.spectral_norm:
            for module in self.modules():
                if isinstance(module, EqualizedConv2d):
                    module.power_iteration()
