"""The table of transforms against its definition: bank, gains, presets, and the matrices' closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import pywt
import scipy.linalg
import scipy.signal
import torch

from conftest import load_golden
from frugan.augment.transforms import (
    BAND_POWER,
    PRESETS,
    SYM2,
    TRANSFORMS,
    band_gains,
    band_matrices,
    octave_bank,
    parse_transforms,
)
from frugan.errors import FruganError


def test_filter_is_sym2() -> None:
    np.testing.assert_allclose(SYM2, pywt.Wavelet("sym2").dec_lo, atol=1e-11)  # pyright: ignore[reportAttributeAccessIssue]


def test_bank_agrees_with_golden() -> None:
    np.testing.assert_allclose(octave_bank(), load_golden("augment_filters.npz")["filter_bank"], atol=1e-7)


def test_bank_properties() -> None:
    bank = octave_bank()
    assert bank.shape == (4, 43)
    np.testing.assert_allclose(bank.sum(0), np.eye(43)[21], atol=1e-12)
    np.testing.assert_allclose(bank, bank[:, ::-1], atol=1e-15)
    omega = np.pi * np.array([0, 1 / 32, 5 / 32, 3 / 8, 3 / 4, 1])  # both ends, and a point in each octave
    response = np.array([np.abs(scipy.signal.freqz(band, worN=omega)[1]) for band in bank])  # pyright: ignore[reportArgumentType]
    np.testing.assert_allclose(response[:, [0, -1]], np.eye(4)[:, [0, -1]], atol=1e-12)
    assert (response[:, 1:-1].argmax(0) == np.arange(4)).all()


@pytest.mark.parametrize("size", [4, 9, 22, 40])
def test_band_matrices_filter_the_reflected_signal(size: int) -> None:
    x = np.random.default_rng(0).normal(size=size)
    extended = np.pad(x, 21, mode="reflect")
    expected = [np.convolve(extended, band, mode="valid") for band in octave_bank()]
    np.testing.assert_allclose(band_matrices(size) @ x, expected, atol=1e-12)


def test_band_gains_follow_the_sequential_definition() -> None:
    drawn = torch.randn(100, 4, generator=torch.Generator().manual_seed(0)).double()
    expected = []
    for row in drawn.numpy():
        g = np.ones(4)
        for i in range(4):
            t = np.ones(4)
            t[i] = 2 ** row[i]
            g *= t / np.sqrt((np.array(BAND_POWER) * t**2).sum())
        expected.append(g)
    np.testing.assert_allclose(band_gains(drawn), expected, rtol=1e-5)
    assert torch.equal(band_gains(torch.zeros(1, 4)), torch.ones(1, 4))


def matrix(name: str, *values: float) -> np.ndarray:
    row = TRANSFORMS[name]
    assert row.coefficients is not None
    assert row.basis is not None
    f = row.coefficients(torch.tensor([values], dtype=torch.float64))[0]
    return np.eye(row.basis.shape[-1]) + torch.einsum("f,fij->ij", f, row.basis.double()).numpy()


V = np.ones(3) / np.sqrt(3)
CROSS = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)


def homogeneous(linear: np.ndarray, offset: np.ndarray | float = 0.0) -> np.ndarray:
    k = len(linear)
    out = np.eye(k + 1)
    out[:k, :k], out[:k, k] = linear, offset
    return out


def turn(angle: float) -> np.ndarray:
    return scipy.linalg.expm(np.array([[0, -angle], [angle, 0]]))


CLOSED_FORMS = {
    "xflip": [((1,), homogeneous(np.diag([-1, 1])))],
    "rotate90": [((k,), homogeneous(turn(k * np.pi / 2))) for k in range(4)],
    "xint": [((3, -2), homogeneous(np.eye(2), np.array([-3, 2])))],
    "scale": [((0.3,), homogeneous(np.eye(2) / 2**0.3))],
    "rotate": [((0.7,), homogeneous(turn(0.7)))],
    "aniso": [((0.3,), homogeneous(np.diag([2**-0.3, 2**0.3])))],
    "xfrac": [((1.5, -0.2), homogeneous(np.eye(2), np.array([-1.5, 0.2])))],
    "brightness": [((0.4,), homogeneous(np.eye(3), 0.4))],
    "contrast": [((0.4,), homogeneous(np.eye(3) * 2**0.4))],
    "lumaflip": [((1,), homogeneous(np.eye(3) - 2 * np.outer(V, V)))],
    "hue": [((1.1,), homogeneous(scipy.linalg.expm(1.1 * CROSS)))],
    "saturation": [((0.4,), homogeneous(np.outer(V, V) + (np.eye(3) - np.outer(V, V)) * 2**0.4))],
}


@pytest.mark.parametrize("name", [name for name, row in TRANSFORMS.items() if row.basis is not None])
def test_matrices_have_their_closed_forms(name: str) -> None:
    for values, expected in CLOSED_FORMS[name]:
        np.testing.assert_allclose(matrix(name, *values), expected, atol=2e-7)
    zero = [0.0] * len(CLOSED_FORMS[name][0][0])
    np.testing.assert_array_equal(matrix(name, *zero), np.eye(len(matrix(name, *zero))))


def test_presets() -> None:
    assert len(TRANSFORMS) == 18
    assert PRESETS["bgcfnc"] == tuple(TRANSFORMS)
    parts = ["blit", "geom", "color", "filter", "noise", "cutout"]
    assert sum((PRESETS[part] for part in parts), ()) == tuple(TRANSFORMS)
    for length, name in enumerate(["bg", "bgc", "bgcf", "bgcfn", "bgcfnc"], start=2):
        assert PRESETS[name] == sum((PRESETS[part] for part in parts[:length]), ())


def test_parse_transforms() -> None:
    assert parse_transforms("bgc") == PRESETS["bgc"]
    assert parse_transforms("hue, blit,xflip") == ("xflip", "rotate90", "xint", "hue")
    assert parse_transforms("none") == ()
    with pytest.raises(FruganError, match=r"'sharpen'.*bgc.*xflip"):
        parse_transforms("bgc,sharpen")
