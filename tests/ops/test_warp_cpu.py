"""The affine warp on a CPU: equal to the general one for all kinds of matrices."""

from __future__ import annotations

import math

import pytest
import torch

from frugan.ops import warp_cpu
from frugan.ops.tiling import TILES, Tile
from frugan.ops.warp import AffineWarp
from frugan.ops.warp_cpu import CheapestWarp

from .conftest import affine, images


def count_images(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """By the way that they take on a CPU."""
    counts: dict[str, int] = {}
    for way in ("_view", "_along"):
        own = getattr(CheapestWarp, way)
        monkeypatch.setattr(
            CheapestWarp,
            way,
            lambda self, m, *more, way=way, own=own: (counts.update({way: len(m)}), own(self, m, *more))[1],
        )
    return counts


def in_blocks_beyond(inputs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warp_cpu, "_DENSE_UP_TO", {-2: inputs, -1: inputs})


@pytest.mark.parametrize("dense_up_to", [160, 0])
def test_images_take_the_cheapest_way(dense_up_to: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """None for those that stay, matrices where rows stay rows; values and both derivatives are those of the whole way."""
    in_blocks_beyond(dense_up_to, monkeypatch)
    x = images(6, 2, 8, 9).double()
    upright = torch.stack([torch.diag(torch.tensor([-1.2, 0.7, 1.0])), affine(1, shift=(2.5, -9))[0]])
    inverse = torch.cat([affine(1), affine(2, angle=0.4, zoom=1.1), upright, affine(1)]).double()
    warp_89 = AffineWarp((8, 9))
    every = warp_89.whole(x, inverse)
    counts = count_images(monkeypatch)
    torch.testing.assert_close(warp_89(x, inverse), every, atol=2e-6, rtol=0)
    assert counts == {"_view": 2, "_along": 2}
    assert torch.autograd.gradcheck(lambda x: warp_89(x, inverse), x.requires_grad_(), fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda x: warp_89(x, inverse).square(), x, fast_mode=True)
    energy = torch.func.grad(lambda x: warp_89(x, inverse).square().sum())
    expected = torch.autograd.grad(warp_89(x, inverse).square().sum(), x)[0]
    torch.testing.assert_close(energy(x), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(16, 16), (16, 24)])
def test_quarter_turns_equal_the_whole_way(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a square they are transpositions and need no sampling. Values and gradients; the last image stays."""
    x, up = images(5, 2, *size).requires_grad_(), images(5, 2, *size).flip(0)
    inverse = torch.cat(
        [affine(1, angle=k * math.pi / 2, zoom=1 + k / 9, shift=(k, 1)).round(decimals=3) for k in range(4)]
        + [affine(1)]
    )
    warp, counts = AffineWarp(size), count_images(monkeypatch)
    results = [f(x, inverse) for f in (warp, warp.whole)]
    torch.testing.assert_close(*results, atol=2e-4, rtol=0)
    square = size[0] == size[1]
    assert counts == ({"_along": 4} if square else {"_along": 2, "_view": 2})
    gradients = [torch.autograd.grad(result, x, up)[0] for result in results]
    torch.testing.assert_close(*gradients, atol=2e-4, rtol=0)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("size", [(16, 16), (24, 32), (200, 170)])
def test_upright_warps_equal_the_whole_way(size: tuple[int, int], tile: Tile) -> None:
    x, up = images(4, 2, *size).requires_grad_(), images(4, 2, *size).flip(0)
    scales = [(1.3, 0.6), (-1, 1), (-0.2, -3.5), (1, 1)]
    inverse = torch.stack([torch.diag(torch.tensor([*scale, 1.0])) for scale in scales])
    inverse[:, :2, 2] = torch.tensor([[3.3, -2], [0, 7], [size[1], 0.1], [-1e-4, 0]])
    warp = AffineWarp(size, tile=tile)
    results = [f(x, inverse) for f in (warp, warp.whole)]
    torch.testing.assert_close(*results, atol=2e-4, rtol=0)
    gradients = [torch.autograd.grad(result, x, up)[0] for result in results]
    torch.testing.assert_close(*gradients, atol=2e-4, rtol=0)


@pytest.mark.parametrize("size", [(16, 16), (24, 32), (200, 170)])
@pytest.mark.parametrize(
    "zooms, shift",
    [((0.8, 0.8, 0.8), 0.1), ((1.2, 1.2, 1.2), 0.3), ((2.5, 2.5, 2.5), 0.2), ((1, 2.5, 1), 0.1)],
    ids=["inside", "around", "beyond", "one beyond"],
)
@pytest.mark.parametrize("tile", TILES)
def test_windows_equal_the_whole_period(
    tile: Tile, size: tuple[int, int], zooms: tuple[float, ...], shift: float
) -> None:
    """Values and gradients; where less than a period is seen, more than one, and more than there is."""
    x, up = images(3, 2, *size).requires_grad_(), images(3, 2, *size).flip(0)
    shifts = shift * size[1], -shift * size[0]
    inverse = torch.cat([affine(1, angle=a, zoom=zoom, shift=shifts) for a, zoom in zip((0.3, 2, 4), zooms)])
    warp = AffineWarp(size, tile=tile)
    results = [f(x, inverse).detach() for f in (warp, warp.whole)]
    gradients = [torch.autograd.grad(f(x, inverse), x, up)[0] for f in (warp, warp.whole)]
    torch.testing.assert_close(*results, atol=2e-4, rtol=0)  # positions are rounded otherwise
    torch.testing.assert_close(*gradients, atol=2e-4, rtol=0)


def test_windows_hold_what_is_seen_and_no_more_than_a_period() -> None:
    assert warp_cpu._window(16, False, -7.5, 7.5) == (-1, 48)  # pixels 0 to 15 are samples 0 to 30
    assert warp_cpu._window(16, False, -20, 20) is None  # more than a period
    assert warp_cpu._window(16, False, 10, 23.5) is None  # beyond the reflection
    assert warp_cpu._window(16, True, 10, 23.5) is not None  # no end


@pytest.mark.parametrize("tile", TILES)
def test_quarter_turns_of_images_that_repeat_equal_the_whole_way(tile: Tile) -> None:
    x = images(4, 2, 16, 16)
    inverse = torch.cat([affine(1, angle=k * math.pi / 2, shift=(k, 3.5)).round(decimals=3) for k in range(4)])
    warp = AffineWarp((16, 16), tile=tile)
    torch.testing.assert_close(warp(x, inverse), warp.whole(x, inverse), atol=2e-4, rtol=0)
