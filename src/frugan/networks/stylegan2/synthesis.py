"""The StyleGAN2 synthesis network: styles in, images out (Karras et al. 2020, Figs. 2 and 7)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from frugan.checks import check_fields
from frugan.errors import FruganError
from frugan.networks.activation_checkpointing import Recomputable
from frugan.networks.layers import ACTIVATION_GAIN, EqualizedConv2d, EqualizedLinear, activate
from frugan.networks.limits import Base, Clamp, Layers, Width, check_filter
from frugan.ops.epilogue import epilogue
from frugan.ops.fir import normalized_filter, upsample
from frugan.ops.modulated_conv import demodulated_conv2d, modulated_conv2d
from frugan.ops.styles import projected, projects
from frugan.ops.tiling import Tile
from frugan.resolution import base_grid

if TYPE_CHECKING:
    from jaxtyping import Float

BlockArchitecture = Literal["skip", "resnet", "orig"]
Noise = Literal["random", "const", "none"] | Sequence[Tensor | None]
BLOCK_ARCHITECTURES: tuple[BlockArchitecture, ...] = ("skip", "resnet", "orig")


@dataclass(frozen=True)
class SynthesisConfig:
    """`channel_base` / (4·2^i) feature maps at level i, at most `channel_max`; level 0 is the base grid.

    `low_precision_blocks` counts from the image side; those blocks compute in the dtype that `forward` is given, their
    activations clamped to ±`clamp` (None: not at all). `tile`: axes along which images repeat without a seam.
    """

    channel_base: Base = 32768
    channel_max: Width = 512
    architecture: BlockArchitecture = "skip"
    use_noise: bool = True
    clamp: Clamp | None = None
    low_precision_blocks: Layers = 4
    resample_filter: tuple[float, ...] = (1, 3, 3, 1)
    tile: Tile = "none"

    def __post_init__(self) -> None:
        if self.architecture not in BLOCK_ARCHITECTURES:
            raise FruganError(f"architecture {self.architecture!r}: choose one of {', '.join(BLOCK_ARCHITECTURES)}")
        check_fields(self)
        check_filter(self.resample_filter)


def level_channels(level: int, channel_base: int, channel_max: int) -> int:
    """Feature maps at a level: min(channel_base / (4·2^level), channel_max), at least 1.

    Args:
        level: 0 for the base grid; a square image has 4·2^level pixels a side there.
        channel_base, channel_max: of the configuration.
    """
    return max(min(channel_base // (4 << level), channel_max), 1)


def level_shapes(resolution: tuple[int, int], channel_base: int, channel_max: int) -> list[tuple[int, int, int]]:
    """(feature maps, height, width) of each level, from the base grid to the full size.

    Args:
        resolution: (height, width).
        channel_base, channel_max: of the configuration.
    """
    h, w, doublings = base_grid(*resolution)
    return [(level_channels(i, channel_base, channel_max), h << i, w << i) for i in range(doublings + 1)]


def block_name(size: tuple[int, int]) -> str:
    """`b32` for 32×32, `b48x64` for 48×64: the names that state dicts use."""
    return f"b{size[0]}" if size[0] == size[1] else f"b{size[0]}x{size[1]}"


LayerKind = Literal["conv0", "conv1", "torgb"]


class StyleLayer(NamedTuple):
    """A layer that reads a style: its level, its style's width, and which of the ws `[N, num_ws, D]` the style comes from."""

    level: int
    """0 is the base grid."""
    kind: LayerKind
    width: int
    """Channels of its style: feature maps that enter the layer."""
    ws_index: int


class LevelState(NamedTuple):
    """The output of one level of the synthesis network, which the next one continues."""

    features: Tensor
    """`[N, C_i, h, w]`"""
    image: Tensor | None
    """float32 `[N, C, h, w]`: the sum of all ToRGB layers so far; None before the first of them."""


