"""An encoder for a generator, trained on nothing but its own samples: images in, w out, within minutes.

The generator gives endless exact pairs of image and w, so no data set is needed (Chai et al., "Using Latent Space Regression to
Analyze and Leverage Compositionality in GANs", 2021). The encoder predicts w in standard deviations, by convolutions of stride 2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frugan.checks import Limits, Seed, check_fields, check_number
from frugan.command_line import command
from frugan.errors import FruganError
from frugan.files import read_json, refilling, write_json
from frugan.latent.direction import RELATED, Identity
from frugan.latent.fitting.loop import Schedule, Terms, fit
from frugan.latent.statistics import draw_latents
from frugan.networks import Generator
from frugan.networks.serialization import load_weights, save_tensors, weights_digest

WEIGHTS, FACTS = "encoder.safetensors", "encoder.json"
LARGEST_SIDE = 128
"""Larger images are reduced to it before they are encoded."""
_HELD_OUT = 1 << 23
"""The random stream of the samples that the error is measured on."""


@dataclass(frozen=True)
class EncoderConfig:
    """`width` feature maps after the first convolution, doubled at each of the next, at most 256."""

    steps: Annotated[int, Limits(at_least=1, at_most=10_000_000)] = 2000
    batch: Annotated[int, Limits(at_least=1, at_most=4096)] = 16
    lr: Annotated[float, Limits(above=0, at_most=1)] = 1e-3
    width: Annotated[int, Limits(at_least=1, at_most=1024)] = 32
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_fields(self)


class Encoder(nn.Module):
    """A small convolutional encoder: images float32 `[N, C, H, W]` in [-1, 1] → w `[N, w_dim]`.

    Args:
        channels: C.
        resolution: (H, W) of the generator; larger images are reduced first.
        w_dim: of w.
        num_ws: of the generator.
        width: the number of the first feature maps.
    """

    def __init__(self, channels: int, resolution: tuple[int, int], w_dim: int, num_ws: int, width: int) -> None:
        super().__init__()
        self.num_ws = num_ws
        factor = min(1.0, LARGEST_SIDE / max(resolution))
        self.side = tuple(max(4, round(side * factor)) for side in resolution)
        h, w = self.side
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1), nn.LeakyReLU(0.2)]
        maps = width
        while min(h, w) > 4:
            wider = min(2 * maps, 256)
            layers += [
                nn.Conv2d(maps, wider, 3, stride=2, padding=1),
                nn.GroupNorm(_groups(wider), wider),
                nn.LeakyReLU(0.2),
            ]
            maps, h, w = wider, -(-h // 2), -(-w // 2)
        self.trunk = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Linear(maps * h * w, 256), nn.LeakyReLU(0.2), nn.Linear(256, w_dim))
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.zeros(w_dim))
        self.register_buffer("std", torch.ones(w_dim))

    def forward(self, images: Tensor) -> Tensor:
        """w in standard deviations from its mean."""
        x = images.float()
        if tuple(x.shape[2:]) != self.side:
            x = F.interpolate(x, size=self.side, mode="area")
        return self.head(self.trunk(x).flatten(1))

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """→ ws `[N, num_ws, w_dim]`, one w for all levels."""
        w = torch.cat([self(some) for some in images.split(32)]) * self.std + self.mean
        return w[:, None].repeat(1, self.num_ws, 1)


class _Regression:
    """Σ over a batch of the mean square error of w; see `frugan.latent.fitting.loop.Problem`."""

    def __init__(self, G: Generator, encoder: Encoder, config: EncoderConfig) -> None:
        self.G, self.encoder, self.count = G, encoder, config.batch
        self.variables: dict[str, Tensor] = dict(encoder.named_parameters())
        self.shared = frozenset(self.variables)

    def __call__(self, rows: Tensor, progress: float, rng: torch.Generator) -> Terms:
        stream = int(torch.randint(1 << 30, (1,), generator=rng)) + (1 << 24)
        w, images = samples(self.G, self.count, stream)
        error = (self.encoder(images) - (w - self.encoder.mean) / self.encoder.std).square().mean(1)
        return Terms(
            error / self.count, torch.zeros((), device=error.device), images[:1].expand(self.count, -1, -1, -1)
        )

    def settle(self) -> None:
        pass


@torch.no_grad()
def samples(G: Generator, n: int, stream: int) -> tuple[Tensor, Tensor]:
    """Samples for the encoder: w `[n, w_dim]` and images `[n, C, H, W]`, each with a random truncation between ½ and 1
    and random noise.

    Args:
        G: the generator.
        n: number of samples.
        stream: the random stream's number; the same one gives the same samples.
    """
    device = G.mapping.w_avg.device
    z, c = draw_latents(G, n, stream)
    rng = torch.Generator().manual_seed(stream)
    psi = (0.5 + 0.5 * torch.rand(n, 1, generator=rng)).to(device)
    w = torch.lerp(G.mapping.w_avg, G.mapping.features(z.to(device), None if c is None else c.to(device)), psi)
    noise = [m.to(device) for m in G.synthesis.draw_noise(n, rng)]
    return w, G.synthesis(w[:, None].expand(-1, G.num_ws, -1), noise=noise).clamp(-1, 1)


def make_encoder(G: Generator, width: int) -> Encoder:
    """An untrained encoder for a generator; `width` is the number of its first feature maps."""
    return Encoder(G.channels, G.resolution, G.w_dim, G.num_ws, width)


def train_encoder(
    G: Generator,
    config: EncoderConfig = EncoderConfig(),
    *,
    state: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Encoder, float]:
    """Trains an encoder for a generator on the generator's own samples.

    Args:
        G: the generator.
        config: size and schedule.
        state: a file that the training state is kept in, for resuming; None keeps none.
        progress: called with (step, steps).

    Returns:
        The encoder, and the share of the variance of w that it leaves unexplained on 256 unseen samples.
    """
    device = G.mapping.w_avg.device
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        encoder = make_encoder(G, config.width)
    w = _w_samples(G)
    encoder.mean, encoder.std = w.mean(0), w.std(0).clamp_min(1e-6)
    encoder = encoder.to(device)
    problem = _Regression(G, encoder, config)
    schedule = Schedule(config.steps, config.lr, ramp_up=0.02, ramp_down=0.5, betas=(0.9, 0.99))
    for report in fit(problem, schedule, seed=config.seed, state=state, state_every=200, facts=weights_digest(G)):
        if progress:
            progress(report.step, report.steps)
    return encoder.eval().requires_grad_(False), unexplained(G, encoder)


@torch.no_grad()
def unexplained(G: Generator, encoder: Encoder, count: int = 256) -> float:
    """The share of the variance of w that an encoder leaves unexplained: Σ(w − ŵ)² / Σ(w − w̄)², in standard deviations of w.

    Args:
        G: the generator.
        encoder: of that generator.
        count: number of samples, which training never draws.
    """
    errors, total = [], []
    for i in range(0, count, 32):
        w, images = samples(G, 32, _HELD_OUT + i)
        truth = (w - encoder.mean) / encoder.std
        errors.append((encoder(images) - truth).square().sum())
        total.append(truth)
    all_truth = torch.cat(total)
    return float(torch.stack(errors).sum() / (all_truth - all_truth.mean(0)).square().sum())


def save_encoder(encoder: Encoder, G: Generator, folder: Path, config: EncoderConfig, error: float) -> Path:
    """Writes encoder.safetensors and encoder.json into a folder.

    Args:
        encoder: its weights.
        G: its generator, whose hash is kept.
        folder: made if need be.
        config: size and schedule.
        error: the unexplained share, for information.
    """
    identity = Identity.of(G)
    facts: dict[str, Any] = {
        "format": 1,
        "generator": {"digest": identity.digest, "levels": list(identity.levels)},
        "config": asdict(config),
        "unexplained": error,
    }
    with refilling(folder, FACTS) as scratch:
        save_tensors({**encoder.state_dict(), "probe": identity.probe}, scratch / WEIGHTS)
        write_json(scratch / FACTS, facts)
    return folder


def load_encoder(folder: str | Path, G: Generator) -> Encoder:
    """Reads an encoder onto G's device. Raises `FruganError` where there is none, or it belongs to another generator."""
    folder = Path(folder)
    if not (folder / WEIGHTS).is_file() or not (folder / FACTS).is_file():
        raise FruganError(
            f"{folder} holds no encoder; {command('encode', 'NETWORK', '--train', '--out', folder)} makes one"
        )
    tensors = load_weights(folder / WEIGHTS)
    try:
        facts = read_json(folder / FACTS)
        width = facts["config"]["width"]
        check_number("width", width, at_least=1, at_most=1024, whole=True)
        identity = Identity(facts["generator"]["digest"], tensors.pop("probe"), tuple(facts["generator"]["levels"]))
        encoder = make_encoder(G, width)
        relation = identity.relation(G)
        if relation >= RELATED:
            encoder.load_state_dict(tensors)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise FruganError(f"{folder} holds a damaged encoder, or one of another generator; train it again") from error
    if relation < RELATED:
        raise FruganError(f"the encoder in {folder} belongs to another generator; train one for this")
    return encoder.eval().requires_grad_(False).to(G.mapping.w_avg.device)


def _groups(channels: int) -> int:
    return next(g for g in (8, 4, 2, 1) if channels % g == 0)


@torch.no_grad()
def _w_samples(G: Generator) -> Tensor:
    """w `[5000, w_dim]` on the CPU, truncated as in training."""
    device = G.mapping.w_avg.device
    z, c = draw_latents(G, 5000, _HELD_OUT - 1)
    w = G.mapping.features(z.to(device), None if c is None else c.to(device))
    psi = torch.linspace(0.5, 1, 5000, device=device)[:, None]
    return torch.lerp(G.mapping.w_avg, w, psi).cpu()
