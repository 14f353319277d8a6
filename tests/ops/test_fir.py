"""FIR resampling against the golden arrays and SciPy, with its adjoint."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.signal
import torch
import torch.nn.functional as F
from torch import Tensor

from conftest import load_golden, relative_error
from frugan.ops.fir import conv_downsample, conv_upsample, downsample, normalized_filter, upfirdn, upsample
from tests.fake_device import NAME, needed, pretending

GOLDEN = load_golden("upfirdn.npz")


@pytest.mark.parametrize("i", range(len(GOLDEN["cases"])))
def test_agrees_with_golden(i: int, device: torch.device) -> None:
    case = dict(GOLDEN["cases"][i])
    f = GOLDEN[case.pop("filter")].to(device)
    options: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in case.items()}
    options["flip"] = options.pop("flip_filter", False)
    assert relative_error(upfirdn(GOLDEN["x"].to(device), f, **options), GOLDEN[f"y/{i}"]) < 1e-5


@needed
@pytest.mark.parametrize("i", range(len(GOLDEN["cases"])))
def test_agrees_with_golden_elsewhere_than_on_a_cpu(i: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a transposed convolution, where a CPU inserts zeros."""
    with pretending(monkeypatch):
        test_agrees_with_golden(i, torch.device(NAME))


@pytest.mark.parametrize("up", [1, 2, 3])
@pytest.mark.parametrize("down", [1, 2, 3])
def test_agrees_with_scipy(up: int, down: int) -> None:
    """Without padding the operation is `scipy.signal.upfirdn` in two dimensions, less its incomplete windows."""
    x = np.random.default_rng(0).normal(size=(9, 11))
    f = np.random.default_rng(1).normal(size=(3, 4))
    inserted = np.zeros((9 * up, 11 * up))
    inserted[::up, ::up] = x
    expected = scipy.signal.convolve2d(inserted, f, mode="valid")[::down, ::down]
    actual = upfirdn(torch.from_numpy(x)[None, None], torch.from_numpy(f), up=up, down=down)
    np.testing.assert_allclose(actual[0, 0].numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("up", [2, 3, (3, 1), (2, 3)])
@pytest.mark.parametrize("padding", [(0, 0, 0, 0), (3, 2, 4, 1), (-1, 2, 1, -2)])
@pytest.mark.parametrize("taps", [(4, 4), (3, 5), (1, 1)])
@pytest.mark.parametrize("channels", [3, 32])
def test_bfloat16_is_float32_rounded(
    up: int, padding: tuple[int, int, int, int], taps: tuple[int, int], channels: int, device: torch.device
) -> None:
    x = torch.randn(2, channels, 7, 9, generator=torch.Generator().manual_seed(0)).to(device, torch.bfloat16)
    f = torch.randn(taps, generator=torch.Generator().manual_seed(1)).to(device, torch.bfloat16).float()
    y, expected = (upfirdn(x, f, up=up, down=(1, 2), padding=padding, gain=2) for x in (x, x.float()))
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), expected, rtol=0.01, atol=0.05)


