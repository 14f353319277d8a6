"""One training step: the four phases of StyleGAN2-ADA, each a pure function of networks and drawn tensors.

Order: generator, path length (every 4th step), discriminator, R1 (every 16th). Everything the discriminator sees passes
through the same stochastic augmentation first (Karras et al. 2020, "Training Generative Adversarial Networks with Limited
Data", Fig. 2b); the generator's gradient flows through it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from frugan.augment import AugmentPipeline, Draw
from frugan.errors import FruganError
from frugan.networks import Discriminator, Generator
from frugan.objectives import LOSSES, path_length_penalty, path_lengths, r1_penalty

Precision = Literal["fp32", "bf16", "fp16"]
DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class ObjectiveConfig:
    """What is minimised. Intervals are in steps; a lazy penalty is scaled by its interval (StyleGAN2, appendix B).

    `path_length_shrink` divides the batch of the path-length penalty; weight 0 switches a penalty off.
    """

    loss: str = "non-saturating"
    r1_gamma: float = 1.0
    r1_interval: int = 16
    path_length_weight: float = 2.0
    path_length_interval: int = 4
    path_length_decay: float = 0.01
    path_length_shrink: int = 2
    style_mixing: float = 0.9

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise FruganError(f"loss {self.loss!r}: choose one of {', '.join(LOSSES)}")
        if self.r1_gamma < 0 or self.path_length_weight < 0:
            raise FruganError("gamma and the path-length weight must be 0 (off) or more")
        if min(self.r1_interval, self.path_length_interval, self.path_length_shrink) < 1:
            raise FruganError("penalty intervals and the path-length shrink must be 1 or more")
        if not 0 <= self.style_mixing <= 1:
            raise FruganError(f"style mixing {self.style_mixing}: a probability from 0 to 1")


class Latents(NamedTuple):
    """All that the generator is fed for n images: two z for style mixing, where to switch, labels and noise."""

    z: Tensor  # [n, z_dim]
    z_mix: Tensor  # [n, z_dim]
    cutoff: Tensor  # 0-d int64: layers from here on use z_mix
    c: Tensor  # [n, K]
    noise: list[Tensor]  # [n, 1, h, w] each


class Phases:
    """The losses of the four phases. Random tensors are drawn outside, so that each function is pure and compiles whole."""

    def __init__(
        self,
        G: Generator,
        D: Discriminator,
        augment: AugmentPipeline,
        config: ObjectiveConfig,
        *,
        precision: Precision = "fp32",
        compiled: bool = False,
    ) -> None:
        self.G, self.D, self.augment, self.config = G, D, augment, config
        self.loss = LOSSES[config.loss]
        self.dtype = DTYPES[precision]
        wrap = (lambda f: torch.compile(f, dynamic=False)) if compiled else (lambda f: f)
        self.generator, self.discriminator = wrap(self._generator), wrap(self._discriminator)
        self.fakes = torch.no_grad()(wrap(self._fakes))
        self.path_length, self.r1 = wrap(self._path_length), wrap(self._r1)
        self.score = torch.no_grad()(wrap(self._score))

    def draw_latents(self, n: int, labels: Tensor, rng: torch.Generator) -> Latents:
        """Labels of generated images follow the empirical distribution: drawn from `labels` `[N, K]`."""
        device, num_ws = rng.device, self.G.num_ws
        z, z_mix = torch.randn(2, n, self.G.z_dim, generator=rng, device=device)
        mix = torch.rand((), generator=rng, device=device) < self.config.style_mixing
        cutoff = torch.randint(1, num_ws, (), generator=rng, device=device)
        picks = torch.randint(len(labels), (n,), generator=rng, device=device)
        noise = self.G.synthesis.draw_noise(n, rng) if self.G.synthesis.use_noise else []
        return Latents(z, z_mix, torch.where(mix, cutoff, num_ws), labels[picks], noise)

    def _ws(self, latents: Latents) -> Tensor:
        ws = self.G.mapping(latents.z, latents.c)
        if not self.config.style_mixing:
            return ws
        layers = torch.arange(self.G.num_ws, device=ws.device)[None, :, None]
        return torch.where(layers < latents.cutoff, ws, self.G.mapping(latents.z_mix, latents.c))

    def _synthesis(self, ws: Tensor, latents: Latents) -> Tensor:
        return self.G.synthesis(ws, noise=latents.noise or "none", dtype=self.dtype)

    def _critic(self, images: Tensor, c: Tensor, draw: Draw) -> Tensor:
        return self.D(self.augment.apply(images, draw), c, dtype=self.dtype)

    def _fakes(self, latents: Latents) -> Tensor:
        return self._synthesis(self._ws(latents), latents)

    def _score(self, images: Tensor, c: Tensor, draw: Draw) -> Tensor:
        return self._critic(images, c, draw)

    def _generator(self, latents: Latents, draw: Draw) -> tuple[Tensor, Tensor]:
        """(loss, logits `[n]`)"""
        logits = self._critic(self._fakes(latents), latents.c, draw)
        return self.loss.generator(logits).mean(), logits.detach()

    def _path_length(self, latents: Latents, y: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        """(penalty, the new running mean)"""
        lengths = path_lengths(lambda ws: self._synthesis(ws, latents), self._ws(latents), y)
        return path_length_penalty(lengths, mean, self.config.path_length_decay)

    def _discriminator(
        self, real: Tensor, c: Tensor, draw: Draw, fake: Tensor, c_fake: Tensor, draw_fake: Draw
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(loss, logits of the real images `[n]`, of the generated ones `[n]`)"""
        fake_logits = self._critic(fake, c_fake, draw_fake)
        real_logits = self._critic(real, c, draw)
        return self.loss.discriminator(real_logits, fake_logits).mean(), real_logits.detach(), fake_logits.detach()

    def _r1(self, real: Tensor, c: Tensor, draw: Draw) -> Tensor:
        """The penalty on the un-augmented real image: its gradient passes through the augmentation."""
        return r1_penalty(lambda x: self._critic(x, c, draw), real, self.config.r1_gamma)[0]


@contextmanager
def training_only(network: nn.Module, other: nn.Module) -> Iterator[None]:
    """Gradients are computed for `network`'s parameters alone; those frozen before stay frozen."""
    frozen = [p for p in other.parameters() if p.requires_grad]
    for p in frozen:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in frozen:
            p.requires_grad_(True)
