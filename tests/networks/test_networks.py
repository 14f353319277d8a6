"""Both networks: sizes, parameters, gradients, labels, and what their configurations refuse."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from frugan.config.options import Options
from frugan.config.resolve import Facts, resolve
from frugan.data import DataConfig
from frugan.errors import FruganError
from frugan.networks import (
    Discriminator,
    DiscriminatorConfig,
    Generator,
    GeneratorConfig,
    MappingConfig,
    SynthesisConfig,
)
from frugan.networks.stylegan2.discriminator import minibatch_std

# Published and computed counts: (preset, side, labels, D mapping layers) → mapping, synthesis, G, D, num_ws
COUNTS = [
    ("stylegan2", 1024, 0, None, 2_101_248, 28_268_812, 30_370_060, 29_012_513, 18),
    ("paper512", 512, 0, None, 2_101_248, 28_175_335, 30_276_583, 28_982_849, 16),
    ("paper256", 256, 0, None, 2_101_248, 22_666_210, 24_767_458, 24_001_089, 14),
    ("auto", 256, 0, None, 525_312, 22_666_210, 23_191_522, 24_001_089, 14),
    ("auto", 128, 0, None, 525_312, 22_423_965, 22_949_277, 23_882_369, 12),
    ("cifar", 32, 0, None, 525_312, 19_422_227, 19_947_539, 20_720_641, 8),
    ("cifar", 32, 10, 8, 793_088, 19_422_227, 20_215_315, 23_089_664, 8),
]


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("row", COUNTS, ids=lambda r: f"{r[0]}-{r[1]}-{r[2]}")
def test_parameter_counts(row: tuple) -> None:
    preset, side, labels, d_layers, mapping, synthesis, g_total, d_total, num_ws = row
    facts = Facts((side, side), 3, labels, 1000, 0)
    options = Options(preset=preset, conditional=bool(labels), d_mapping_layers=d_layers)
    config, _ = resolve(options, DataConfig("x"), facts)
    with torch.device("meta"):
        G, D = Generator(config.generator), Discriminator(config.discriminator)
    assert (count(G.mapping), count(G.synthesis), count(G), count(D)) == (mapping, synthesis, g_total, d_total)
    assert G.num_ws == num_ws


def small(resolution: tuple[int, int], channels: int, architecture: Any, **low) -> tuple[Generator, Discriminator]:
    torch.manual_seed(0)
    G = Generator(
        GeneratorConfig(
            resolution,
            channels,
            z_dim=16,
            w_dim=16,
            mapping=MappingConfig(2),
            synthesis=SynthesisConfig(128, 16, architecture, **low),
        )
    )
    D = Discriminator(
        DiscriminatorConfig(resolution, channels, channel_base=128, channel_max=16, architecture=architecture, **low)
    )
    return G, D


SIZES = [(8, 8), (32, 32), (48, 64), (64, 48), (64, 96), (40, 40), (144, 256)]


@pytest.mark.parametrize("resolution", SIZES, ids=str)
@pytest.mark.parametrize("architecture", ["skip", "resnet", "orig"])
def test_any_shape_and_channels(resolution: tuple[int, int], architecture: str, device: torch.device) -> None:
    for channels in (1, 2, 4, 7):
        G, D = (net.to(device) for net in small(resolution, channels, architecture))
        images = G(torch.randn(4, 16, device=device), noise="const")
        assert images.shape == (4, channels, *resolution)
        assert D(images).shape == (4,)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("architecture", ["skip", "resnet", "orig"])
def test_low_precision_is_near_float32(dtype: torch.dtype, architecture: str, device: torch.device) -> None:
    G, D = (net.to(device) for net in small((32, 32), 3, architecture, clamp=256.0))
    ws = G.mapping(torch.randn(4, 16, device=device))
    exact, rough = G.synthesis(ws, noise="const"), G.synthesis(ws, noise="const", dtype=dtype)  # pyright: ignore[reportCallIssue]
    assert rough.dtype == torch.float32
    assert (exact - rough).abs().max() < 0.05 * exact.abs().max()
    assert (exact - rough).abs().max() > 0
    x = torch.randn(4, 3, 32, 32, device=device)
    torch.testing.assert_close(D(x), D(x, dtype=dtype), atol=0.05, rtol=0.1)


def test_float16_modulation_survives_large_weights() -> None:
    """Demodulation cancels scale; without taking it out first, float16 would overflow."""
    G, _ = small((32, 32), 3, "skip", clamp=256.0)
    ws = G.mapping(torch.randn(2, 16))
    expected = G.synthesis(ws, noise="none")
    with torch.no_grad():
        for block in G.synthesis.blocks[1:]:
            block.conv1.weight *= 3e4  # pyright: ignore[reportAttributeAccessIssue]
    assert (G.synthesis(ws, noise="none", dtype=torch.float16) - expected).abs().max() < 0.05 * expected.abs().max()


def test_forward_changes_nothing() -> None:
    G, D = small((16, 16), 3, "skip")
    before = {k: v.clone() for net in (G, D) for k, v in net.state_dict().items()}
    D(G.train()(torch.randn(4, 16), noise="random", generator=torch.Generator().manual_seed(0)))
    assert all(torch.equal(before[k], v) for net in (G, D) for k, v in net.state_dict().items())


def test_noise_modes() -> None:
    G, _ = small((16, 16), 3, "skip")
    with torch.no_grad():
        for block in G.synthesis.blocks:
            block.conv1.noise_strength.fill_(1.0)
    ws = G.mapping(torch.randn(2, 16))
    rng = torch.Generator().manual_seed(0)
    one, two = (G.synthesis(ws, noise="random", generator=rng) for _ in range(2))
    again = G.synthesis(ws, noise="random", generator=torch.Generator().manual_seed(0))
    assert not torch.equal(one, two)
    assert torch.equal(one, again)
    assert not torch.equal(G.synthesis(ws, noise="const"), G.synthesis(ws, noise="none"))
    drawn = G.synthesis.draw_noise(2, torch.Generator().manual_seed(0))
    assert torch.equal(G.synthesis(ws, noise=drawn), one)
    with pytest.raises(FruganError, match="needs a torch"):
        G.synthesis(ws)
    with pytest.raises(FruganError, match="'loud'"):
        G.synthesis(ws, noise="loud")


def test_truncation_and_average() -> None:
    G, _ = small((16, 16), 3, "skip")
    w = G.mapping.features(torch.randn(64, 16), None)
    G.mapping.update_average(w, decay=0.9)
    torch.testing.assert_close(G.mapping.w_avg, 0.1 * w.mean(0))
    z = torch.randn(2, 16)
    torch.testing.assert_close(G.mapping(z, truncation=0.0), G.mapping.w_avg.expand(2, G.num_ws, 16))
    cut = G.mapping(z, truncation=0.5, truncation_cutoff=2)
    torch.testing.assert_close(cut[:, 2:], G.mapping(z)[:, 2:])
    assert not torch.allclose(cut[:, :2], G.mapping(z)[:, :2])


def test_minibatch_std_by_hand() -> None:
    """Groups are strided through the batch; the statistic is the mean over features of the group's deviation."""
    x = torch.randn(8, 4, 3, 3, dtype=torch.float64).float()
    y = minibatch_std(x, 4, 2)
    assert y.shape == (8, 6, 3, 3)
    members = x[[1, 3, 5, 7]]
    deviation = (members.var(dim=0, correction=0) + 1e-8).sqrt()
    torch.testing.assert_close(y[3, 4], deviation[:2].mean().expand(3, 3))
    torch.testing.assert_close(y[3, 5], deviation[2:].mean().expand(3, 3))
    both = minibatch_std(torch.cat([x, 2 * x]), 4, 2, batches=2)
    torch.testing.assert_close(both, torch.cat([y, minibatch_std(2 * x, 4, 2)]))
    with pytest.raises(FruganError, match="multiple of the group"):
        minibatch_std(x[:6], 4, 1)


