"""The affine warp against direct computation and the golden arrays, on every route."""

from __future__ import annotations

import math

import numpy as np
import pytest
import pywt
import torch
from torch import Tensor

from frugan.ops import warp, warp_cpu
from frugan.ops.periodic import reflect
from frugan.ops.tiling import TILES, Tile, tiles_along
from frugan.ops.warp import AffineWarp

from .conftest import affine, images

SIZES = [(4, 4), (5, 9), (8, 8), (12, 16), (48, 64), (32, 32)]


def literal_warp(image: np.ndarray, inverse: np.ndarray, tile: Tile = "none") -> np.ndarray:
    """The definition, sample by sample, in float64: extend by reflection or repetition, filter, interpolate, filter. `[H, W]`."""
    repeats = tiles_along(tile)
    h = np.array(pywt.Wavelet("sym6").dec_lo)  # pyright: ignore[reportAttributeAccessIssue]
    pads = [2 * size + 16 for size in image.shape]
    x = image
    for axis in (0, 1):
        around = [(pads[axis],) * 2 if axis == other else (0, 0) for other in (0, 1)]
        x = np.pad(x, around, mode="wrap" if repeats[axis] else "reflect")
    for axis in (0, 1):
        x = np.moveaxis(x, axis, 0)
        stuffed = np.zeros((2 * len(x), x.shape[1]))
        stuffed[::2] = x
        x = np.stack([np.convolve(column, h * math.sqrt(2)) for column in stuffed.T], 1)[5:-6]
        x = np.moveaxis(x, 0, axis)

    samples = np.zeros([2 * size + 10 for size in image.shape])
    for m, n in np.ndindex(*samples.shape):
        centre = [(size - 1) / 2 for size in image.shape]
        px, py, _ = inverse @ [(n - 5) / 2 - centre[1], (m - 5) / 2 - centre[0], 1]
        py, px = (math.remainder(p, size) if r else p for p, size, r in zip((py, px), image.shape, repeats))
        if any(abs(p) > 1.5 * size - 1 for p, size, r in zip((py, px), image.shape, repeats) if not r):
            continue  # more than W − 1 pixels outside
        v, u = 2 * (py + centre[0] + pads[0]), 2 * (px + centre[1] + pads[1])
        i, j = math.floor(v), math.floor(u)
        fv, fu = v - i, u - j
        samples[m, n] = [1 - fv, fv] @ x[i : i + 2, j : j + 2] @ [1 - fu, fu]
    for axis in (0, 1):
        s = np.moveaxis(samples, axis, 0)
        s = np.stack([np.correlate(column, h / math.sqrt(2), "valid")[::2] for column in s.T], 1)
        samples = np.moveaxis(s, 0, axis)
    return samples


@pytest.mark.parametrize("size", SIZES)
def test_identity_returns_the_image(size: tuple[int, int], device: torch.device) -> None:
    x = images(2, 3, *size, device=device)
    warp = AffineWarp(size, device)
    assert torch.allclose(warp.whole(x, affine(2).to(device)), x, atol=2e-5)
    assert torch.allclose(warp(x, affine(2).to(device)), x, atol=2e-5)


