from __future__ import annotations

from math import comb

import numpy as np
import pytest
import scipy.linalg
from sklearn.metrics.pairwise import polynomial_kernel
from sklearn.neighbors import NearestNeighbors

from frugan.errors import FruganError
from frugan.metrics import distances
from frugan.metrics.distances import (
    METRICS,
    density_coverage,
    frechet_distance,
    kernel_distance,
    kernel_distance_full,
    moments,
    precision_recall,
)

RNG = np.random.default_rng


def sets(n: int = 150, m: int = 130, d: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = RNG(0)
    return rng.normal(size=(n, d)), rng.normal(0.3, 1.1, size=(m, d))


def spd(rng: np.random.Generator, d: int, rank: int | None = None) -> np.ndarray:
    a = rng.normal(size=(d, rank or 2 * d))
    return a @ a.T / a.shape[1]


@pytest.fixture(params=[1, 1000, 1 << 22], ids="block-{}".format)
def _blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distances, "_BLOCK_PAIRS", request.param)


def mmd(x: np.ndarray, y: np.ndarray) -> float:
    """The unbiased estimate, from scikit-learn's kernel."""
    kernel = {"degree": 3, "gamma": 1 / x.shape[1], "coef0": 1}
    xx, yy = (polynomial_kernel(a, **kernel)[~np.eye(len(a), dtype=bool)].mean() for a in (x, y))
    return xx + yy - 2 * polynomial_kernel(x, y, **kernel).mean()


@pytest.mark.usefixtures("_blocks")
def test_kernel_distance_agrees_with_sklearn() -> None:
    real, generated = sets()
    expected = mmd(real, generated)
    assert kernel_distance_full(real, generated) == pytest.approx(expected, rel=1e-10)


def test_kernel_distance_of_subsets() -> None:
    real, generated = sets()
    whole = kernel_distance_full(real, generated)
    mean, std = kernel_distance(real, generated, subsets=200, subset_size=40)
    assert mean == pytest.approx(whole, abs=4 * std / np.sqrt(200))
    assert std > 0
    assert (mean, std) == kernel_distance(real, generated, subsets=200, subset_size=40)
    assert mean != kernel_distance(real, generated, subsets=200, subset_size=40, seed=1)[0]
    equal = kernel_distance(real[:130], generated, subsets=3)  # clipped to all of both sets, whatever their order
    assert equal == pytest.approx((kernel_distance_full(real[:130], generated), 0), abs=1e-12)


def test_kernel_distance_of_gaussians() -> None:
    """In one dimension E(xy + 1)³ is a sum over moments, and MMD² is Σⱼ C(3, j) (E xʲ − E yʲ)²."""

    def raw(mu: float, s: float) -> list[float]:
        return [1, mu, mu**2 + s**2, mu**3 + 3 * mu * s**2]

    a, b = (0.2, 1.0), (0.7, 0.6)
    expected = sum(comb(3, j) * (raw(*a)[j] - raw(*b)[j]) ** 2 for j in range(4))
    rng = RNG(0)
    estimates = [kernel_distance_full(rng.normal(*a, (200, 1)), rng.normal(*b, (300, 1))) for _ in range(300)]
    error = np.std(estimates) / np.sqrt(len(estimates))
    assert abs(np.mean(estimates) - expected) < 4 * error < 0.15 * expected


def test_kernel_distance_is_unbiased_for_few_samples() -> None:
    rng = RNG(1)
    estimates = [kernel_distance_full(*rng.normal(size=(2, 5, 8))) for _ in range(4000)]
    assert abs(np.mean(estimates)) < 4 * np.std(estimates) / np.sqrt(len(estimates))
    assert min(estimates) < 0 < max(estimates)


@pytest.mark.parametrize("cuts", [[], [60], [2, 3, 149], list(range(1, 150))])
def test_streaming_moments_equal_batch(cuts: list[int]) -> None:
    x = sets()[0] + 1e4  # far from the origin: a difference of large sums would lose half the digits
    mean, covariance = moments(iter(np.split(x, cuts)))
    np.testing.assert_allclose(mean, x.mean(0), rtol=1e-13)
    np.testing.assert_allclose(covariance, np.cov(x.T), atol=1e-9)


