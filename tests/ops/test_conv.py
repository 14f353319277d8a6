"""Convolutions with gradients of their own against autograd's, in value, first and second derivative."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from frugan.losses.penalties import input_gradient
from frugan.ops import conv
from frugan.ops.conv import conv2d, conv_transpose2d

FORMS = {
    "plain": (conv2d, F.conv2d, (4, 3, 3, 3), {"padding": 1}),
    "1x1": (conv2d, F.conv2d, (4, 3, 1, 1), {}),
    "strided": (conv2d, F.conv2d, (4, 3, 3, 3), {"stride": 2}),
    "strided, with a rest": (conv2d, F.conv2d, (4, 3, 3, 2), {"stride": 3, "padding": 1}),
    "transposed": (conv_transpose2d, F.conv_transpose2d, (3, 4, 3, 3), {"stride": 2}),
    "transposed, 1x2": (conv_transpose2d, F.conv_transpose2d, (3, 4, 1, 2), {}),
}


def tensors(shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(  # pyright: ignore[reportReturnType]
        torch.randn(s, generator=generator, dtype=torch.float64, requires_grad=True)
        for s in ((2, 3, 7, 8), shape, (4,))
    )


@pytest.fixture
def never_built_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conv, "_built_in", lambda: False)


@pytest.mark.usefixtures("never_built_in")
@pytest.mark.parametrize("form", FORMS)
def test_values_and_both_derivatives_are_pytorchs(form: str) -> None:
    ours, theirs, shape, options = FORMS[form]
    x, weight, bias = tensors(shape)
    inputs = (x, weight, bias) if ours is conv2d else (x, weight)
    found = []
    for f in (ours, theirs):
        y = f(*inputs, **options)
        first = torch.autograd.grad(y.tanh().square().sum(), inputs, create_graph=True)
        second = torch.autograd.grad(sum(g.tanh().square().sum() for g in first), inputs)  # pyright: ignore[reportArgumentType, reportCallIssue]
        found.append((y, *first, *second))
    torch.testing.assert_close(*found)


@pytest.mark.usefixtures("never_built_in")
@pytest.mark.parametrize("form", FORMS)
def test_derivatives_numerically(form: str) -> None:
    f, _, shape, options = FORMS[form]
    x, weight, _ = tensors(shape)
    assert torch.autograd.gradcheck(lambda x, w: f(x, w, **options), (x, weight), fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda x, w: f(x, w, **options).square(), (x, weight), fast_mode=True)


def test_in_bfloat16_a_penaltys_gradient_is_that_of_float32() -> None:
    """PyTorch's own, by large kernels, is off by half on some processors."""
    x = torch.randn(8, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    weights = torch.randn(2, 16, 16, 3, 3, generator=torch.Generator().manual_seed(1)) / 12

    def gradient(dtype: torch.dtype) -> Tensor:
        w = weights.to(dtype, copy=True).requires_grad_()
        f = lambda x: conv2d(conv2d(x, w[0], padding=1).tanh(), w[1], padding=1).float().square().sum()  # noqa: E731
        input_gradient(f, x.to(dtype)).float().square().sum().backward()
        assert w.grad is not None
        return w.grad.float()

    exact = gradient(torch.float32)
    assert (gradient(torch.bfloat16) - exact).norm() < 0.02 * exact.norm()


class Called(TorchDispatchMode):
    """The kernels of the convolutions that are called, and how many gradients of weights are made."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels: list[tuple[int, ...]] = []
        self.weight_gradients = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().split("::")[1]
        if name == "convolution":
            self.kernels.append(tuple(args[1].shape[2:]))
        self.weight_gradients += name == "weight_gradient" or (name == "convolution_backward" and args[-1][1])
        return func(*args, **(kwargs or {}))


def test_a_penalty_leaves_out_the_first_weight_gradients_and_large_kernels() -> None:
    x, weight, bias = tensors((4, 3, 3, 3))
    with Called() as inner:
        gradient = input_gradient(lambda x: conv2d(x, weight, bias, padding=1).tanh().sum(), x)
    assert inner.weight_gradients == 0
    with Called() as outer:
        gradient.square().sum().backward()
    assert outer.weight_gradients == 2  # through the output, and through its gradient
    assert set(inner.kernels + outer.kernels) == {(3, 3)}
    assert weight.grad is not None
    assert bias.grad is not None


@pytest.mark.usefixtures("never_built_in")
def test_only_the_gradients_that_are_needed_are_made() -> None:
    x, weight, _ = tensors((4, 3, 3, 3))
    conv2d(x.detach(), weight).sum().backward()
    assert weight.grad is not None
    assert x.grad is None
    with Called() as called:
        conv2d(x, weight.detach()).sum().backward()
    assert x.grad is not None
    assert called.weight_gradients == 0


def test_a_penalty_in_another_thread_takes_no_weight_gradients_away() -> None:
    """Whenever the other thread's penalty begins or ends: before, within, or after this one's."""
    x, weight, _ = tensors((4, 3, 3, 3))

    def outer(between: Callable[[], None] = lambda: None) -> Tensor:
        gradient = input_gradient(lambda x: conv2d(x, weight, padding=1).tanh().sum(), x)
        between()
        return torch.autograd.grad(gradient.square().sum(), weight)[0]

    expected = outer()
    inside, finish = threading.Event(), threading.Event()

    def other() -> None:
        with conv.image_gradients():
            inside.set()
            finish.wait(240)

    def begin() -> None:
        thread.start()
        assert inside.wait(240)

    thread = threading.Thread(target=other)
    torch.testing.assert_close(outer(begin), expected)
    assert conv.current() is None
    plain = torch.autograd.grad(conv2d(x, weight, padding=1).tanh().sum(), weight)[0]
    assert "ConvolutionBackward" in str(conv2d(x, weight, padding=1).grad_fn)
    torch.testing.assert_close(outer(), expected)
    finish.set()
    thread.join()
    torch.testing.assert_close(torch.autograd.grad(conv2d(x, weight, padding=1).tanh().sum(), weight)[0], plain)
    torch.testing.assert_close(outer(), expected)


def test_inner_gradients_are_known_in_whatever_thread_they_are_computed() -> None:
    """As on an accelerator, whose derivatives run in threads of autograd's own."""
    x, weight, bias = tensors((4, 3, 3, 3))
    found: list[Tensor] = []

    def differentiate(y: Tensor) -> None:
        with Called() as called:
            found.extend(torch.autograd.grad(y, x, create_graph=True))
        assert called.weight_gradients == 0

    with torch.enable_grad(), conv.image_gradients():
        y = conv2d(x, weight, bias, padding=1).tanh().sum()
        with ThreadPoolExecutor(1) as pool:
            pool.submit(differentiate, y).result(20)
    found[0].square().sum().backward()
    assert weight.grad is not None
    assert weight.grad.abs().sum() > 0


def test_elsewhere_it_is_pytorchs_own() -> None:
    x, weight, _ = tensors((4, 3, 3, 3))
    assert "ConvolutionBackward" in str(conv2d(x, weight).grad_fn)
    with conv.image_gradients():
        assert "frugan" in str(conv2d(x, weight).grad_fn)
        assert torch.func.grad(lambda x: conv2d(x, weight).sum())(x).shape == x.shape
    assert "ConvolutionBackward" in str(conv_transpose2d(x, weight.transpose(0, 1)).grad_fn)
