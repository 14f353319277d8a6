"""Blends: the ends are the parents bit for bit, levels come from where they should, unrelated networks are refused."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from frugan.errors import FruganError
from frugan.latent.blending import Morph, Swap, alignment, blend, check_aligned, interpolate
from frugan.latent.code import point_noise, point_ws, render_points
from frugan.latent.mixing import mixed_ws, mixing_grid
from frugan.latent.path import loop
from frugan.latent.projection import constant_noise
from frugan.networks import Generator
from tests.latent.test_code import make_code

Make = Callable[..., Generator]


def child_of(G: Generator, amount: float = 0.1) -> Generator:
    child = copy.deepcopy(G)
    rng = torch.Generator().manual_seed(5)
    for value in child.state_dict().values():
        value.add_(amount * torch.randn(value.shape, generator=rng))
    return child


def same(a: Generator, b: Generator) -> bool:
    return all(torch.equal(x, b.state_dict()[k]) for k, x in a.state_dict().items())


def test_interpolation_ends_at_the_parents_bit_for_bit(G: Generator) -> None:
    child = child_of(G)
    assert same(interpolate(G, child, 0), G)
    assert same(interpolate(G, child, 1), child)
    half = interpolate(G, child, 0.5).state_dict()["synthesis.b6x10.conv0.weight"]
    expected = (G.state_dict()["synthesis.b6x10.conv0.weight"] + child.state_dict()["synthesis.b6x10.conv0.weight"]) / 2
    assert torch.allclose(half, expected)


def test_a_swap_takes_levels_from_either_side(G: Generator) -> None:
    child = child_of(G)
    for at in range(4):
        made = blend(G, child, Swap(at)).state_dict()
        for name, value in made.items():
            level = {"b3x5": 0, "b6x10": 1, "b12x20": 2}.get(name.split(".")[1], -1)
            source = child if level >= at and level >= 0 else G
            assert torch.equal(value, source.state_dict()[name]), (at, name)
    assert same(blend(G, child, Swap(3)), G)
    z = G.latents([1, 2])
    assert torch.equal(
        blend(G, child, Swap(3)).synthesis(G.mapping(z), noise="const"), G.synthesis(G.mapping(z), noise="const")
    )


def test_a_soft_swap_is_a_sigmoid_over_levels(G: Generator) -> None:
    shares = [Swap(1, 0.5).share(k) for k in range(3)]
    assert shares == sorted(shares)
    assert 0 < shares[0] < 0.5 < shares[1] < shares[2] < 1
    assert [Swap(1, 1e-3).share(k) for k in range(3)] == pytest.approx([0, 1, 1], abs=1e-6)


def test_other_resolutions_blend_by_level(make: Make) -> None:
    small, big = make((16, 16)), make((32, 32))
    for name, value in small.state_dict().items():
        big.state_dict()[name].copy_(value)  # as after fine-tuning at another size
    made = blend(small, child_of(big, 0.05), Swap(1))
    assert made.synthesis(made.mapping(made.latents([0])), noise="const").shape == (1, 3, 32, 32)
    assert torch.equal(made.state_dict()["synthesis.b4.conv1.weight"], small.state_dict()["synthesis.b4.conv1.weight"])


def test_alignment_and_refusals(G: Generator, make: Make) -> None:
    assert alignment(G, G) == pytest.approx((1.0, 1.0), abs=1e-5)
    child, stranger = child_of(G, 0.02), make(G.resolution, seed=9)
    assert check_aligned(G, child).w > 0.9
    with pytest.raises(FruganError, match="unrelated"):
        check_aligned(G, stranger)
    with pytest.raises(FruganError, match="latents of other sizes"):
        check_aligned(G, make(G.resolution, latent=8))
    with pytest.raises(FruganError, match="same shapes"):
        interpolate(G, make((24, 40)), 0.5)
    with pytest.raises(FruganError, match="base grids"):
        blend(G, make((12, 16)), Swap(1))


def test_a_morph_is_one_network_at_its_start_and_the_other_half_way(G: Generator) -> None:
    child = child_of(G)
    paths = loop(G, [0, 1, 2]), loop(child, [0, 1, 2])
    morph = Morph(G, child, *paths)
    images = morph.render(torch.tensor([0.0, 1.0, 2.0]))
    assert torch.allclose(images[0], paths[0].render(torch.tensor([0.0]))[0], atol=1e-5)
    assert torch.allclose(images[1], paths[1].render(torch.tensor([1.5]))[0], atol=1e-5)
    assert torch.allclose(images[0], images[2], atol=1e-4)


def test_mixing_takes_the_columns_levels(G: Generator) -> None:
    rows, columns = torch.randn(2, G.num_ws, 12), torch.randn(3, G.num_ws, 12)
    grid = mixed_ws(rows, columns, (1,))
    assert grid.shape == (2, 3, 6, 12)
    assert torch.equal(grid[1, 2, [2, 3]], columns[2, [2, 3]])
    assert torch.equal(grid[1, 2, [0, 1, 4, 5]], rows[1, [0, 1, 4, 5]])
    first, top, mixtures = mixing_grid(G, rows, columns, (0, 1, 2))
    assert torch.allclose(mixtures.reshape(2, 3, *top.shape[1:])[0], top, atol=1e-5)  # all levels: the columns
    assert len(first) == 2


@settings(deadline=None, max_examples=12)
@given(
    st.sets(st.integers(0, 2)), st.lists(st.booleans(), min_size=5, max_size=5), st.integers(1, 4)
)  # 2 rows, 3 columns
def test_mixtures_have_the_noise_of_the_image_that_gives_the_level(
    G: Generator, levels: set[int], fitted: list[bool], batch: int
) -> None:
    points = [make_code(G, seed, noise=has, name=str(seed)) if seed else 7 for seed, has in enumerate(fitted)]
    noise, ws = point_noise(G, points), point_ws(G, points)
    chosen = tuple(sorted(levels))
    rows, columns, mixtures = mixing_grid(G, ws[:2], ws[2:], chosen, noise=noise, batch=batch)
    assert torch.allclose(torch.cat([rows, columns]), render_points(G, points), atol=1e-5)
    for k, mixture in enumerate(mixtures):
        row, column = k // 3, 2 + k % 3
        maps = constant_noise(G, 1) if noise == "const" else noise
        of = [
            column if (i + 1) // 2 in chosen else row for i in range(len(maps))
        ]  # the first level has one convolution
        own = [maps[i] if noise == "const" else maps[i][[source]] for i, source in enumerate(of)]
        expected = G.synthesis(mixed_ws(ws[:2], ws[2:], chosen)[k // 3, k % 3][None], noise=own).clamp(-1, 1)
        assert torch.allclose(mixture[None], expected, atol=1e-5)
