"""Reflect-padded axes as matrices, against the wavelets of PyWavelets and direct sums."""

from __future__ import annotations

import numpy as np
import pytest
import pywt

from conftest import load_golden
from frugan.ops.periodic import SYM6, downsampling_matrix, reflect, upsampling_matrix


def test_filter_is_sym6() -> None:
    np.testing.assert_allclose(SYM6, pywt.Wavelet("sym6").dec_lo, atol=1e-15)  # pyright: ignore[reportAttributeAccessIssue]
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
