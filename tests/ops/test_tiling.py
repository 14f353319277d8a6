"""Circular padding: every operation on an image that repeats equals the plain one on the middle of many copies."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from frugan.ops.fir import (
    conv_downsample,
    conv_same,
    conv_upsample,
    downsample,
    normalized_filter,
    upsample,
)
from frugan.ops.modulated_conv import modulated_conv2d
from frugan.ops.tiling import TILES, extend, roll

FILTERS = [(1, 3, 3, 1), (1, 1), (1, 2, 1), (1, 4, 6, 4, 1), tuple(range(1, 13))]
OPERATIONS = {
    "same": (lambda x, w, f, tile: conv_same(x, w, tile=tile), 1),
    "up": (lambda x, w, f, tile: conv_upsample(x, w, f, tile=tile), 2),
    "down": (lambda x, w, f, tile: conv_downsample(x, w, f, tile=tile), 0.5),
    "upsample": (lambda x, w, f, tile: upsample(x, f, tile=tile), 2),
    "downsample": (lambda x, w, f, tile: downsample(x, f, tile=tile), 0.5),
    "styled": (lambda x, w, f, tile: modulated_conv2d(x, w, 1 + x.mean((2, 3)), tile=tile), 1),
    "styled up": (lambda x, w, f, tile: modulated_conv2d(x, w, 1 + x.mean((2, 3)), resample_filter=f, tile=tile), 2),
}


def copies(x, tile, count):
    """So many copies of the image along the axes that repeat."""
    return x.repeat(1, 1, count if "y" in tile else 1, count if "x" in tile else 1)


@settings(deadline=None, max_examples=80)
@given(
    st.sampled_from([*OPERATIONS]),
    st.sampled_from(TILES),
    st.integers(2, 9),
    st.integers(2, 9),
    st.sampled_from(FILTERS),
    st.sampled_from([1, 3, 5]),
    st.sampled_from([torch.float32, torch.float64]),
    st.integers(0, 99),
)
def test_every_operation_is_the_plain_one_among_copies(name, tile, h, w, taps, k, dtype, seed):
    operation, scale = OPERATIONS[name]
    h, w = (2 * h, 2 * w) if scale < 1 else (h, w)
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 3, h, w, generator=rng, dtype=dtype)
    weight = torch.randn(4, 3, k, k, generator=rng, dtype=dtype)
    f = normalized_filter(taps).to(dtype)
    found = operation(x, weight, f, tile)
    count = 2 * (20 // min(h, w)) + 1  # so many that the border's zeros do not reach the one in the middle
    among = operation(copies(x, tile, count), weight, f, "none")
    H, W = found.shape[2:]
    assert (h * scale, w * scale) == (H, W)
    top, left = (H * (count // 2) if "y" in tile else 0), (W * (count // 2) if "x" in tile else 0)
    middle = among[:, :, top : top + H, left : left + W]
    torch.testing.assert_close(found, middle, rtol=1e-4, atol=1e-4 * float(among.abs().max()))


@pytest.mark.parametrize("name", [*OPERATIONS])
def test_without_tiling_nothing_changes(name):
    operation, _ = OPERATIONS[name]
    x, weight, f = torch.randn(1, 3, 8, 6), torch.randn(2, 3, 3, 3), normalized_filter((1, 3, 3, 1))
    plain = operation(x, weight, f, "none")
    assert not torch.equal(plain, operation(x, weight, f, "xy")), "tiling has no effect at the border"
    inner = slice(1, -1) if name == "same" else slice(plain.shape[2] // 2 - 1, plain.shape[2] // 2 + 1)
    if name != "downsample" and "down" not in name:
        torch.testing.assert_close(
            plain[:, :, inner, plain.shape[3] // 2], operation(x, weight, f, "xy")[:, :, inner, plain.shape[3] // 2]
        )


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(TILES), st.integers(1, 5), st.integers(1, 5), st.tuples(*[st.integers(0, 12)] * 4))
def test_an_extended_image_is_a_window_of_its_copies(tile, h, w, margins):
    x = torch.arange(h * w, dtype=torch.float32).add(1).view(1, 1, h, w)
    left, right, top, bottom = margins
    found = extend(x, margins, tile)
    assert found.shape == (1, 1, h + top + bottom, w + left + right)
    for i in range(-top, h + bottom):
        for j in range(-left, w + right):
            there = ("y" in tile or 0 <= i < h) and ("x" in tile or 0 <= j < w)
            assert found[0, 0, i + top, j + left] == (x[0, 0, i % h, j % w] if there else 0)


def test_each_image_rolls_by_its_own_shift_and_gradients_roll_back():
    x = torch.randn(3, 2, 5, 7, dtype=torch.float64, requires_grad=True)
    shift = torch.tensor([[0, 0], [2, -3], [12, 100]])
    for one, (down, right), moved in zip(x, shift.tolist(), roll(x, shift)):
        assert torch.equal(moved, one.roll((down, right), (1, 2)))
    assert gradcheck(lambda y: roll(y, shift), x)
    assert gradgradcheck(lambda y: roll(y, shift).square(), x)
