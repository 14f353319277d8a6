"""The 18 transforms: what each draws, what it does (Karras et al. 2020, "Training GANs with Limited Data", appendix B).

Every transform is written once. It turns standard variates (uniform on [0, 1), or standard normal) into parameters
whose zero is the identity, so skipping it means multiplying them by zero. Where it is a matrix, the matrix is I + Σᵢ
fᵢ·Bᵢ with coefficients f of the parameters (zero at zero) and constant Bᵢ, so all of them are built and composed at
once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import pi
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from frugan.checks import check_choice
from frugan.ops.periodic import reflect, wrap

Group = Literal["blit", "geometry", "color", "filter", "noise", "cutout"]


@dataclass(frozen=True)
class Transform:
    """One row of `TRANSFORMS`.

    `variates` has one letter for each number that it draws: "u" uniform on [0, 1), "n" standard normal. `parameters`
    takes them, `[N, k]`, and the image size (W, H) in pixels, `[2]`, to its parameters `[N, k']`. `coefficients`
    takes those to `[N, F]`, the weights of `basis` `[F, m, m]`: inverse maps of homogeneous pixel positions relative
    to the centre (m = 3) in blit and geometry, maps of homogeneous RGB (m = 4) in colour, none elsewhere.
    """

    group: Group
    variates: str
    parameters: Callable[[Tensor, Tensor], Tensor]
    coefficients: Callable[[Tensor], Tensor] | None = None
    basis: Tensor | None = None


def _unit(size: int, *entries: tuple[int, int, float]) -> Tensor:
    matrix = torch.zeros(size, size)
    for row, column, value in entries:
        matrix[row, column] = value
    return matrix


def _turn(angle: Tensor) -> Tensor:
    return torch.cat([angle.cos() - 1, angle.sin()], dim=1)


_MIRROR = _unit(3, (0, 0, -2))[None]
_SHIFT = torch.stack([_unit(3, (0, 2, -1)), _unit(3, (1, 2, -1))])
_ZOOM = _unit(3, (0, 0, 1), (1, 1, 1))[None]
_STRETCH = torch.stack([_unit(3, (0, 0, 1)), _unit(3, (1, 1, 1))])
_ROTATION = torch.stack([_ZOOM[0], _unit(3, (0, 1, -1), (1, 0, 1))])

_RGB = _unit(4, (0, 0, 1), (1, 1, 1), (2, 2, 1))
_OFFSET = _unit(4, (0, 3, 1), (1, 3, 1), (2, 3, 1))
_LUMA = torch.nn.functional.pad(torch.full((3, 3), 1 / 3), (0, 1, 0, 1))  # v·vᵀ of the luma axis v = (1, 1, 1)/√3
_CROSS = _unit(4, (0, 1, -1), (0, 2, 1), (1, 0, 1), (1, 2, -1), (2, 0, -1), (2, 1, 1)) / 3**0.5  # v × ·
_HUE = torch.stack([_RGB - _LUMA, _CROSS])

TRANSFORMS: dict[str, Transform] = {
    # pixel blitting: flips, quarter turns, whole pixels
    "xflip": Transform("blit", "u", lambda u, _: (u * 2).floor(), lambda i: i, _MIRROR),
    "rotate90": Transform("blit", "u", lambda u, _: (u * 4).floor(), lambda i: _turn(i * (pi / 2)).round(), _ROTATION),
    "xint": Transform("blit", "uu", lambda u, size: ((u * 2 - 1) * 0.125 * size).round(), lambda t: t, _SHIFT),
    # general geometry: log₂ of scales, radians, pixels
    "scale": Transform("geometry", "n", lambda n, _: n * 0.2, lambda s: (-s).exp2() - 1, _ZOOM),
    "rotate": Transform("geometry", "u", lambda u, _: (u * 2 - 1) * pi, _turn, _ROTATION),
    "aniso": Transform(
        "geometry", "n", lambda n, _: n * 0.2, lambda s: torch.cat([(-s).exp2(), s.exp2()], dim=1) - 1, _STRETCH
    ),
    "xfrac": Transform("geometry", "nn", lambda n, size: n * 0.125 * size, lambda t: t, _SHIFT),
    # colour: offset, log₂ of factors, radians
    "brightness": Transform("color", "n", lambda n, _: n * 0.2, lambda b: b, _OFFSET[None]),
    "contrast": Transform("color", "n", lambda n, _: n * 0.5, lambda c: c.exp2() - 1, _RGB[None]),
    "lumaflip": Transform("color", "u", lambda u, _: (u * 2).floor(), lambda i: i, -2 * _LUMA[None]),
    "hue": Transform("color", "u", lambda u, _: (u * 2 - 1) * pi, _turn, _HUE),
    "saturation": Transform("color", "n", lambda n, _: n, lambda s: s.exp2() - 1, _HUE[:1]),
    # image-space filter: log₂ of the gain of one octave, the lowest first
    **{f"band{i}": Transform("filter", "n", lambda n, _: n) for i in range(4)},
    # corruption: σ of the noise; side of the box and its centre, as fractions of W and H
    "noise": Transform("noise", "n", lambda n, _: n.abs() * 0.1),
    "cutout": Transform("cutout", "uu", lambda u, _: torch.cat([torch.full_like(u[:, :1], 0.5), u], dim=1)),
}

_GROUPS: dict[str, tuple[Group, ...]] = {
    "blit": ("blit",),
    "geom": ("geometry",),
    "color": ("color",),
    "filter": ("filter",),
    "noise": ("noise",),
    "cutout": ("cutout",),
    "bg": ("blit", "geometry"),
    "bgc": ("blit", "geometry", "color"),
    "bgcf": ("blit", "geometry", "color", "filter"),
    "bgcfn": ("blit", "geometry", "color", "filter", "noise"),
    "bgcfnc": ("blit", "geometry", "color", "filter", "noise", "cutout"),
}
PRESETS: dict[str, tuple[str, ...]] = {
    preset: tuple(name for name, t in TRANSFORMS.items() if t.group in groups) for preset, groups in _GROUPS.items()
}
"""Named selections of transforms. `bgc` is the paper's default."""


