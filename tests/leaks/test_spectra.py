"""Spectra of the transforms on a circle: which can be undone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from frugan.augment import TRANSFORMS, AugmentConfig, AugmentPipeline
from frugan.errors import FruganError
from frugan.leaks import GROUPS, SPECTRA

SIDE = 32


def test_every_geometric_and_colour_transform_is_in_one_table() -> None:
    names = {name for name, t in TRANSFORMS.items() if t.group in ("blit", "geometry", "color")}
    assert names == GROUPS.keys() | SPECTRA.keys()


@pytest.mark.parametrize("name", SPECTRA)
def test_characteristic_functions_are_those_of_the_draws(name: str) -> None:
    """Against the mean of cos(ωt) over what the pipeline draws."""
    pipeline = AugmentPipeline(AugmentConfig((name,)), channels=3, resolution=(SIDE, SIDE))
    p = 0.75 if name == "rotate" else 1.0  # twice with 1 − √(1 − p) = ½ each
    drawn = pipeline.parameters(200_000, p, generator=torch.Generator().manual_seed(0))
    t = sum(values[:, 0].double() for key, values in drawn if key == name).numpy()  # pyright: ignore[reportAttributeAccessIssue]
    spectrum = SPECTRA[name]
    omega = np.array([1.0, 2.0, 3.0]) if spectrum.harmonics else np.array([0.1, 0.5, 1.0, 2.0, 3.0])
    expected = np.cos(np.outer(omega, t)).mean(axis=1)
    actual = 1 - p + p * spectrum.phi(omega, SIDE)
    np.testing.assert_allclose(actual, expected, atol=0.008)


@pytest.mark.parametrize("name", SPECTRA)
def test_the_smallest_modulus(name: str) -> None:
    spectrum = SPECTRA[name]
    assert spectrum.smallest(0.0, SIDE) == pytest.approx(1)
    values = [spectrum.smallest(p, SIDE) for p in np.linspace(0, 1, 11)]
    assert values == sorted(values, reverse=True) or name == "xint"
    for p in (0.2, 0.5):
        assert spectrum.smallest(p, SIDE) == pytest.approx(1 - p, abs=0.12)
    if name != "xint":
        assert spectrum.smallest(0.9, SIDE) == pytest.approx(0.1, abs=1e-6)


def test_whole_pixels_have_zeros_before_p_is_one() -> None:
    """Their characteristic function goes below zero, so 1 − p + p·φ crosses it at p = 1/(1 − min φ)."""
    lowest = float(SPECTRA["xint"].phi(np.linspace(0, np.pi, 2001), SIDE).min())
    assert lowest < -0.05
    edge = 1 / (1 - lowest)
    assert SPECTRA["xint"].smallest(edge - 0.02, SIDE) > 0
    assert SPECTRA["xint"].smallest(edge + 0.02, SIDE) == 0


def test_impossible() -> None:
    with pytest.raises(FruganError, match="between 0 and 1"):
        SPECTRA["hue"].smallest(-0.1, SIDE)
