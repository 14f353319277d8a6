"""Precision, recall, density, coverage and memorisation against direct computation."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from frugan.errors import FruganError
from frugan.metrics import distances
from frugan.metrics.neighbours import density_coverage, nearest, precision_recall

RNG = np.random.default_rng


def sets(n: int = 150, m: int = 130, d: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = RNG(0)
    return rng.normal(size=(n, d)), rng.normal(0.3, 1.1, size=(m, d))


@pytest.fixture(params=[1, 1000, 1 << 22], ids="block-{}".format)
def _blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distances, "_BLOCK_PAIRS", request.param)


def within(points: np.ndarray, centres: np.ndarray, k: int) -> np.ndarray:
    """bool `[N, M]`: point i lies in the ball of centre j, by scikit-learn's neighbours."""
    radii = NearestNeighbors(n_neighbors=k).fit(centres).kneighbors()[0][:, -1]  # without arguments: not oneself
    distance, index = NearestNeighbors(n_neighbors=len(centres), algorithm="brute").fit(centres).kneighbors(points)
    table = np.empty_like(distance)
    np.put_along_axis(table, index, distance, axis=1)
    return table < radii


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("k", [1, 3, 5])
def test_manifolds_agree_with_sklearn(k: int) -> None:
    real, generated = sets(d=4)
    forward, backward = within(generated, real, k), within(real, generated, k)
    assert precision_recall(real, generated, k) == pytest.approx((forward.any(1).mean(), backward.any(1).mean()))
    expected = forward.sum() / (k * len(generated)), forward.any(0).mean()
    assert density_coverage(real, generated, k) == pytest.approx(expected)
    assert 0.1 < expected[1] < 0.99


def test_equal_distributions_have_unit_density_and_known_coverage() -> None:
    rng = RNG(0)
    values = [density_coverage(rng.normal(size=(400, 3)), rng.normal(size=(400, 3)), k=3) for _ in range(10)]
    density, coverage = np.mean(values, axis=0)
    assert density == pytest.approx(1, abs=0.05)
    assert coverage == pytest.approx(1 - 0.5**3, abs=0.02)


def test_a_lost_mode_costs_recall_not_precision() -> None:
    rng = RNG(0)
    modes = np.repeat(np.eye(4) * 20, 60, axis=0)
    real, generated = modes + rng.normal(size=modes.shape), modes + rng.normal(size=modes.shape)
    precision, recall = precision_recall(real, generated[:120])
    assert precision > 0.85
    assert 0.4 < recall < 0.5
    assert density_coverage(real, generated[:120])[1] < 0.55
    outlier = np.concatenate([generated, np.full((240, 4), 100.0)])
    assert precision_recall(real, outlier)[0] == pytest.approx(precision_recall(real, generated)[0] / 2)


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("k", [1, 4])
def test_nearest_agrees_with_sklearn(k: int) -> None:
    points, others = sets()
    expected = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(others).kneighbors(points)
    found = nearest(points, others, k)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-9)
    assert np.array_equal(found[1], expected[1])
    with pytest.raises(FruganError, match="131 nearest of 130"):
        nearest(points, others, 131)
