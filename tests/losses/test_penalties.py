"""Gradient penalties and path length against derivatives by hand and finite differences."""

from __future__ import annotations

import pytest
import torch

from frugan.losses import LOSSES, gradient_norm, path_length_noise, path_length_penalty, path_lengths, r1_penalty


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


@pytest.mark.parametrize("decay", [0.01, 0.5])
def test_path_length_gradient_passes_through_the_running_mean(decay: float) -> None:
    """dP/dlᵢ = 2/N·(lᵢ − a′) − 2·decay/N·(mean l − a′); what is kept for the next step has no gradient."""
    lengths = torch.tensor([1.0, 3.0, 0.5, 2.5], dtype=torch.float64, requires_grad=True)
    penalty, mean = path_length_penalty(lengths, torch.tensor(0.3, dtype=torch.float64), decay)
    penalty.backward()
    l, a = lengths.detach(), 0.3 + decay * (1.75 - 0.3)
    assert float(mean) == pytest.approx(a)
    assert not mean.requires_grad
    expected = 2 / 4 * (l - a) - 2 * decay / 4 * (l.mean() - a)
    torch.testing.assert_close(lengths.grad, expected)


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_path_length_penalty_in_micro_batches(parts: int) -> None:
    """Its running mean is that of the whole batch; its gradient differs by 2·decay·(2 − decay) times a covariance."""
    decay, before = 0.01, torch.tensor(0.7, dtype=torch.float64)
    l = torch.rand(8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    penalty, moved = path_length_penalty(l, before, decay)
    (whole,) = torch.autograd.grad(penalty, l)
    found, means = torch.zeros_like(l), []
    for some in l.chunk(parts):
        penalty, mean = path_length_penalty(some, before, decay)
        found += torch.autograd.grad(penalty, l)[0] / parts
        means.append(mean)
    torch.testing.assert_close(torch.stack(means).mean(), moved)
    excess = torch.cat([some.mean() - l.mean() + 0 * some for some in l.detach().chunk(parts)])
    torch.testing.assert_close(whole - found, 2 * decay * (2 - decay) * excess / 8)


def test_path_length_noise_of_rectangles() -> None:
    """Its squared norm is the number of channels on average, whatever height and width."""
    y = path_length_noise(torch.Size((64, 3, 8, 32)), torch.Generator().manual_seed(0))
    assert y.square().sum(dim=(1, 2, 3)).mean() == pytest.approx(3, rel=0.03)


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
