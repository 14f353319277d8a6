"""Adversarial losses and consistency terms against closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from frugan.losses import LOSSES, consistency, diversity, gradient_penalty, lecam_penalty

REAL, FAKE = torch.tensor([2.0, -1.0, 0.3]), torch.tensor([-0.5, 1.5, 0.1])


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


EXPECTED = {
    "non-saturating": (lambda r, f: softplus(-r) + softplus(f), lambda r, f: softplus(-f)),
    "wasserstein": (lambda r, f: f - r, lambda r, f: -f),
    "hinge": (lambda r, f: max(0, 1 - r) + max(0, 1 + f), lambda r, f: -f),
    "relativistic": (lambda r, f: softplus(f - r), lambda r, f: softplus(r - f)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_closed_forms(name: str) -> None:
    d, g = EXPECTED[name]
    pairs = list(zip(REAL.tolist(), FAKE.tolist()))
    loss = LOSSES[name]
    torch.testing.assert_close(loss.discriminator(REAL, FAKE), torch.tensor([d(*pair) for pair in pairs]))
    torch.testing.assert_close(loss.generator(FAKE, REAL), torch.tensor([g(*pair) for pair in pairs]))


@pytest.mark.parametrize("name", LOSSES)
def test_what_a_constant_in_the_logits_does(name: str) -> None:
    """Losses that are not centred cannot tell D from D + 5; the others can."""
    loss = LOSSES[name]
    same = torch.allclose(loss.discriminator(REAL + 5, FAKE + 5), loss.discriminator(REAL, FAKE))
    assert same == (not loss.centred)


def test_gradient_penalty_of_a_linear_critic() -> None:
    """For D(x) = w·x it is (‖w‖ − 1)² wherever it is taken, and its gradient 2(‖w‖ − 1)·w/‖w‖."""
    w = torch.randn(12, dtype=torch.float64, requires_grad=True)
    x = torch.randn(4, 3, 2, 2, dtype=torch.float64)
    penalty = gradient_penalty(lambda x: x.flatten(1) @ w, x)
    norm = w.detach().norm()
    torch.testing.assert_close(penalty.detach(), (norm - 1) ** 2)
    penalty.backward()
    torch.testing.assert_close(w.grad, 2 * (norm - 1) * w.detach() / norm)


def test_lecam_penalty() -> None:
    means = torch.tensor([1.0, -1.0])
    expected = sum((r + 1) ** 2 for r in REAL.tolist()) / 3 + sum((f - 1) ** 2 for f in FAKE.tolist()) / 3
    assert float(lecam_penalty(REAL, FAKE, means)) == pytest.approx(expected)


def test_consistency_and_diversity() -> None:
    assert float(consistency(REAL, FAKE)) == pytest.approx(
        sum((r - f) ** 2 for r, f in zip(REAL.tolist(), FAKE.tolist())) / 3
    )
    images = torch.randn(2, 3, 4, 4)
    assert float(diversity(images, images + 0.5)) == pytest.approx(-0.25)
