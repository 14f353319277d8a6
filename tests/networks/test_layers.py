"""What layers share."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from frugan.networks.layers import activate


@pytest.mark.parametrize("clamp", [None, 0.5])
def test_overwriting_changes_no_derivative(clamp: float | None) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)

    def plain(t: Tensor) -> Tensor:
        y = F.leaky_relu(t * 2, 0.2)
        return y if clamp is None else y.clamp(-clamp, clamp)

    def ours(t: Tensor) -> Tensor:
        return activate(t * 2, "lrelu", clamp)

    def penalty(function) -> Tensor:
        inner = torch.func.grad(lambda t: function(t.square()).square().sum())(x)
        return inner.square().sum()

    for of in (lambda f: f(x).square().sum(), penalty):
        (expected,) = torch.autograd.grad(of(plain), x)
        (found,) = torch.autograd.grad(of(ours), x)
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert torch.autograd.gradgradcheck(ours, x)
