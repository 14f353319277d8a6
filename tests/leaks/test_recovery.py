"""Recovery of a clean distribution from augmented images by a toy generator."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from torch import Tensor

from frugan.augment import AugmentConfig, AugmentPipeline
from frugan.errors import FruganError
from frugan.leaks import recovery
from frugan.leaks.features import FEWEST
from frugan.leaks.recovery import _squared_mean
from frugan.ops.rotations import quarter_turns

from .toy_images import toy_images

MODULE = sys.modules[_squared_mean.__module__]  # whose name the function has taken


def uniform_turns(p: float, seed: int = 0):
    rng = torch.Generator().manual_seed(seed)

    def augment(x: Tensor) -> Tensor:
        fires = torch.rand(len(x), generator=rng) < p
        turns = torch.where(fires, torch.randint(4, (len(x),), generator=rng), 0)
        return quarter_turns(x, torch.eye(4)[turns])

    return augment


@pytest.mark.parametrize("p", [0.3, 0.6, 1.0])
def test_recovery_of_a_group_is_one_minus_p(p: float) -> None:
    found = recovery(toy_images(1500), uniform_turns(p))
    assert found.remains is not None
    assert found.remains == pytest.approx(1 - p, abs=0.08)
    assert found.leaks == (p == 1)


@pytest.mark.parametrize("shape", [(3, 48, 64), (1, 64, 48), (4, 48, 64), (5, 64, 48)])
def test_recovery_of_flips_of_any_shape(shape: tuple[int, int, int]) -> None:
    rng = torch.Generator().manual_seed(0)

    def flip(x: Tensor) -> Tensor:
        fires = torch.rand(len(x), 1, 1, 1, generator=rng) < 0.2
        return torch.where(fires, x.flip(3), x)

    found = recovery(toy_images(900, shape=shape), flip)
    assert found.remains == pytest.approx(0.6, abs=0.08)  # of two states that are exchanged with 0.2: 1 - 2 * 0.2


CERTAIN = {
    "a turn is undone": (lambda x: x.rot90(1, (2, 3)), False),
    "grey is not": (lambda x: x.mean(dim=1, keepdim=True).expand_as(x), True),
}


@pytest.mark.parametrize("name", CERTAIN)
def test_recovery_of_what_is_certain(name: str) -> None:
    augment, leaks = CERTAIN[name]
    found = recovery(toy_images(900), augment)
    assert found.leaks == leaks
    assert found.remains is not None
    assert (found.remains < 0.15) if leaks else (found.remains > 0.6)


def test_recovery_of_ada_itself() -> None:
    pipeline = AugmentPipeline(AugmentConfig(("rotate90",)), channels=3, resolution=(16, 16))
    rng = torch.Generator().manual_seed(0)
    found = recovery(toy_images(1500), lambda x: pipeline(x, 0.5, generator=rng))
    assert found.remains == pytest.approx(0.5, abs=0.08)


def test_nothing_leaks_where_nothing_changes() -> None:
    found = recovery(toy_images(900), lambda x: x)
    assert found.remains is None
    assert not found.leaks
    assert "nothing can leak" in found.sentence()


def test_nothing_leaks_where_the_distribution_stays() -> None:
    """Images change, but are flipped as often before as after: the effect is within its error."""
    images = toy_images(450)
    found = recovery(
        torch.cat([images, images.flip(3)]), lambda x: torch.where(torch.rand(len(x), 1, 1, 1) < 0.5, x, x.flip(3))
    )
    assert found.remains is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: recovery(toy_images(50), lambda x: x), "too few"),
        (lambda: recovery(toy_images(200), lambda x: x[:, :1]), "made"),
        (lambda: recovery(toy_images(200), lambda x: x / 0), "finite"),
    ],
)
def test_impossible(call, message: str) -> None:
    with pytest.raises(FruganError, match=message):
        call()


def test_the_squared_norm_of_a_mean_is_not_biased() -> None:
    """Of few rows about a mean m: ‖m‖² on average, and the error is the deviation of repeated draws."""
    rng = np.random.default_rng(0)
    mean = rng.normal(size=20) / 5
    found = [_squared_mean(mean + rng.normal(size=(30, 20))) for _ in range(2000)]
    values, errors = np.array([value for value, *_ in found]), np.array([error for _, error, _ in found])
    assert values.mean() == pytest.approx(mean @ mean, abs=4 * values.std() / 2000**0.5)
    assert errors.mean() == pytest.approx(values.std(), rel=0.3)


class Pixels:
    """In the place of `ImageFeatures`: the mean embedding is the mean of pixels."""

    def __init__(self, *_: object) -> None: ...

    def kernel(self, pixels: np.ndarray) -> np.ndarray:
        return pixels


def test_the_interval_of_recovery(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two deviations to either side: with the means of pixels as features, and a T that blackens images with probability ½."""

    monkeypatch.setattr(MODULE, "ImageFeatures", Pixels)
    monkeypatch.setattr(MODULE, "small", lambda x: x.flatten(1).double().numpy())

    def blacken(x: Tensor) -> Tensor:
        return x * (torch.rand(len(x), 1, 1, 1) < 0.5)

    draws = torch.Generator().manual_seed(0)
    found = [recovery(torch.randn(400, 1, 1, 4, generator=draws) / 2 + 1, blacken, seed=i) for i in range(200)]
    remains, low, high = np.array([(r.remains, r.low, r.high) for r in found], dtype=float).T
    assert remains.mean() == pytest.approx(0.5, abs=0.01)
    assert ((low <= 0.5) & (high >= 0.5)).mean() > 0.9
    assert (high - low).mean() / 2 == pytest.approx(2 * remains.std(), rel=0.3)


def test_an_effect_is_one_from_two_standard_errors_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The square of the mean shift, over all pairs, against its jackknife error, both written out: T stretches and shifts."""
    monkeypatch.setattr(MODULE, "ImageFeatures", Pixels)
    monkeypatch.setattr(MODULE, "small", lambda x: x.flatten(1).double().numpy())
    images = torch.randn(FEWEST, 1, 1, 2, generator=torch.Generator().manual_seed(0)).double()
    found = []
    for shift in np.linspace(0, 0.3, 40):
        rows = (0.5 * images + shift).flatten(1).numpy()
        products = rows @ rows.T
        np.fill_diagonal(products, 0)
        count = len(rows)
        square = products.sum() / (count * (count - 1))
        without = [(products.sum() - 2 * row.sum()) / ((count - 1) * (count - 2)) for row in products]
        error = ((count - 1) / count * np.square(without - np.mean(without)).sum()) ** 0.5  # pyright: ignore[reportOperatorIssue]
        result = recovery(images, lambda x, shift=shift: 1.5 * x + shift)
        assert (result.remains is not None) == (square > 2 * error), (shift, square / error)
        found.append(square / error)
    assert min(abs(z - 2) for z in found if z < 2) < 0.15
    assert min(abs(z - 2) for z in found if z > 2) < 0.15
