"""Pixel statistics of sets of images: power spectra, histograms, sharpness, and distances between their distributions.

Images are float `[N, C, H, W]` in [-1, 1]; each set is summed up by a few numbers for each image or bin, so that a set can be
compared with itself, half against half, for the floor of each distance.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]
_AT_ONCE = 64
"""Images that are computed at once: double precision and Fourier transforms take many times their memory."""


def spectra(images: Tensor) -> tuple[Array, Array]:
    """Azimuthally averaged power of each image's channel mean, dB: frequencies `[B]` in cycles per pixel, powers `[N, B]`.

    The mean is taken off and a Hann window applied, so that borders that do not meet add no lines. Bins are rings of one
    frequency step of the shorter side, up to 0.5.
    """
    h, w = images.shape[2:]
    frequency = torch.hypot(
        torch.fft.fftfreq(h, dtype=torch.float64)[:, None], torch.fft.fftfreq(w, dtype=torch.float64)
    )
    bins = (frequency * min(h, w)).round().long().flatten()
    last = min(h, w) // 2
    keep = (bins >= 1) & (bins <= last)
    counts = torch.bincount(bins[keep], minlength=last + 1)
    sums = torch.cat(
        [
            torch.zeros(len(some), last + 1, dtype=torch.float64).index_add_(1, bins[keep], _power(some)[:, keep])
            for some in images.split(_AT_ONCE)
        ]
    )
    mean = sums[:, 1:] / counts[1:]
    return np.arange(1, last + 1) / min(h, w), (10 * torch.log10(mean + 1e-12)).numpy()


def _power(images: Tensor) -> Tensor:
    """Squared magnitudes of the windowed Fourier transform of each image's channel mean, `[N, H·W]`."""
    grey = images.double().mean(1)
    rows, columns = (torch.hann_window(n, periodic=False, dtype=torch.float64) for n in grey.shape[1:])
    windowed = (grey - grey.mean((1, 2), keepdim=True)) * (rows[:, None] * columns)
    return torch.fft.fft2(windowed).abs().square().flatten(1)


def sharpness(images: Tensor) -> Array:
    """Standard deviation of the discrete Laplacian of each image's channel mean, `[N]`: larger is sharper, or noisier."""
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]], dtype=torch.float64)[None, None]

    def of(some: Tensor) -> Tensor:
        return F.conv2d(some.double().mean(1, keepdim=True), kernel).flatten(1).std(1)

    return torch.cat([of(some) for some in images.split(_AT_ONCE)]).numpy()


def wasserstein(a: Array, b: Array) -> float:
    """The 1-Wasserstein distance of two samples of numbers, `[N]` and `[M]`: ∫ |F(x) − G(x)| dx."""
    a, b = np.sort(np.ravel(a)), np.sort(np.ravel(b))
    both = np.sort(np.concatenate([a, b]))
    gaps = np.diff(both)
    below = np.searchsorted(a, both[:-1], side="right") / len(a), np.searchsorted(b, both[:-1], side="right") / len(b)
    return float(np.sum(np.abs(below[0] - below[1]) * gaps))


def histogram_distance(a: Array, b: Array) -> float:
    """The distance of histograms of the values 0 … V − 1, `[V]` of sum 1, as a share of the range V − 1."""
    return float(np.abs(np.cumsum(a - b))[:-1].sum() / (len(a) - 1))


def histograms(pixels: NDArray[np.unsignedinteger]) -> Array:
    """uint8 or uint16 `[N, H, W, C]` → shares of each value of each channel in each image, `[N, C, V]`; V = 256 or 65536."""
    values = 1 << (8 * pixels.dtype.itemsize)
    _, h, w, c = pixels.shape
    return np.stack(
        [[np.bincount(image[..., k].ravel(), minlength=values) / (h * w) for k in range(c)] for image in pixels]
    )
