"""Scale, noise, bias, leaky ReLU and clamp in one: the operator's derivatives, and the kernels against PyTorch's operations."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from frugan.ops import epilogue as module
from frugan.ops import epilogue_triton
from frugan.ops.epilogue import epilogue

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
CASES = list(product((3, 16, 20, 600), (True, False), (True, False), (0.7, None), DTYPES))
"""Channels, with a scale, with noise, clamp, dtype."""


def plain(x: Tensor, scale: Tensor | None, noise: Tensor | None, bias: Tensor, clamp: float | None) -> Tensor:
    """By definition."""
    x = x if scale is None else x * scale[:, :, None, None]
    x = F.leaky_relu((x if noise is None else x + noise) + bias[:, None, None], 0.2)
    return x if clamp is None else x.clamp(-clamp, clamp)


def given(
    channels: int, scaled: bool, noisy: bool, dtype: torch.dtype, device: Any = "cpu", size: tuple[int, int] = (5, 6)
) -> list[Any]:
    torch.manual_seed(channels)
    x = torch.randn(2, channels, *size, dtype=dtype, device=device)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    scale = torch.randn(2, channels, dtype=wide, device=device) if scaled else None
    noise = torch.randn(2, 1, *size, dtype=wide, device=device) if noisy else None
    return [x, scale, noise, torch.randn(channels, dtype=wide, device=device)]


@pytest.mark.parametrize("scaled, noisy, clamp", list(product((True, False), (True, False), (0.7, None))))
def test_is_its_definition_anywhere(scaled: bool, noisy: bool, clamp: float | None) -> None:
    x, *others = given(4, scaled, noisy, torch.float64)
    assert torch.equal(epilogue(x.clone(), *others, clamp), plain(x, *others, clamp))  # pyright: ignore[reportCallIssue]


def slope(y: Tensor, clamp: float) -> Tensor:
    """Of leaky ReLU and clamp where the result is y."""
    return torch.where(y > 0, 1.0, 0.2).to(y.dtype) * (y.abs() < torch.tensor(clamp).to(y.dtype))


def gradients(
    up: Tensor, x: Tensor | None, scale: Tensor | None, y: Tensor, clamp: float, by_noise: bool, by_bias: bool
) -> tuple[Tensor | None, ...]:
    inner = up * slope(y, clamp)
    wide = inner.to(torch.promote_types(up.dtype, torch.float32))
    for_x = inner if scale is None else (inner * scale[:, :, None, None]).to(up.dtype)
    for_scale = None if scale is None or x is None else (wide * x).sum((2, 3))
    return for_x, for_scale, wide.sum(1, keepdim=True) if by_noise else None, wide.sum((0, 2, 3)) if by_bias else None


def tangent(x: Tensor, scale: Tensor, other: Tensor, by: Tensor, y: Tensor, clamp: float) -> Tensor:
    moved = x * scale[:, :, None, None] + other * by[:, :, None, None]
    return (moved * slope(y, clamp)).to(y.dtype)


def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's operations in place of the kernels."""

    def forward(x: Tensor, scale: Tensor | None, noise: Tensor | None, bias: Tensor, clamp: float) -> Tensor:
        return plain(x, scale, noise, bias, None if clamp == float("inf") else clamp)

    monkeypatch.setattr(epilogue_triton, "forward", forward)
    monkeypatch.setattr(epilogue_triton, "backward", gradients)
    monkeypatch.setattr(epilogue_triton, "tangent", tangent)


@pytest.fixture
def on_a_gpu_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator with PyTorch's operations in place of the kernels."""
    stand_in(monkeypatch)


@pytest.mark.usefixtures("on_a_gpu_without_one")
@pytest.mark.parametrize("scaled, noisy, clamp", list(product((True, False), (True, False), (0.7, float("inf")))))
def test_first_and_second_derivatives(scaled: bool, noisy: bool, clamp: float) -> None:
    tensors = [None if t is None else t.requires_grad_() for t in given(2, scaled, noisy, torch.float64)]
    for t in tensors:  # gradcheck takes no None, and wants small inputs
        assert t is None or t.numel() <= 120
    real = [t for t in tensors if t is not None]

    def f(*values: Tensor) -> Tensor:
        rest = iter(values)
        return module._epilogue(*(None if t is None else next(rest) for t in tensors), clamp)

    assert torch.autograd.gradcheck(f, real)
    assert torch.autograd.gradgradcheck(f, real, fast_mode=True)


@pytest.mark.usefixtures("on_a_gpu_without_one")
@pytest.mark.parametrize("scaled, clamp", list(product((True, False), (0.7, float("inf")))))
def test_third_derivatives(scaled: bool, clamp: float) -> None:
    """Those of the operators of which second derivatives consist."""
    x, scale, _, _ = given(2, True, False, torch.float64)
    other, by, _, _ = given(3, True, False, torch.float64)
    up, y = torch.randn(2, *x.shape, dtype=torch.float64)
    if not scaled:
        only = [up.requires_grad_()]
        assert torch.autograd.gradgradcheck(
            lambda up: module._gradients(up, None, None, y, clamp, True, True), only, fast_mode=True
        )
        return
    inputs = [t.requires_grad_() for t in (up, x, scale)]
    assert torch.autograd.gradgradcheck(lambda *t: module._gradients(*t, y, clamp, True, True), inputs, fast_mode=True)
    inputs = [t.requires_grad_() for t in (x, scale, other[:, :2], by[:, :2])]
    assert torch.autograd.gradgradcheck(lambda *t: module._tangent(*t, y, clamp), inputs, fast_mode=True)


