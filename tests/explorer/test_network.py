"""What an engine computes: w of latents and images of ws, as the generator itself makes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from frugan.explorer.network import Network, decoded
from frugan.latent.statistics import flat_styles, split_styles
from frugan.pixel_format import PixelFormat
from tests.explorer.conftest import make_network

SHAPES: dict[str, dict[str, Any]] = {
    "wide": {"resolution": (12, 16)},
    "tall, grey": {"resolution": (16, 12), "channels": 1},
    "wide, opacity": {"resolution": (12, 16), "channels": 4, "pixels": PixelFormat(alpha=True)},
    "tall, 16 bits": {"resolution": (16, 12), "pixels": PixelFormat("uint16", ((100, 3000),))},
    "nine channels": {"resolution": (12, 16), "channels": 9},
}


@pytest.fixture(params=["square", *SHAPES])
def network(request: pytest.FixtureRequest) -> Network:
    return make_network(**SHAPES.get(request.param, {}))


def test_map_and_render(network: Network) -> None:
    G = network.G
    z, c = G.latents([3, 4]), torch.eye(3)[[0, 2]]
    w = network.map(z, c)
    assert torch.equal(w, G.mapping.features(z, c))
    ws = w[:, None].expand(-1, G.num_ws, -1)
    assert torch.equal(network.render(ws, None), G(z, c, noise="const").clamp(-1, 1))
    assert torch.equal(network.render(ws, None, "none"), G(z, c, noise="none").clamp(-1, 1))
    offset = torch.randn(2, sum(layer.width for layer in G.synthesis.style_layers))
    moved = G.synthesis.render(split_styles(G, flat_styles(G, ws) + offset), noise="const").clamp(-1, 1)
    assert torch.equal(network.render(ws, offset), moved)


def test_drawn_noise_is_the_same_for_each_image_and_another_for_each_seed(network: Network) -> None:
    ws = network.map(network.G.latents([3]), torch.eye(3)[[0]])[:, None].expand(2, network.G.num_ws, -1)
    images = network.render(ws, None, 5)
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images, network.render(ws, None, 6))


def test_previews_are_of_the_first_level_that_is_large_enough(network: Network) -> None:
    ws = network.map(network.G.latents([3]), torch.eye(3)[[0]])[:, None].expand(-1, network.G.num_ws, -1)
    h, w = network.G.resolution
    assert network.render(ws, None, side=5).shape[2:] == (h // 2, w // 2)
    assert torch.equal(network.render(ws, None, side=16), network.render(ws, None))


def test_facts(network: Network) -> None:
    facts, G = network.facts(), network.G
    h, w = G.resolution
    assert facts["resolution"] == [h, w]
    assert facts["channels"] == G.channels
    assert facts["levels"] == [f"{h // n}" if h == w else f"{h // n}x{w // n}" for n in (4, 2, 1)]
    assert np.array_equal(decoded(facts["w_avg"]), G.mapping.w_avg.numpy())
    for told, direction in zip(facts["directions"], network.directions):
        assert (told["name"], tuple(told["slider"])) == (direction.name, direction.slider)
        assert np.array_equal(decoded(told["displacement"]), direction.displacement(G).flatten().numpy())
    assert facts["labels"][0]["classes"] == network.class_names


def test_networks_without_labels_directions_or_noise() -> None:
    G = make_network().G
    torch.manual_seed(0)
    plain = type(G)(
        type(G.config)((6, 8), 1, z_dim=4, w_dim=4, synthesis=type(G.config.synthesis)(64, 8, use_noise=False))
    )
    network = Network("plain", plain)
    facts = network.facts()
    assert (facts["noise"], facts["labels"], facts["directions"]) == ([], [], [])
    ws = network.map(plain.latents([0]), None)[:, None].expand(-1, plain.num_ws, -1)
    assert torch.equal(network.render(ws, None, 7), network.render(ws, None, "const"))
