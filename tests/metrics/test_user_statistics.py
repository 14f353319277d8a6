"""Statistics of the user's own: distances against closed forms, error rates of the null, and bad callables."""

from __future__ import annotations

import numpy as np
import pytest

from frugan.errors import FruganError
from frugan.metrics.user_statistics import compare_statistic, load_statistic, statistic_values

RNG = np.random.default_rng


def brightness(image: np.ndarray) -> float:
    return float(image.mean())


def test_distances_of_shifted_values_are_known() -> None:
    """A shift by δ is a Wasserstein distance of δ; of two uniform distributions, a KS distance of δ over their width."""
    x = (np.arange(400) + 0.5) / 400
    found = compare_statistic("shift", x, x + 0.25, repeats=50)
    assert found.wasserstein.value == pytest.approx(0.25)
    assert found.ks.value == pytest.approx(0.25, abs=0.003)
    assert found.wasserstein.low > found.null_wasserstein
    assert found.ks.low > found.null_ks
    assert found.p == pytest.approx(1 / 51)
    assert (found.real_mean, found.generated_mean) == pytest.approx((0.5, 0.75))
    assert found.real_std == found.generated_std == pytest.approx(12**-0.5, abs=1e-3)


def test_equal_distributions_are_the_null() -> None:
    found = [
        compare_statistic("none", RNG(i).normal(size=60), RNG(99 + i).normal(size=80), repeats=40) for i in range(30)
    ]
    assert np.mean([f.p <= 0.05 for f in found]) <= 0.17
    assert np.mean([f.ks.value > f.null_ks for f in found]) <= 0.2
    assert np.mean([f.p for f in found]) == pytest.approx(0.5, abs=0.2)


def test_frames_of_a_film_stay_together() -> None:
    films, groups = np.repeat(RNG(0).normal(size=12), 40), np.repeat(np.arange(12), 40)
    other = RNG(1).normal(size=300)
    alone = compare_statistic("f", films, other, repeats=60)
    grouped = compare_statistic("f", films, other, repeats=60, real_groups=groups)
    assert grouped.wasserstein.high - grouped.wasserstein.low > 2 * (alone.wasserstein.high - alone.wasserstein.low)
    assert grouped.null_wasserstein > 1.5 * alone.null_wasserstein


def test_callables_are_found_and_called() -> None:
    found = load_statistic(f"{__name__}:brightness")
    images = RNG(0).integers(0, 255, (5, 4, 6, 3), dtype=np.uint8)
    np.testing.assert_allclose(statistic_values("b", found, images), images.mean((1, 2, 3)))
    for name, says in {
        "brightness": "give package.module:callable",
        "nowhere_at_all:f": "No module named",
        f"{__name__}:missing": "has no attribute",
        f"{__name__}:RNG.x": "has no attribute",
        "math:pi": "cannot be called",
    }.items():
        with pytest.raises(FruganError, match=says):
            load_statistic(name)
    with pytest.raises(FruganError, match="fails at image 0: ZeroDivisionError"):
        statistic_values("s", lambda image: 1 / 0, images)
    with pytest.raises(FruganError, match="nan at image 0"):
        statistic_values("s", lambda image: float("nan"), images)
    with pytest.raises(FruganError, match="9 real"):
        compare_statistic("s", np.zeros(9), np.zeros(20))
