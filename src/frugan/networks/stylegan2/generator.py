"""The StyleGAN2 generator: a mapping network and a synthesis network."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

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
    """Everything that decides the generator's shape. `resolution` is (height, width).

    `measured` describes the label columns that are numbers; empty, all are embedded as classes, as in the paper. `pixels`: how
    the data's files hold images, in which output is written; None where that is not known. `masks`: what the last channels are,
    where these are no image.
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
    """z, c → images float32 `[N, C, H, W]`, nominally in [-1, 1] (`sample` keeps to it). Calling it never changes it."""

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
        """How the data's files hold images; where that is not known, uint8."""
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
        ws = self.mapping(z, c, truncation=truncation, truncation_cutoff=truncation_cutoff)
        return self.synthesis(ws, noise=noise, generator=generator)

    def without_masks(self) -> Generator:
        """This generator, or where it makes masks, too, one of its image channels alone, of the same images."""
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
        """seeds → z `[N, z_dim]` float32 on the CPU; a seed means the same latent on every device and version."""
        return seed_latents(check_seeds(seeds), self.z_dim)

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
        return torch.cat(
            list(
                self.sample_batches(
                    seeds, c=c, truncation=truncation, truncation_cutoff=truncation_cutoff, noise=noise, batch=batch
                )
            )
        )

    def sample_batches(
        self,
        seeds: Iterable[int],
        *,
        c: Tensor | None = None,
        truncation: float = 1.0,
        truncation_cutoff: int | None = None,
        noise: NoiseKind = "const",
        batch: int = 16,
    ) -> Iterator[Tensor]:
        """As `sample`, `batch` images at a time."""
        chosen = check_seeds(seeds)
        check_number("batch", batch, at_least=1, whole=True)
        check_number("truncation", truncation, at_least=-2, at_most=2)
        check_number("truncation_cutoff", truncation_cutoff, at_least=0, whole=True)
        if noise not in ("const", "random", "none"):
            raise FruganError(f'noise {noise!r}: choose "random", "const" or "none"')
        labels = self._labels(c, len(chosen))
        return self._batches(chosen, labels, noise, batch, truncation, truncation_cutoff)

    @torch.no_grad()
    def _batches(
        self, seeds: list[int], c: Tensor | None, noise: Noise, batch: int, truncation: float, cutoff: int | None
    ) -> Iterator[Tensor]:
        device = self.mapping.w_avg.device
        for i in range(0, len(seeds), batch):
            chunk = seeds[i : i + batch]
            labels = None if c is None else c[i : i + batch].to(device)
            z = seed_latents(chunk, self.z_dim).to(device)
            if noise == "random":
                maps: Noise = stream_noise(self.synthesis.draw_noise, noise_seeds(chunk), device)
            else:
                maps = noise
            yield self(z, labels, noise=maps, truncation=truncation, truncation_cutoff=cutoff).clamp(-1, 1)

    def _labels(self, c: Tensor | None, n: int) -> Tensor | None:
        """Labels `[n, K]` from those given, `[K]` or `[n, K]`."""
        size = self.label_size
        if c is None and not size:
            return None
        shape = None if c is None else tuple(c.shape)
        if c is None or not size or shape not in ((size,), (n, size)):
            wanted = f"[{size}] or [{n}, {size}]" if size else "none: this generator was trained without labels"
            raise FruganError(f"labels c of shape {shape}: give {wanted}")
        return c.expand(n, size)
