"""Distances between sets of features against SciPy, closed forms and torchmetrics."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
import scipy.linalg
import torch
from sklearn.metrics.pairwise import polynomial_kernel

from frugan.errors import FruganError
from frugan.metrics import distances
from frugan.metrics.distances import (
    Moments,
    frechet_distance,
    frechet_distance_extrapolated,
    frechet_distance_of_sets,
    inception_score,
    kernel_distance,
    kernel_distance_full,
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


@pytest.mark.parametrize("size", [20, 100, 130])
def test_subsets_share_their_pairs_and_change_nothing(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many subsets are summed from all pairs at once; few, each alone. Both are the mean over the same subsets."""
    real, generated = sets()
    rng = RNG(0)
    draws = [(rng.choice(150, size, replace=False), rng.choice(130, size, replace=False)) for _ in range(20)]
    expected = [mmd(real[rows], generated[others]) for rows, others in draws]
    found = kernel_distance(real, generated, subsets=20, subset_size=size)
    assert found == pytest.approx((np.mean(expected), np.std(expected)), rel=1e-9)
    assert (size > 50) == (4 * 20 * size**2 >= (150 + 130) ** 2)
    few = kernel_distance(real, generated, subsets=1, subset_size=size)
    assert few == pytest.approx((expected[0], 0), rel=1e-9, abs=1e-12)


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
def test_streaming_moments_equal_batch(cuts: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distances, "_MOMENTS_ROWS", 1)  # each batch is merged
    x = sets()[0] + 1e4  # far from the origin: a difference of large sums would lose half the digits
    found = Moments.of(iter(np.split(x, cuts)))
    assert found.count == len(x)
    np.testing.assert_allclose(found.mean, x.mean(0), rtol=1e-13)
    np.testing.assert_allclose(found.covariance, np.cov(x.T), atol=1e-9)


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


@pytest.mark.parametrize("samples", [3, 40, 400])
def test_frechet_distance_of_a_set_to_itself_is_zero(samples: int) -> None:
    """Whatever the order it was read in; with variances that fall off by twenty orders of magnitude, as features' do."""
    rng = RNG(3)
    d = 120
    x = (rng.normal(size=(samples, d)) * np.logspace(0, -10, d)) @ np.linalg.qr(rng.normal(size=(d, d))).Q + 5
    own, again = Moments.of([x]), Moments.of(np.split(rng.permutation(x), [1, 2]))
    for other in (own, again):
        distance = frechet_distance(own.mean, own.covariance, other.mean, other.covariance)
        assert abs(distance) < 1e-12 * max(np.trace(own.covariance), 1)


@pytest.mark.parametrize("samples", [5, 60])
def test_frechet_distance_of_small_variances_is_exact(samples: int) -> None:
    """Against the nuclear norm of the centred samples, which squares nothing: Σ = AᵀA, Σ' = BᵀB."""
    rng = RNG(4)
    x = rng.normal(size=(samples, 50)) * np.logspace(0, -10, 50)
    y = x + rng.normal(size=x.shape) * 1e-4 * np.logspace(0, -10, 50)
    a, b = ((z - z.mean(0)) / np.sqrt(samples - 1) for z in (x, y))
    expected = np.square(x.mean(0) - y.mean(0)).sum() + np.square(a).sum() + np.square(b).sum()
    expected -= 2 * np.linalg.norm(a @ b.T, "nuc")
    one, other = Moments.of([x]), Moments.of([y])
    found = frechet_distance(one.mean, one.covariance, other.mean, other.covariance)
    assert found == pytest.approx(expected, abs=1e-13)


@pytest.mark.parametrize(("n", "m"), [(8, 12), (12, 60), (60, 8), (60, 70)])
def test_frechet_distance_of_sets_is_that_of_their_moments(n: int, m: int) -> None:
    rng = RNG(5)
    x, y = rng.normal(size=(n, 20)), rng.normal(1, 2, size=(m, 20)).astype(np.float32)
    one, other = Moments.of([x]), Moments.of([y])
    expected = frechet_distance(one.mean, one.covariance, other.mean, other.covariance)
    assert frechet_distance_of_sets(x, y) == pytest.approx(expected, rel=1e-9)
    y[0, 0] = np.nan
    for sets in ((x, y), (y, x)):
        with pytest.raises(FruganError, match="not finite"):
            frechet_distance_of_sets(*sets)
        with pytest.raises(FruganError, match="not finite"):
            kernel_distance(*sets)