def test_results_have_the_shape_and_dtype_that_is_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch)
    for scaled, noisy, clamp, dtype in product((True, False), (True, False), (0.7, float("inf")), DTYPES):
        x, scale, noise, bias = given(4, scaled, noisy, dtype)
        y = module._epilogue(x, scale, None if noise is None else noise.to(dtype), bias.to(dtype), clamp)
        arguments = x, x if scaled else None, scale, y, clamp, noisy, noisy
        pairs = list(zip(module._gradients(*arguments), module._shapes(*arguments), strict=True))
        if scale is not None:
            moved = x, scale, x, scale, y, clamp
            pairs.append((module._tangent(*moved), module._moved(*moved)))
        for found, traced in pairs:
            assert found.shape == traced.shape
            assert found.dtype == traced.dtype or not found.numel()


def test_other_shapes_are_refused_before_the_kernel_reads_them() -> None:
    x, scale, _, _ = given(4, True, False, torch.float32)
    for arguments in (
        (x, scale[:1], x, scale, x),
        (x, scale, x, scale[:, :2], x),
        (x, scale, x[:1], scale, x),
        (x[:, :2], scale, x, scale, x),
    ):
        with pytest.raises(ValueError, match="feature maps"):
            epilogue_triton.tangent(*arguments, 1.0)


def derivatives(
    f: Callable[..., Tensor], up: Tensor, inputs: list[Tensor | None], dtype: torch.dtype | None = None
) -> dict[str, Tensor]:
    """Gradients of ⟨f, up⟩ by each of the inputs, and those of a random combination of these by each of them and by `up`.

    Args:
        f: of x, scale, noise and bias.
        up: the gradient of its result.
        inputs: x, scale, noise and bias.
        dtype: to compute in; None: as given.
    """
    torch.manual_seed(0)
    factors = [torch.randn(t.shape).to(t) for t in inputs if t is not None]
    first_up, *values = (None if t is None else t.detach().to(dtype or t.dtype).requires_grad_() for t in (up, *inputs))
    leaves = {name: t for name, t in zip(("x", "scale", "noise", "bias"), values) if t is not None}
    first = torch.autograd.grad(f(*values), list(leaves.values()), first_up, create_graph=True)
    wide = dtype or torch.float32
    combined = torch.stack([(g.to(wide) * t.to(wide)).sum() for g, t in zip(first, factors, strict=True)]).sum()
    again = {"up": first_up, **leaves}
    second = torch.autograd.grad(combined, [t for t in again.values() if t is not None], allow_unused=True)
    found = zip((*leaves, *(f"{name} again" for name in again)), (*first, *second), strict=True)
    return {name: t.detach() for name, t in found if t is not None}


def check(cases: list, device: Any) -> None:
    """Values, first and second derivatives against float64; the slope where a float64 result is not near a kink."""
    for channels, scaled, noisy, clamp, dtype in cases:
        size = (5, 6) if channels > 20 else (46, 47)  # several programs for each image
        x, scale, noise, bias = given(channels, scaled, noisy, dtype, device, size)
        laid = x if channels == 3 else x.contiguous(memory_format=torch.channels_last)
        limit = float("inf") if clamp is None else clamp
        y = module._epilogue(laid, scale, noise, bias, limit)
        wide = [None if t is None else t.double() for t in (x, scale, noise, bias)]
        expected = plain(*wide, clamp)  # pyright: ignore[reportArgumentType, reportCallIssue]
        assert y.dtype == dtype
        assert y.is_contiguous(memory_format=torch.channels_last)
        eps = torch.finfo(dtype).eps
        assert float((y.double() - expected).abs().max()) <= 4 * eps * float(expected.abs().max())
        m = torch.where(y > 0, 1.0, 0.2).double() * (y.abs() < torch.tensor(limit).to(dtype))
        value = plain(*wide, None)  # pyright: ignore[reportArgumentType, reportCallIssue]
        certain = ((value.abs() - limit).abs() > 2 * eps) & (value.abs() > 1e-6)
        assert torch.equal(m[certain], (torch.where(value > 0, 1.0, 0.2).double() * (value.abs() < limit))[certain])

        def reference(x: Tensor, scale: Tensor | None, noise: Tensor | None, bias: Tensor, m: Tensor = m) -> Tensor:
            x = x if scale is None else x * scale[:, :, None, None]
            return ((x if noise is None else x + noise) + bias[:, None, None]) * m

        up = torch.randn_like(x)
        inputs = [laid, scale, noise, bias]
        found = derivatives(lambda *t, limit=limit: module._epilogue(*t, limit), up, inputs)
        for name, exact in derivatives(reference, up, inputs, torch.float64).items():
            error = float((found[name].double() - exact).abs().max())
            tolerance = max(1e-5, 4 * eps * (found[name].dtype == dtype))
            assert error <= tolerance * float(exact.abs().max()), (channels, dtype, name, error)
        if scale is not None:  # expanded tensors, as autograd's sums give them
            row = scale.to(dtype)[:, :, None, None].expand_as(x)
            exact = (x.double() + row.double()) * scale.double()[:, :, None, None] * m
            moved = epilogue_triton.tangent(x, scale, row, scale.t().contiguous().t(), y, limit)
            assert float((moved.double() - exact).abs().max()) <= 4 * eps * float(exact.abs().max())


def test_kernels_on_a_gpu(device: torch.device) -> None:
    if device.type != "cuda":
        pytest.skip("needs --device cuda")
    assert epilogue_triton.usable(torch.device("cuda", 0))
    check(CASES[::5], device)  # each of which compiles kernels


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
def test_kernels_in_the_interpreter() -> None:
    """In a process of its own: Triton decides at import whether it interprets."""
    code = "from tests.ops.test_epilogue import *; check(CASES[::7], torch.device('cpu'))"
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=Path(__file__).parents[2])
