"""Intervals by half-samples, floors, and errors of means, against closed forms and simulated repetition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frugan.errors import FruganError
from frugan.metrics.distances import kernel_distance_full
from frugan.metrics.neighbours import density_coverage, precision_recall
from frugan.metrics.resampling import (
    Estimate,
    floor,
    half_sample_intervals,
    mean_error,
    mean_estimate,
    shares_below,
    split_halves,
)

RNG = np.random.default_rng


def means(real: np.ndarray, generated: np.ndarray) -> tuple[float, float]:
    return float(real.mean()), float(generated.mean())


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 12), min_size=4, max_size=60), st.integers(0, 100))
def test_halves_part_the_groups(groups: list[int], seed: int) -> None:
    owners = np.array(groups)
    if len(set(groups)) < 4:
        with pytest.raises(FruganError, match="cannot be halved"):
            list(split_halves(len(groups), RNG(seed), owners))
        return
    first, second = split_halves(len(groups), RNG(seed), owners)
    assert np.array_equal(np.sort(np.concatenate([first, second])), np.arange(len(groups)))
    ours, theirs = set(owners[first]), set(owners[second])
    assert not ours & theirs
    assert 0 <= len(theirs) - len(ours) <= 1


def test_the_interval_of_a_mean_is_that_of_the_closed_form() -> None:
    real, generated = RNG(0).normal(size=(80, 1)), RNG(1).normal(3, 5, size=(301, 1))
    for found, x in zip(half_sample_intervals(means, real, generated, repeats=2000), (real, generated)):
        assert found.value == pytest.approx(x.mean())
        assert (found.high - found.low) / 2 == pytest.approx(1.96 * x.std(ddof=1) / np.sqrt(len(x)), rel=0.06)


def test_images_of_a_group_are_one_observation() -> None:
    """Ten copies of each image: an error ten times as many images would not have."""
    x = RNG(0).normal(size=40)
    copies, groups = np.repeat(x, 10), np.repeat(np.arange(40), 10)
    assert mean_error(copies, groups) == pytest.approx(x.std(ddof=1) / np.sqrt(40))
    assert mean_error(copies) < mean_error(copies, groups) / 3
    assert mean_error(copies, np.zeros(400)) == np.inf
    wide, narrow = (
        half_sample_intervals(means, copies[:, None], copies[:, None], real_groups=g, repeats=300)[0]
        for g in (groups, None)
    )
    assert wide.high - wide.low > 2.5 * (narrow.high - narrow.low)
    assert mean_estimate(np.array([0.0, 1, 1, 1]), limits=(0, 1)).high == 1


@pytest.mark.parametrize(
    "statistic, truth_draws",
    [
        (lambda r, g: (kernel_distance_full(r, g),), 40),
        (lambda r, g: precision_recall(r, g), 40),
        (lambda r, g: density_coverage(r, g), 40),
    ],
    ids=["kid", "precision-recall", "density-coverage"],
)
def test_intervals_hold_the_expected_value(statistic, truth_draws: int) -> None:
    """Of repeated experiments, 95 of 100 intervals hold the mean of all: here at least 85, and they are not of any width."""
    rng = RNG(3)

    def experiment() -> tuple[np.ndarray, np.ndarray]:
        return rng.normal(size=(80, 3)), rng.normal(0.4, 1, size=(100, 3))

    experiments = [experiment() for _ in range(truth_draws)]
    values = np.array([statistic(*e) for e in experiments])
    found = [half_sample_intervals(statistic, *e, repeats=25) for e in experiments]
    for i, truth in enumerate(values.mean(axis=0)):
        held = np.mean([f[i].low <= truth <= f[i].high for f in found])
        width = np.mean([f[i].high - f[i].low for f in found])
        assert held >= 0.85
        assert width < 2.2 * 2 * 1.96 * values[:, i].std()


def test_the_floor_is_that_of_the_real_images_alone() -> None:
    x = RNG(0).normal(size=(200, 4))

    def kid(a: np.ndarray, b: np.ndarray) -> tuple[float]:
        return (kernel_distance_full(a, b),)

    (found,) = floor(kid, x)
    assert found.low < 0 < found.high
    assert abs(found.value) < 0.1
    films = np.repeat(RNG(1).normal(size=(20, 4)), 10, axis=0)
    (whole,) = floor(kid, films, groups=np.repeat(np.arange(20), 10))
    (torn,) = floor(kid, films)
    assert whole.value > torn.value + 0.2


def test_shares_below_and_text() -> None:
    x, y = RNG(0).integers(0, 9, 30) / 2, RNG(1).integers(0, 9, 20) / 2
    expected = (y < x[:, None]).mean(1) + 0.5 * (y == x[:, None]).mean(1)
    np.testing.assert_allclose(shares_below(x, y), expected)
    assert str(Estimate(0.5, 0.25, 0.75)) == "0.5 (0.25 to 0.75)"