def test_extrapolation_takes_away_the_bias_of_few_samples() -> None:
    """Samples of one Gaussian against its exact moments: FID is far above 0 at any count, FID∞ is not."""
    rng = RNG(0)
    mixing = rng.normal(size=(8, 8)) / 3
    truth = Moments(1000, np.zeros(8), mixing @ mixing.T * 999)
    found = [frechet_distance_extrapolated(truth, rng.normal(size=(600, 8)) @ mixing.T, seed=i) for i in range(12)]
    plain = []
    for _ in range(12):
        own = Moments.of([rng.normal(size=(600, 8)) @ mixing.T])
        plain.append(frechet_distance(truth.mean, truth.covariance, own.mean, own.covariance))
    values = np.array([value for value, _ in found])
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(len(values)) + 0.1 * np.mean(plain)
    assert np.mean(plain) > 0.005
    assert all(error > 0 for _, error in found)


def test_extrapolation_draws_its_subsets() -> None:
    """Of samples sorted along an axis the first fifth lies far from the rest; a fifth drawn from all does not."""
    rng = RNG(0)
    truth, samples = Moments.of([rng.normal(size=(4000, 4))]), rng.normal(size=(600, 4))
    mixed, _ = frechet_distance_extrapolated(truth, samples)
    ordered, _ = frechet_distance_extrapolated(truth, samples[samples[:, 0].argsort()])
    assert ordered == pytest.approx(mixed, abs=0.02)


def test_extrapolation_of_fewer_samples_than_dimensions() -> None:
    rng = RNG(0)
    truth = Moments.of([rng.normal(size=(400, 50))])
    value, error = frechet_distance_extrapolated(truth, rng.normal(size=(60, 50)))
    assert np.isfinite([value, error]).all()
    with pytest.raises(FruganError, match="2 generated samples"):
        frechet_distance_extrapolated(truth, rng.normal(size=(2, 50)))


def test_inception_score_of_known_predictions() -> None:
    sure = np.eye(5)[np.arange(100) % 5] * 1000.0
    assert inception_score(sure, splits=4) == pytest.approx((5, 0))
    assert inception_score(np.zeros((100, 5))) == pytest.approx((1, 0))
    assert inception_score(sure[:1].repeat(50, 0)) == pytest.approx((1, 0))
    for logits, splits in ((np.zeros(5), 1), (np.zeros((5, 2)), 6), (np.full((20, 2), np.nan), 2)):
        with pytest.raises(FruganError, match=r"logits|not finite"):
            inception_score(logits, splits)


def test_bad_options_are_refused() -> None:
    real, generated = sets()
    with pytest.raises(FruganError, match="0 subsets of 130"):
        kernel_distance(real, generated, subsets=0)
    with pytest.raises(FruganError, match="subsets of 1"):
        kernel_distance(real, generated, subset_size=1)
    with pytest.raises(FruganError, match="at least 2"):
        _ = Moments.of([real[:1]]).covariance


@pytest.mark.filterwarnings("ignore:Metric .* will save all:UserWarning")
@pytest.mark.parametrize("splits", [2, 10])
def test_agreement_with_torchmetrics(splits: int) -> None:
    """FID, KID and Inception score of the same features, by an independent library."""
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.inception import InceptionScore
    from torchmetrics.image.kid import KernelInceptionDistance

    class Same(torch.nn.Module):
        num_features = 12

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    real, generated = sets()
    generated = generated[:100]
    x, y = torch.from_numpy(real), torch.from_numpy(generated)
    fid = FrechetInceptionDistance(feature=Same(), input_img_size=(1, 1, 1)).set_dtype(torch.float64)
    kid = KernelInceptionDistance(feature=Same(), subsets=1, subset_size=100).set_dtype(torch.float64)
    for theirs in (fid, kid):
        theirs.update(x if theirs is fid else x[:100], real=True)
        theirs.update(y, real=False)
    a, b = Moments.of([real]), Moments.of([generated])
    ours = frechet_distance(a.mean, a.covariance, b.mean, b.covariance)
    assert ours == pytest.approx(fid.compute().item(), rel=1e-6)
    assert kernel_distance_full(real[:100], generated) == pytest.approx(kid.compute()[0].item(), rel=1e-6)
    score = InceptionScore(feature=Same(), splits=splits).set_dtype(torch.float64)
    score.update(y)
    torch.manual_seed(0)
    order = torch.randperm(100).numpy()
    torch.manual_seed(0)
    mean, std = score.compute()
    assert inception_score(generated[order], splits)[0] == pytest.approx(mean.item(), rel=1e-6)
    ours = inception_score(generated[order], splits)[1] * np.sqrt(splits / (splits - 1))  # theirs is over n − 1
    assert ours == pytest.approx(std.item(), rel=1e-6)
