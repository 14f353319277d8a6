"""Membership inference: AUC and TPR against scikit-learn, intervals against DeLong's formula and repetition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from scipy.stats import norm
from sklearn.metrics import roc_auc_score, roc_curve

from frugan.errors import FruganError
from frugan.metrics.membership import auc_estimate, membership_attack, true_positive_rate

RNG = np.random.default_rng


@settings(deadline=None, max_examples=60)
@given(
    st.integers(3, 80),
    st.integers(3, 80),
    st.integers(2, 200),
    st.sampled_from([0.0, 0.01, 0.1, 0.5]),
    st.integers(0, 99),
)
def test_auc_and_tpr_are_those_of_scikit_learn(m: int, n: int, levels: int, fpr: float, seed: int) -> None:
    rng = RNG(seed)
    x, y = rng.integers(0, levels, m) / 7 + 0.1, rng.integers(0, levels, n) / 7
    truth, scores = np.repeat([1, 0], [m, n]), np.concatenate([x, y])
    assert auc_estimate(x, y).value == pytest.approx(roc_auc_score(truth, scores))
    rates, found, _ = roc_curve(truth, scores, drop_intermediate=False)
    tpr, allowed = true_positive_rate(x, y, fpr)
    assert tpr == pytest.approx(found[rates <= fpr + 1e-9].max())
    assert allowed <= fpr + 1e-9


def test_a_score_that_ties_with_the_threshold_is_not_accused() -> None:
    """One of three others may pass: the threshold is 2, and of the members only 3 lies above it."""
    scores = np.array([1.0, 2.0, 3.0])
    assert true_positive_rate(scores, scores, 0.34) == pytest.approx((1 / 3, 1 / 3))


def test_the_interval_is_that_of_delong() -> None:
    """By the definition: kernel ψ of all pairs, variances of its row and column means."""
    x, y = RNG(0).normal(0.5, 1, 70), RNG(1).normal(size=50)
    psi = (x[:, None] > y) + 0.5 * (x[:, None] == y)
    error = np.sqrt(psi.mean(1).var(ddof=1) / 70 + psi.mean(0).var(ddof=1) / 50)
    auc = psi.mean()
    found = auc_estimate(x, y)
    expected = expit(logit(auc) + np.array([-1, 1]) * 1.959964 * error / (auc * (1 - auc)))
    assert (found.low, found.high) == pytest.approx(tuple(expected))


def test_intervals_hold_the_truth_and_groups_widen_them() -> None:
    truth, held, grouped = norm.cdf(0.8 / np.sqrt(2)), 0, 0
    for seed in range(100):
        rng = RNG(seed)
        x, y = rng.normal(0.8, 1, 40), rng.normal(size=40)
        found = auc_estimate(x, y)
        held += found.low <= truth <= found.high
        many = auc_estimate(np.repeat(x, 5), np.repeat(y, 5), np.repeat(np.arange(40), 5), np.repeat(np.arange(40), 5))
        grouped += many.low <= truth <= many.high
        assert many.high - many.low == pytest.approx(found.high - found.low, rel=1e-6)
    assert 89 <= held <= 100
    assert 89 <= grouped <= 100


@pytest.mark.parametrize("auc, low, high", [(1.0, 0.83, 1.0), (0.0, 0.0, 0.17)])
def test_no_pair_that_disagrees_is_no_certainty(auc: float, low: float, high: float) -> None:
    x, y = np.arange(20.0), np.arange(30.0) + (100 if auc == 0 else -100)
    found = auc_estimate(x, y)
    assert (found.value, round(found.low, 2), round(found.high, 2)) == (auc, low, high)


def test_scores_without_knowledge_are_the_null() -> None:
    """Error rate: of 60 attacks with random scores about 5 % have p ≤ 0.05, and the null's interval holds the AUC."""
    attacks = [
        membership_attack(RNG(i).normal(size=50), RNG(1000 + i).normal(size=150), repeats=100) for i in range(60)
    ]
    assert np.mean([a.p <= 0.05 for a in attacks]) <= 0.13
    assert np.mean([a.null_auc.low <= a.auc.value <= a.null_auc.high for a in attacks]) >= 0.85
    assert np.mean([a.null_auc.value for a in attacks]) == pytest.approx(0.5, abs=0.01)
    assert np.mean([a.null_tpr.value for a in attacks]) == pytest.approx(2 / 151, abs=0.01)  # 1 of 150 may pass
    assert attacks[0].fpr == pytest.approx(1 / 150)


def test_members_that_stand_out_are_found() -> None:
    """A few of them perfectly: little AUC, much TPR."""
    rng = RNG(0)
    members, others = rng.normal(size=400), rng.normal(size=400)
    members[:40] += 100
    found = membership_attack(members, others, repeats=200)
    assert found.tpr.value == pytest.approx(0.11, abs=0.02)
    assert found.tpr.low > found.null_tpr.high
    assert found.auc.value < 0.6
    assert found.p < 0.05
    assert (found.members, found.non_members) == (400, 400)
    again = membership_attack(members, others, repeats=200)
    assert again == found


def test_a_group_is_one_observation() -> None:
    """Frames of ten films: the scores of films differ, not those of members."""
    rng = RNG(4)
    films = np.repeat(rng.normal(size=20), 30) + 0.1 * rng.normal(size=600)
    groups = np.repeat(np.arange(20), 30)
    naive = membership_attack(films[:300], films[300:], repeats=200)
    found = membership_attack(
        films[:300], films[300:], member_groups=groups[:300], non_member_groups=groups[300:], repeats=200
    )
    assert naive.null_auc.high - naive.null_auc.low < 0.12
    assert found.null_auc.high - found.null_auc.low > 0.35
    assert found.null_auc.low < found.auc.value < found.null_auc.high
    assert found.auc.high - found.auc.low > 2 * (naive.auc.high - naive.auc.low)


@pytest.mark.parametrize(
    "members, others, says",
    [
        (np.zeros(9), np.zeros(50), "9 members"),
        (np.zeros(50), np.zeros(9), "9 others"),
        (np.full(20, np.nan), np.zeros(20), "not finite"),
        (np.zeros(20), np.full(20, np.inf), "not finite"),
    ],
)
def test_too_few_or_broken_scores_are_refused(members: np.ndarray, others: np.ndarray, says: str) -> None:
    with pytest.raises(FruganError, match=says):
        membership_attack(members, others)
