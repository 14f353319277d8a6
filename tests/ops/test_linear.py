"""Linear maps with their adjoints: derivatives of any order, compiled or not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from frugan.ops.linear import linear

MATRIX = torch.rand(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
X = torch.rand(5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def there(x: Tensor, matrix: Tensor) -> Tensor:
    return x @ matrix.mT


def back(y: Tensor, matrix: Tensor) -> Tensor:
    return y @ matrix


def mapped(x: Tensor) -> Tensor:
    return linear(x, there, back, MATRIX)


def test_is_differentiable_as_often_as_wanted() -> None:
    x = X.clone().requires_grad_()
    assert torch.equal(mapped(x), there(X, MATRIX))
    assert torch.autograd.gradcheck(lambda x: mapped(x).square(), x)
    assert torch.autograd.gradgradcheck(lambda x: mapped(x).pow(3), x)


def test_its_derivative_is_the_adjoint_that_is_given() -> None:
    x = X.clone().requires_grad_()
    y = linear(x, there, lambda y, matrix: 2 * back(y, matrix), MATRIX)
    up = torch.ones_like(y).requires_grad_()
    (gradient,) = torch.autograd.grad(y, x, up, create_graph=True)
    assert torch.equal(gradient, 2 * back(up, MATRIX))
    (again,) = torch.autograd.grad(gradient, up, X)  # the adjoint's own is the map
    assert torch.equal(again, there(X, MATRIX))


def test_keeps_nothing_but_the_constants() -> None:
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t), t)[1], lambda t: t):
        mapped(X.clone().requires_grad_())
    assert [t.data_ptr() for t in kept] == [MATRIX.data_ptr()]


@pytest.mark.parametrize("grad", [True, False])
def test_where_no_gradient_is_wanted(grad: bool) -> None:
    with torch.set_grad_enabled(grad):
        assert mapped(X).grad_fn is None


def test_under_function_transforms() -> None:
    energy = torch.func.grad(lambda x: mapped(x).square().sum())
    torch.testing.assert_close(energy(X), 2 * back(there(X, MATRIX), MATRIX))
    torch.testing.assert_close(torch.func.vmap(mapped)(X), there(X, MATRIX))