def test_labels() -> None:
    torch.manual_seed(0)
    config = GeneratorConfig((8, 8), 1, label_size=3, z_dim=8, w_dim=8, synthesis=SynthesisConfig(64, 8))
    G = Generator(config)
    z, c = torch.randn(2, 8), torch.eye(3)[:2]
    assert not torch.allclose(G.mapping(z, c), G.mapping(z, c.flip(0)))
    with pytest.raises(FruganError, match="labels of size 3, got none"):
        G.mapping(z)
    for layers in (0, 2):
        D = Discriminator(
            DiscriminatorConfig((8, 8), 1, label_size=3, channel_base=64, channel_max=8, mapping=MappingConfig(layers))
        )
        x = torch.randn(2, 1, 8, 8)
        assert D(x, c).shape == (2,)
        assert not torch.allclose(D(x, c), D(x, c.flip(0)))


def test_seeds_name_latents() -> None:
    G, _ = small((16, 16), 3, "skip")
    twice = G.sample(seeds=[5, 9, 5], batch=2)
    torch.testing.assert_close(twice[0], twice[2])
    assert not torch.allclose(twice[0], twice[1])
    assert torch.equal(copy.deepcopy(G).sample(seeds=[9]), G.sample(seeds=[9]))


@pytest.mark.parametrize("resolution", [(17, 32), (100, 100), (2, 2), (0, 4), (32, 1024)])
def test_impossible_sizes(resolution: tuple[int, int]) -> None:
    with pytest.raises(FruganError, match="the nearest one that is"):
        Generator(GeneratorConfig(resolution))
