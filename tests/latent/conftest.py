"""Small generators whose noise, biases and affines are not at their start."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from frugan.latent.statistics import Statistics, compute_statistics
from frugan.networks import Generator, GeneratorConfig, MappingConfig, SynthesisConfig
from frugan.pixel_format import PixelFormat


def make_generator(
    resolution: tuple[int, int] = (16, 16),
    *,
    label_size: int = 0,
    channels: int = 3,
    layers: int = 2,
    latent: int = 12,
    architecture: str = "skip",
    seed: int = 0,
    pixels: PixelFormat | None = None,
) -> Generator:
    torch.manual_seed(seed)
    synthesis = SynthesisConfig(channel_base=256, channel_max=16, architecture=architecture)  # pyright: ignore[reportArgumentType]
    G = Generator(
        GeneratorConfig(
            resolution,
            channels,
            label_size=label_size,
            z_dim=latent,
            w_dim=latent,
            mapping=MappingConfig(layers),
            synthesis=synthesis,
            pixels=pixels,
        )
    )
    for name, parameter in G.named_parameters():
        if "noise_strength" in name or name.endswith(".bias"):
            torch.nn.init.normal_(parameter, mean=1.0 if "affine" in name else 0.0, std=0.3)
    G.mapping.w_avg.normal_(std=0.1)
    return G.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def G() -> Generator:
    return make_generator((12, 20))


@pytest.fixture(scope="session")
def statistics(G: Generator) -> Statistics:
    return compute_statistics(G, samples=20_000, style_samples=4_000)


@pytest.fixture(scope="session")
def make() -> Callable[..., Generator]:
    return make_generator
