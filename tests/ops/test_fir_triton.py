"""The FIR kernel for GPUs against convolutions: on a GPU, or on the CPU in Triton's interpreter where Triton is installed."""

from __future__ import annotations

import importlib.util
import os
import random
import subprocess
import sys
from importlib.metadata import version
from itertools import product
from pathlib import Path

import pytest
import torch

from frugan.ops import fir, fir_triton

ALL = list(
    product(
        (True, False),
        ((1, 1), (2, 2), (2, 1), (1, 3)),
        ((1, 1), (2, 2), (1, 2), (3, 3)),
        ((2, 1, 2, 1), (0, 0, 0, 0), (-1, 2, 3, -1)),
        ((4, 4), (3, 1)),
        (1, 3, 8),
        (torch.float32, torch.float64, torch.bfloat16, torch.float16),
    )
)
CASES = random.Random(0).sample(ALL, 96)
"""Some of all kinds, since each is a kernel of its own, which takes half a second to compile."""
LARGE = [
    (True, (2, 2), (1, 1), (2, 1, 2, 1), (4, 4), 512, torch.bfloat16),
    (True, (1, 1), (2, 2), (2, 1, 2, 1), (4, 4), 200, torch.float16),
    (True, (1, 1), (1, 1), (2, 1, 2, 1), (4, 4), 130, torch.float32),
    (False, (2, 2), (1, 1), (2, 1, 2, 1), (4, 4), 3, torch.float32),
]
"""Layers as networks have them; rows that several programs compute."""


def check(cases: list, device: torch.device, size: tuple[int, int] = (9, 6)) -> None:
    torch.manual_seed(0)
    for last, up, down, padding, taps, channels, dtype in cases:
        x = torch.randn(2, channels, *size, dtype=dtype)
        if last:
            x = x.contiguous(memory_format=torch.channels_last)
        weight = torch.randn(*taps, dtype=dtype)
        expected = fir._upfirdn(x.double(), weight.double(), up, down, padding)
        found = fir_triton.upfirdn(x.to(device), weight.to(device), up, down, padding).cpu()
        assert found.dtype == dtype
        assert found.shape == expected.shape
        layout = torch.channels_last if last and channels > 1 else torch.contiguous_format
        assert found.is_contiguous(memory_format=layout)
        scale = float(weight.double().abs().sum() * x.double().abs().max())
        assert float((found.double() - expected).abs().max()) <= 2 * torch.finfo(dtype).eps * scale


@pytest.mark.parametrize("part", range(8))
def test_kinds_on_a_gpu(part: int, device: torch.device) -> None:
    if device.type != "cuda":
        pytest.skip("needs --device cuda")
    assert fir_triton.usable(torch.device("cuda", 0))
    check(CASES[part::8], device)
    check(LARGE[part : part + 1], device, (10, 300))


def test_derivatives_on_a_gpu(device: torch.device) -> None:
    if device.type != "cuda":
        pytest.skip("needs --device cuda")
    f = fir.normalized_filter((1, 3, 3, 1)).double().to(device)
    for up, down in ((1, 1), (2, 1), (1, 2)):
        x = torch.randn(1, 2, 4, 6, dtype=torch.float64, device=device, requires_grad=True)

        def resample(x: torch.Tensor, up: int = up, down: int = down) -> torch.Tensor:
            return fir.upfirdn(x, f, up=up, down=down, padding=(2, 1, 1, 2))

        assert "Upfirdn" in type(resample(x).grad_fn).__name__ or "upfirdn" in type(resample(x).grad_fn).__name__
        assert torch.autograd.gradcheck(resample, x)
        assert torch.autograd.gradgradcheck(lambda x: resample(x).square(), x)


def interpreted() -> bool:
    """Whether Triton is installed with an interpreter that keeps the type of broadcast conditions (that of 3.9 does not)."""
    if importlib.util.find_spec("triton") is None:
        return False
    major, minor = version("triton").split(".")[:2]
    return (int(major), int(minor)) < (3, 9)


@pytest.mark.skipif(not interpreted(), reason="Triton is not installed, or its interpreter is broken")
def test_some_kinds_in_the_interpreter() -> None:
    """In a process of its own: Triton decides at import whether it interprets."""
    code = "from tests.ops.test_fir_triton import *; cpu = torch.device('cpu'); check(CASES[::4], cpu); check(LARGE, cpu, (6, 20))"
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=Path(__file__).parents[2])


def test_the_operator_is_differentiable_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same operator with convolutions in place of the kernel: its first and second derivatives, and its shapes."""

    def convolve(x, weight, up, down, padding):
        return fir._upfirdn(x, weight, tuple(up), tuple(down), tuple(padding))

    monkeypatch.setattr(fir_triton, "upfirdn", convolve)
    for up, down, padding in (
        ((1, 1), (1, 1), (2, 1, 2, 1)),
        ((2, 2), (1, 1), (2, 1, 2, 1)),
        ((1, 1), (2, 2), (1, 2, 0, 3)),
    ):
        x = torch.randn(1, 2, 6, 4, dtype=torch.float64, requires_grad=True)
        weight = torch.randn(4, 4, dtype=torch.float64)
        given = weight, list(up), list(down), list(padding)
        y = fir._in_one(x, *given)
        assert torch.equal(y, fir._upfirdn(x, weight, up, down, padding))
        assert y.shape == fir_triton.empty_result(x, *given).shape
        assert torch.autograd.gradcheck(lambda x, given=given: fir._in_one(x, *given), x)
        assert torch.autograd.gradgradcheck(lambda x, given=given: fir._in_one(x, *given).square(), x)