class StyledConv(Recomputable):
    """Modulated 3×3 convolution, noise, bias and leaky ReLU.

    Args:
        in_channels, out_channels: feature maps.
        w_dim: width of w, from which its style is computed.
        size: (height, width) of the result.
        up: whether it doubles the size.
        config: noise, clamp, filter and tiling.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        size: tuple[int, int],
        *,
        up: bool,
        config: SynthesisConfig,
    ) -> None:
        super().__init__()
        self.affine = EqualizedLinear(w_dim, in_channels, bias_init=1)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.clamp = config.clamp
        self.tile: Tile = config.tile
        self.noise_const: Tensor | None
        self.noise_strength = nn.Parameter(torch.zeros(())) if config.use_noise else None
        self.register_buffer("noise_const", torch.randn(*size) if config.use_noise else None)
        self.resample_filter: Tensor | None
        self.register_buffer(
            "resample_filter", normalized_filter(config.resample_filter) if up else None, persistent=False
        )

    def forward(
        self,
        x: Float[Tensor, "N I h w"],
        style: Float[Tensor, "N I"],
        noise: Float[Tensor, "... H W"] | None,
        gain: float = 1.0,
    ) -> Float[Tensor, "N O H W"]:
        """Feature maps `[N, O, H, W]` in x's dtype.

        Args:
            x: `[N, I, h, w]`.
            style: `[N, I]`.
            noise: `[N, 1, H, W]` or `[H, W]`, or None.
            gain: factor on the result.
        """
        gain_in = gain * ACTIVATION_GAIN["lrelu"]
        y, scale = demodulated_conv2d(
            x, self.weight, style, resample_filter=self.resample_filter, gain=gain_in, tile=self.tile
        )
        given = None
        if noise is not None and self.noise_strength is not None:
            given = noise * (self.noise_strength * gain_in)
        return epilogue(y, scale, given, self.bias * gain_in, None if self.clamp is None else self.clamp * gain)


class ToRGB(Recomputable):
    """Modulated 1×1 convolution to image channels, without demodulation; returns float32.

    Args:
        in_channels: feature maps.
        out_channels: of the image.
        w_dim: width of w, from which its style is computed.
        clamp: the largest modulus of the result, or None for no limit.
    """

    def __init__(self, in_channels: int, out_channels: int, w_dim: int, clamp: float | None) -> None:
        super().__init__()
        self.affine = EqualizedLinear(w_dim, in_channels, bias_init=1)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.weight_gain = 1 / math.sqrt(in_channels)
        self.clamp = clamp

    def forward(self, x: Float[Tensor, "N I H W"], style: Float[Tensor, "N I"]) -> Float[Tensor, "N C H W"]:
        """x `[N, I, H, W]`, style `[N, I]` → float32 `[N, C, H, W]`."""
        style = style * self.weight_gain
        if projects(x, len(self.weight)):
            y = projected(x, self.weight[:, :, 0, 0] * style[:, None])
        else:
            y = modulated_conv2d(x, self.weight, style, demodulate=False)
        return activate(y + self.bias.to(y.dtype)[:, None, None], "linear", self.clamp).float()


class SynthesisBlock(nn.Module):
    """One level of the synthesis network. The first one starts from a learned constant; the others double the size.

    Args:
        in_channels: feature maps from the level before; None for the first level.
        out_channels: feature maps of the result.
        w_dim: width of w.
        size: (height, width) of the result.
        image_channels: of the image.
        is_last: whether it is the full size.
        config: of the synthesis network.
    """

    def __init__(
        self,
        in_channels: int | None,
        out_channels: int,
        w_dim: int,
        size: tuple[int, int],
        image_channels: int,
        *,
        is_last: bool,
        config: SynthesisConfig,
    ) -> None:
        super().__init__()
        self.architecture = config.architecture
        self.tile: Tile = config.tile
        self.num_conv = 1 if in_channels is None else 2
        self.const = nn.Parameter(torch.randn(out_channels, *size)) if in_channels is None else None
        self.conv0 = self.skip = self.torgb = None
        if in_channels is not None:
            self.conv0 = StyledConv(in_channels, out_channels, w_dim, size, up=True, config=config)
            if config.architecture == "resnet":
                up: dict[str, Any] = {"resample": "up", "resample_filter": config.resample_filter, "tile": config.tile}
                self.skip = EqualizedConv2d(in_channels, out_channels, 1, bias=False, **up)
        self.conv1 = StyledConv(out_channels, out_channels, w_dim, size, up=False, config=config)
        if is_last or config.architecture == "skip":
            self.torgb = ToRGB(out_channels, image_channels, w_dim, config.clamp)
        self.resample_filter: Tensor
        self.register_buffer("resample_filter", normalized_filter(config.resample_filter), persistent=False)

    @property
    def styled(self) -> list[tuple[LayerKind, StyledConv | ToRGB]]:
        """The layers that read a style, in the order of the computation."""
        layers = (("conv0", self.conv0), ("conv1", self.conv1), ("torgb", self.torgb))
        return [(kind, layer) for kind, layer in layers if layer is not None]  # pyright: ignore[reportReturnType]

    def forward(
        self,
        x: Tensor | None,
        image: Tensor | None,
        styles: Sequence[Tensor],
        noise: Sequence[Tensor | None],
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor | None]:
        """Feature maps `[N, O, H, W]`, and the image so far, `[N, C, H, W]` or None.

        Args:
            x: feature maps of the level before, `[N, I, H/2, W/2]`; None for the first level.
            image: the image so far, `[N, C, H/2, W/2]`, or None.
            styles: one for each of `styled`, `[N, width]`.
            noise: for each convolution, `[N, 1, H, W]` or `[H, W]`, or None.
            dtype: that this level computes in.
        """
        if self.const is not None:
            n = styles[0].shape[0]  # len(styles[0]) would pin the batch of an exported graph
            x = self.const.to(dtype).expand(n, *self.const.shape).contiguous(memory_format=torch.channels_last)
            x = self.conv1(x, styles[0], noise[0])
        else:
            assert x is not None
            assert self.conv0 is not None
            x = x.to(dtype=dtype, memory_format=torch.channels_last)
            if self.skip is not None:
                shortcut = self.skip(x, gain=math.sqrt(0.5))
                y = self.conv1(self.conv0(x, styles[0], noise[0]), styles[1], noise[1], gain=math.sqrt(0.5))
                x = shortcut + y
            else:
                x = self.conv1(self.conv0(x, styles[0], noise[0]), styles[1], noise[1])
        if image is not None:
            image = upsample(image, self.resample_filter, tile=self.tile)
        if self.torgb is not None:
            rgb = self.torgb(x, styles[self.num_conv])
            image = rgb if image is None else image + rgb
        assert x is not None
        return x, image


class Synthesis(nn.Module):
    """The synthesis network: ws `[N, num_ws, D]` → images float32 `[N, C, H, W]`.

    Args:
        resolution: (height, width).
        channels: C.
        w_dim: D.
        config: the network's shape.
    """

    def __init__(self, resolution: tuple[int, int], channels: int, w_dim: int, config: SynthesisConfig) -> None:
        super().__init__()
        h0, w0, doublings = base_grid(*resolution)
        self.sizes = [(h0 << i, w0 << i) for i in range(doublings + 1)]
        self.num_low_precision = min(config.low_precision_blocks, doublings)  # never the base grid
        widths = [level_channels(i, config.channel_base, config.channel_max) for i in range(doublings + 1)]
        for i, size in enumerate(self.sizes):
            block = SynthesisBlock(
                widths[i - 1] if i else None,
                widths[i],
                w_dim,
                size,
                channels,
                is_last=i == doublings,
                config=config,
            )
            self.add_module(block_name(size), block)
        self.num_ws = 2 * (doublings + 1)
        self.use_noise = config.use_noise

    @property
    def blocks(self) -> list[SynthesisBlock]:
        """The levels, from the base grid to the full size."""
        return [self.get_submodule(block_name(size)) for size in self.sizes]  # pyright: ignore[reportReturnType]

    def draw_noise(self, n: int, generator: torch.Generator) -> list[Tensor]:
        """Fresh standard normal noise for n images: `[n, 1, H, W]` for each convolution, on the generator's device."""
        shapes = [size for i, size in enumerate(self.sizes) for _ in range(2 if i else 1)]
        return [torch.randn(n, 1, *size, generator=generator, device=generator.device) for size in shapes]

    def forward(
        self,
        ws: Float[Tensor, "N L D"],
        *,
        noise: Noise = "random",
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Float[Tensor, "N C H W"]:
        """Images float32 `[N, C, H, W]`.

        Args:
            ws: `[N, num_ws, D]`.
            noise: drawn from `generator` ("random"), the network's constants ("const"), "none", or given as from
                `draw_noise`.
            generator: for random noise; None: torch's global one.
            dtype: that the low-precision levels compute in.
        """
        return self.render(self.styles(ws), noise=noise, generator=generator, dtype=dtype)

    @property
    def style_layers(self) -> list[StyleLayer]:
        """The layers that read a style, in the order of the computation, which is that of `styles`."""
        layers, first = [], 0
        for level, block in enumerate(self.blocks):
            for i, (kind, layer) in enumerate(block.styled):
                # Where there is no ToRGB before the last level, the w that it would read stays unread.
                layers.append(StyleLayer(level, kind, layer.affine.weight.shape[0], first + i))
            first += block.num_conv
        return layers

    def styles(self, ws: Tensor) -> list[Tensor]:
        """ws `[N, num_ws, D]` → the style of each of `style_layers`, float32 `[N, width]` (S space: Wu et al. 2021)."""
        affines = [layer.affine for block in self.blocks for _, layer in block.styled]
        each = ws.unbind(1)  # whose gradients are stacked, not added up in a tensor like ws for each layer
        return [affine(each[layer.ws_index]) for affine, layer in zip(affines, self.style_layers)]

    def render(
        self,
        styles: Sequence[Tensor],
        *,
        noise: Noise = "random",
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
        start: int = 0,
        state: LevelState | None = None,
    ) -> Tensor:
        """Images float32 `[N, C, H, W]` from styles.

        Args:
            styles: one for each of `style_layers`, `[N, width]`.
            noise, generator, dtype: as for a call.
            start: the level to begin at; above 0, `state` is that of the level before it (see `levels`).
            state: None at level 0.
        """
        plan = self._plan(styles, noise, generator, start, state)
        for level in range(start, len(self.sizes)):
            state = self._level(level, state, *plan[level], dtype)
        assert state is not None
        assert state.image is not None
        return state.image

    def levels(
        self,
        styles: Sequence[Tensor],
        *,
        noise: Noise = "const",
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Iterator[LevelState]:
        """The output of each level, from the base grid on: its feature maps and the image so far.

        The arguments are those of `render`.
        """
        state = None
        for level, given in enumerate(self._plan(styles, noise, generator, 0, None)):
            state = self._level(level, state, *given, dtype)
            yield state

    def _plan(
        self,
        styles: Sequence[Tensor],
        noise: Noise,
        generator: torch.Generator | None,
        start: int,
        state: LevelState | None,
    ) -> list[tuple[Sequence[Tensor], Sequence[Tensor | None]]]:
        """The styles and the noise of each level. Raises `FruganError` where they do not fit this network."""
        wanted = [layer.width for layer in self.style_layers]
        if [style.shape[-1] for style in styles] != wanted:
            raise FruganError(f"styles must have {wanted} channels, one tensor for each layer; see style_layers")
        if not 0 <= start < len(self.sizes) or (start > 0) != (state is not None):
            raise FruganError(
                f"start {start}: give a level from 0 to {len(self.sizes) - 1}, and above 0 the state of the level before"
            )
        maps = self._noise(styles[0].shape[0], noise, generator)
        plan, style_at, noise_at = [], 0, 0
        for block in self.blocks:
            style_end, noise_end = style_at + len(block.styled), noise_at + block.num_conv
            plan.append((styles[style_at:style_end], maps[noise_at:noise_end]))
            style_at, noise_at = style_end, noise_end
        return plan

    def _level(
        self,
        level: int,
        state: LevelState | None,
        styles: Sequence[Tensor],
        noise: Sequence[Tensor | None],
        dtype: torch.dtype,
    ) -> LevelState:
        is_low = level >= len(self.sizes) - self.num_low_precision
        features, image = (None, None) if state is None else state
        return LevelState(*self.blocks[level](features, image, styles, noise, dtype if is_low else torch.float32))

    def _noise(self, n: int, noise: Noise, generator: torch.Generator | None) -> Sequence[Tensor | None]:
        if not isinstance(noise, str):
            return noise
        if noise == "none" or not self.use_noise:
            return [None] * (self.num_ws - 1)
        if noise == "const":
            convs = [conv for block in self.blocks for conv in (block.conv0, block.conv1) if conv is not None]
            return [conv.noise_const for conv in convs]
        if noise != "random":
            raise FruganError(f'noise {noise!r}: choose "random", "const" or "none"')
        if generator is None:
            raise FruganError('noise="random" needs a torch.Generator to draw from; or ask for noise="const"')
        return self.draw_noise(n, generator)
