"""Vicinity of measured labels (CcGAN): widths in closed form, how often images are drawn, exact resume."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import distance_matrix
from scipy.stats import chisquare, kstest

from frugan.errors import FruganError
from frugan.label_parts import measure
from frugan.losses import ObjectiveConfig
from frugan.training.phases import Phases
from frugan.training.vicinity import CUT, Vicinity, largest_gap, silverman_width, widths


def test_silverman_width_of_one_number_is_ccgans() -> None:
    for n in (10, 300, 10**5):
        assert silverman_width(n, 1) == pytest.approx(1.06 * n ** (-1 / 5), rel=1e-3)
    assert silverman_width(100, 2) == pytest.approx(100 ** (-1 / 6))  # where the factor is 1


def gap_of(labels: np.ndarray, columns: list[int]) -> float:
    return largest_gap(labels, measure(labels, columns, [str(i) for i in range(labels.shape[1])]))


def test_largest_gap_in_closed_form() -> None:
    years = np.array([[1.0], [2], [2], [5], [6], [6]], np.float32)
    assert gap_of(years, [0]) == pytest.approx(3 / years.std())
    cats = np.array([[1, 0, 0.0], [1, 0, 1], [1, 0, 3], [0, 1, 0], [0, 1, 9]], np.float32)
    assert gap_of(cats, [2]) == pytest.approx(9 / cats[:, 2].std())
    assert gap_of(np.full((4, 1), 3, np.float32), [0]) == 0


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 30), st.integers(2, 4), st.integers(0, 99))
def test_largest_gap_of_several_numbers(n: int, d: int, seed: int) -> None:
    labels = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
    distances = distance_matrix(labels / labels.std(0), labels / labels.std(0)) + np.diag(np.full(n, np.inf))
    assert gap_of(labels, list(range(d))) == pytest.approx(distances.min(1).max(), rel=1e-4)


def vicinity(
    kind: str, labels: np.ndarray, sigma: list[float], kappa: list[float], rows: np.ndarray | None = None
) -> Vicinity:
    rows = np.arange(len(labels)) if rows is None else rows
    return Vicinity(labels.astype(np.float32), rows, kind, sigma=sigma, kappa=kappa)  # type: ignore[arg-type]


LABELS = np.array([[0.0], [1], [2], [3], [4]])


def test_hard_draws_all_within_kappa_equally_often() -> None:
    picks, targets = vicinity("hard", LABELS, [0], [1.5]).draw(np.full(6000, 2), np.random.default_rng(0))
    assert (targets == 2).all()
    counts = np.bincount(picks, minlength=5)
    assert counts[[0, 4]].sum() == 0
    assert chisquare(counts[1:4]).pvalue > 1e-3


def test_soft_draws_in_proportion_to_its_weights() -> None:
    picks, _ = vicinity("soft", LABELS, [0], [1.5]).draw(np.full(6000, 2), np.random.default_rng(0))
    weights = np.exp(-((LABELS[:, 0] - 2) ** 2) / 1.5**2)
    assert chisquare(np.bincount(picks, minlength=5), 6000 * weights / weights.sum()).pvalue > 1e-3


def test_soft_ends_at_its_cut() -> None:
    edge = np.sqrt(-np.log(CUT))
    near = vicinity("soft", np.array([[0.0], [edge * 0.999], [edge * 1.001]]), [0], [1])
    assert (near.weights(np.zeros(1), 0) > 0).tolist() == [True, True, False]


def test_targets_are_labels_moved_by_sigma() -> None:
    _, targets = vicinity("hard", LABELS, [0.7], [10]).draw(np.full(4000, 3), np.random.default_rng(0))
    assert kstest(targets[:, 0], "norm", (3, 0.7)).pvalue > 1e-3


def test_targets_far_from_all_images_are_drawn_anew() -> None:
    _, targets = vicinity("hard", np.array([[0.0], [100]]), [5], [1]).draw(np.full(500, 0), np.random.default_rng(0))
    assert np.abs(targets).max() <= 1
    assert targets.std() > 0.3


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 40), st.integers(1, 3), st.integers(0, 2), st.sampled_from(["hard", "soft"]), st.integers(0, 999))
def test_what_is_drawn_is_near_of_the_class_and_trains(
    n: int, numbers: int, classes: int, kind: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.eye(classes)[rng.integers(classes, size=n)] if classes else np.zeros((n, 0)),
                             rng.normal(size=(n, numbers))], axis=1).astype(np.float32)  # fmt: skip
    rows = np.sort(rng.permutation(n)[: max(n * 2 // 3, 1)])
    sigma, kappa = [0.0] * classes + [0.2] * numbers, [0.0] * classes + [0.5] * numbers
    near = vicinity(kind, labels, sigma, kappa, rows)
    indices = rows[rng.integers(len(rows), size=25)] + n * rng.integers(2, size=25)
    picks, targets = near.draw(indices, np.random.default_rng(seed))
    again, _ = near.draw(indices, np.random.default_rng(seed))
    np.testing.assert_array_equal(picks, again)
    assert set(picks % n) <= set(rows)
    np.testing.assert_array_equal(picks >= n, indices >= n)
    np.testing.assert_array_equal(labels[picks % n][:, :classes], targets[:, :classes])
    np.testing.assert_array_equal(labels[indices % n][:, :classes], targets[:, :classes])
    reach = 0.5 * (1 if kind == "hard" else np.sqrt(-np.log(CUT)))
    assert np.linalg.norm(labels[picks % n][:, classes:] - targets[:, classes:], axis=1).max() <= reach * (1 + 1e-5)


def near_labels(kind: str, kappa: tuple[float, ...], n: int = 5000) -> torch.Tensor:
    config = ObjectiveConfig(vicinity=kind, vicinity_sigma=kappa, vicinity_kappa=kappa)  # type: ignore[arg-type]
    phases = SimpleNamespace(config=config, kappa=torch.tensor(kappa))
    c = torch.full((n, len(kappa)), 7.0)
    return Phases.draw_vicinity(phases, c, torch.Generator().manual_seed(0)) - c  # type: ignore[arg-type]


def test_generated_labels_fill_the_vicinity() -> None:
    assert near_labels("none", ()).numel() == 0
    steps = near_labels("hard", (3.0, 0.0, 0.5))
    assert (steps[:, 1] == 0).all()
    radii = (steps / torch.tensor([3.0, 1, 0.5])).norm(dim=1).numpy()
    assert kstest(radii**2, "uniform").pvalue > 1e-3  # uniform over a disc
    assert kstest(near_labels("hard", (2.0,))[:, 0].numpy(), "uniform", (-2, 4)).pvalue > 1e-3
    soft = near_labels("soft", (3.0, 0.0))
    assert (soft[:, 1] == 0).all()
    assert kstest(soft[:, 0].numpy(), "norm", (0, 3 / np.sqrt(2))).pvalue > 1e-3


def test_widths_stand_in_the_labels_units() -> None:
    labels = np.array([[1, 0, 10.0], [0, 1, 30]], np.float32)
    assert widths(3, measure(labels, [2], ["a", "b", "year"]), 0.5) == (0, 0, 5)


def test_mistakes() -> None:
    with pytest.raises(FruganError, match="give vicinity_kappa a width above 0"):
        ObjectiveConfig(vicinity="hard")
    with pytest.raises(FruganError, match="vicinity_sigma -1"):
        ObjectiveConfig(vicinity="soft", vicinity_sigma=(-1.0,), vicinity_kappa=(1.0,))
