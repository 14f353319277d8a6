"""Measurements that images have gone through (AmbientGAN): their distributions, and the images they leave."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from frugan.augment import MEASUREMENTS, Measurement
from frugan.errors import FruganError
from frugan.ops.rotations import quarter_turns

X = torch.rand(64, 3, 12, 20, generator=torch.Generator().manual_seed(0)) * 1.8 - 0.9
SQUARE = X[..., :12].contiguous()


def images(name: str) -> torch.Tensor:
    """Rectangles, where the measurement takes them."""
    return SQUARE if MEASUREMENTS[name].square else X


def measured(specification: str, x: torch.Tensor = X) -> torch.Tensor:
    M = Measurement(specification, (x.shape[2], x.shape[3]))
    return M.apply(x, M.draw(len(x), x.shape[1], generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_shape_range_gradient(name: str) -> None:
    x = images(name)
    y = measured(name, x)
    assert y.shape == x.shape
    assert float(y.min()) >= -1.001
    assert float(y.max()) <= 1
    assert not torch.allclose(y, x)
    M = Measurement(name, (x.shape[2], x.shape[3]))
    draw = [
        d.double() if d.is_floating_point() else d for d in M.draw(2, 3, generator=torch.Generator().manual_seed(2))
    ]
    x = x[:2].double() * 0.1
    assert torch.autograd.gradcheck(lambda x: M.apply(x, draw)[:, :, ::5, ::5], x.requires_grad_(), fast_mode=True)


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_what_is_drawn_can_be_shared_out(name: str) -> None:
    """Each image has its own part of it."""
    whole = images(name)
    M = Measurement(name, (whole.shape[2], whole.shape[3]))
    drawn = M.draw(len(whole), 3, generator=torch.Generator().manual_seed(1))
    halves = [M.apply(x, [d.chunk(2)[i] for d in drawn]) for i, x in enumerate(whole.chunk(2))]
    torch.testing.assert_close(torch.cat(halves), M.apply(whole, drawn))


DROPS = {
    "drop-pixels:0.3": lambda kept: 0.7,
    "drop-rows:0.3": lambda kept: 0.7,
    "drop-columns:0.3": lambda kept: 0.7,
    "drop-rows-columns:0.3": lambda kept: 0.49,
    "drop-patch:0.5": lambda kept: 0.75,
    "keep-patch:0.5": lambda kept: 0.25,
}


@pytest.mark.parametrize("specification", DROPS)
def test_what_is_dropped_is_black_and_the_rest_untouched(specification: str) -> None:
    y = measured(specification)
    kept = y == X
    assert bool((y[~kept] == -1).all())
    assert torch.equal(kept[:, 0], kept[:, 1])
    share = float(kept.float().mean())
    assert share == pytest.approx(DROPS[specification](kept), abs=0.04)
    lines = kept[:, 0].float()
    if "rows" in specification and "columns" not in specification:
        assert torch.equal(lines.amin(dim=2), lines.amax(dim=2))
    if specification.startswith("drop-columns"):
        assert torch.equal(lines.amin(dim=1), lines.amax(dim=1))
    if "patch" in specification:
        assert bool((kept[:, 0].sum(dim=(1, 2)) == round(share * X[0, 0].numel())).all())


def test_noise_has_its_standard_deviation() -> None:
    y = measured("noise:0.1", torch.zeros(64, 3, 16, 16))
    assert float(y.std()) == pytest.approx(0.1, rel=0.02)


def test_blur_is_scipys() -> None:
    y = measured("blur-noise:1.5,0", X[:1])
    for c in range(3):
        expected = ndimage.gaussian_filter(X[0, c].numpy(), 1.5, mode="nearest", radius=round(4.5))
        np.testing.assert_allclose(y[0, c], expected, atol=1e-5)


def test_turns_are_numpys_in_their_shares() -> None:
    turned = quarter_turns(SQUARE[:4], torch.eye(4))
    for k in range(4):
        np.testing.assert_array_equal(turned[k], np.rot90(SQUARE[k].numpy(), k, (1, 2)))
    x = SQUARE[:1].expand(4000, -1, -1, -1)
    y = measured("rotate90:0.1,0.2,0.3,0.4", x)
    shares = [
        float((y == np.rot90(SQUARE[0].numpy(), k, (1, 2)).copy()).all(dim=(1, 2, 3)).float().mean())  # pyright: ignore[reportAttributeAccessIssue]
        for k in range(4)
    ]
    np.testing.assert_allclose(shares, [0.1, 0.2, 0.3, 0.4], atol=0.03)


def test_projection_of_a_disc_is_the_same_from_everywhere() -> None:
    at = torch.arange(32) - 15.5
    disc = ((at[:, None] ** 2 + at**2) < 100).float() * 2 - 1
    y = measured("pad-rotate-project", disc.expand(16, 1, 32, 32).contiguous())
    assert torch.equal(y[:, :, 0], y[:, :, -1])
    assert float(y.std(dim=0).max()) < 0.05
    assert float(y.std(dim=3).min()) > 0.1


@pytest.mark.parametrize(
    ("specification", "message"),
    [
        ("nonsense", "choose from"),
        ("drop-pixels:1.5", "for instance drop-pixels:0.5"),
        ("drop-pixels:a", "not numbers"),
        ("drop-pixels:0.1,0.2", "for instance"),
        ("rotate90:0.5,0.5,0.5,0.5", "shares"),
    ],
)
def test_impossible(specification: str, message: str) -> None:
    with pytest.raises(FruganError, match=message):
        Measurement(specification, (16, 16))


def test_turns_need_squares() -> None:
    with pytest.raises(FruganError, match="square"):
        Measurement("rotate90", (16, 24))
