"""Open synthesis: styles and feature maps can be taken out, changed and put back, and nothing else changes."""

from __future__ import annotations

import pytest
import torch

from frugan.errors import FruganError
from frugan.networks import Generator, GeneratorConfig, SynthesisConfig
from frugan.networks.stylegan2.synthesis import BLOCK_ARCHITECTURES

SIZES = [(16, 16), (12, 20), (32, 32), (24, 16)]


def make(resolution: tuple[int, int], architecture: str = "skip", **settings: object) -> Generator:
    torch.manual_seed(0)
    synthesis = SynthesisConfig(channel_base=256, channel_max=24, architecture=architecture, **settings)  # pyright: ignore[reportArgumentType]
    G = Generator(GeneratorConfig(resolution, z_dim=16, w_dim=16, synthesis=synthesis))
    for name, parameter in G.named_parameters():
        if "noise_strength" in name or name.endswith(".bias"):
            torch.nn.init.normal_(parameter)
    return G


@pytest.mark.parametrize("architecture", BLOCK_ARCHITECTURES)
@pytest.mark.parametrize("resolution", SIZES)
@pytest.mark.parametrize("noise", ["const", "none", "given"])
def test_render_of_styles_is_the_forward_pass_bit_for_bit(
    architecture: str, resolution: tuple[int, int], noise: str
) -> None:
    G = make(resolution, architecture)
    ws = torch.randn(3, G.num_ws, 16)
    given = G.synthesis.draw_noise(3, torch.Generator().manual_seed(1)) if noise == "given" else noise
    expected = G.synthesis(ws, noise=given)
    styles = G.synthesis.styles(ws)
    assert torch.equal(G.synthesis.render(styles, noise=given), expected)  # pyright: ignore[reportArgumentType]
    assert [s.shape for s in styles] == [(3, layer.width) for layer in G.synthesis.style_layers]


def test_each_layer_reads_its_own_w() -> None:
    """As published: ToRGB of a level and the first convolution of the next read the same one, every other layer one alone."""
    G = make((16, 16))
    read = [0, 1, 1, 2, 3, 3, 4, 5]  # conv1 and ToRGB of 4², then conv0, conv1 and ToRGB of 8² and of 16²
    ws = torch.randn(1, G.num_ws, 16)
    before = G.synthesis.styles(ws)
    for k in range(G.num_ws):
        changed = ws.clone()
        changed[:, k] += 1
        after = G.synthesis.styles(changed)
        assert [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if not torch.equal(a, b)] == [
            i for i, own in enumerate(read) if own == k
        ]


@pytest.mark.parametrize("architecture", BLOCK_ARCHITECTURES)
@pytest.mark.parametrize("resolution", SIZES)
def test_rendering_goes_on_from_the_state_of_any_level(architecture: str, resolution: tuple[int, int]) -> None:
    G = make(resolution, architecture)
    styles = G.synthesis.styles(torch.randn(2, G.num_ws, 16))
    expected = G.synthesis.render(styles, noise="const")
    states = list(G.synthesis.levels(styles))
    assert [s.features.shape[2:] for s in states] == G.synthesis.sizes
    assert states[-1].image is not None
    assert torch.equal(states[-1].image, expected)
    for level, state in enumerate(states[:-1], start=1):
        assert torch.equal(G.synthesis.render(styles, noise="const", start=level, state=state), expected)


def test_a_changed_style_changes_the_image_from_its_level_on() -> None:
    G = make((32, 32))
    styles = G.synthesis.styles(torch.randn(1, G.num_ws, 16))
    before = list(G.synthesis.levels(styles))
    for i, layer in enumerate(G.synthesis.style_layers):
        changed = [s.clone() for s in styles]
        changed[i][:, 0] += 3
        after = list(G.synthesis.levels(changed))
        for level, (a, b) in enumerate(zip(before, after)):
            assert a.image is not None
            assert b.image is not None
            same = torch.equal(a.features, b.features) and torch.equal(a.image, b.image)
            assert same == (level < layer.level)


def test_gradients_reach_styles_and_states() -> None:
    G = make((16, 16))
    styles = [s.detach().requires_grad_() for s in G.synthesis.styles(torch.randn(2, G.num_ws, 16))]
    G.synthesis.render(styles, noise="const").square().sum().backward()
    assert all(s.grad is not None and s.grad.abs().sum() > 0 for s in styles)


def test_the_published_number_of_styles() -> None:
    """9,088 at 1024² and 8,704 at 256² with channel base 32768 (Wu et al. 2021)."""
    for side, total, convolutions in ((1024, 9088, 6048), (256, 8704, 5760)):
        with torch.device("meta"):
            G = Generator(GeneratorConfig((side, side)))
        layers = G.synthesis.style_layers
        assert sum(layer.width for layer in layers) == total
        assert sum(layer.width for layer in layers if layer.kind != "torgb") == convolutions
        assert max(layer.ws_index for layer in layers) == G.num_ws - 1


def test_styles_that_do_not_fit_are_refused() -> None:
    G = make((16, 16))
    styles = G.synthesis.styles(torch.randn(2, G.num_ws, 16))
    for wrong in (styles[:-1], [styles[0][:, 1:], *styles[1:]]):
        with pytest.raises(FruganError, match="styles must have"):
            G.synthesis.render(wrong, noise="const")


@pytest.mark.parametrize("start", [-1, 1, 9])
def test_a_level_that_does_not_exist_or_lacks_its_state_is_refused(start: int) -> None:
    G = make((16, 16))
    with pytest.raises(FruganError, match=rf"start {start}: give a level"):
        G.synthesis.render(G.synthesis.styles(torch.randn(1, G.num_ws, 16)), noise="const", start=start)
