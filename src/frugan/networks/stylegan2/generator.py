"""The StyleGAN2 generator: a mapping network and a synthesis network."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from frugan.channels import MaskChannel, has_alpha
from frugan.checks import check_fields, check_number
from frugan.errors import FruganError
from frugan.label_parts import Measured
from frugan.networks.limits import Channels, LabelSize, Side, Width, check_resolution, check_size
from frugan.networks.mapping import Mapping, MappingConfig
from frugan.networks.sampling import check_seeds, noise_seeds, seed_latents, stream_noise
from frugan.networks.stylegan2.synthesis import Noise, Synthesis, SynthesisConfig, level_shapes
from frugan.pixel_format import PixelFormat

if TYPE_CHECKING:
    from jaxtyping import Float

NoiseKind = Literal["const", "random", "none"]


@dataclass(frozen=True)
class GeneratorConfig:
    """The shape of a StyleGAN2 generator.

    Attributes:
        resolution: (height, width).
        channels: of the images, masks included.
        label_size: K; 0 for a generator without labels.
        z_dim, w_dim: width of z and of w.
        mapping: the mapping network.
        synthesis: the synthesis network.
        measured: the label columns that are numbers; all others are embedded as classes, as in the paper.
        pixels: how the files of the data set hold images, for writing; None where that is unknown.
        masks: the kinds of the last channels, where these are masks.
    """

    resolution: tuple[Side, Side]
    channels: Channels = 3
    label_size: LabelSize = 0
    z_dim: Width = 512
    w_dim: Width = 512
    mapping: MappingConfig = MappingConfig()
    synthesis: SynthesisConfig = SynthesisConfig()
    measured: tuple[Measured, ...] = ()
    pixels: PixelFormat | None = None
    masks: tuple[MaskChannel, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        if self.pixels is not None:
            self.pixels.check_channels(self.channels - len(self.masks))
        check_resolution(self.resolution)
        if len(self.masks) >= self.channels:
            raise FruganError(f"{len(self.masks)} masks among {self.channels} channels: one at least is the image's")
        shape = self.synthesis
        levels = level_shapes(self.resolution, shape.channel_base, shape.channel_max)
        styles = 3 * self.w_dim * sum(maps for maps, _, _ in levels)
        check_size("generator", levels, styles + self.mapping.num_weights(self.z_dim, self.label_size, self.w_dim))


class Generator(nn.Module):
    """The StyleGAN2 generator: z, c → images float32 `[N, C, H, W]`, nominally in [-1, 1] (`sample` clips them). A call
    never changes it.
    """

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.z_dim, self.w_dim, self.label_size = config.z_dim, config.w_dim, config.label_size
        self.resolution, self.channels = config.resolution, config.channels
        self.synthesis = Synthesis(config.resolution, config.channels, config.w_dim, config.synthesis)
        self.num_ws = self.synthesis.num_ws
        self.mapping = Mapping(
            config.z_dim, config.label_size, config.w_dim, self.num_ws, config.mapping, measured=config.measured
        )

    @property
    def pixels(self) -> PixelFormat:
        """The format of written images: that of the data set's files, or uint8 where it is unknown."""
        return self.config.pixels or PixelFormat(alpha=has_alpha(self.channels - len(self.config.masks)))

    def forward(
        self,
        z: Float[Tensor, "N Z"],
        c: Float[Tensor, "N K"] | None = None,
        *,
        truncation: float = 1.0,
        truncation_cutoff: int | None = None,
        noise: Noise = "random",
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "N C H W"]:
        """Images float32 `[N, C, H, W]`.

        Args:
            z: `[N, z_dim]`, standard normal.
            c: labels `[N, K]`, or None for a generator without.
            truncation: ψ; 1 is none.
            truncation_cutoff: the number of the first layers that are truncated; None: all.
            noise: drawn from `generator` ("random"), the network's constants ("const"), "none", or given as from
                `Synthesis.draw_noise`.
            generator: for random noise; None: torch's global one.
        """
        ws = self.mapping(z, c, truncation=truncation, truncation_cutoff=truncation_cutoff)
        return self.synthesis(ws, noise=noise, generator=generator)

    def without_masks(self) -> Generator:
        """This generator or, where it makes masks too, a copy that makes the image channels alone, of the same images."""
        if not self.config.masks:
            return self
        count = self.channels - len(self.config.masks)
        alone = copy.deepcopy(self)
        alone.config = replace(self.config, channels=count, masks=())
        alone.channels = count
        for block in alone.synthesis.blocks:
            if block.torgb is not None:
                for name in ("weight", "bias"):
                    kept = getattr(block.torgb, name).detach()[:count].clone()
                    setattr(block.torgb, name, torch.nn.Parameter(kept, requires_grad=False))
        return alone

    def latents(self, seeds: Sequence[int]) -> Tensor:
        """Latents z, float32 `[N, z_dim]`, on the CPU; a seed gives the same latent on every device and in every version."""
        return seed_latents(check_seeds(seeds), self.z_dim)

    @torch.no_grad()
    def sample(
        self,
        seeds: Iterable[int],
        *,
        c: Tensor | None = None,
        truncation: float = 1.0,
        truncation_cutoff: int | None = None,
        noise: NoiseKind = "const",
        batch: int = 16,
    ) -> Tensor:
        """seeds → images float32 `[N, C, H, W]` in [-1, 1] on the generator's device.

        A seed is the same image in every batch, place and order, to the rounding of convolutions. Values beyond the range
        are clipped, as they are where images are written.

        Args:
            seeds: whole numbers from 0 to 2³² − 1, at least one.
            c: labels float `[K]` or `[N, K]`, numbers in their own units, for a generator with labels.
            truncation: ψ; below 1 images are more typical and less varied.
            truncation_cutoff: how many of the first layers are truncated (None: all).
            noise: the network's constants, drawn anew for each seed, or none.
            batch: images computed at once.

        Raises:
            FruganError: where an argument is out of its range, before anything is computed.
        """
        chosen = check_seeds(seeds)
        check_number("batch", batch, at_least=1, whole=True)
        check_number("truncation", truncation, at_least=-2, at_most=2)
        check_number("truncation_cutoff", truncation_cutoff, at_least=0, whole=True)
        if noise not in ("const", "random", "none"):
            raise FruganError(f'noise {noise!r}: choose "random", "const" or "none"')
        labels, device = self._labels(c, len(chosen)), self.mapping.w_avg.device
        made = []
        for i in range(0, len(chosen), batch):
            some = chosen[i : i + batch]
            images = self(
                seed_latents(some, self.z_dim).to(device),
                None if labels is None else labels[i : i + batch].to(device),
                noise=self._noise(noise, some),
                truncation=truncation,
                truncation_cutoff=truncation_cutoff,
            )
            made.append(images.clamp(-1, 1))
        return torch.cat(made)

    def sample_batches(
        self, seeds: Iterable[int], *, c: Tensor | None = None, batch: int = 16, **options: Any
    ) -> Iterator[Tensor]:
        """The images of `sample` as an iterator of at most `batch` at a time, for more images than memory holds.

        `options` are the other arguments of `sample`.
        """
        chosen = check_seeds(seeds)
        check_number("batch", batch, at_least=1, whole=True)
        labels = self._labels(c, len(chosen))
        for i in range(0, len(chosen), batch):
            part = slice(i, i + batch)
            yield self.sample(chosen[part], c=None if labels is None else labels[part], batch=batch, **options)

    def _noise(self, kind: NoiseKind, seeds: Sequence[int]) -> Noise:
        if kind != "random":
            return kind
        return stream_noise(self.synthesis.draw_noise, noise_seeds(seeds), self.mapping.w_avg.device)

    def _labels(self, c: Tensor | None, n: int) -> Tensor | None:
        """Labels `[n, K]` from those given, `[K]` or `[n, K]`."""
        size = self.label_size
        if c is None and not size:
            return None
        shape = None if c is None else tuple(c.shape)
        if c is None or shape not in ((size,), (n, size)):
            wanted = f"[{size}] or [{n}, {size}]" if size else "none: this generator was trained without labels"
            raise FruganError(f"labels c of shape {shape}: give {wanted}")
        return c.expand(n, size)
