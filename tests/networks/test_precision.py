"""Dtypes of the networks: which blocks compute in low precision, the clamp of their activations, and `torch.autocast`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from frugan.losses import path_lengths, r1_penalty
from frugan.networks import (
    Discriminator,
    DiscriminatorConfig,
    Generator,
    GeneratorConfig,
    MappingConfig,
    SynthesisConfig,
)
from frugan.networks.layers import EqualizedConv2d
from frugan.networks.stylegan2.discriminator import Epilogue
from frugan.networks.stylegan2.synthesis import StyledConv, ToRGB

BLOCK_ARCHITECTURES = ["skip", "resnet", "orig"]


def generator(size: int = 16, **options: Any) -> Generator:
    torch.manual_seed(0)
    synthesis = SynthesisConfig(64, 4, **options)
    return Generator(
        GeneratorConfig((size, size), z_dim=8, w_dim=8, mapping=MappingConfig(num_layers=2), synthesis=synthesis)
    )


def discriminator(size: int = 16, **options: Any) -> Discriminator:
    torch.manual_seed(0)
    return Discriminator(DiscriminatorConfig((size, size), channel_base=64, channel_max=4, **options))


def input_dtypes(network: nn.Module, kinds: tuple[type, ...], run: Any) -> dict[str, torch.dtype]:
    """By block, what its convolutions are given; all of a block alike."""
    found: dict[str, set[torch.dtype]] = {}
    hooks = [
        module.register_forward_hook(
            lambda _, inputs, __, name=name: found.setdefault(name.split(".")[-2], set()).add(inputs[0].dtype)
        )
        for name, module in network.named_modules()
        if isinstance(module, kinds)
    ]
    run()
    for hook in hooks:
        hook.remove()
    assert all(len(dtypes) == 1 for dtypes in found.values())
    return {name: dtype for name, (dtype,) in found.items()}


@pytest.mark.parametrize("architecture", BLOCK_ARCHITECTURES)
def test_the_four_highest_resolutions_compute_in_low_precision(architecture: str) -> None:
    """At 128² these are 16² to 128²; 4² and 8² stay in float32. At 16² all but the base grid do."""
    for size, low in ((128, (16, 32, 64, 128)), (16, (8, 16))):
        G, D = generator(size, architecture=architecture), discriminator(size, architecture=architecture)
        ws = G.mapping(torch.randn(4, 8))
        for network, kinds, run in (
            (G, (StyledConv, ToRGB), lambda G=G, ws=ws: G.synthesis(ws, noise="const", dtype=torch.bfloat16)),
            (D, (EqualizedConv2d,), lambda D=D, size=size: D(torch.randn(4, 3, size, size), dtype=torch.bfloat16)),
        ):
            dtypes = input_dtypes(network, kinds, run)
            sides = [4 << i for i in range(size.bit_length() - 2)]
            assert dtypes == {f"b{s}": torch.bfloat16 if s in low else torch.float32 for s in sides}


@pytest.mark.parametrize("architecture", BLOCK_ARCHITECTURES)
def test_activations_are_clamped_in_every_layer(architecture: str) -> None:
    """At ±clamp, times the gain of a resnet's branch: every layer with large weights reaches its limit, none exceeds it."""
    limits: dict[str, tuple[float, float]] = {}

    def watch(name: str, module: nn.Module) -> None:
        def note(_: nn.Module, inputs: Any, kwargs: dict[str, Any], output: Tensor) -> None:
            limits[name] = float(output.detach().abs().max()), 2.0 * kwargs.get("gain", 1.0)

        module.register_forward_hook(note, with_kwargs=True)

    G, D = generator(architecture=architecture, clamp=2.0), discriminator(architecture=architecture, clamp=2.0)
    for network in (G, D):
        for name, module in network.named_modules():
            bounded = isinstance(module, EqualizedConv2d) and module.activation == "lrelu"
            if (bounded and ".fromrgb" not in name) or isinstance(module, (StyledConv, ToRGB)):
                module.weight.data *= 1000  # pyright: ignore[reportArgumentType, reportCallIssue, reportOperatorIssue]
                module.bias.data += torch.linspace(-50, 50, len(module.bias))  # pyright: ignore
                watch(name, module)
    G(torch.randn(4, 8), noise="const")
    D(torch.randn(4, 3, 16, 16) * 10)
    assert len([name for name in limits if "conv" in name]) == 5 + 5
    for name, (largest, limit) in limits.items():
        assert largest == pytest.approx(limit), name
    halved = [name for name, (_, limit) in limits.items() if limit == pytest.approx(2 / 2**0.5)]
    in_D = ["b16.conv1", "b8.conv1"]
    expected = {"skip": [], "resnet": ["synthesis.b8.conv1", "synthesis.b16.conv1"], "orig": []}[architecture]
    assert sorted(halved) == sorted(expected + (in_D if architecture == "resnet" else []))
    assert isinstance(D.b4, Epilogue)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("architecture", BLOCK_ARCHITECTURES)
def test_networks_are_trained_under_autocast(architecture: str, dtype: torch.dtype) -> None:
    """As inside another program: losses and penalties have the gradients that they have without, to low precision."""
    G, D = generator(architecture=architecture), discriminator(architecture=architecture)
    z, y, x = torch.randn(4, 8), torch.randn(4, 3, 16, 16) / 16, torch.randn(4, 3, 16, 16)

    def path_length() -> Tensor:
        return path_lengths(lambda ws: G.synthesis(ws, noise="const"), G.mapping(z), y).square().mean()

    losses = {
        "generator": (G, lambda: -D(G(z, noise="const")).mean()),
        "discriminator": (D, lambda: torch.nn.functional.softplus(-D(x)).mean()),
        "path length": (G, path_length),
        "r1": (D, lambda: r1_penalty(D, x, 1.0)),
    }
    for name, (network, loss) in losses.items():
        found = []
        for enabled in (False, True):
            with torch.autocast("cpu", dtype=dtype, enabled=enabled):
                value = loss()
            gradients = torch.autograd.grad(value, list(network.parameters()), materialize_grads=True)
            found.append(torch.cat([g.flatten() for g in gradients]))
        assert (found[1] - found[0]).norm() < 0.25 * found[0].norm(), name