def test_gradients_to_second_order() -> None:
    f = torch.randn(4, 4, dtype=torch.float64)
    x = torch.randn(1, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    for options in ({"up": 2, "padding": (2, 1, 2, 1)}, {"down": 2, "padding": (1, 1, 1, 1)}):
        assert torch.autograd.gradcheck(lambda x, o=options: upfirdn(x, f, **o), x)
        assert torch.autograd.gradgradcheck(lambda x, o=options: upfirdn(x, f, **o).square(), x)


@pytest.mark.parametrize("up", [1, 2, (3, 1)])
@pytest.mark.parametrize("down", [1, 2, (1, 3)])
@pytest.mark.parametrize("padding", [(0, 0, 0, 0), (3, 2, 4, 1), (-1, 2, 1, -2)])
@pytest.mark.parametrize("flip", [False, True])
def test_gradient_is_that_of_its_parts(up: int, down: int, padding: tuple[int, int, int, int], flip: bool) -> None:
    """PyTorch's derivatives of padding, convolution and slicing are the independent source; to second order."""
    up_x, up_y = (up, up) if isinstance(up, int) else up
    down_x, down_y = (down, down) if isinstance(down, int) else down
    generator = torch.Generator().manual_seed(0)
    f = torch.randn(3, 4, dtype=torch.float64, generator=generator)
    x = torch.randn(2, 3, 7, 9, dtype=torch.float64, generator=generator, requires_grad=True)

    def parts(x: Tensor) -> Tensor:
        wide = F.pad(x.reshape(2, 3, 7, 1, 9, 1), (0, up_x - 1, 0, 0, 0, up_y - 1)).reshape(2, 3, 7 * up_y, 9 * up_x)
        kernel = (f if flip else f.flip(0, 1)) * 1.5
        return F.conv2d(F.pad(wide, padding), kernel.expand(3, 1, 3, 4), groups=3)[:, :, ::down_y, ::down_x]

    found = []
    for resample in (parts, lambda x: upfirdn(x, f, up=up, down=down, padding=padding, flip=flip, gain=1.5)):
        y = resample(x)
        weight = torch.randn(y.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        (first,) = torch.autograd.grad((y**3 * weight).sum(), x, create_graph=True)
        found.append((y, first, *torch.autograd.grad((first**2).sum(), x)))
    torch.testing.assert_close(found[1], found[0])


def test_a_filter_can_be_learnt() -> None:
    x = torch.randn(1, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    f = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, f: upfirdn(x, f, up=2, padding=(2, 1, 2, 1)), (x, f))


def test_function_transforms() -> None:
    x, f = torch.randn(4, 2, 8, 8, dtype=torch.float64), normalized_filter((1, 3, 3, 1)).double()

    def loss(x: Tensor) -> Tensor:
        return downsample(x, f).square().sum()

    expected = torch.autograd.functional.jacobian(loss, x)
    torch.testing.assert_close(torch.func.grad(loss)(x), expected)
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(loss))(x[:, None])[:, 0], expected)


def test_nothing_is_held_for_a_gradient() -> None:
    """But the filter: the derivative of a linear map does not depend on the image."""
    held: list[Tensor] = []
    x, f = torch.randn(1, 2, 16, 16, requires_grad=True), normalized_filter((1, 3, 3, 1))
    with torch.autograd.graph.saved_tensors_hooks(lambda t: held.append(t) or t, lambda t: t):
        (gradient,) = torch.autograd.grad(downsample(x, f).sum(), x, create_graph=True)
        (gradient.sum() * x.sum()).backward()
    assert max(t.numel() for t in held) <= f.numel()


def test_resampling_keeps_size_and_mean(device: torch.device) -> None:
    f = normalized_filter((1, 3, 3, 1)).to(device)
    x = torch.ones(2, 3, 6, 8, device=device)
    assert upsample(x, f).shape == (2, 3, 12, 16)
    assert downsample(x, f).shape == (2, 3, 3, 4)
    assert torch.allclose(upsample(x, f)[:, :, 2:-2, 2:-2], torch.ones((), device=device))
    assert torch.allclose(downsample(x, f)[:, :, 1:-1, 1:-1], torch.ones((), device=device))


@pytest.mark.parametrize("k", [1, 3])
def test_convolving_resamplers_are_their_parts(k: int) -> None:
    """Up: zero-insertion, convolution with weight, then with f. Down: f, then the convolution, then decimation."""
    f = normalized_filter((1, 3, 3, 1)).double()
    x = torch.randn(2, 3, 6, 8, dtype=torch.float64)
    w = torch.randn(4, 3, k, k, dtype=torch.float64)
    inserted = torch.zeros(2, 3, 12, 16, dtype=torch.float64)
    inserted[:, :, ::2, ::2] = x
    wide = F.conv2d(F.pad(inserted, (4, 4, 4, 4)), w.flip(2, 3), padding=k // 2)
    expected = upfirdn(wide, f, padding=(2, 1, 2, 1), gain=4)[:, :, 4:-4, 4:-4]
    torch.testing.assert_close(conv_upsample(x, w, f), expected)

    wide = upfirdn(F.pad(x, (4, 4, 4, 4)), f, padding=(1, 2, 1, 2))
    expected = F.conv2d(wide, w, padding=k // 2)[:, :, 4:-4:2, 4:-4:2]
    torch.testing.assert_close(conv_downsample(x, w, f), expected)
