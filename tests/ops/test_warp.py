from __future__ import annotations

import math

import numpy as np
import pytest
import pywt
import torch
from torch import Tensor

from conftest import load_golden
from frugan.ops import warp
from frugan.ops.warp import SYM6, AffineWarp, downsampling_matrix, reflect, upsampling_matrix

SIZES = [(4, 4), (5, 9), (8, 8), (12, 16), (48, 64), (32, 32)]


def affine(n: int, *, angle: float = 0.0, zoom: float = 1.0, shift: tuple[float, float] = (0.0, 0.0)) -> Tensor:
    c, s = zoom * math.cos(angle), zoom * math.sin(angle)
    return torch.tensor([[c, -s, shift[0]], [s, c, shift[1]], [0, 0, 1]]).repeat(n, 1, 1)


def images(*shape: int, device: torch.device | None = None) -> Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1).to(device)


def literal_warp(image: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    """The definition, sample by sample, in float64: extend by reflection, filter, interpolate, filter. `[H, W]`."""
    h = np.array(pywt.Wavelet("sym6").dec_lo)
    pads = [2 * size + 16 for size in image.shape]
    x = np.pad(image, [(p, p) for p in pads], mode="reflect")
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
        if any(abs(p) > 1.5 * size - 1 for p, size in zip((py, px), image.shape)):
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


def test_filter_is_sym6() -> None:
    np.testing.assert_allclose(SYM6, pywt.Wavelet("sym6").dec_lo, atol=1e-15)
    golden = load_golden("augment_filters.npz")["geometric_lowpass"]
    np.testing.assert_allclose(np.array(SYM6) / sum(SYM6), golden, atol=1e-7)


@pytest.mark.parametrize("size", [2, 4, 7, 16])
def test_reflect_is_numpy_reflection(size: int) -> None:
    padded = np.pad(np.arange(size), 40, mode="reflect")
    np.testing.assert_array_equal(reflect(np.arange(-40, size + 40), size), padded)


@pytest.mark.parametrize("size", [4, 5, 32])
def test_upsampling_then_downsampling_is_the_identity(size: int) -> None:
    up, down = upsampling_matrix(size), downsampling_matrix(size)
    wrapped = up[np.arange(-5, 2 * size + 5) % (4 * (size - 1))]
    np.testing.assert_allclose(down @ wrapped, np.eye(size), atol=1e-11)
    np.testing.assert_allclose(up.sum(1), 1, atol=1e-11)  # a constant stays the same constant
    np.testing.assert_array_equal(up[0], up[-1])


@pytest.mark.parametrize("size", SIZES)
def test_identity_returns_the_image(size: tuple[int, int], device: torch.device) -> None:
    x = images(2, 3, *size, device=device)
    warp = AffineWarp(size, device)
    assert torch.allclose(warp._warp(x, affine(2).to(device)), x, atol=2e-5)
    assert torch.allclose(warp(x, affine(2).to(device)), x, atol=2e-5)


def count_images(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """By the way that they take on a CPU."""
    counts: dict[str, int] = {}
    for way in ("_view", "_along"):
        own = getattr(AffineWarp, way)
        monkeypatch.setattr(
            AffineWarp,
            way,
            lambda self, m, *more, way=way, own=own: (counts.update({way: len(m)}), own(self, m, *more))[1],
        )
    return counts


def in_blocks_beyond(inputs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warp, "_DENSE_UP_TO", inputs)
    monkeypatch.setattr(warp, "_DENSE_UP_TO_CPU", {-2: inputs, -1: inputs})


@pytest.mark.parametrize("dense_up_to", [160, 0])
def test_images_take_the_cheapest_way(dense_up_to: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """None for those that stay, matrices where rows stay rows; values and both derivatives are those of the whole way."""
    in_blocks_beyond(dense_up_to, monkeypatch)
    x = images(6, 2, 8, 9).double()
    upright = torch.stack([torch.diag(torch.tensor([-1.2, 0.7, 1.0])), affine(1, shift=(2.5, -9))[0]])
    inverse = torch.cat([affine(1), affine(2, angle=0.4, zoom=1.1), upright, affine(1)]).double()
    warp_89 = AffineWarp((8, 9))
    every = warp_89._warp(x, inverse)
    counts = count_images(monkeypatch)
    torch.testing.assert_close(warp_89(x, inverse), every, atol=2e-6, rtol=0)
    assert counts == {"_view": 2, "_along": 2}
    assert torch.autograd.gradcheck(lambda x: warp_89(x, inverse), x.requires_grad_())
    assert torch.autograd.gradgradcheck(lambda x: warp_89(x, inverse).square(), x)
    energy = torch.func.grad(lambda x: warp_89(x, inverse).square().sum())
    torch.testing.assert_close(energy(x), torch.autograd.grad(warp_89(x, inverse).square().sum(), x)[0])


@pytest.mark.parametrize("size", [(16, 16), (16, 24)])
def test_quarter_turns_equal_the_whole_way(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a square they are transpositions and need no sampling."""
    x = images(4, 2, *size)
    inverse = torch.cat(
        [affine(1, angle=k * math.pi / 2, zoom=1 + k / 9, shift=(k, 1)).round(decimals=3) for k in range(4)]
    )
    warp, counts = AffineWarp(size), count_images(monkeypatch)
    torch.testing.assert_close(warp(x, inverse), warp._warp(x, inverse), atol=2e-4, rtol=0)
    square = size[0] == size[1]
    assert counts == ({"_along": 4} if square else {"_along": 2, "_view": 2})


@pytest.mark.parametrize("size", [(16, 16), (24, 32), (200, 170)])
def test_upright_warps_equal_the_whole_way(size: tuple[int, int]) -> None:
    x, up = images(4, 2, *size).requires_grad_(), images(4, 2, *size).flip(0)
    scales = [(1.3, 0.6), (-1, 1), (-0.2, -3.5), (1, 1)]
    inverse = torch.stack([torch.diag(torch.tensor([*scale, 1.0])) for scale in scales])
    inverse[:, :2, 2] = torch.tensor([[3.3, -2], [0, 7], [size[1], 0.1], [-1e-4, 0]])
    warp = AffineWarp(size)
    results = [f(x, inverse) for f in (warp, warp._warp)]
    torch.testing.assert_close(*results, atol=2e-4, rtol=0)
    gradients = [torch.autograd.grad(result, x, up)[0] for result in results]
    torch.testing.assert_close(*gradients, atol=2e-4, rtol=0)


@pytest.mark.parametrize("size", [(4, 4), (6, 9), (13, 8)])
@pytest.mark.parametrize(
    "inverse",
    [
        affine(1, angle=0.7, zoom=1.2, shift=(1.3, -0.6)),
        affine(1, angle=-2.5, zoom=0.6),
        affine(1, shift=(2.25, -1.75)),
    ],
    ids=["turn-shrink-shift", "turn-grow", "shift"],
)
def test_agrees_with_the_definition(size: tuple[int, int], inverse: Tensor) -> None:
    x = images(1, 1, *size)
    expected = literal_warp(x[0, 0].double().numpy(), inverse[0].double().numpy())
    out = AffineWarp(size)(x, inverse)[0, 0]
    np.testing.assert_allclose(out.numpy(), expected, atol=1e-4)


def test_whole_pixel_shift_moves_pixels_and_reflects() -> None:
    x = images(1, 2, 12, 16)
    out = AffineWarp((12, 16))(x, affine(1, shift=(-3, 2)))
    columns, rows = reflect(np.arange(16) - 3, 16), reflect(np.arange(12) + 2, 12)
    assert torch.allclose(out, x[:, :, rows][:, :, :, columns], atol=2e-5)


def test_mirror_and_quarter_turns_of_smooth_images() -> None:
    """sym6 is not quite symmetric, hence the tolerance: its mean lies at tap 5.1, and a mirror shifts by 0.1 pixel."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 64), torch.linspace(-1, 1, 64), indexing="ij")
    picture = (torch.cos(torch.pi * x) * torch.cos(torch.pi * y) + torch.cos(torch.pi * (x - 1) / 2))[None, None]
    warp_64 = AffineWarp((64, 64))
    mirror = torch.diag(torch.tensor([-1.0, 1, 1]))[None]
    assert torch.allclose(warp_64(picture, mirror), picture.flip(3), atol=0.03)
    for k in range(4):
        turned = warp_64(picture, affine(1, angle=k * math.pi / 2))
        assert torch.allclose(turned, torch.rot90(picture, k, (2, 3)), atol=0.03)


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
        in_blocks_beyond(dense_up_to, monkeypatch)
        whole = AffineWarp(size)
        outs = [whole(x, inverse), whole._warp(x, inverse)]
        results.append([*outs, *(torch.autograd.grad(out, x, x)[0] for out in outs)])
    torch.testing.assert_close(*results, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(16, 16), (24, 32), (200, 170)])
@pytest.mark.parametrize(
    "zooms, shift",
    [((0.8, 0.8, 0.8), 0.1), ((1.2, 1.2, 1.2), 0.3), ((2.5, 2.5, 2.5), 0.2), ((1, 2.5, 1), 0.1)],
    ids=["inside", "around", "beyond", "one beyond"],
)
def test_windows_of_the_rings_equal_the_whole_rings(
    size: tuple[int, int], zooms: tuple[float, ...], shift: float
) -> None:
    """Values and gradients; where less than a ring is seen, more than one, and more than there is."""
    x, up = images(3, 2, *size).requires_grad_(), images(3, 2, *size).flip(0)
    shifts = shift * size[1], -shift * size[0]
    inverse = torch.cat([affine(1, angle=a, zoom=zoom, shift=shifts) for a, zoom in zip((0.3, 2, 4), zooms)])
    warp = AffineWarp(size)
    results = [f(x, inverse).detach() for f in (warp, warp._warp)]
    gradients = [torch.autograd.grad(f(x, inverse), x, up)[0] for f in (warp, warp._warp)]
    torch.testing.assert_close(*results, atol=2e-4, rtol=0)  # positions are rounded otherwise
    torch.testing.assert_close(*gradients, atol=2e-4, rtol=0)


def test_windows_hold_what_is_seen_and_no_more_than_a_ring() -> None:
    assert warp._window(16, -7.5, 7.5) == (-1, 48)  # pixels 0 to 15 are samples 0 to 30
    assert warp._window(16, -20, 20) is None  # more than a ring
    assert warp._window(16, 10, 23.5) is None  # beyond the reflection


def test_a_large_batch_in_parts_equals_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    x, inverse = images(5, 3, 8, 8), affine(5, angle=0.4, zoom=1.1)
    whole = AffineWarp((8, 8))(x, inverse)
    monkeypatch.setattr(warp, "_WORKSPACE_CPU", 2 * 3 * 32**2)
    assert torch.allclose(AffineWarp((8, 8))(x, inverse), whole, atol=1e-6)


def test_derivatives_in_float64() -> None:
    x = images(2, 2, 4, 5).double().requires_grad_()
    warp_45, inverse = AffineWarp((4, 5)), affine(2, angle=0.4, zoom=1.1, shift=(0.5, 0.2))
    assert torch.autograd.gradcheck(lambda x: warp_45(x, inverse), x)
    assert torch.autograd.gradgradcheck(lambda x: warp_45(x, inverse).square(), x)


def test_derivative_is_the_adjoint() -> None:
    x, v = images(2, 3, 16, 16).requires_grad_(), images(2, 3, 16, 16).flip(0)
    out = AffineWarp((16, 16))(x, affine(2, angle=1, zoom=1.5))
    (gradient,) = torch.autograd.grad(out, x, v)
    assert torch.allclose((gradient * x).sum(), (v * out).sum(), rtol=1e-4)