def test_frechet_distance_of_commuting_gaussians() -> None:
    rng = RNG(0)
    m1, m2, s1, s2 = rng.normal(size=7), rng.normal(size=7), rng.uniform(0, 2, 7), rng.uniform(0, 2, 7)
    q = np.linalg.qr(rng.normal(size=(7, 7))).Q
    distance = frechet_distance(m1, q @ np.diag(s1**2) @ q.T, m2, q @ np.diag(s2**2) @ q.T)
    assert distance == pytest.approx(np.square(m1 - m2).sum() + np.square(s1 - s2).sum(), rel=1e-12)


def test_frechet_distance_agrees_with_sqrtm() -> None:
    rng = RNG(1)
    m1, m2, s1, s2 = rng.normal(size=30), rng.normal(size=30), spd(rng, 30), 2 * spd(rng, 30)
    root = scipy.linalg.sqrtm(s1 @ s2)
    expected = np.square(m1 - m2).sum() + np.trace(s1 + s2 - 2 * np.real(root))
    assert frechet_distance(m1, s1, m2, s2) == pytest.approx(expected, rel=1e-10)
    assert frechet_distance(m2, s2, m1, s1) == pytest.approx(expected, rel=1e-10)


def test_frechet_distance_of_singular_covariances() -> None:
    """Fewer samples than dimensions. For Σ = AAᵀ and Σ' = BBᵀ the root's trace is the nuclear norm of AᵀB."""
    rng = RNG(2)
    a, b, mean = rng.normal(size=(60, 5)), rng.normal(size=(60, 9)), np.zeros(60)
    expected = np.square(a).sum() + np.square(b).sum() - 2 * np.linalg.norm(a.T @ b, "nuc")
    assert frechet_distance(mean, a @ a.T, mean, b @ b.T) == pytest.approx(expected, rel=1e-10)
    assert abs(frechet_distance(mean, a @ a.T, mean, a @ a.T)) < 1e-11 * np.trace(a @ a.T)
    assert frechet_distance(mean, 0 * a @ a.T, mean, b @ b.T) == pytest.approx(np.trace(b @ b.T))


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


IDEAL = {"precision": (1, 1), "recall": (1, 1), "coverage": (1, 1), "density": (1, 1.2)}


@pytest.mark.parametrize("name", METRICS)
def test_every_metric(name: str) -> None:
    """Identical sets are ideal, order is nothing, and farther is worse."""
    metric = METRICS[name]
    real, generated = sets()
    which = metric.names.index(name)

    def value(x: np.ndarray, y: np.ndarray) -> float:
        numbers = metric.compute(x, y)
        assert len(numbers) == len(metric.names)
        return numbers[which]

    low, high = IDEAL.get(name, (-0.2, 1e-9))  # an unbiased estimate's ideal lies a little below 0
    assert low - 1e-9 <= value(real, real) <= high + 1e-9
    shuffled = RNG(1).permutation(real), RNG(2).permutation(generated)
    tolerance = 0.05 if name == "kid" else 1e-9  # its subsets are drawn by position
    assert value(*shuffled) == pytest.approx(value(real, generated), rel=tolerance)
    near, far = value(real, generated), value(real, generated + 2)
    assert (far < near) == metric.higher_is_better
    assert far != near


def test_float32_features_are_measured_in_float64() -> None:
    real, generated = (x.astype(np.float32) for x in sets())
    for metric in METRICS.values():
        assert metric.compute(real, generated) == metric.compute(real.astype(float), generated.astype(float))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize(
    "real, generated, says",
    [
        (np.zeros((20, 3)), np.zeros((20, 4)), "cannot be compared"),
        (np.zeros(20), np.zeros(20), "cannot be compared"),
        (np.zeros((20, 3)), np.zeros((1, 3)), "1 generated"),
        (np.full((20, 3), np.nan), np.zeros((20, 3)), "not finite"),
    ],
)
def test_bad_features_are_refused(name: str, real: np.ndarray, generated: np.ndarray, says: str) -> None:
    with pytest.raises(FruganError, match=says):
        METRICS[name].compute(real, generated)


def test_bad_options_are_refused() -> None:
    real, generated = sets()
    with pytest.raises(FruganError, match="0 subsets of 130"):
        kernel_distance(real, generated, subsets=0)
    with pytest.raises(FruganError, match="subsets of 1"):
        kernel_distance(real, generated, subset_size=1)
    with pytest.raises(FruganError, match="k = 0"):
        precision_recall(real, generated, k=0)
    with pytest.raises(FruganError, match="at least 2"):
        moments([real[:1]])
