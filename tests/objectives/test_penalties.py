from __future__ import annotations

import pytest
import torch

from frugan.objectives import LOSSES, gradient_norm, path_length_penalty, path_lengths, r1_penalty


def test_gradient_norm_of_a_quadratic() -> None:
    """D(x) = xᵀAx has the gradient (A + Aᵀ)x."""
    A = torch.randn(12, 12, dtype=torch.float64)
    x = torch.randn(5, 3, 2, 2, dtype=torch.float64)
    expected = (x.flatten(1) @ (A + A.T)).square().sum(1)
    actual = gradient_norm(lambda x: ((x.flatten(1) @ A) * x.flatten(1)).sum(1), x)
    torch.testing.assert_close(actual, expected)
    penalty = r1_penalty(lambda x: ((x.flatten(1) @ A) * x.flatten(1)).sum(1), x, gamma=3.0)
    torch.testing.assert_close(penalty, 1.5 * expected.mean())


def test_r1_has_a_gradient_in_the_parameters() -> None:
    """For D(x) = w·x the penalty is γ/2·‖w‖², and its gradient γ·w."""
    w = torch.randn(12, requires_grad=True)
    penalty = r1_penalty(lambda x: x.flatten(1) @ w, torch.randn(4, 3, 2, 2), gamma=2.0)
    penalty.backward()
    torch.testing.assert_close(w.grad, 2.0 * w.detach())


def test_path_lengths_of_a_linear_generator() -> None:
    """G(w) = Σ_l M_l w_l has Jᵀy = M_lᵀy in each layer."""
    M = torch.randn(3, 12, 5, dtype=torch.float64)
    ws, y = torch.randn(4, 3, 5, dtype=torch.float64), torch.randn(4, 3, 2, 2, dtype=torch.float64)
    lengths = path_lengths(lambda ws: torch.einsum("lpd,nld->np", M, ws).view(4, 3, 2, 2), ws, y)
    expected = torch.einsum("lpd,np->nld", M, y.flatten(1)).square().sum(2).mean(1).sqrt()
    torch.testing.assert_close(lengths, expected)


def test_path_length_mean_moves_first() -> None:
    lengths = torch.tensor([1.0, 3.0])
    penalty, mean = path_length_penalty(lengths, torch.tensor(0.0), decay=0.5)
    assert mean == 1.0
    assert penalty == ((1 - 1) ** 2 + (3 - 1) ** 2) / 2


@pytest.mark.parametrize("name", LOSSES)
def test_losses_reward_the_right_direction(name: str) -> None:
    loss = LOSSES[name]
    real = torch.zeros(3, requires_grad=True)
    fake = torch.zeros(3, requires_grad=True)
    d_real, d_fake = torch.autograd.grad(loss.discriminator(real, fake).sum(), (real, fake))
    assert (d_real < 0).all()
    assert (d_fake > 0).all()
    (g_fake,) = torch.autograd.grad(loss.generator(fake, real.detach()).sum(), fake)
    assert (g_fake < 0).all()


def test_non_saturating_values() -> None:
    """−log σ(x), −log(1 − σ(x))."""
    real, fake = torch.tensor([0.3, -2.0]), torch.tensor([1.0, 0.5])
    expected = -torch.log(torch.sigmoid(real)) - torch.log(1 - torch.sigmoid(fake))
    torch.testing.assert_close(LOSSES["non-saturating"].discriminator(real, fake), expected)
    torch.testing.assert_close(LOSSES["non-saturating"].generator(fake), -torch.log(torch.sigmoid(fake)))
