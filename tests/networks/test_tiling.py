"""Networks that repeat: a tiled image is one of many copies, exactly; its seam is like any other place."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from frugan.networks import Discriminator, DiscriminatorConfig, Generator, GeneratorConfig, SynthesisConfig
from frugan.networks.layers import EqualizedConv2d
from frugan.ops.tiling import TILES, seams, tiles_along

SIZES = [(8, 8), (12, 20), (16, 16), (48, 64), (40, 24)]
ARCHITECTURES = ["skip", "resnet", "orig"]


def noisy(resolution, tile, architecture="skip", channels=3, **low):
    """A generator of random weights with strong noise in every layer."""
    torch.manual_seed(0)
    synthesis = SynthesisConfig(64, 8, architecture, tile=tile, **low)  # pyright: ignore[reportArgumentType]
    G = Generator(GeneratorConfig(resolution, channels, z_dim=8, w_dim=8, synthesis=synthesis))
    for name, parameter in G.named_parameters():
        if name.endswith(("noise_strength", "bias")):
            torch.nn.init.normal_(parameter, 0.5, 0.5)
    return G.eval().requires_grad_(False)


def on_copies(G, counts):
    """The same network on a constant input of so many copies: it makes as many copies of its images."""
    larger = copy.deepcopy(G)
    block = larger.synthesis.blocks[0]
    block.const = torch.nn.Parameter(block.const.repeat(1, *counts), requires_grad=False)
    return larger


@settings(deadline=None, max_examples=24)
@given(
    st.sampled_from(SIZES),
    st.sampled_from(TILES),
    st.sampled_from(ARCHITECTURES),
    st.sampled_from([1, 3, 5]),
    st.integers(0, 9),
)
def test_an_image_among_copies_is_the_image(resolution, tile, architecture, channels, seed):
    """So the image continues itself across its border just as it does inside, with noise of all resolutions."""
    G = noisy(resolution, tile, architecture, channels)
    rng = torch.Generator().manual_seed(seed)
    ws, noise = G.mapping(torch.randn(2, 8, generator=rng)), G.synthesis.draw_noise(2, rng)
    image = G.synthesis(ws, noise=noise)
    counts = [2 if repeats else 1 for repeats in tiles_along(tile)]
    four = on_copies(G, counts).synthesis(ws, noise=[layer.repeat(1, 1, *counts) for layer in noise])
    torch.testing.assert_close(four, image.repeat(1, 1, *counts), atol=2e-4 * float(image.abs().max()), rtol=1e-4)


@pytest.mark.parametrize("resolution", SIZES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_no_place_is_the_border(resolution, architecture):
    """All that goes in moved around the border by cells of the base grid moves the image by as many of its pixels."""
    G = noisy(resolution, "xy", architecture)
    rng = torch.Generator().manual_seed(1)
    ws, noise = G.mapping(torch.randn(1, 8, generator=rng)), G.synthesis.draw_noise(1, rng)
    image = G.synthesis(ws, noise=noise)
    base = G.synthesis.sizes[0]
    moved = copy.deepcopy(G)
    block = moved.synthesis.blocks[0]
    block.const = torch.nn.Parameter(block.const.roll((1, -2), (1, 2)), requires_grad=False)
    factors = [layer.shape[2] // base[0] for layer in noise]
    rolled = [layer.roll((f, -2 * f), (2, 3)) for layer, f in zip(noise, factors)]
    expected = image.roll((factors[-1], -2 * factors[-1]), (2, 3))
    torch.testing.assert_close(
        moved.synthesis(ws, noise=rolled), expected, atol=2e-4 * float(image.abs().max()), rtol=1e-4
    )


@pytest.mark.parametrize("resolution", [(16, 16), (48, 64)])
@pytest.mark.parametrize("tile", TILES)
def test_the_step_across_the_seam_is_one_of_many(resolution, tile):
    """Gradients across the border have the mean of those across any other line of the same phase; without tiling not."""
    G = noisy(resolution, tile)
    images = G.sample(range(96), noise="random").double()
    for axis, repeats, base in zip((2, 3), tiles_along(tile), G.synthesis.sizes[0]):
        steps = (
            (images - images.roll(1, axis)).abs().mean((0, 1, 5 - axis))
        )  # step i lies before pixel i; 0 is the seam
        alike = steps.view(base, -1)[:, 0]  # at the beginning of each cell of the base grid
        spread = alike[1:].std() + 0.05 * alike[1:].mean()
        z = float((alike[0] - alike[1:].mean()) / spread)
        if repeats:
            assert abs(z) < 3, (axis, z)
        else:
            assert z > 2, "this test sees no seam where there is one"


def test_seams_are_measured_along_each_axis():
    wave = torch.cos(torch.arange(32) * (2 * torch.pi / 32)).expand(2, 1, 32, 32)
    ramp = torch.linspace(-1, 1, 32).expand(2, 1, 32, 32).mT
    y, x = seams(wave + ramp)
    assert y == pytest.approx(31, rel=1e-3)
    assert x < 1


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_discriminator_has_no_border_either(architecture, dtype):
    """Its feature maps of an image moved around the border are moved, down to the base grid."""
    torch.manual_seed(0)
    sizes, shape = (16, 24), {"channel_base": 64, "channel_max": 8, "architecture": architecture}
    D = Discriminator(DiscriminatorConfig(sizes, tile="xy", mbstd_channels=0, **shape)).eval()
    plain = Discriminator(DiscriminatorConfig(sizes, mbstd_channels=0, **shape)).eval()
    plain.load_state_dict(D.state_dict())

    def features(network, images):
        kept = []
        hook = network.get_submodule(f"b{'x'.join(map(str, network.sizes[-1]))}").conv.register_forward_hook(
            lambda _, __, out: kept.append(out)
        )
        network(images, dtype=dtype)
        hook.remove()
        return kept[0]

    images = torch.randn(3, 3, *sizes)
    step = sizes[0] // D.sizes[-1][0]
    found = [features(D, x) for x in (images, images.roll((step, -step), (2, 3)))]
    torch.testing.assert_close(found[0].roll((1, -1), (2, 3)), found[1], atol=1e-4, rtol=1e-3)
    assert not torch.allclose(features(plain, images), found[0], atol=1e-3)


def test_every_convolution_of_both_networks_is_told():
    G, D = noisy((16, 16), "x", "resnet"), Discriminator(DiscriminatorConfig((16, 16), channel_base=64, tile="x"))
    assert {m.tile for net in (G, D) for m in net.modules() if isinstance(m, EqualizedConv2d)} == {"x"}