def parse_transforms(text: str) -> tuple[str, ...]:
    """Presets and transforms separated by commas ("bgc", "blit,hue"), or "none" → names in the order of application."""
    names = [name.strip() for name in text.split(",") if name.strip() not in ("", "none")]
    for name in names:
        check_choice("unknown augmentation", name, (*PRESETS, *TRANSFORMS))
    chosen = {t for name in names for t in PRESETS.get(name, (name,))}
    return tuple(name for name in TRANSFORMS if name in chosen)


SYM2 = tuple((a + b * 3**0.5) / (4 * 2**0.5) for a, b in ((1, -1), (3, -1), (3, 1), (1, 1)))
"""Orthonormal low-pass analysis filter of the symlet with 2 vanishing moments, in closed form."""

BAND_POWER = (10 / 13, 1 / 13, 1 / 13, 1 / 13)
"""Share of the four octaves in the expected power spectrum of natural images, the lowest first; sums to 1."""


def octave_bank() -> np.ndarray:
    """float64 `[4, 43]`: symmetric filters for the octaves (0, π/8], (π/8, π/4], (π/4, π/2], (π/2, π].

    They sum to an impulse: a three-level dyadic cascade of the half-band pair L(z) = H(z)·H(1/z)/2 and L(−z), where H
    is the low-pass of sym2.
    """
    low = np.convolve(SYM2, SYM2[::-1]) / 2
    high = low * (-1.0) ** (np.arange(low.size) - low.size // 2)
    bands = [np.ones(1)]
    for _ in range(3):
        stretched = [np.kron(band, (1, 0))[:-1] for band in bands]
        bands = [np.convolve(band, low) for band in stretched] + [high]
    return np.stack([np.pad(band, (bands[0].size - band.size) // 2) for band in bands])


def band_matrices(size: int, *, repeats: bool = False) -> np.ndarray:
    """float64 `[4, size, size]`: each band's filter along one axis that is extended by reflection, or that repeats."""
    bank, extended = octave_bank(), wrap if repeats else reflect
    matrices = np.zeros((len(bank), size, size))
    rows = np.arange(size)
    for tap in range(bank.shape[1]):
        matrices[:, rows, extended(rows + tap - bank.shape[1] // 2, size)] += bank[:, tap, None]
    return matrices


def band_gains(log2_gains: Tensor) -> Tensor:
    """`[N, 4]` drawn log₂ gains → gains `[N, 4]`, each band's amplification normalised to keep the expected power.

    Band i alone gives the gains t = (1, …, tᵢ, …, 1)/√(Σⱼ λⱼ·tⱼ²), and the λ sum to 1; the four are multiplied.
    """
    t = log2_gains.exp2()
    power = [1 + share * (band.square() - 1) for share, band in zip(BAND_POWER, t.split(1, dim=1))]
    return t / torch.cat(power, dim=1).prod(dim=1, keepdim=True).sqrt()
