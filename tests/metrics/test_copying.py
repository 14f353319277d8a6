"""The data-copying test, authenticity and nearest distances: against SciPy, direct computation and simulated copies."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.stats import mannwhitneyu, norm
from sklearn.cluster import KMeans

from frugan.errors import FruganError
from frugan.metrics.copying import (
    CELL_FEWEST,
    QUANTILES,
    authenticity,
    data_copying,
    independent_of,
    memorisation,
    nearest_distances,
    rank_z,
)
from frugan.metrics.neighbours import nearest, nearest_of_other_groups

RNG = np.random.default_rng


def draw(n: int, seed: int, d: int = 6) -> np.ndarray:
    return RNG(seed).normal(size=(n, d))


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 60), st.integers(2, 60), st.integers(1, 40), st.integers(0, 99))
def test_z_is_that_of_scipy(m: int, n: int, levels: int, seed: int) -> None:
    """With ties or without."""
    rng = RNG(seed)
    x, y = rng.integers(0, levels, m) / 3, rng.integers(0, levels, n) / 3
    if len(np.unique([*x, *y])) == 1:
        assert rank_z(x, y) == 0
        return
    expected = mannwhitneyu(x, y, method="asymptotic", use_continuity=False)
    z = rank_z(x, y)
    assert 2 * norm.sf(abs(z)) == pytest.approx(min(float(expected.pvalue), 1.0), abs=1e-9)
    if abs(z) > 1e-9:
        assert (z < 0) == (expected.statistic < m * n / 2)


def test_cells_against_a_direct_computation() -> None:
    """k-means by scikit-learn, distances by SciPy, z of each cell, weighted by the held-out images."""
    train, unseen, generated = (RNG(i).normal(size=(n, 5)) for i, n in enumerate((150, 90, 120)))
    generated = generated * 0.8
    found = data_copying(generated, unseen, train, cells=3, seed=4)
    axes = np.linalg.svd(train - train.mean(0), full_matrices=False)[2].T
    fitted = KMeans(3, n_init=4, random_state=4).fit((train - train.mean(0)) @ axes)  # pyright: ignore[reportArgumentType]
    of_p, of_q = (fitted.predict((x - train.mean(0)) @ axes) for x in (unseen, generated))
    far, control = cdist(generated, train).min(1), cdist(unseen, train).min(1)
    expected, weights = [], []
    for cell in range(3):
        x, y = far[of_q == cell], control[of_p == cell]
        u = (x[:, None] > y).sum()
        expected.append((u - len(x) * len(y) / 2) / np.sqrt(len(x) * len(y) * (len(x) + len(y) + 1) / 12))
        weights.append(len(y) / len(unseen))
    assert [c.z for c in found.cells] == pytest.approx(expected)
    assert found.c_t == pytest.approx(np.dot(expected, weights))
    assert found.error == pytest.approx(np.linalg.norm(weights))
    assert sum(c.train for c in found.cells) == 150
    assert found.z == pytest.approx(rank_z(far, control))


def test_nothing_copied_gives_a_standard_normal() -> None:
    """Over draws of all three sets, as the test promises: mean 0 and the deviation it states."""
    found = [data_copying(draw(80, 3 * i), draw(60, 3 * i + 1), draw(60, 3 * i + 2), cells=2) for i in range(60)]
    z, c_t = np.array([f.z for f in found]), np.array([f.c_t / f.error for f in found])
    for values in (z, c_t):
        assert abs(values.mean()) < 3 / np.sqrt(60)
        assert 0.75 < values.std() < 1.25


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_simulated_copies(share: float) -> None:
    train, unseen, fresh = draw(400, 0), draw(400, 1), draw(400, 2)
    count = round(400 * share)
    copies = train[:count] + 1e-3 * draw(count, 3)
    generated = np.concatenate([copies, fresh[count:]])
    found = data_copying(generated, unseen, train)
    assert found.z < (-3 if share > 0.2 else -1)
    assert found.c_t < 0
    found = authenticity(generated, train, unseen)
    assert found.generated.value == pytest.approx(found.unseen.value * (1 - share), abs=0.06)
    nearest = nearest_distances(generated, train, unseen)
    assert nearest.copied.value == pytest.approx(share + 0.01 * (1 - share), abs=0.02)
    assert (nearest.copied.low > 0.01) == (share > 0)


def test_copies_in_one_place_are_seen_by_cells() -> None:
    """One mode copied, the other off: together they cancel, apart they do not."""
    modes = np.repeat([[0.0] * 6, [40.0] * 6], 150, axis=0)
    train, unseen = draw(300, 0) + modes, draw(300, 1) + modes
    generated = np.concatenate([train[:150] + 0.3 * draw(150, 2), train[150:] + 4 * draw(150, 3)])
    found = data_copying(generated, unseen, train, cells=2)
    assert abs(found.z) < 3
    assert min(c.z for c in found.cells if c.z is not None) < -5
    assert max(c.z for c in found.cells if c.z is not None) > 5


def test_cells_with_too_few_are_left_out_and_none_left_is_refused() -> None:
    modes = np.repeat([[0.0] * 6, [40.0] * 6], 50, axis=0)
    train, unseen, one = draw(100, 0) + modes, draw(100, 1) + modes, draw(50, 2)
    found = data_copying(one, unseen, train, cells=2)
    assert sorted(c.z is None for c in found.cells) == [False, True]
    assert found.c_t == next(c.z for c in found.cells if c.z is not None)
    assert found.error == 1
    with pytest.raises(FruganError, match=f"no cell has {CELL_FEWEST} held-out"):
        data_copying(one, unseen[:5], train, cells=1)
    with pytest.raises(FruganError, match="101 cells of 100"):
        data_copying(one, unseen, train, cells=101)


def test_held_out_images_of_a_group_are_one_observation() -> None:
    train = draw(100, 0)
    films, groups = np.repeat(draw(20, 1), 20, axis=0), np.repeat(np.arange(20), 20)
    generated = draw(200, 2) * 0.9
    alone, grouped = (data_copying(generated, films, train, cells=1, unseen_groups=g).z for g in (None, groups))
    assert abs(grouped) < abs(alone) / 1.8
    assert (grouped < 0) == (alone < 0)


def test_authenticity_and_distances_by_direct_computation() -> None:
    train, unseen, generated = draw(60, 0, 3), draw(50, 1, 3), draw(70, 2, 3)
    groups = RNG(3).integers(0, 20, 60)
    among = cdist(train, train)
    among[groups[:, None] == groups] = np.inf
    for points, found in zip(
        (generated, unseen),
        (lambda a: (a.generated, a.unseen))(authenticity(generated, train, unseen, train_groups=groups)),
    ):
        table = cdist(points, train)
        assert found.value == pytest.approx(np.mean(table.min(1) > among.min(1)[table.argmin(1)]))
        assert found.low < found.value < found.high
    np.testing.assert_allclose(nearest_of_other_groups(train, groups), among.min(1))
    found = nearest_distances(generated, train, unseen, train_groups=groups)
    assert found.train == pytest.approx(np.quantile(among.min(1), QUANTILES))
    assert found.unseen == pytest.approx(np.quantile(cdist(unseen, train).min(1), QUANTILES))
    assert found.generated == pytest.approx(np.quantile(cdist(generated, train).min(1), QUANTILES))


def test_neighbours_of_the_same_group_do_not_count() -> None:
    """Training images in pairs (x-flipped copies, frames of a film): copies look authentic unless a pair is one group."""
    train = np.repeat(draw(100, 0), 2, axis=0) + 1e-4 * draw(200, 1)
    copies, unseen = train[::2] + 0.05 * draw(100, 2), draw(80, 3)
    blind = authenticity(copies, train, unseen)
    seeing = authenticity(copies, train, unseen, train_groups=np.arange(200) // 2)
    assert blind.generated.value > 0.95
    assert seeing.generated.value < 0.05 < seeing.unseen.value


def test_a_control_shares_no_group() -> None:
    free = independent_of(np.array([1, 2, 3, 2]), np.array([2, 9]), 4)
    assert free.tolist() == [True, False, True, False]
    assert independent_of(None, np.array([2, 9]), 3).all()
    with pytest.raises(FruganError, match="hold out whole groups"):
        independent_of(np.array([2, 2]), np.array([2, 9]), 2)


def test_memorisation_is_the_probability_of_being_nearer() -> None:
    rng = RNG(0)
    generated, unseen = rng.uniform(0, 3, 70).round(1), rng.uniform(0, 4, 90).round(1)
    pairs = (generated[:, None] < unseen) + 0.5 * (generated[:, None] == unseen)
    assert memorisation(generated, unseen)[0].value == pytest.approx(pairs.mean())
    same, share = memorisation(unseen, unseen)
    assert (same.value, share.value) == pytest.approx((0.5, 0.01), abs=0.02)
    assert same.low < 0.5 < same.high
    assert share.low <= 0.01 <= share.high
    groups = np.arange(90) // 15
    assert memorisation(generated, unseen, unseen_groups=groups)[0] != memorisation(generated, unseen)[0]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_simulated_copies_are_found(share: float) -> None:
    rng = RNG(1)
    train, unseen, fresh = (rng.normal(size=(500, 6)) for _ in range(3))
    copies = round(500 * share)
    generated = np.concatenate([train[:copies] + 1e-3 * rng.normal(size=(copies, 6)), fresh[copies:]])
    closer, copied = memorisation(nearest(generated, train)[0][:, 0], nearest(unseen, train)[0][:, 0])
    assert copied.value == pytest.approx(share + 0.01 * (1 - share), abs=0.015)
    assert closer.value == pytest.approx(0.5 + share / 2, abs=0.05)
