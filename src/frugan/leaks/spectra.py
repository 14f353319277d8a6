"""Leaks of augmentations that draw from a continuous group: their multiplier at each frequency that an image resolves.

Applied with probability p, such a transform convolves the distribution of images along the group with the mixture
(1 − p)·δ₀ + p·(distribution of the drawn parameter). In the frequency domain it multiplies by 1 − p + p·φ(ω), φ being the
characteristic function of the draw (Karras et al. 2020, appendix C). Where the multiplier is 0, distributions that differ
at that frequency are augmented to the same one: a leak. Where it is small, the difference is hard to recover.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log, pi

import numpy as np

from frugan.errors import FruganError

_LEVELS = 255  # steps of 8 bits
_POINTS = 2001  # at which a continuous spectrum is evaluated


@dataclass(frozen=True)
class Spectrum:
    """The draw of one transform, by its characteristic function.

    Attributes:
        unit: of the drawn parameter, for messages.
        phi: `phi(ω, side)`, the characteristic function at frequencies ω `[F]`, real as all these draws are symmetric.
        highest: `highest(side)`: the largest frequency that an image of `side` pixels resolves, in radians per `unit`.
        harmonics: whether only whole frequencies from 1 on exist, as on a circle.
        axes: the number of independent coordinates that are drawn together (applied or not by one decision).
    """

    unit: str
    phi: Callable[[np.ndarray, int], np.ndarray]
    highest: Callable[[int], float]
    harmonics: bool = False
    axes: int = 1

    def frequencies(self, side: int) -> np.ndarray:
        """Frequencies `[F]` in radians per unit, up to the highest one that an image of `side` pixels resolves, without 0."""
        top = self.highest(side)
        return np.arange(1, max(int(top), 1) + 1) if self.harmonics else np.linspace(0, top, _POINTS)[1:]

    def multiplier(self, p: float, side: int) -> np.ndarray:
        """1 − p + p·φ at each frequency for images of `side` pixels, `[F]`; with two axes φ is a product over a grid of
        pairs, flattened.
        """
        if not 0 <= p <= 1:
            raise FruganError(f"p is {p:g}; a probability lies between 0 and 1")
        values = self.phi(self.frequencies(side), side)
        if self.axes == 2:
            thinned = np.concatenate([[1.0], values[:: max(len(values) // 500, 1)], values[-1:]])
            values = np.outer(thinned, thinned).ravel()[1:]
        return 1 - p + p * values

    def smallest(self, p: float, side: int) -> float:
        """The smallest modulus of the multiplier over frequencies; 0 where its sign changes between two of them, as it
        is continuous.
        """
        values = self.multiplier(p, side)
        crosses = not self.harmonics and values.min() < 0 < values.max()
        return 0.0 if crosses else float(abs(values).min())


def _normal(sigma: Callable[[int], float]) -> Callable[[np.ndarray, int], np.ndarray]:
    """The characteristic function exp(−σ²ω²/2) of N(0, σ²), `sigma` being a function of the image's side."""
    return lambda omega, side: np.exp(-((sigma(side) * omega) ** 2) / 2)


def _uniform_angle(omega: np.ndarray, side: int) -> np.ndarray:
    """U(−π, π): sin(πω)/(πω), zero at every harmonic of the circle."""
    return np.where(omega == np.round(omega), 0.0, np.sinc(omega))


def _whole_pixels(omega: np.ndarray, side: int) -> np.ndarray:
    """The characteristic function of round(U(−m, m)), m = side/8: Σ_k P(k)·cos(ωk)."""
    m = side / 8
    k = np.arange(-int(m + 0.5), int(m + 0.5) + 1)
    inside = np.clip(k + 0.5, -m, m) - np.clip(k - 0.5, -m, m)
    return np.cos(np.outer(omega, k)) @ (inside / (2 * m))


def _log2_of_a_pixel(side: int) -> float:
    """The finest change of log₂ scale that moves the border by a pixel: its Nyquist frequency."""
    return pi * side * log(2) / 2


def _log2_of_a_level(side: int) -> float:
    """The Nyquist frequency of log₂ contrast: the finest change moves the brightest value by one of 255 levels."""
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
