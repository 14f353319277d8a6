"""Recomputed feature maps change nothing: not images, logits, gradients, nor gradients of gradients; only what is held."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from frugan.losses import path_lengths, r1_penalty
from frugan.networks import Discriminator, DiscriminatorConfig, Generator, GeneratorConfig, SynthesisConfig
from frugan.networks.activation_checkpointing import checkpoint_activations
from frugan.networks.stylegan2.synthesis import BLOCK_ARCHITECTURES, BlockArchitecture
from frugan.training.trial import bytes_kept

WIDTH: dict[str, Any] = {"channel_base": 256, "channel_max": 16}
VARIANTS: dict[str, dict[str, Any]] = {
    "resnet": {},
    "skip": {"architecture": "skip"},
    "orig": {"architecture": "orig"},
    "dropout": {"dropout": True},
    "bits": {"bits": 3},
    "spectral norm": {"spectral_norm": True},
}


def generator(architecture: BlockArchitecture = "skip") -> Generator:
    synthesis = SynthesisConfig(architecture=architecture, clamp=256.0, **WIDTH)
    G = Generator(GeneratorConfig((16, 16), z_dim=8, w_dim=8, synthesis=synthesis))
    for name, parameter in G.named_parameters():
        if "noise_strength" in name:
            parameter.data.fill_(0.3)
    return G


def both_ways(network: torch.nn.Module, loss: Callable[[], Tensor], tolerance: float = 1e-5) -> None:
    """The loss, and its gradient by all parameters, with and without."""
    results = []
    for on in (False, True):
        checkpoint_activations(network, on)
        network.zero_grad(set_to_none=True)
        value = loss()
        value.backward()
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in network.parameters()]
        results.append((value.detach(), torch.cat([g.flatten() for g in grads])))
    for expected, actual in zip(*results):
        assert (actual - expected).norm() <= tolerance * expected.norm()


@pytest.mark.parametrize("architecture", BLOCK_ARCHITECTURES)
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-4), (torch.bfloat16, 2e-2)])
def test_generator(architecture: BlockArchitecture, dtype: torch.dtype, tolerance: float) -> None:
    G = generator(architecture)
    z, rng = torch.randn(4, 8), torch.Generator().manual_seed(0)
    noise = G.synthesis.draw_noise(4, rng)
    y = torch.randn(4, 3, 16, 16)
    image = lambda ws: G.synthesis(ws, noise=noise, dtype=dtype)  # noqa: E731
    both_ways(G, lambda: (image(G.mapping(z)) * y).square().sum(), tolerance)
    both_ways(G, lambda: path_lengths(image, G.mapping(z), y).square().sum(), tolerance)


@pytest.mark.parametrize("variant", VARIANTS)
def test_discriminator(variant: str) -> None:
    D = Discriminator(DiscriminatorConfig((16, 16), **WIDTH, **VARIANTS[variant]))
    x = torch.randn(4, 3, 16, 16)
    extras = D.draw_extras(4, torch.tensor(0.5), torch.Generator().manual_seed(0))
    both_ways(D, lambda: D(x, extras=extras).square().sum())
    both_ways(D, lambda: r1_penalty(lambda x: D(x, extras=extras), x, gamma=2.0))


def test_frozen_parameters_get_no_gradient() -> None:
    D = Discriminator(DiscriminatorConfig((16, 16), **WIDTH)).requires_grad_(False)
    D.b4.requires_grad_(True)  # pyright: ignore
    both_ways(D, lambda: r1_penalty(D, torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)), 2.0))


def test_nothing_is_recorded_without_gradients() -> None:
    G = generator()
    checkpoint_activations(G)
    with torch.no_grad():
        assert G.synthesis(G.mapping(torch.randn(2, 8)), noise="const").grad_fn is None


@pytest.mark.parametrize("phase, share", [("plain", 0.75), ("penalty", 0.95)])
def test_less_is_held(phase: str, share: float) -> None:
    D = Discriminator(DiscriminatorConfig((64, 64), channel_base=1024, channel_max=16))
    x = torch.randn(8, 3, 64, 64)
    loss = {"plain": lambda: D(x).sum(), "penalty": lambda: r1_penalty(D, x, 2.0)}[phase]
    held = []
    for on in (False, True):
        checkpoint_activations(D, on)
        held.append(bytes_kept(loss))
    assert held[1] < share * held[0]
