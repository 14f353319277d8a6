"""Transforms that draw from a continuous group: their characteristic functions over the frequencies that an image resolves.

Such a transform convolves the distribution along the group, so in frequency it multiplies by 1 − p + p·φ(ω), where φ is the
characteristic function of the draw. Where that is zero, it leaks; where it is small, what was lost is hard to tell.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log, pi

import numpy as np

from frugan.errors import FruganError

_LEVELS = 255
_POINTS = 2001


@dataclass(frozen=True)
class Spectrum:
    """One row of `SPECTRA`. `phi(ω, side)` is real, as all these draws are symmetric; `highest(side)` the largest frequency
    that an image of `side` pixels resolves, in radians per `unit`; `harmonics` says that only whole frequencies from 1 on
    exist, as on a circle; `axes` is the number of independent coordinates that one Bernoulli governs.
    """

    unit: str
    phi: Callable[[np.ndarray, int], np.ndarray]
    highest: Callable[[int], float]
    harmonics: bool = False
    axes: int = 1

    def frequencies(self, side: int) -> np.ndarray:
        top = self.highest(side)
        return np.arange(1, max(int(top), 1) + 1) if self.harmonics else np.linspace(0, top, _POINTS)[1:]

    def multiplier(self, p: float, side: int) -> np.ndarray:
        """1 − p + p·φ over the frequencies; with two axes, φ is the product, `[F, F]` flattened, 0 to the top on each."""
        if not 0 <= p <= 1:
            raise FruganError(f"p is {p:g}; a probability lies between 0 and 1")
        values = self.phi(self.frequencies(side), side)
        if self.axes == 2:
            thinned = np.concatenate([[1.0], values[:: max(len(values) // 500, 1)], values[-1:]])
            values = np.outer(thinned, thinned).ravel()[1:]
        return 1 - p + p * values

    def smallest(self, p: float, side: int) -> float:
        """Smallest modulus of the multiplier; 0 where it changes sign on the way, as it is continuous."""
        values = self.multiplier(p, side)
        crosses = not self.harmonics and values.min() < 0 < values.max()
        return 0.0 if crosses else float(abs(values).min())


def _normal(sigma: Callable[[int], float]) -> Callable[[np.ndarray, int], np.ndarray]:
    return lambda omega, side: np.exp(-((sigma(side) * omega) ** 2) / 2)


def _uniform_angle(omega: np.ndarray, side: int) -> np.ndarray:
    """U(−π, π): sin(πω)/(πω), zero at every harmonic of the circle."""
    return np.where(omega == np.round(omega), 0.0, np.sinc(omega))


def _whole_pixels(omega: np.ndarray, side: int) -> np.ndarray:
    """Of round(U(−m, m)), m = side/8: Σ_k P(k)·cos(ωk)."""
    m = side / 8
    k = np.arange(-int(m + 0.5), int(m + 0.5) + 1)
    inside = np.clip(k + 0.5, -m, m) - np.clip(k - 0.5, -m, m)
    return np.cos(np.outer(omega, k)) @ (inside / (2 * m))


def _log2_of_a_pixel(side: int) -> float:
    """The finest change of log₂ scale that moves the border by a pixel: its Nyquist frequency."""
    return pi * side * log(2) / 2


def _log2_of_a_level(side: int) -> float:
    """Likewise the change of log₂ contrast that moves the brightest value by one of 255 levels."""
    return pi * _LEVELS * log(2) / 2


SPECTRA: dict[str, Spectrum] = {
    "xint": Spectrum("pixel", _whole_pixels, lambda side: pi, axes=2),
    "scale": Spectrum("octave", _normal(lambda side: 0.2), _log2_of_a_pixel),
    "rotate": Spectrum("turn by 1 radian", _uniform_angle, lambda side: pi * side / 2, harmonics=True),
    "aniso": Spectrum("octave", _normal(lambda side: 0.2), _log2_of_a_pixel),
    "xfrac": Spectrum("pixel", _normal(lambda side: side / 8), lambda side: pi, axes=2),
    "brightness": Spectrum("unit of [-1, 1]", _normal(lambda side: 0.2), lambda side: pi * _LEVELS / 2),
    "contrast": Spectrum("octave", _normal(lambda side: 0.5), _log2_of_a_level),
    "hue": Spectrum("turn by 1 radian", _uniform_angle, lambda side: pi * _LEVELS / 2, harmonics=True),
    "saturation": Spectrum("octave", _normal(lambda side: 1.0), _log2_of_a_level),
}
"""The transforms of `frugan.augment.TRANSFORMS` that are such draws (Karras et al. 2020, appendix B)."""
