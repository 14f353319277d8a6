"""Scale, noise, bias, leaky ReLU and clamp in one: the operator's derivatives, and the kernels against PyTorch's operations."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
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

CASES = list(product((3, 16, 20), (True, False), (True, False), (0.7, None), (torch.float32, torch.bfloat16)))


def plain(x: Tensor, scale: Tensor | None, noise: Tensor | None, bias: Tensor, clamp: float | None) -> Tensor:
    """By definition."""
    x = x if scale is None else x * scale[:, :, None, None]
    x = F.leaky_relu((x if noise is None else x + noise) + bias[:, None, None], 0.2)
    return x if clamp is None else x.clamp(-clamp, clamp)


def given(channels: int, scaled: bool, noisy: bool, dtype: torch.dtype, device: Any = "cpu") -> list[Any]:
    torch.manual_seed(channels)
    x = torch.randn(2, channels, 5, 6, dtype=dtype, device=device)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    scale = torch.randn(2, channels, dtype=wide, device=device) if scaled else None
    noise = torch.randn(2, 1, 5, 6, dtype=wide, device=device) if noisy else None
    return [x, scale, noise, torch.randn(channels, dtype=wide, device=device)]


@pytest.mark.parametrize("scaled, noisy, clamp", list(product((True, False), (True, False), (0.7, None))))
def test_is_its_definition_anywhere(scaled: bool, noisy: bool, clamp: float | None) -> None:
    x, *others = given(4, scaled, noisy, torch.float64)
    assert torch.equal(epilogue(x.clone(), *others, clamp), plain(x, *others, clamp))  # pyright: ignore[reportCallIssue]


def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's operations in place of the kernels."""

    def forward(x: Tensor, scale: Tensor | None, noise: Tensor | None, bias: Tensor, clamp: float) -> Tensor:
        return plain(x, scale, noise, bias, None if clamp == float("inf") else clamp)

    monkeypatch.setattr(epilogue_triton, "forward", forward)
    monkeypatch.setattr(epilogue_triton, "backward", module._by_operations)


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
    assert torch.autograd.gradgradcheck(f, real)


def check(cases: list, device: Any) -> None:
    for channels, scaled, noisy, clamp, dtype in cases:
        x, *others = given(channels, scaled, noisy, dtype, device)
        x = x.contiguous(memory_format=torch.channels_last)
        limit = float("inf") if clamp is None else clamp
        y = epilogue_triton.forward(x, *others, limit)  # pyright: ignore[reportCallIssue]
        expected = plain(x.float(), *others, clamp)  # pyright: ignore[reportCallIssue]
        assert y.dtype == dtype
        assert y.is_contiguous(memory_format=torch.channels_last)
        tolerance = 4 * torch.finfo(dtype).eps
        assert float((y.float() - expected).abs().max()) <= tolerance * float(expected.abs().max())
        up = torch.randn_like(x)
        wanted = scaled, noisy, True
        found = epilogue_triton.backward(up, x if scaled else None, others[0], y, limit, *wanted)
        expected = module._by_operations(
            up.float(), x.float() if scaled else None, others[0], y.float(), limit, *wanted
        )
        for a, b in zip(found, expected):
            assert (a is None) == (b is None)
            if a is not None and b is not None:
                assert a.shape == b.shape
                assert float((a.float() - b).abs().max()) <= max(tolerance, 1e-5) * float(b.abs().max())


def test_kernels_on_a_gpu(device: torch.device) -> None:
    if device.type != "cuda":
        pytest.skip("needs --device cuda")
    assert epilogue_triton.usable(torch.device("cuda", 0))
    check(CASES, device)


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
def test_kernels_in_the_interpreter() -> None:
    """In a process of its own: Triton decides at import whether it interprets."""
    code = "from tests.ops.test_epilogue import *; check(CASES[::5], torch.device('cpu'))"
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=Path(__file__).parents[2])
