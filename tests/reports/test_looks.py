"""Pixel statistics against closed forms and independent implementations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage, stats

from frugan.reports.looks import histogram_distance, histograms, sharpness, spectra, wasserstein

NUMBERS = st.lists(st.floats(-100, 100, allow_subnormal=False), min_size=1, max_size=30)


@given(NUMBERS, NUMBERS)
def test_wasserstein_distance_is_scipys(a: list[float], b: list[float]) -> None:
    expected = stats.wasserstein_distance(a, b)
    assert wasserstein(np.array(a), np.array(b)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_histograms_and_their_distance_are_those_of_the_pixels(dtype: type) -> None:
    rng = np.random.default_rng(0)
    top = np.iinfo(dtype).max
    a, b = (rng.integers(0, high, (3, 5, 7, 2)).astype(dtype) for high in (top, top // 2))
    ours = [histograms(x).mean(0) for x in (a, b)]
    assert ours[0].shape == (2, top + 1)
    for k in range(2):
        expected = stats.wasserstein_distance(a[..., k].ravel(), b[..., k].ravel()) / top
        assert histogram_distance(ours[0][k], ours[1][k]) == pytest.approx(expected)


def test_sharpness_is_the_deviation_of_the_laplacian() -> None:
    images = torch.rand(4, 3, 9, 11, generator=torch.Generator().manual_seed(0)) * 2 - 1
    kernel = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]])
    expected = [ndimage.convolve(x.mean(0).double().numpy(), kernel)[1:-1, 1:-1].std(ddof=1) for x in images]
    assert sharpness(images) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("size", [(16, 16), (16, 24), (9, 9)])
def test_a_wave_has_its_power_at_its_frequency(size: tuple[int, int]) -> None:
    h, w = size
    at = 3 / min(size)
    wave = torch.cos(2 * np.pi * at * torch.arange(w)).expand(1, 1, h, w)
    frequencies, powers = spectra(wave)
    assert frequencies[-1] <= 0.5
    assert frequencies[powers[0].argmax()] == pytest.approx(at)


def test_white_noise_has_a_flat_spectrum_of_known_height() -> None:
    """E |FFT|² = σ² Σ window²."""
    noise = torch.randn(400, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    window = np.hanning(16)
    expected = 10 * np.log10((np.outer(window, window) ** 2).sum())
    power = 10 * np.log10((10 ** (spectra(noise)[1] / 10)).mean(0))
    assert np.abs(power[1:] - expected).max() < 0.4


def test_many_images_are_computed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each as by itself, and no more at once than fit into memory when they are large."""
    images = torch.rand(130, 3, 9, 11, generator=torch.Generator().manual_seed(0)) * 2 - 1
    powers, sharp = spectra(images)[1], sharpness(images)
    assert np.allclose(powers, np.concatenate([spectra(one)[1] for one in images.split(1)]))
    assert np.allclose(sharp, np.concatenate([sharpness(one) for one in images.split(1)]))
    seen: list[int] = []
    transform = torch.fft.fft2
    monkeypatch.setattr(torch.fft, "fft2", lambda x: seen.append(len(x)) or transform(x))
    spectra(images)
    assert sum(seen) == 130
    assert max(seen) <= 64