@pytest.mark.parametrize("size", [(4, 4), (6, 9), (13, 8)])
@pytest.mark.parametrize(
    "inverse",
    [
        affine(1, angle=0.7, zoom=1.2, shift=(1.3, -0.6)),
        affine(1, angle=-2.5, zoom=0.6),
        affine(1, shift=(2.25, -1.75)),
        affine(1, angle=0.2, zoom=2.1, shift=(9, -20)),
    ],
    ids=["turn-shrink-shift", "turn-grow", "shift", "far"],
)
@pytest.mark.parametrize("tile", TILES)
def test_agrees_with_the_definition(tile: Tile, size: tuple[int, int], inverse: Tensor) -> None:
    x = images(1, 1, *size)
    expected = literal_warp(x[0, 0].double().numpy(), inverse[0].double().numpy(), tile)
    for way in (AffineWarp(size, tile=tile), AffineWarp(size, tile=tile).whole):
        np.testing.assert_allclose(way(x, inverse)[0, 0].numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("tile", TILES[1:])
@pytest.mark.parametrize("size", [(8, 8), (12, 16), (5, 9)])
def test_whole_pixel_shifts_of_images_that_repeat_roll_them(size: tuple[int, int], tile: Tile) -> None:
    x, (rows, columns) = images(2, 2, *size), tiles_along(tile)
    right, down = 5 * columns, -7 * rows
    out = AffineWarp(size, tile=tile)(x, affine(2, shift=(-right, -down)))
    assert torch.allclose(out, x.roll((down, right), (2, 3)), atol=2e-5)
    smooth = torch.sin(torch.arange(size[1]) * (2 * math.pi / size[1])).expand(1, 1, *size)
    if columns:
        moved = torch.sin((torch.arange(size[1]) - 0.5) * (2 * math.pi / size[1])).expand(1, 1, *size)
        assert torch.allclose(AffineWarp(size, tile=tile)(smooth, affine(1, shift=(-0.5, 0))), moved, atol=0.06)


def test_whole_pixel_shift_moves_pixels_and_reflects() -> None:
    x = images(1, 2, 12, 16)
    out = AffineWarp((12, 16))(x, affine(1, shift=(-3, 2)))
    columns, rows = reflect(np.arange(16) - 3, 16), reflect(np.arange(12) + 2, 12)
    assert torch.allclose(out, x[:, :, rows][:, :, :, columns], atol=2e-5)


def test_mirror_and_quarter_turns_of_smooth_images() -> None:
    """sym6 is not quite symmetric, hence the tolerance: its mean lies at tap 5.1, and a mirror shifts by 0.1 pixel."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 64), torch.linspace(-1, 1, 64), indexing="ij")
    pattern = (torch.cos(torch.pi * x) * torch.cos(torch.pi * y) + torch.cos(torch.pi * (x - 1) / 2))[None, None]
    warp_64 = AffineWarp((64, 64))
    mirror = torch.diag(torch.tensor([-1.0, 1, 1]))[None]
    assert torch.allclose(warp_64(pattern, mirror), pattern.flip(3), atol=0.03)
    for k in range(4):
        turned = warp_64(pattern, affine(1, angle=k * math.pi / 2))
        assert torch.allclose(turned, torch.rot90(pattern, k, (2, 3)), atol=0.03)


def test_beyond_the_reflection_is_zero() -> None:
    out = AffineWarp((24, 24))(torch.ones(1, 1, 24, 24), affine(1, zoom=10))[0, 0]
    assert (out[:4] == 0).all()
    assert (out[:, -4:] == 0).all()
    assert torch.allclose(out[11:13, 11:13], torch.ones(2, 2), atol=1e-2)


@pytest.mark.parametrize("size", [(8, 8), (64, 48), (100, 33)])
def test_blocks_of_the_band_equal_the_dense_matrix(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU and elsewhere, values and gradients."""
    x, inverse = images(2, 3, *size).requires_grad_(), affine(2, angle=0.4, zoom=1.1)
    results = []
    for dense_up_to in (10**6, 0):
        monkeypatch.setattr(warp, "_DENSE_UP_TO", dense_up_to)
        monkeypatch.setattr(warp_cpu, "_DENSE_UP_TO", {-2: dense_up_to, -1: dense_up_to})
        warp_size = AffineWarp(size)
        outs = [warp_size(x, inverse), warp_size.whole(x, inverse)]
        results.append([*outs, *(torch.autograd.grad(out, x, x)[0] for out in outs)])
    torch.testing.assert_close(*results, atol=1e-5, rtol=0)


@pytest.mark.parametrize("on_cpu", [True, False])
def test_a_large_batch_in_parts_equals_the_whole(on_cpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values and gradients, on a CPU and elsewhere."""
    x, inverse = images(5, 3, 8, 8).requires_grad_(), affine(5, angle=0.4, zoom=1.1)
    results, sampled = [], []
    for module in (warp, warp_cpu):
        own = module.bilinear
        monkeypatch.setattr(
            module, "bilinear", lambda extended, grid, own=own: (sampled.append(len(grid)), own(extended, grid))[1]
        )
    for at_once in (5, 2):
        for module in (warp, warp_cpu):
            monkeypatch.setattr(module, "_WORKSPACE", at_once * 3 * 32**2)
        out = warp_cpu.warp(x, inverse) if on_cpu else AffineWarp((8, 8)).in_parts(x, inverse)
        results.append([out, torch.autograd.grad(out, x, x)[0]])
    assert sampled == [5, 2, 2, 1]
    torch.testing.assert_close(*results, atol=1e-5, rtol=0)


def test_derivatives_in_float64() -> None:
    x = images(2, 2, 4, 5).double().requires_grad_()
    warp_45, inverse = AffineWarp((4, 5)), affine(2, angle=0.4, zoom=1.1, shift=(0.5, 0.2))
    assert torch.autograd.gradcheck(lambda x: warp_45(x, inverse), x, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda x: warp_45(x, inverse).square(), x, fast_mode=True)


def test_derivative_is_the_adjoint() -> None:
    x, v = images(2, 3, 16, 16).requires_grad_(), images(2, 3, 16, 16).flip(0)
    out = AffineWarp((16, 16))(x, affine(2, angle=1, zoom=1.5))
    (gradient,) = torch.autograd.grad(out, x, v)
    assert torch.allclose((gradient * x).sum(), (v * out).sum(), rtol=1e-4)
