"""Feature likelihood divergence: against PyTorch's densities and gradients, closed forms and simulated copies."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from frugan.errors import FruganError
from frugan.metrics import likelihood
from frugan.metrics.likelihood import _Mixture, feature_likelihood

RNG = np.random.default_rng


def draw(n: int, seed: int, d: int = 8) -> np.ndarray:
    return RNG(seed).normal(size=(n, d))


def torch_nll(centres: np.ndarray, log_variance: torch.Tensor, points: np.ndarray) -> torch.Tensor:
    """Nats per feature, by PyTorch's mixture."""
    means = torch.from_numpy(centres)
    parts = Independent(Normal(means, (log_variance / 2).exp()[:, None].expand_as(means)), 1)
    mixture = MixtureSameFamily(Categorical(torch.ones(len(means), dtype=torch.float64)), parts)
    return -mixture.log_prob(torch.from_numpy(points)) / points.shape[1]


def test_density_and_optimum_are_those_of_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Adam on the same likelihood from the same start, as the paper fits it, comes to no better one; and EM to a flat place."""
    monkeypatch.setattr(likelihood, "TOLERANCE", 0)
    centres, data, others = draw(20, 0, 3), draw(60, 1, 3), draw(30, 2, 3)
    found = _Mixture(centres, data)
    variance = torch.from_numpy(found.log_variance).requires_grad_()
    torch.testing.assert_close(
        torch.from_numpy(found.nll(others)), torch_nll(found.centres, variance.detach(), others), rtol=1e-9, atol=1e-9
    )
    reached = torch_nll(found.centres, variance, data).mean()
    (gradient,) = torch.autograd.grad(reached, variance)
    inside = variance.detach() > likelihood.LOG_VARIANCE[0] + 0.1
    assert gradient[inside].abs().max() < 2e-3
    monkeypatch.setattr(likelihood, "MOST_STEPS", 0)
    start = torch.from_numpy(_Mixture(centres, data).log_variance).clone().requires_grad_()
    adam = torch.optim.Adam([start], lr=0.1)
    before = float(torch_nll(found.centres, start.detach(), data).mean())
    for _ in range(400):
        adam.zero_grad()
        loss = torch_nll(found.centres, start.clamp(*likelihood.LOG_VARIANCE), data).mean()
        loss.backward()
        adam.step()
    assert float(reached.detach()) < before - 0.05
    assert float(reached.detach()) == pytest.approx(float(loss.detach()), abs=0.02)


def test_samples_of_the_same_distribution_are_perfect() -> None:
    """FLD about 0 and the gap that of real images, over draws; error rates of the interval."""
    found = [
        feature_likelihood(draw(100, 3 * i), draw(200, 3 * i + 1), draw(100, 3 * i + 2), seed=i) for i in range(12)
    ]
    assert np.mean([f.fld.value for f in found]) == pytest.approx(0, abs=1.5)
    assert np.mean([f.copying.value for f in found]) == pytest.approx(0, abs=4)
    assert np.mean([f.copying.low <= 0 <= f.copying.high for f in found]) >= 0.75


def test_chance_is_zero_in_many_dimensions_too() -> None:
    """More features than images, unequal counts: still nothing is copied, or less than nothing."""
    found = [
        feature_likelihood(draw(60, 3 * i, 150), draw(90, 3 * i + 1, 150), draw(40, 3 * i + 2, 150)).copying
        for i in range(12)
    ]
    assert abs(np.mean([f.value for f in found])) < 3 * np.std([f.value for f in found]) / np.sqrt(12)
    assert np.mean([f.high < 0 for f in found]) <= 0.2


def test_copies_and_bad_samples_are_told_apart() -> None:
    train, unseen, fresh = draw(200, 0), draw(100, 1), draw(200, 2)
    perfect = feature_likelihood(fresh, train, unseen)
    gaps, distances = [perfect.gap.value], [perfect.fld.value]
    for share in (0.1, 0.5, 1.0):
        count = round(200 * share)
        found = feature_likelihood(np.concatenate([train[:count], fresh[count:]]), train, unseen)
        gaps.append(found.gap.value)
        distances.append(found.fld.value)
        assert found.copying.high < 0
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] < -700
    assert distances[-1] > distances[0] + 20
    off = feature_likelihood(2 * fresh + 1, train, unseen)
    assert off.fld.low > perfect.fld.high
    assert off.gap.value > gaps[1]
    assert off.copying.high > 0  # bad, and nothing copied
    mode = feature_likelihood(np.where(fresh > 0, fresh, -fresh), train, unseen)
    assert mode.fld.low > perfect.fld.value


def test_blocks_groups_and_constants_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    sets = draw(60, 0), draw(80, 1), draw(50, 2)
    whole = feature_likelihood(*sets)
    constant = feature_likelihood(*(np.concatenate([x * 3 - 1, np.ones((len(x), 2))], axis=1) for x in sets))
    assert constant.fld.value == pytest.approx(whole.fld.value)
    monkeypatch.setattr("frugan.metrics.distances._BLOCK_PAIRS", 500)
    monkeypatch.setattr(likelihood, "_KEPT_PAIRS", 0)
    parts = feature_likelihood(*sets)
    for name in ("fld", "gap", "copying"):
        assert getattr(parts, name).value == pytest.approx(getattr(whole, name).value, rel=1e-9)
    pairs = [np.repeat(x, 2, axis=0) for x in sets[1:]]
    groups = [np.arange(len(x)) // 2 for x in pairs]
    blind = feature_likelihood(sets[0], *pairs)
    seeing = feature_likelihood(sets[0], *pairs, train_groups=groups[0], unseen_groups=groups[1])
    assert blind.fld.value < seeing.fld.value - 5  # a baseline whose halves share images is fitted to copies, and bad
    assert seeing.gap.high - seeing.gap.low == pytest.approx(1.41 * (blind.gap.high - blind.gap.low), rel=0.05)


@pytest.mark.parametrize(
    "unseen, says",
    [(draw(9, 0), "9 held-out"), (np.ones((20, 8)), "same features"), (draw(20, 0, 5), "cannot be compared")],
)
def test_bad_features_are_refused(unseen: np.ndarray, says: str) -> None:
    with pytest.raises(FruganError, match=says):
        feature_likelihood(draw(20, 1), draw(20, 2), unseen)
