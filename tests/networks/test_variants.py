"""The discriminator's variants, each against an independent computation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from frugan.errors import FruganError
from frugan.networks import Discriminator, DiscriminatorConfig, Extras
from frugan.networks.layers import EqualizedConv2d

SMALL: dict[str, Any] = {"resolution": (16, 16), "channel_base": 64, "channel_max": 8}
IMAGES = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def network(**options) -> Discriminator:
    torch.manual_seed(0)
    return Discriminator(DiscriminatorConfig(**{**SMALL, **options}))


def test_variants_start_as_the_plain_network() -> None:
    """Without extras, and but for what they add, they compute the same from the same weights."""
    plain = network()
    for options in ({"dropout": True}, {"bits": 4}, {"rotation_head": True}):
        D = network(**options)
        state = D.state_dict()
        for key, value in plain.state_dict().items():
            state[key][: len(value)] = value
        D.load_state_dict(state)
        torch.testing.assert_close(D(IMAGES), plain(IMAGES))


def test_spectral_norm_is_the_largest_singular_value() -> None:
    D = network(spectral_norm=True)
    for _ in range(200):
        D.power_iteration()
    normed = [m for m in D.modules() if isinstance(m, EqualizedConv2d) and m.singular is not None]
    assert len(normed) == 5
    assert all(m.weight.shape[2:] == (3, 3) for m in normed)
    for layer in normed:
        sigma = np.linalg.svd(layer.weight.detach().flatten(1).numpy(), compute_uv=False)[0]
        x = torch.randn(2, layer.weight.shape[1], 8, 8)
        plain = EqualizedConv2d(*layer.weight.shape[1::-1], 3, activation="lrelu", resample=layer.resample)  # pyright: ignore[reportCallIssue]
        plain.weight = nn.Parameter(layer.weight.detach() / sigma / plain.weight_gain * plain.bias_gain)
        torch.testing.assert_close(layer(x), plain(x), atol=1e-4, rtol=1e-3)


def test_spectral_norm_has_the_gradient_of_the_quotient() -> None:
    """d(W/σ) with σ = uᵀWv is orthogonal to W: scaling the weight changes nothing."""
    layer = EqualizedConv2d(4, 6, 3, spectral=True)
    for _ in range(200):
        layer.power_iteration()
    layer(torch.randn(2, 4, 8, 8)).square().sum().backward()
    assert layer.weight.grad is not None
    inner = (layer.weight.grad * layer.weight.detach()).sum()
    assert abs(inner) < 1e-4 * layer.weight.grad.norm() * layer.weight.detach().norm()


def test_bits_decide_the_sign() -> None:
    D = network(bits=4)
    bits = torch.zeros(8, 4)
    even = D(IMAGES, extras=Extras(bits=bits))
    assert torch.equal(even, D(IMAGES))
    top = D.get_submodule("b16.bits")
    nn.init.zeros_(top.weight)  # pyright: ignore[reportArgumentType]
    bits[:4, 0] = 1
    bits[0, 2] = 1
    signs = torch.tensor([1.0, -1, -1, -1, 1, 1, 1, 1])
    torch.testing.assert_close(D(IMAGES, extras=Extras(bits=bits)), D(IMAGES) * signs)


def test_bits_are_seen() -> None:
    D = network(bits=4)
    bits = torch.zeros(8, 4)
    bits[:, :2] = 1  # an even number: the sign stays
    assert not torch.allclose(D(IMAGES, extras=Extras(bits=bits)), D(IMAGES))


@pytest.mark.parametrize(
    ("p", "rates"), [(0.0, [0, 0, 0, 0]), (0.25, [0.5, 0, 0, 0]), (0.45, [0.5, 0.3, 0, 0]), (1, [0.5] * 4)]
)
def test_bits_come_in_one_by_one(p: float, rates: list[float]) -> None:
    bits = network(bits=4).draw_extras(20000, torch.tensor(p), torch.Generator().manual_seed(1)).bits
    assert bits is not None
    np.testing.assert_allclose(bits.mean(dim=0), rates, atol=0.015)


def test_dropout_factors_are_log_normal() -> None:
    D = network(dropout=True)
    assert D.activated == [4, 4, 8, 8, 8, 8, 8]
    factors = D.draw_extras(4000, torch.tensor(0.3), torch.Generator().manual_seed(1)).factors
    assert factors is not None
    assert [f.shape[1] for f in factors] == D.activated
    for factor in factors:
        assert stats.kstest(factor[:, 0].log().numpy(), stats.norm(0, 0.3).cdf).pvalue > 1e-3
    off = D.draw_extras(8, torch.tensor(0.0), torch.Generator().manual_seed(1))
    torch.testing.assert_close(D(IMAGES, extras=off), D(IMAGES))


@pytest.mark.parametrize("architecture", ["resnet", "orig", "skip"])
def test_a_factor_acts_before_each_activation(architecture: str) -> None:
    """A negative one swaps the two slopes of that layer's leaky ReLU, and each layer takes its own."""
    D = network(dropout=True, architecture=architecture)
    ones = [torch.ones(8, width) for width in D.activated]
    torch.testing.assert_close(D(IMAGES, extras=Extras(factors=ones)), D(IMAGES))
    for i, factor in enumerate(ones):
        changed = [*ones[:i], factor * -1, *ones[i + 1 :]]
        assert not torch.allclose(D(IMAGES, extras=Extras(factors=changed)), D(IMAGES))


def test_rotation_head() -> None:
    D = network(rotation_head=True)
    assert D(IMAGES).shape == (8,)
    assert D.rotation_logits(IMAGES).shape == (8, 4)
    for options in ({"label_size": 3}, {"resolution": (16, 32)}):
        with pytest.raises(FruganError, match="square images without labels"):
            network(rotation_head=True, **options)
